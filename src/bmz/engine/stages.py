"""Run work in other threads alongside the network, report it in order, and time each stage."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import field
from threading import BoundedSemaphore, Lock
from types import TracebackType
from typing import Protocol, Self, TypeVar

from bmz.base.progress import Event, Listener, Note, Stage, nobody
from bmz.base.values import dataclass
from bmz.check.kind_network import layers_run_by
from bmz.predict.backend import Device
from bmz.predict.formats import FORMATS
from bmz.results.images import DeviceUse

Made = TypeVar("Made")


class Behind(Protocol):
    """Accept work for which the network need not wait."""

    def __call__(self, work: Callable[[], Made], /) -> Future[Made]:
        """Do the work, in this thread or in another one."""


def at_once(work: Callable[[], Made], /) -> Future[Made]:
    """Do work immediately in this thread, as a `Behind`; its errors are raised here."""
    return settled(work())


def settled(value: Made) -> Future[Made]:
    """Return the future of work that is already done."""
    future: Future[Made] = Future()
    future.set_result(value)
    return future


def failed(why: Exception) -> Future[Made]:
    """Return the future of work that could not begin."""
    future: Future[Made] = Future()
    future.set_exception(why)
    return future


class Threads:
    """Do work in other threads, in the order of submission, as a `Behind`.

    Submitting more than twice `count` unfinished pieces of work blocks. Used as a context manager:
    if the block fails, work that has not begun is cancelled, and running work is waited for.

    Parameters
    ----------
    count : number of threads
    whole : whether all submitted work is done even if the block fails
    """

    def __init__(self, count: int, *, whole: bool = False) -> None:
        self._whole = whole
        self._pool = ThreadPoolExecutor(count)
        self._room = BoundedSemaphore(2 * count)

    def __call__(self, work: Callable[[], Made], /) -> Future[Made]:
        """Begin the work, or queue it for a thread; its errors are in the future."""
        self._room.acquire()
        future = self._pool.submit(work)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        why: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=kind is not None and not self._whole)


@dataclass
class Stopwatch:
    """Time spent in each stage of a run, in any thread.

    Parameters
    ----------
    took_s : stage -> duration, s
    listener : is notified of each stage that begins
    """

    took_s: dict[str, float] = field(default_factory=dict)
    listener: Listener = field(default=nobody, repr=False, compare=False)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to the stage `name`."""
        self.listener(Stage(name))
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Add seconds to the stage `name`."""
        with self._lock:
            self.took_s[name] = self.took_s.get(name, 0.0) + seconds


class DeviceClock:
    """Count the seconds for which the device of a network computed, since the clock was created."""

    def __init__(self) -> None:
        self._computed_s, self._began = 0.0, time.perf_counter()

    def add(self, seconds: float) -> None:
        """Add seconds; only called by the thread of the network."""
        self._computed_s += seconds

    def use(self, device: Device) -> DeviceUse:
        """Return the use of the device until now."""
        return DeviceUse(str(device), self._computed_s, time.perf_counter() - self._began)


MANY = 4
"""Minimum number of images for which loading the layers used by the check pays off."""


@contextmanager
def looking_through(weights_format: str, images: int) -> Iterator[None]:
    """Let the check of many images use the framework of the network, if that is faster.

    All images of a call are checked in the same way, so that their features do not depend on which
    of them comes first.

    Parameters
    ----------
    weights_format : weights format of the network, whose framework is loaded anyway
    images : number of images
    """
    make = FORMATS[weights_format].layers if images >= MANY else None
    if make is None:
        yield
        return
    with layers_run_by(make()):
        yield


class NotesInTurn:
    """Hold back the notes on an image until the images before it are done.

    Parameters
    ----------
    listener : receives the notes on one image after another; progress is passed on immediately
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._held: deque[list[Note]] = deque()
        self._lock = Lock()

    def begin(self) -> Listener:
        """Return the listener for the next image, which may be called in any thread."""
        held: list[Note] = []
        with self._lock:
            self._held.append(held)

        def tell(event: Event, /) -> None:
            with self._lock:
                if not isinstance(event, Note) or (self._held and self._held[0] is held):
                    self._listener(event)
                else:
                    held.append(event)

        return tell

    def end(self) -> None:
        """Mark the oldest image as done, and pass on the notes held back for the next."""
        with self._lock:
            self._held.popleft()
            if self._held:
                for note in self._held[0]:
                    self._listener(note)
                self._held[0].clear()
