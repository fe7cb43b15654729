"""Events that a job reports while it runs, and text that is safe for a terminal."""

from __future__ import annotations

from typing import Literal, Protocol

from bmz.base.values import dataclass


@dataclass(frozen=True)
class Progress:
    """One step of a stage is done.

    Parameters
    ----------
    stage : what is counted, such as ``"files"`` or ``"tiles"``
    done, total : number of steps that are done, and of all steps
    what : current item, such as a file name
    """

    stage: str
    done: int
    total: int
    what: str = ""


Loudness = Literal["detail", "note", "warning", "error", "hint"]
"""How a note is shown: a ``detail`` only on request, a ``hint`` after the note it belongs to."""


@dataclass(frozen=True)
class Note:
    """Something worth knowing at once, such as a smaller batch or a finding of the check.

    Parameters
    ----------
    text : one sentence
    kind : how loud it is
    image : name of the image that it is about; empty if it is not about an image
    code : code of the finding; a code that many images share can be shown once
    """

    text: str
    kind: Loudness = "note"
    image: str = ""
    code: str = ""

    @property
    def sentence(self) -> str:
        """The text after the name of the image; without it for a hint, which follows a note."""
        return f"{self.image}: {self.text}" if self.image and self.kind != "hint" else self.text


@dataclass(frozen=True)
class Stage:
    """Work of unknown duration begins, such as loading a network.

    Parameters
    ----------
    what : the work, in a word or two
    """

    what: str


Event = Progress | Note | Stage


class Listener(Protocol):
    """A function that receives the events of a job."""

    def __call__(self, event: Event, /) -> None:
        """Receive one event and return quickly; an exception such as `Stopped` ends the job."""


class Stopped(BaseException):
    """Raised by a listener to end a job whose result is no longer needed.

    Like `KeyboardInterrupt`, it is not caught by handlers of errors. Files that are only partly
    written are removed.
    """


def nobody(_event: Event, /) -> None:
    """Ignore all events."""


def printable(text: str) -> str:
    """Replace every unprintable character, such as escapes, bells and line ends, with a space.

    Examples
    --------
    >>> printable(f"{chr(27)}[31mred")
    ' [31mred'
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
