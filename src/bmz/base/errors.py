"""Define the errors: the class decides the exit status, and a permanent code names the case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

Value = TypeVar("Value")


class BmzError(Exception):
    """An error that the user can understand and act upon.

    Parameters
    ----------
    message
        What happened to what, what was expected and what was found
    hint
        The next step
    code
        The name of the case, ``room.case``; its meaning never changes
    """

    exit_status: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: str, code: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        # subclasses do not take the message, so another process rebuilds the error from its parts
        return _rebuilt, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"


class AnswerIsNo(BmzError):
    """The answer is no: for example, an image does not fit, or a test failed (exit status 1)."""

    exit_status = 1


class WrongUsage(BmzError):
    """The arguments of the call make no sense, or ask for something impossible (exit status 2)."""

    exit_status = 2


class CouldNotTell(BmzError):
    """No answer: not found, unreadable, offline, untrusted, no backend (exit status 3)."""

    exit_status = 3


def not_none(value: Value | None) -> Value:
    """Return a value that is known not to be None, although its type allows None.

    Raises
    ------
    TypeError
        The value is None, which is a bug in bmz.
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
