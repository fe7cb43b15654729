"""The engines that predict: bmz itself and bioimageio.core."""

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
    """Open a model in bioimageio.core, confined, whether or not it runs its own code.

    Whether its code may run has been decided earlier.

    Parameters
    ----------
    inputs : ids of the inputs that will be passed; None for all that are not optional

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
    from bmz.predict.confined import open_confined  # few runs use bioimageio.core

    return open_confined(CORE, request, [model.folder])


@dataclass(frozen=True)
class LoadCase:
    """The network to load, and how.

    Parameters
    ----------
    precision : the precision and the framework
    threads : number of threads on a CPU; None for one per processor
    """

    network: NetworkChoice
    precision: PrecisionChoice
    threads: int | None


class Engine(Protocol):
    """Runs the network of a model."""

    @property
    def whole_images(self) -> bool:
        """Whether it takes only whole images, so that no tile of them is tried."""

    @property
    def applies_steps(self) -> bool:
        """Whether it applies the declared steps, so that bmz must not."""

    def labelling(self, labelling: Labelling) -> Labelling:
        """Return the labelling that remains to be applied to its outputs."""

    def backend(self, choice: str) -> str:
        """Return the value of ``--backend`` that applies."""

    def opened(self, case: LoadCase) -> Backend:
        """Load the network; the caller closes it."""


@dataclass(frozen=True)
class BmzEngine:
    """bmz itself: declared steps over the whole image, tiles, and its own backends."""

    whole_images: bool = WHOLE_IMAGES["bmz"]
    applies_steps: bool = False

    def labelling(self, labelling: Labelling) -> Labelling:
        """Return it unchanged."""
        return labelling

    def backend(self, choice: str) -> str:
        """Return the requested value."""
        return choice

    def opened(self, case: LoadCase) -> Backend:
        """Load the network as chosen; on a CPU, first tiles are compared with float32."""
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
        """Leave out the declared steps, which bioimageio.core applies."""
        return replace(labelling, map_steps=(), label_steps=())

    @override
    def backend(self, choice: str) -> str:
        """Return the framework of the format, which bioimageio.core uses."""
        return NATIVE

    def opened(self, case: LoadCase) -> Backend:
        """Start bioimageio.core in its own process."""
        model = case.network.model
        if model.decoder is not None:
            why = "bioimageio.core runs only the network of a package"
            raise DecoderElsewhere(model, why, "leave out --engine core")
        return open_reference(case.network.model, case.network.weights)


ENGINES: Mapping[str, Engine] = {"bmz": BmzEngine(), "core": CoreEngine()}
"""Value of ``--engine`` -> engine."""
