"""Compare the first tile of an image with float32 before trusting a lower precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from types import MappingProxyType, ModuleType

from bmz.base.arrays import AnyArray
from bmz.base.notes import Notes
from bmz.base.progress import Listener, Note
from bmz.base.values import dataclass
from bmz.engine.network_choice import NetworkChoice, choice_key, decide_precision, way_of
from bmz.engine.test_tensors import first_of_batch, labels_of_first
from bmz.image.info import ImageInfo
from bmz.plan.geometry import axis_rules
from bmz.plan.plan import Plan
from bmz.plan.weights_choice import LEAST_F1, LEAST_IOU, PrecisionChoice, Way
from bmz.predict.backend import Backend, Device, OnTensors
from bmz.process.matching import match_labels
from bmz.spec.model import ModelSpec

TILES = Notes.of("tile", 1, PrecisionChoice, one_per_key=True)
"""The key is that of the choice, the folder of the image, and how it is passed to the network."""

MOST_TILES = 4
"""Maximum number of tiles of an image that are run twice, until one of them shows an object."""

MIDDLE_PX: Mapping[str, int] = MappingProxyType({"yx": 384, "zyx": 192})
"""Axes of the network -> side along y and x of the middle of a tile that is compared first."""


@dataclass(frozen=True)
class TileCase:
    """How the tiles of an image are judged, and where the result is stored.

    Parameters
    ----------
    network : network choice, with the labelling of the image
    name : name of the image
    key : key of the result, which is the same for all images of its kind
    listener : is told if float32 is used instead
    """

    network: NetworkChoice
    name: str
    key: str
    listener: Listener


class GatedBackend:
    """A network in a lower precision, which the first tile of an image must confirm.

    Parameters
    ----------
    opened : loads the network in a given precision and framework
    choice : the precision and framework that the test input of the model allows
    """

    def __init__(self, opened: Callable[[Way], Backend], choice: PrecisionChoice) -> None:
        self._opened, self._first = opened, choice
        self._loaded: dict[Way, Backend] = {}
        self._known: dict[str, PrecisionChoice] = {}
        self._case: TileCase | None = None
        self._left = 0
        self.choice = choice
        self._current = self._backend(choice)

    @property
    def name(self) -> str:
        """The framework that currently runs the network."""
        return self._current.name

    @property
    def device(self) -> Device:
        """The device that the network runs on."""
        return self._current.device

    def expect(self, case: TileCase) -> None:
        """Prepare for the next image, reusing the judgement of images of its kind."""
        known = self._known.get(case.key) or TILES.find(case.network.notes, case.key)
        if known is not None:
            self._known[case.key] = known
        self._use(self._first if known is None else known)
        self._case, self._left = (case, MOST_TILES) if known is None else (None, 0)

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Run the network once, as `Backend` describes."""
        outputs = self._current.run(inputs)
        return outputs if self._case is None else self._judged(self._case, inputs, outputs)

    def tensor_library(self) -> ModuleType | None:
        """Return the tensor library of the network that currently runs, as in `OnTensors`."""
        current = self._current
        return current.tensor_library() if isinstance(current, OnTensors) else None

    def close(self) -> None:
        """Free the memory."""
        for backend in self._loaded.values():
            backend.close()

    def _judged(
        self, case: TileCase, inputs: Sequence[AnyArray], outputs: list[AnyArray]
    ) -> list[AnyArray]:
        whole = decide_precision("float32", case.network, listener=case.listener)
        f1, expected = self._compared(case.network, inputs, outputs, self._backend(whole))
        if f1 is None:
            self._left -= 1
            self._case = case if self._left else None
            return outputs
        reason = f"{self.choice.why}; on the first tile of '{case.name}' F1 {f1:.3f}"
        agrees = f1 >= LEAST_F1
        judged = replace(self.choice if agrees else whole, why=reason)
        TILES.keep(case.network.notes[-1], case.key, judged)
        if not agrees:
            way, other = way_of(judged), way_of(self.choice)
            sentence = (
                f"running in {way}, because {other} gives different labels on the first tile (F1 "
                f"{f1:.3f})"
            )
            case.listener(Note(f"{case.name}: {sentence}"))
        self._case = None
        self._use(judged)
        if agrees:
            return outputs
        return self._current.run(inputs) if expected is None else expected

    def _compared(
        self,
        network: NetworkChoice,
        inputs: Sequence[AnyArray],
        outputs: Sequence[AnyArray],
        whole: Backend,
    ) -> tuple[float | None, list[AnyArray] | None]:
        """Return F1 of the middle of a tile, else of the whole tile with its float32 outputs."""
        middle = middle_of_tile(network.model, inputs)
        if middle is not None:
            f1 = _agreement(network, middle, self._current.run(middle), whole.run(middle))
            if f1 is not None:
                return f1, None
        expected = whole.run(inputs)
        return _agreement(network, inputs, outputs, expected), expected

    def _use(self, choice: PrecisionChoice) -> None:
        self.choice, self._current = choice, self._backend(choice)

    def _backend(self, choice: PrecisionChoice) -> Backend:
        way = way_of(choice)
        if way not in self._loaded:
            self._loaded[way] = self._opened(way)
        return self._loaded[way]


def middle_of_tile(model: ModelSpec, inputs: Sequence[AnyArray]) -> list[AnyArray] | None:
    """Cut the middle out of the inputs of a large tile, in a size that the network accepts.

    Comparing it takes a fraction of the time of the whole tile in float32.

    Parameters
    ----------
    model : the model, which defines the legal sizes
    inputs : inputs of the network, in the order of the description

    Returns
    -------
    list of arrays, or None
        None if the tile is hardly larger, or its size is fixed
    """
    tensors = list(zip(model.required_inputs, inputs, strict=True))
    sizes: dict[str, int] = {}
    for tensor, array in tensors:
        sizes |= dict(zip(tensor.letters, array.shape, strict=True))
    middle_px = MIDDLE_PX[model.space]
    sides: dict[str, slice] = {}
    for rule in axis_rules(model):
        side = (
            rule.legal_sizes(max(middle_px, rule.least_tile))[-1] if rule.step else sizes[rule.axis]
        )
        if rule.axis != "z" and side < sizes[rule.axis]:
            start = (sizes[rule.axis] - side) // 2
            sides[rule.axis] = slice(start, start + side)
    cut_px = prod(side.stop - side.start for side in sides.values())
    if 2 * cut_px > prod(sizes[axis] for axis in sides):
        return None
    return [array[tuple(sides.get(a, slice(None)) for a in t.letters)] for t, array in tensors]


def _agreement(
    network: NetworkChoice,
    inputs: Sequence[AnyArray],
    outputs: Sequence[AnyArray],
    expected: Sequence[AnyArray],
) -> float | None:
    """Return F1 of the labels of two outputs; None if neither shows an object."""
    labels, reference = (_labels(network, inputs, x) for x in (outputs, expected))
    if not (reference.any() or labels.any()):
        return None
    return match_labels(labels, reference, LEAST_IOU).f1


def _labels(
    network: NetworkChoice, inputs: Sequence[AnyArray], outputs: Sequence[AnyArray]
) -> AnyArray:
    """Label the first image of a tile; steps refer to the inputs of the network."""
    model = network.model
    taken = {
        tensor.id: (first_of_batch(array, tensor.letters), tensor.letters)
        for tensor, array in zip(model.required_inputs, inputs, strict=True)
    }
    first = [
        first_of_batch(array, tensor.letters)
        for tensor, array in zip(model.outputs, outputs, strict=True)
    ]
    return labels_of_first(model, network.labelling, taken, first)


def expect_image(
    backend: Backend, network: NetworkChoice, image: ImageInfo, plan: Plan, listener: Listener
) -> None:
    """Tell a gated network which image comes next, so that its first tile is compared."""
    if not isinstance(backend, GatedBackend):
        return
    kind = (
        image.path.parent,
        image.dtype,
        plan.channels,
        plan.clip,
        plan.invert,
        f"{plan.scale:.2g}",
    )
    key = " | ".join((choice_key(network, "auto"), *map(str, kind)))
    backend.expect(TileCase(network, image.place.name, key, listener))


def gated_precision(backend: Backend) -> PrecisionChoice | None:
    """Return the precision in which an image was run; None for a network that is not gated."""
    return backend.choice if isinstance(backend, GatedBackend) else None
