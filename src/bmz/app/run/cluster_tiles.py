"""The tiles of one large image among several processes, each tile run exactly once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bmz.app.run.cluster_worker import loaded
from bmz.base.progress import Listener, Progress, nobody
from bmz.engine.attempts import Attempts
from bmz.engine.prepared_image import PreparedImage
from bmz.engine.request import RunRequest
from bmz.engine.scratch import PlaneFolder
from bmz.engine.setup import RunSetup
from bmz.engine.tile_runner import output_number, tiles_of
from bmz.image.info import ImageInfo
from bmz.image.region import OpenImage, open_image
from bmz.plan.plan import Plan
from bmz.predict.mosaic import Places, TileStore
from bmz.predict.tiles import fill

SHARES = 8
"""Tasks for each worker: enough that a slow one holds nobody up, few enough to be told of."""


@dataclass(frozen=True)
class Share:
    """Some tiles of a plane or stack, for one worker.

    Parameters
    ----------
    info : of the image, whose file the worker sees under the same path
    prepare : makes of the open image what tiles are cut from
    plan : of all tiles
    folder : for the tiles, which the worker sees under the same path
    tiles : their numbers
    """

    info: ImageInfo
    prepare: Callable[[OpenImage], PreparedImage]
    plan: Plan
    folder: Path
    tiles: Sequence[int]


@dataclass
class OnWorkers:
    """Deals the tiles of a plane or stack out among workers.

    Parameters
    ----------
    client : of Dask
    alone : the words of the call for one worker
    workers : how many there are
    """

    client: Any
    alone: RunRequest
    workers: int
    name: str = field(default="", init=False)
    """Of the backend, once a worker has said it."""

    def fill(
        self,
        setup: RunSetup,
        plan: Plan,
        prepared: PreparedImage,
        folder: PlaneFolder,
        listener: Listener,
    ) -> tuple[TileStore, Plan]:
        """Have the tiles run that are not in the folder, with smaller ones where memory runs out.

        Raises
        ------
        KilledWorker
            The workers that ran some tiles died, one after the other.
        BmzError
            What went wrong in a worker, and again in another.
        """
        attempts = Attempts(plan, setup.model, listener)
        for attempt in attempts:
            with attempt as tried:
                place = folder.maps(tried)
                store = TileStore(
                    place, Places(tried.tiling, tried.outputs, 1), output_number(setup)
                )
                share = Share(prepared.image.info, prepared.elsewhere(), tried, place, ())
                attempts.succeed(self._dealt(store, share, listener))
        return store, attempts.plan

    def _dealt(self, store: TileStore, share: Share, listener: Listener) -> int:
        from distributed import as_completed

        missing, total = store.missing_numbers(), share.plan.tiling.count
        batch, size = share.plan.batch, max(-(-len(missing) // (self.workers * SHARES)), 1)
        shares = [
            replace(share, tiles=tuple(missing[at : at + size]))
            for at in range(0, len(missing), size)
        ]
        # Dask tries twice more where a worker dies; what it had finished is not run again
        waiting = {
            self.client.submit(run_share, self.alone, one, pure=False, retries=1): len(one.tiles)
            for one in shares
        }
        done = total - len(missing)
        try:
            for future in as_completed(list(waiting)):
                found = future.result()
                batch, self.name = min(batch, found["batch"]), found["backend"]
                done += waiting[future]
                listener(Progress("tiles", done, total))
        except BaseException:
            with suppress(CancelledError, OSError, TimeoutError):  # the scheduler itself is gone
                self.client.cancel(list(waiting))
            raise
        return batch


def run_share(request: RunRequest, share: Share) -> Mapping[str, Any]:
    """Run some tiles in a worker, and write each into a file of its own.

    Returns
    -------
    dict
        ``backend``, the name of what ran them, and ``batch``, how many at once
    """
    setup, backend = loaded(request)
    with open_image(share.info) as image:
        tiles = tiles_of(backend, share.plan, share.prepare(image), nobody)
        only = frozenset(share.tiles)
        store = TileStore(share.folder, tiles.places(), output_number(setup), only)
        return {"backend": backend.name, "batch": fill(store, tiles)}
