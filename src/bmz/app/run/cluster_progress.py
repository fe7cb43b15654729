"""What workers tell of tiles and of what happened, brought to the listener of the call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bmz.base.progress import Event, Listener, Note, Progress

TOPIC = "bmz"
"""Under which workers send events through Dask's scheduler."""


class ToCaller:
    """A listener in a worker that sends on what it hears."""

    def __init__(self, image: str) -> None:
        self._image, self._before = image, 0

    def __call__(self, event: Event, /) -> None:
        """Send how many tiles were done since the last time, or the words of a note."""
        from distributed import get_worker

        if isinstance(event, Note):
            named = event.kind == "hint" or event.text.startswith(self._image)
            text = event.text if named else f"{self._image}: {event.text}"
            told: dict[str, object] = {"note": text, "kind": event.kind}
        elif event.stage == "tiles":
            # every plane begins anew
            more = event.done - self._before if event.done > self._before else event.done
            self._before = event.done
            told = {"tiles": more}
        else:
            return
        get_worker().log_event(TOPIC, told)


@contextmanager
def told_by_workers(client: Any, tiles: int, listener: Listener) -> Iterator[None]:  # noqa: ANN401  (Dask has no types)
    """Pass on what workers send while the block runs.

    Parameters
    ----------
    client : of Dask
    tiles : of all images that are dealt out
    listener : is called in another thread, one event after the other
    """
    done = 0

    def heard(event: tuple[float, dict[str, Any]]) -> None:
        nonlocal done
        _, told = event
        if "note" in told:
            listener(Note(told["note"], told["kind"]))
        else:
            # those of an image that is tried again count twice
            done = min(done + told["tiles"], tiles)
            listener(Progress("tiles", done, tiles))

    client.subscribe_topic(TOPIC, heard)
    try:
        yield
    finally:
        client.unsubscribe_topic(TOPIC)
