"""Who predicts, bmz itself or bioimageio.core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from typing_extensions import override

from bmz.base.values import dataclass
from bmz.engine.labelling import DecoderElsewhere, Labelling
from bmz.engine.network_choice import NetworkChoice, open_way, way_of
from bmz.engine.request import WHOLE_IMAGES
from bmz.engine.tile_gate import GatedBackend
from bmz.plan.weights_choice import PrecisionChoice
from bmz.predict.backend import CPU, Backend, LoadRequest
from bmz.predict.core import CORE
from bmz.predict.frameworks import NATIVE
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
    from bmz.predict.confined import open_confined  # here: few runs are of bioimageio.core

    return open_confined(CORE, request, [model.folder])


@dataclass(frozen=True)
class LoadCase:
    """Which network is loaded, and how.

    Parameters
    ----------
    precision : and the framework
    threads : of a network on a CPU; None for as many as there are processors
    """

    network: NetworkChoice
    precision: PrecisionChoice
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
        """Return what is left to be done with its outputs."""

    def backend(self, choice: str) -> str:
        """Return the word for the frameworks that may run the network."""

    def opened(self, case: LoadCase) -> Backend:
        """Load the network; it is to be closed."""


@dataclass(frozen=True)
class BmzEngine:
    """bmz itself: declared steps over the whole image, tiles, and its own backends."""

    whole_images: bool = WHOLE_IMAGES["bmz"]
    applies_steps: bool = False

    def labelling(self, labelling: Labelling) -> Labelling:
        """Leave it as it is."""
        return labelling

    def backend(self, choice: str) -> str:
        """Return what was asked for."""
        return choice

    def opened(self, case: LoadCase) -> Backend:
        """Load the network as was chosen; on a CPU the first tile of an image has its say."""
        opener = partial(open_way, case.network, threads=case.threads)
        if case.precision.gated and case.network.device.kind == "cpu":
            return GatedBackend(opener, case.precision)
        return opener(way_of(case.precision))


@dataclass(frozen=True)
class CoreEngine(Engine):
    """bioimageio.core, confined, on whole images."""

    whole_images: bool = WHOLE_IMAGES["core"]
    applies_steps: bool = True

    def labelling(self, labelling: Labelling) -> Labelling:
        """Leave the declared steps out, which are done already."""
        return replace(labelling, map_steps=(), label_steps=())

    @override
    def backend(self, choice: str) -> str:
        """Return the framework of the format, which bioimageio.core takes."""
        return NATIVE

    def opened(self, case: LoadCase) -> Backend:
        """Start bioimageio.core in a process of its own."""
        model = case.network.model
        if model.decoder is not None:
            why = "bioimageio.core runs only the network of a package"
            raise DecoderElsewhere(model, why, "leave out --engine core")
        return open_reference(case.network.model, case.network.weights)


ENGINES: Mapping[str, Engine] = {"bmz": BmzEngine(), "core": CoreEngine()}
"""By the name that ``--engine`` takes."""
