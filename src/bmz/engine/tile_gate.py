"""Compare tiles of images with float32, so that a lower precision can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from math import prod
from pathlib import Path
from types import MappingProxyType, ModuleType

from bmz.base.arrays import AnyArray
from bmz.base.notes import Notes
from bmz.base.progress import Listener, Note
from bmz.base.values import dataclass
from bmz.engine.network_choice import NetworkChoice, choice_key, decide_precision, way_of
from bmz.engine.test_tensors import first_of_batch, labels_of_first
from bmz.image.info import ImageInfo
from bmz.image.pixels import NAME
from bmz.plan.geometry import axis_rules
from bmz.plan.plan import Plan
from bmz.plan.weights_choice import LEAST_F1, LEAST_IOU, PrecisionChoice, Way
from bmz.predict.backend import Backend, Device, OnTensors
from bmz.process.matching import Matching, match_labels
from bmz.spec.model import ModelSpec

FIRST_IMAGES = 8
"""Number of images of a kind of which each is compared; later ones are compared less and less."""

ALLOWED_OBJECTS = 2
"""Objects that may differ on images of a kind, besides a share of 1 - `LEAST_F1` of all."""

MOST_TILES = 4
"""Maximum number of tiles of an image that are run twice, until one of them shows an object."""

MIDDLE_PX: Mapping[str, int] = MappingProxyType({"yx": 384, "zyx": 192})
"""Axes of the network -> side along y and x of the middle of a tile that is compared first."""

LATER_PX: Mapping[str, int] = MappingProxyType({"yx": 256, "zyx": 128})
"""The same for later tiles of an image."""


@dataclass(frozen=True)
class KindEvidence:
    """How far a lower precision and float32 agree on the images of a kind.

    Parameters
    ----------
    images : number of images of this kind that have been run
    comparisons : number of images of which a tile was compared
    same : number of objects of these tiles that both precisions show
    differing : number that only one of them shows, divided by 2
    compared : name of an image -> lowest F1 on its tiles
    """

    images: int = 0
    comparisons: int = 0
    same: int = 0
    differing: float = 0.0
    compared: Mapping[str, float] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether no more objects differ than may."""
        share = (1 - LEAST_F1) * (self.same + self.differing)
        return self.differing <= ALLOWED_OBJECTS + share

    @property
    def is_due(self) -> bool:
        """Whether the newest image is to be compared: all at first, then the 16th, 32nd, ..."""
        return self.comparisons < FIRST_IMAGES or _is_power_of(2, self.images)

    def joined(self, name: str, matching: Matching, *, is_first: bool) -> KindEvidence:
        """Add the comparison of a tile, which may be the first of its image.

        An image without a name is not remembered by itself.
        """
        f1 = min(matching.f1, self.compared.get(name, 1.0))
        return KindEvidence(
            self.images,
            self.comparisons + is_first,
            self.same + matching.tp,
            self.differing + (matching.fp + matching.fn) / 2,
            {**self.compared, name: f1} if name else self.compared,
        )

    def text(self, name: str) -> str:
        """Describe the comparison of an image, or of all if it was not compared itself."""
        if name in self.compared and self.agrees:
            return f"on tiles of '{name}' F1 {self.compared[name]:.3f}"
        f1 = self.same / max(self.same + self.differing, 1)
        return f"on tiles of images like it F1 {f1:.3f} ({self.comparisons} compared)"


def _is_power_of(base: int, number: int) -> bool:
    while number > 1 and number % base == 0:
        number //= base
    return number == 1


KINDS = Notes.of("tile", 2, KindEvidence, one_per_key=True)
"""The key is that of the choice, the folder of the image, and how it is passed to the network."""


@dataclass(frozen=True)
class TileCase:
    """How the tiles of an image are judged, and where the result is stored.

    Parameters
    ----------
    network : network choice, with the labelling of the image
    name : name of the image; empty for an array, as arrays of a program share one name
    key : key of the evidence, which is the same for all images of its kind
    listener : is told if float32 is used instead
    """

    network: NetworkChoice
    name: str
    key: str
    listener: Listener

    @property
    def float32(self) -> PrecisionChoice:
        """The framework that runs float32."""
        return decide_precision("float32", self.network, listener=self.listener)


class GatedBackend:
    """A network in a lower precision, which tiles of the images must confirm.

    Parameters
    ----------
    opened : loads the network in a given precision and framework
    choice : the precision and framework that the test input of the model allows
    """

    def __init__(self, opened: Callable[[Way], Backend], choice: PrecisionChoice) -> None:
        self._opened, self._first = opened, choice
        self._loaded: dict[Way, Backend] = {}
        self._known: dict[str, tuple[Path, KindEvidence]] = {}
        self._case: TileCase | None = None
        self._left = self._tiles = 0
        self._is_compared = False
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
        """Prepare for the next image: decide whether it is compared, and how it runs if not."""
        evidence = self._evidence(case)
        f1 = evidence.compared.get(case.name)
        if f1 is None:
            evidence = self._remember(case, replace(evidence, images=evidence.images + 1))
        is_due = f1 is None and evidence.agrees and evidence.is_due
        self._case, self._left, self._tiles = case if is_due else None, MOST_TILES, 0
        self._is_compared = False
        if is_due or not evidence.comparisons:
            self._use(self._first)
            return
        agrees = evidence.agrees and (f1 is None or f1 >= LEAST_F1)
        self._use(self._first if agrees else case.float32, evidence.text(case.name))

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Run the network once, as `Backend` describes."""
        outputs = self._current.run(inputs)
        self._tiles += 1
        if self._case is None or not (self._left or self._is_due(self._case, inputs)):
            return outputs
        return self._judged(self._case, inputs, outputs)

    def _is_due(self, case: TileCase, inputs: Sequence[AnyArray]) -> bool:
        """Return whether a later tile is compared: small ones, such as planes, as images are."""
        model = case.network.model
        if middle_of_tile(model, inputs, MIDDLE_PX[model.space]) is not None:
            return _is_power_of(4, self._tiles)
        return self._tiles <= FIRST_IMAGES or _is_power_of(2, self._tiles)

    def tensor_library(self) -> ModuleType | None:
        """Return the tensor library of the network that currently runs, as in `OnTensors`."""
        current = self._current
        return current.tensor_library() if isinstance(current, OnTensors) else None

    def close(self) -> None:
        """Keep how many images there were, and free the memory."""
        for key, (folder, evidence) in self._known.items():
            KINDS.keep(folder, key, evidence)
        for backend in self._loaded.values():
            backend.close()

    def _judged(
        self, case: TileCase, inputs: Sequence[AnyArray], outputs: list[AnyArray]
    ) -> list[AnyArray]:
        whole = case.float32
        matching, expected = self._compared(case.network, inputs, outputs, self._backend(whole))
        if matching is None:
            self._left = max(self._left - 1, 0)
            return outputs
        is_first, self._is_compared, self._left = not self._is_compared, True, 0
        evidence = self._evidence(case).joined(case.name, matching, is_first=is_first)
        self._remember(case, evidence)
        KINDS.keep(case.network.notes[-1], case.key, evidence)  # for workers beside this one
        if evidence.agrees and matching.f1 >= LEAST_F1:
            self._use(self._first, evidence.text(case.name))
            return outputs
        self._case = None
        _tell(case, evidence, matching.f1, self._tiles, way_of(whole), way_of(self._first))
        later = f", from tile {self._tiles} on" if self._tiles > 1 else ""
        self._use(whole, evidence.text(case.name) + later)
        return self._current.run(inputs) if expected is None else expected

    def _evidence(self, case: TileCase) -> KindEvidence:
        if case.key in self._known:
            return self._known[case.key][1]
        return KINDS.find(case.network.notes, case.key) or KindEvidence()

    def _remember(self, case: TileCase, evidence: KindEvidence) -> KindEvidence:
        self._known[case.key] = case.network.notes[-1], evidence
        return evidence

    def _compared(
        self,
        network: NetworkChoice,
        inputs: Sequence[AnyArray],
        outputs: Sequence[AnyArray],
        whole: Backend,
    ) -> tuple[Matching | None, list[AnyArray] | None]:
        """Compare the middle of a tile, else the whole tile; return its float32 outputs, too."""
        middle_px = (MIDDLE_PX if self._left else LATER_PX)[network.model.space]
        middle = middle_of_tile(network.model, inputs, middle_px)
        if middle is not None:
            matching = _matching(network, middle, self._current.run(middle), whole.run(middle))
            if matching is not None:
                return matching, None
        expected = whole.run(inputs)
        return _matching(network, inputs, outputs, expected), expected

    def _use(self, choice: PrecisionChoice, why: str = "") -> None:
        self._current = self._backend(choice)
        # both choices start with what the test input showed
        self.choice = replace(choice, why=f"{self._first.why}; {why}") if why else choice

    def _backend(self, choice: PrecisionChoice) -> Backend:
        way = way_of(choice)
        if way not in self._loaded:
            self._loaded[way] = self._opened(way)
        return self._loaded[way]


def _tell(
    case: TileCase, evidence: KindEvidence, f1: float, tile: int, way: Way, other: Way
) -> None:
    """Tell that an image runs in float32, and whether all later ones of its kind do, too."""
    place = "the first tile" if tile == 1 else f"tile {tile}"
    sentence = f"running in {way}, because {other} gives different labels on {place} (F1 {f1:.3f})"
    if not evidence.agrees:
        sentence += "; so do all further images like it"
    case.listener(Note(f"{case.name or NAME}: {sentence}"))


def middle_of_tile(
    model: ModelSpec, inputs: Sequence[AnyArray], middle_px: int
) -> list[AnyArray] | None:
    """Cut the middle out of the inputs of a large tile, in a size that the network accepts.

    Comparing it takes a fraction of the time of the whole tile in float32.

    Parameters
    ----------
    model : the model, which defines the legal sizes
    inputs : inputs of the network, in the order of the description
    middle_px : wanted side along y and x

    Returns
    -------
    list of arrays, or None
        None if the tile is hardly larger, or its size is fixed
    """
    tensors = list(zip(model.required_inputs, inputs, strict=True))
    sizes: dict[str, int] = {}
    for tensor, array in tensors:
        sizes |= dict(zip(tensor.letters, array.shape, strict=True))
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


def _matching(
    network: NetworkChoice,
    inputs: Sequence[AnyArray],
    outputs: Sequence[AnyArray],
    expected: Sequence[AnyArray],
) -> Matching | None:
    """Match the labels of two outputs; return None if neither shows an object."""
    labels, reference = (_labels(network, inputs, x) for x in (outputs, expected))
    if not (reference.any() or labels.any()):
        return None
    return match_labels(labels, reference, LEAST_IOU)


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
    """Tell a gated network which image comes next, so that its tiles may be compared."""
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
    name = "" if image.path == Path(NAME) else image.place.name
    backend.expect(TileCase(network, name, key, listener))


def gated_precision(backend: Backend) -> PrecisionChoice | None:
    """Return the precision in which an image was run; None for a network that is not gated."""
    return backend.choice if isinstance(backend, GatedBackend) else None
