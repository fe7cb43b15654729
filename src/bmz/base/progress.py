"""What a run tells while it is under way, cleaned for a terminal."""

from __future__ import annotations

from typing import Literal, Protocol

from bmz.base.values import dataclass


@dataclass(frozen=True)
class Progress:
    """One step of a stage is done.

    Parameters
    ----------
    stage : ``"files"``, ``"tiles"`` or another countable thing
    done, total : how many of them
    what : the thing in hand, such as a file name
    """

    stage: str
    done: int
    total: int
    what: str = ""


Loudness = Literal["detail", "note", "warning", "error", "hint"]
"""How a note is told; a ``detail`` only to those who ask, a ``hint`` after what it belongs to."""


@dataclass(frozen=True)
class Note:
    """Something worth knowing at once, such as a smaller batch or a finding of the check.

    Parameters
    ----------
    text : one sentence
    kind : how loud it is
    image : name of the image that it is about; empty if it is about no image
    code : of the finding; the same code of many images can be told once
    """

    text: str
    kind: Loudness = "note"
    image: str = ""
    code: str = ""

    @property
    def sentence(self) -> str:
        """The text after the name of the image; a hint stands under a sentence that has it."""
        return f"{self.image}: {self.text}" if self.image and self.kind != "hint" else self.text


@dataclass(frozen=True)
class Stage:
    """Work begins whose length nobody can tell, such as loading a network.

    Parameters
    ----------
    what : it is, in a word or two
    """

    what: str


Event = Progress | Note | Stage


class Listener(Protocol):
    """Whoever wants to know how far a job is."""

    def __call__(self, event: Event, /) -> None:
        """Take one event; must return quickly. What it raises ends the job, see `Stopped`."""


class Stopped(BaseException):
    """A listener raises it to end a job: nobody waits for its result any more.

    It passes whatever catches errors, as `KeyboardInterrupt` does, and what is half written is
    removed on the way.
    """


def nobody(_event: Event, /) -> None:
    """Listen to nothing."""


def printable(text: str) -> str:
    """Put a space for every character that is not shown but steers: escapes, bells, line ends.

    Examples
    --------
    >>> printable(f"{chr(27)}[31mred")
    ' [31mred'
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
