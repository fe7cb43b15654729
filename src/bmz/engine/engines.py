"""Who predicts: bmz itself, or bioimageio.core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from typing_extensions import override

from bmz.engine.labelling import Labelling
from bmz.engine.model_code import Permit
from bmz.engine.networks import open_network
from bmz.engine.precision import precision_of
from bmz.plan.weights_choice import PrecisionChoice
from bmz.predict.backend import CPU, Backend, Device, LoadRequest
from bmz.predict.confined import open_confined
from bmz.predict.core import CORE
from bmz.spec.model import ModelSpec, Weights


def open_reference(
    model: ModelSpec, weights: Weights, inputs: Sequence[str] | None = None
) -> Backend:
    """Open a model in bioimageio.core, confined, whether it runs code of its own or not.

    Whether its code may run is decided before.

    Parameters
    ----------
    inputs : ids of those that will be given; None for all that are not optional

    Raises
    ------
    NotConfinable, ChildRefused, ChildDied
        See ``bmz.predict.confined.open_confined``.
    """
    manifest = next(
        path for name in ("bioimageio.yaml", "rdf.yaml") if (path := model.folder / name).is_file()
    )
    required = tuple(tensor.id for tensor in model.required_inputs)
    request = LoadRequest(
        path=weights.file.path,
        input_ids=required if inputs is None else tuple(inputs),
        output_ids=tuple(tensor.id for tensor in model.outputs),
        device=CPU,
        manifest=manifest.absolute(),
        weights_format=weights.format,
    )
    return open_confined(CORE, request, [model.folder])


WHOLE_PX = 2**30
"""A tile (px) that holds every image."""


@dataclass(frozen=True)
class LoadCase:
    """Which network is loaded, and how.

    Parameters
    ----------
    permit : whether code of the model may run
    threads : of a network on a CPU; None for as many as there are processors
    """

    model: ModelSpec
    weights: Weights
    device: Device
    precision: PrecisionChoice
    permit: Permit
    threads: int | None


class Engine(Protocol):
    """Runs the network of a model."""

    @property
    def whole_images(self) -> bool:
        """It takes images in one piece alone, and is tried on none of their tiles."""

    @property
    def applies_steps(self) -> bool:
        """It applies the declared steps, so that nobody else may."""

    def labelling(self, labelling: Labelling) -> Labelling:
        """Give what is left to be done with its outputs."""

    def tile_px(self, asked: int | None) -> int | None:
        """Give the side of tiles, px; None for those that suit the device."""

    def opened(self, case: LoadCase) -> Backend:
        """Load the network; it is to be closed."""


@dataclass(frozen=True)
class BmzEngine:
    """bmz itself: declared steps over the whole image, tiles, and its own backends."""

    whole_images: bool = False
    applies_steps: bool = False

    def labelling(self, labelling: Labelling) -> Labelling:
        """Leave it as it is."""
        return labelling

    def tile_px(self, asked: int | None) -> int | None:
        """Give what was asked for."""
        return asked

    def opened(self, case: LoadCase) -> Backend:
        """Load the network in the precision that was chosen."""
        return open_network(
            case.model,
            case.weights,
            case.device,
            precision=precision_of(case.precision),
            permit=case.permit,
            threads=case.threads,
        )


@dataclass(frozen=True)
class CoreEngine(Engine):
    """bioimageio.core, confined, on whole images."""

    whole_images: bool = True
    applies_steps: bool = True

    def labelling(self, labelling: Labelling) -> Labelling:
        """Leave the declared steps out, which are done already."""
        return replace(labelling, map_steps=(), label_steps=())

    @override
    def tile_px(self, asked: int | None) -> int | None:
        """Give a tile that holds every image."""
        return WHOLE_PX

    def opened(self, case: LoadCase) -> Backend:
        """Start bioimageio.core in a process of its own."""
        return open_reference(case.model, case.weights)


ENGINES: Mapping[str, Engine] = {"bmz": BmzEngine(), "core": CoreEngine()}
"""By the name that ``--engine`` takes."""
