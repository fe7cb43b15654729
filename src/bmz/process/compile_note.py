"""Tells whoever waits that loops are compiled for their first use, when that takes long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bmz.base.progress import Listener, Note, nobody

AFTER_S = 3.0
"""So long the loops of every recipe take at the most where the machine has nothing else to do."""

TEXT = "the loops of this label recipe are compiled for their first use; later runs need not wait"


class CompileNote:
    """Counts the seconds for which loops are compiled, and tells of them once."""

    def __init__(self) -> None:
        self._listener: Listener = nobody
        self._timer: threading.Timer | None = None
        self._depth, self._began, self._spent_s = 0, 0.0, 0.0

    @contextmanager
    def heard_by(self, listener: Listener) -> Iterator[None]:
        """Tell `listener` while the block runs."""
        before, self._listener = self._listener, listener
        try:
            yield
        finally:
            self._listener = before
            self._stop()

    def begin(self) -> None:
        """Note that a loop is compiled from now on, on its own or as a part of another."""
        self._depth += 1
        if self._depth == 1 and self._spent_s < AFTER_S:
            self._began = time.monotonic()
            self._timer = threading.Timer(AFTER_S - self._spent_s, self._tell)
            self._timer.daemon = True
            self._timer.start()

    def end(self) -> None:
        """Note that a loop is compiled."""
        self._depth -= 1
        if self._depth <= 0:
            self._stop()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._spent_s += time.monotonic() - self._began
        self._depth = 0

    def _tell(self) -> None:
        self._listener(Note(TEXT))
        self._listener = nobody


NOTE = CompileNote()
"""Of this process."""
