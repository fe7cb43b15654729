"""Work beside the network, in other threads and told in order; how long each stage takes."""

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
    """Takes work for which the network need not wait."""

    def __call__(self, work: Callable[[], Made], /) -> Future[Made]:
        """Do it, here or in another thread."""


def at_once(work: Callable[[], Made], /) -> Future[Made]:
    """Do work here and now; see `Behind`. What it raises is raised at once."""
    return settled(work())


def settled(value: Made) -> Future[Made]:
    """Return the future of work that is done already."""
    future: Future[Made] = Future()
    future.set_result(value)
    return future


def failed(why: Exception) -> Future[Made]:
    """Return the future of work that cannot be begun."""
    future: Future[Made] = Future()
    future.set_exception(why)
    return future


class Threads:
    """Does work in other threads, in the order in which it comes; see `Behind`.

    Whoever brings more than is soon begun waits. A context manager: when the block fails, what has
    not begun is left out, and what is under way is waited for.

    Parameters
    ----------
    count : of threads
    whole : what was brought is done even when the block fails
    """

    def __init__(self, count: int, *, whole: bool = False) -> None:
        self._whole = whole
        self._pool = ThreadPoolExecutor(count)
        self._room = BoundedSemaphore(2 * count)

    def __call__(self, work: Callable[[], Made], /) -> Future[Made]:
        """Begin it, or let it wait for a thread; what it raises is in the future."""
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
    """Seconds spent in each stage of a run, in whatever thread.

    Parameters
    ----------
    took_s : stage -> seconds
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
    """Counts the seconds in which the device of a network computed, from the first call on."""

    def __init__(self) -> None:
        self._computed_s, self._began = 0.0, time.perf_counter()

    def add(self, seconds: float) -> None:
        """Count some more; called by the thread of the network alone."""
        self._computed_s += seconds

    def use(self, device: Device) -> DeviceUse:
        """Return the use of the device until now."""
        return DeviceUse(str(device), self._computed_s, time.perf_counter() - self._began)


MANY = 4
"""From so many images on it pays to load the layers through which the check looks at them."""


@contextmanager
def looking_through(weights_format: str, images: int) -> Iterator[None]:
    """Let the check look at many images through what runs the network, where that is quicker.

    All images of a call are looked at in the same way, so that their features do not depend on
    which of them comes first.

    Parameters
    ----------
    weights_format : of the network, whose framework is loaded anyway
    images : how many there are
    """
    make = FORMATS[weights_format].layers if images >= MANY else None
    if make is None:
        yield
        return
    with layers_run_by(make()):
        yield


class NotesInTurn:
    """Holds back what is noted of an image until the images before it are done.

    Parameters
    ----------
    listener : hears of one image after the other; progress is passed on at once
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._held: deque[list[Note]] = deque()
        self._lock = Lock()

    def begin(self) -> Listener:
        """Return what listens to the next image, in whatever thread."""
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
        """Note that the oldest image is done, and tell what is known of the next."""
        with self._lock:
            self._held.popleft()
            if self._held:
                for note in self._held[0]:
                    self._listener(note)
                self._held[0].clear()
