"""What runs the tiles of an image in parts: this process, with the model that it has loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bmz.base.progress import Listener
from bmz.engine.attempts import Attempts
from bmz.engine.prepared_image import PreparedImage
from bmz.engine.scratch import PlaneFolder
from bmz.engine.setup import RunSetup
from bmz.plan.plan import Plan
from bmz.predict.backend import Backend
from bmz.predict.mosaic import TileStore
from bmz.predict.tiles import Tiles, fill


class TileRunner(Protocol):
    """Fills the map of a plane or stack, tile by tile."""

    @property
    def name(self) -> str:
        """The name of the backend, for the record."""

    def fill(
        self,
        setup: RunSetup,
        plan: Plan,
        prepared: PreparedImage,
        folder: PlaneFolder,
        listener: Listener,
    ) -> tuple[TileStore, Plan]:
        """Run the tiles that are not in the folder.

        Returns
        -------
        TileStore, Plan
            the store with all tiles, and the plan with those that memory held
        """


@dataclass(frozen=True)
class ThisProcess:
    """Runs all tiles here.

    Parameters
    ----------
    backend : the loaded model
    """

    backend: Backend

    @property
    def name(self) -> str:
        """The name of the backend, for the record."""
        return self.backend.name

    def fill(
        self,
        setup: RunSetup,
        plan: Plan,
        prepared: PreparedImage,
        folder: PlaneFolder,
        listener: Listener,
    ) -> tuple[TileStore, Plan]:
        """Run the tiles that are not in the folder, with smaller ones where memory runs out."""
        attempts = Attempts(plan, setup.model, listener)
        for attempt in attempts:
            with attempt as tried:
                tiles = tiles_of(self.backend, tried, prepared, listener)
                store = TileStore(folder.maps(tried), tiles.places(), output_number(setup))
                attempts.succeed(fill(store, tiles))
        return store, attempts.plan


def tiles_of(backend: Backend, plan: Plan, prepared: PreparedImage, listener: Listener) -> Tiles:
    """Give the tiles of a plane or stack."""
    inputs = [prepared.parted()]
    return Tiles(backend, inputs, plan.tiling, plan.outputs, plan.batch, listener)


def output_number(setup: RunSetup) -> int:
    """Give the position of the output that becomes labels."""
    return [tensor.id for tensor in setup.model.outputs].index(setup.labelling.choice.output)
