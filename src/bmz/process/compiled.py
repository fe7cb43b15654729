"""Loops that are compiled at their first call and cached on disk, and a note if this takes long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from bmz.base.progress import Listener, Note, nobody

Loop = TypeVar("Loop", bound=Callable[..., object])

AFTER_S = 3.0
"""Seconds of compiling after which a note is sent; on an idle machine no recipe takes longer."""

TEXT = "compiling the loops of this label recipe for their first use; later runs start at once"


class _Waiting(threading.local):
    """State of the compilation in one thread, and the listener that is notified of it."""

    def __init__(self) -> None:
        self.listener: Listener = nobody
        self.timer: threading.Timer | None = None
        self.depth, self.began = 0, 0.0


class CompileNote:
    """Sum up the seconds of compiling in all threads, and notify the listener after `AFTER_S`."""

    def __init__(self) -> None:
        self._here = _Waiting()
        self._spent_s = 0.0

    @contextmanager
    def heard_by(self, listener: Listener) -> Iterator[None]:
        """Notify `listener` of what this thread compiles while the block runs."""
        before, self._here.listener = self._here.listener, listener
        try:
            yield
        finally:
            self._here.listener = before
            self._stop()

    def begin(self) -> None:
        """Record that the compilation of a loop begins, on its own or as part of another."""
        here = self._here
        here.depth += 1
        if here.depth == 1 and self._spent_s < AFTER_S:
            here.began = time.monotonic()
            here.timer = threading.Timer(
                AFTER_S - self._spent_s, partial(here.listener, Note(TEXT))
            )
            here.timer.daemon = True
            here.timer.start()

    def end(self) -> None:
        """Record that a loop has been compiled."""
        self._here.depth -= 1
        if self._here.depth <= 0:
            self._stop()

    def _stop(self) -> None:
        here = self._here
        if here.timer is not None:
            here.timer.cancel()
            here.timer = None
            self._spent_s += time.monotonic() - here.began
        here.depth = 0


NOTE = CompileNote()
"""The one instance of this process."""


def compiled(loop: Loop) -> Loop:
    """Compile `loop` with Numba, cache the machine code on disk, and release the GIL.

    Only modules of compiled loops call this, and recipes import these modules when they run.
    """
    from numba import njit  # here: it takes half a second to import

    dispatcher: Any = njit(cache=True, nogil=True)(loop)
    _tell_of_compiling(dispatcher._cache)  # noqa: SLF001  (there is no public way)
    return cast("Loop", dispatcher)


class _Cache(Protocol):
    """Numba's on-disk cache of the machine code of a loop."""

    load_overload: Callable[..., object]
    save_overload: Callable[..., None]


def _tell_of_compiling(cache: _Cache) -> None:
    """Record in `NOTE` each loop that is missing from the cache, and when it is saved there."""
    load, save = cache.load_overload, cache.save_overload

    def loading(*words: object) -> object:
        overload = load(*words)
        if overload is None:
            NOTE.begin()
        return overload

    def saving(*words: object) -> None:
        save(*words)
        NOTE.end()

    cache.load_overload, cache.save_overload = loading, saving
