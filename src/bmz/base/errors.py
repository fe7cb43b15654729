"""The tree of errors; a class decides the exit status, a code names the case for good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

Value = TypeVar("Value")


class BmzError(Exception):
    """Something the user can understand and act upon.

    Parameters
    ----------
    message
        What happened, to what, wanted and found
    hint
        The next step
    code
        The name of the case, ``room.case``; it never changes meaning
    """

    exit_status: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: str, code: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        # subclasses take facts and not the message, so another process builds it from its parts
        return _rebuilt, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"


class AnswerIsNo(BmzError):
    """The question was answered, and the answer is no: does not fit, failed (exit status 1)."""

    exit_status = 1


class WrongUsage(BmzError):
    """The words of the call do not make sense, or ask for what is never done (exit status 2)."""

    exit_status = 2


class CouldNotTell(BmzError):
    """No answer: not found, unreadable, offline, untrusted, no backend (exit status 3)."""

    exit_status = 3


def not_none(value: Value | None) -> Value:
    """Return a value that an earlier line has made sure is not None, which its type cannot express.

    Raises
    ------
    TypeError
        It is None, which is a fault of bmz itself.
    """
    if value is None:
        raise TypeError("a value is missing that must be present")
    return value


def _rebuilt(
    kind: type[BmzError], args: tuple[object, ...], state: Mapping[str, object]
) -> BmzError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error
