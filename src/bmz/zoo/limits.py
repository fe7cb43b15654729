"""How long an answer may take: a limit of all tries together, and one for each piece."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event, Thread
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")

_LOOKS_S = 0.5
"""How often a thread that hands over looks whether anybody still waits."""


@dataclass(frozen=True)
class TimeLimit:
    """When all tries for one address end.

    Parameters
    ----------
    seconds : from its beginning
    variable : of the environment, which sets it
    ends_at : in the seconds of ``time.monotonic``
    """

    seconds: float
    variable: str
    ends_at: float

    @classmethod
    def begin(cls, seconds: float, variable: str) -> TimeLimit:
        """Begin now."""
        return cls(seconds, variable, time.monotonic() + seconds)

    @property
    def left_s(self) -> float:
        """Seconds until it ends, at least 0."""
        return max(self.ends_at - time.monotonic(), 0.0)

    @property
    def told(self) -> str:
        """Say that it is over, as a part of a sentence."""
        return f"it took longer than {self.seconds:g} s ({self.variable} sets this limit)"


class TooSlow(Exception):  # noqa: N818  (it is an answer, not an accident)
    """Nothing came in time."""


class Handover(Generic[Item]):
    """The items of an iterator that runs in a thread of its own; use it in a ``with`` block.

    A socket has a limit for the time between two bytes alone, so that whoever sends a byte now
    and then is never late. The thread that reads them may be left behind: it ends with the
    connection, or with the program.

    Parameters
    ----------
    items : what the thread reads; closed at the end of the block or soon after
    """

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self._queue: Queue[tuple[Item] | BaseException | None] = Queue(4)
        self._unwanted = Event()

    def __enter__(self) -> Self:
        Thread(target=self._run, name="answer", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._unwanted.set()

    def next(self, limit_s: float) -> Item | None:
        """Give the next item; None after the last one.

        Raises
        ------
        TooSlow
            None came within `limit_s`.
        BaseException
            Whatever the iterator raised.
        """
        try:
            found = self._queue.get(timeout=max(limit_s, 1e-3))
        except Empty:
            raise TooSlow from None
        if isinstance(found, BaseException):
            raise found
        return None if found is None else found[0]

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put((item,)):
                    break
            else:
                self._put(None)
        except BaseException as why:  # noqa: BLE001  (it is raised where it is waited for)
            self._put(why)
        finally:
            getattr(self._items, "close", lambda: None)()

    def _put(self, found: tuple[Item] | BaseException | None) -> bool:
        while not self._unwanted.is_set():
            try:
                self._queue.put(found, timeout=_LOOKS_S)
            except Full:
                continue
            return True
        return False
