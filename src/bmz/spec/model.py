"""One description of a model, whatever the format version of its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Literal

from bmz.base.axes import SPACE, Step
from bmz.base.values import dataclass

AxisKind = Literal["batch", "channel", "space", "time", "index"]


@dataclass(frozen=True)
class Fixed:
    """Exactly `size` entries."""

    size: int

    def __str__(self) -> str:
        return str(self.size)


@dataclass(frozen=True)
class Stepped:
    """`least` + n x `step` entries, n = 0, 1, 2, ..."""

    least: int
    step: int

    def __str__(self) -> str:
        return f"{self.least} + {self.step}n"


@dataclass(frozen=True)
class LikeAxis:
    """As many entries as another axis: its size x its scale / own scale + `offset`."""

    tensor: str
    axis: str
    offset: int = 0

    def __str__(self) -> str:
        return f"as {self.tensor}.{self.axis}" + (f" {self.offset:+d}" if self.offset else "")


@dataclass(frozen=True)
class AnySize:
    """Not known before the network has run, or irrelevant (batch)."""

    def __str__(self) -> str:
        return "any"


Size = Fixed | Stepped | LikeAxis | AnySize


@dataclass(frozen=True)
class AxisSpec:
    """One axis of a tensor.

    Parameters
    ----------
    letter : one of ``bitczyx``
    kind : what the axis counts
    size : the numbers of entries that are allowed
    halo : pixels to crop from each side of this (output) axis, in its own pixels
    scale : spacing of the entries, in `unit`; 1.0 if nothing is declared
    unit : unit of `scale`, as declared; None if nothing is declared
    names : names of the channels; empty if they are placeholders or undeclared
    """

    letter: str
    kind: AxisKind
    size: Size
    halo: int = 0
    scale: float = 1.0
    unit: str | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class PackagedFile:
    """A file of the package.

    Parameters
    ----------
    path : its path, where it may still have to be fetched to
    sha256 : as the manifest states it; None if it states none
    url : its address, if the manifest names one instead of a file beside it
    """

    path: Path
    sha256: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class Pad:
    """How an input is padded beyond its border, as ``numpy.pad`` names it."""

    mode: Literal["constant", "edge", "reflect", "symmetric"]
    value: float = 0.0


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of the network.

    Parameters
    ----------
    id : its name
    axes : in the order of the tensor's dimensions
    dtype : declared for the input before, or the output after, the steps
    steps : pre- or postprocessing, in order
    value_range : declared lower and upper bound; None for open
    test, sample : files with an example; `test` is what the model must reproduce
    optional : whether the network runs without it
    pad : how an input is padded beyond its border; None if nothing is declared
    """

    id: str
    axes: tuple[AxisSpec, ...]
    dtype: str
    steps: tuple[Step, ...] = ()
    value_range: tuple[float | None, float | None] = (None, None)
    test: PackagedFile | None = None
    sample: PackagedFile | None = None
    optional: bool = False
    description: str = ""
    pad: Pad | None = None

    @property
    def letters(self) -> str:
        """The letters of the axes, such as ``bcyx``."""
        return "".join(axis.letter for axis in self.axes)

    @property
    def space(self) -> str:
        """The spatial axes in the order z, y, x."""
        return "".join(letter for letter in SPACE if letter in self.letters)

    @property
    def per_object(self) -> bool:
        """Whether it has an axis of objects, such as ``s``; its y and x are then no image axes."""
        return any(axis.kind == "space" and axis.letter not in SPACE for axis in self.axes)

    def axis(self, letter: str) -> AxisSpec | None:
        """Return the axis with this letter; None if there is none."""
        return next((axis for axis in self.axes if axis.letter == letter), None)

    @property
    def kind(self) -> OutputKind:
        """Whether its values are floating-point numbers, or integers and truth values."""
        return "continuous" if self.dtype.startswith("float") else "discrete"

    @property
    def channels(self) -> int | None:
        """The number of channels; 1 without a channel axis, None if it is not fixed."""
        axis = self.axis("c")
        if axis is None:
            return 1
        return axis.size.size if isinstance(axis.size, Fixed) else None


OutputKind = Literal["continuous", "discrete"]


@dataclass(frozen=True)
class PromptTensors:
    """The tensors of a network that gives single objects, by their ids; empty for those it lacks.

    Parameters
    ----------
    masks, scores : outputs, one entry per object
    points : an optional input, (b, object, point, 2) x and y in px
    labels : an optional input, (b, object, point), 1 for a point of the object
    boxes : an optional input, (b, object, 4) least x and y, largest x and y in px
    shapes : an optional input, (b, object, 1, y, x) logits, the longer side of the image fills it
    embeddings : an optional input and an output, what the network makes of the image
    embedded : that output, whether it is an input as well or not
    """

    masks: str
    scores: str
    points: str = ""
    labels: str = ""
    boxes: str = ""
    shapes: str = ""
    embeddings: str = ""
    embedded: str = ""

    @property
    def asks(self) -> bool:
        """Whether it can be asked for an object by a prompt, and not for all of an image alone."""
        return bool(self.points or self.boxes or self.shapes)


@dataclass(frozen=True)
class MapDecoder:
    """A second network, which turns what the first one makes of an image into maps of it.

    Parameters
    ----------
    file : its weights
    takes : id of the output of the first network that it is given
    outputs : of the first network
    """

    file: PackagedFile
    takes: str
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Tolerance:
    """How far an output may differ from the test tensor (``config.bioimageio``).

    Parameters
    ----------
    absolute, relative, mismatched_per_million : see ``bmz.process.consensus.compare``
    output_ids : the outputs that it applies to; all if empty
    weights_formats : the weights that it applies to; all if empty
    output_kind : it applies only to outputs of floating-point numbers (continuous), or only to
        those of integers and truth values (discrete); None for both
    """

    absolute: float = 1e-3
    relative: float = 1e-3
    mismatched_per_million: int = 100
    output_ids: tuple[str, ...] = ()
    weights_formats: tuple[str, ...] = ()
    output_kind: OutputKind | None = None


USUAL_TOLERANCES = (
    Tolerance(output_kind="continuous"),
    Tolerance(0.0, 0.0, 1000, output_kind="discrete"),
)
"""The tolerances that apply if a description states none.

Source: ``ContinuousReproducibilityTolerance`` and ``DiscreteReproducibilityTolerance`` of
bioimageio.spec 0.5.13, which are the default of ``reproducibility_tolerance``.
"""


@dataclass(frozen=True)
class Architecture:
    """The Python code that builds a network for a state dict.

    Parameters
    ----------
    callable : class or function in the code
    kwargs : its keyword arguments
    code : a file of the package; None if a library has the code
    library : the module to import it from; empty if a file of the package has the code
    """

    callable: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    code: PackagedFile | None = None
    library: str = ""


@dataclass(frozen=True)
class Weights:
    """One weights entry.

    Parameters
    ----------
    format : ``onnx``, ``torchscript``, ``pytorch_state_dict``, ...
    file : the weights
    beside : other files that are needed to load it: external data of ONNX, the code that
        builds the network of a state dict
    environment : list of packages to install, as its authors used them
    architecture : what builds the network of a state dict; None for other formats
    strict : each tensor of a state dict must belong to one of the network, and the reverse
    """

    format: str
    file: PackagedFile
    beside: tuple[PackagedFile, ...] = ()
    environment: PackagedFile | None = None
    architecture: Architecture | None = None
    strict: bool = True


@dataclass(frozen=True)
class Citation:
    """One reference.

    Parameters
    ----------
    where : its DOI or address
    """

    text: str
    where: str = ""


@dataclass(frozen=True)
class ModelSpec:
    """Everything that bmz needs to know about a model.

    Parameters
    ----------
    id : the name by which it was requested, or the id in the manifest
    folder : folder of its files
    sha256 : sha256 of the manifest; the identity of the model
    alias : its name in the zoo, as the zoo or the manifest states it, never the name of a
        folder; empty if neither does
    config : free additions of the manifest (``stardist``, ``bmz``, ``deepimagej``, ...)
    remarks : warnings of the parser of the description
    decoder_file : weights of an automatic decoder of micro-sam, attached to the package
    decoder : the outputs are what this makes of the network's, see `decoded`
    """

    id: str
    name: str
    folder: Path
    sha256: str
    format_version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: tuple[Weights, ...]
    description: str = ""
    license: str = ""
    authors: tuple[str, ...] = ()
    cite: tuple[Citation, ...] = ()
    tags: tuple[str, ...] = ()
    documentation: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    tolerances: tuple[Tolerance, ...] = ()
    remarks: tuple[str, ...] = ()
    alias: str = ""
    decoder_file: PackagedFile | None = None
    decoder: MapDecoder | None = None

    @property
    def space(self) -> str:
        """The spatial axes of the network: ``yx`` or ``zyx``."""
        letters = {letter for tensor in self.inputs for letter in tensor.space}
        return "".join(letter for letter in SPACE if letter in letters)

    @property
    def required_inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs that are not optional, in their order."""
        return tuple(tensor for tensor in self.inputs if not tensor.optional)

    @property
    def prompts(self) -> PromptTensors | None:
        """The tensors of a network that gives single objects of an image; None for another.

        Its masks are as large as the image, and have an axis of objects with the scores; prompts
        are inputs named as micro-sam does. One without any gives all objects of the image.
        """
        outputs = _objects_and_scores(self)
        if outputs is None:
            return None
        optional = {tensor.id for tensor in self.inputs if tensor.optional}
        known = {field: name for field, name in _PROMPTS.items() if name in optional}
        if not {"points", "labels"} <= set(known):
            known.pop("points", None)
            known.pop("labels", None)
        embedded = {tensor.id for tensor in self.outputs} & {"embeddings"}
        return PromptTensors(
            *outputs,
            **known,
            embeddings="".join(optional & embedded),
            embedded="".join(embedded),
        )

    @property
    def has_decoder(self) -> bool:
        """Whether an automatic decoder is attached, and its network gives what that takes."""
        prompts = self.prompts
        return self.decoder_file is not None and prompts is not None and bool(prompts.embedded)

    def decoded(self) -> ModelSpec:
        """Return the network with its automatic decoder behind it, as one whose outputs are maps.

        The decoder, too, is a file without which the weights cannot be used.

        Raises
        ------
        ValueError
            It has none.
        """
        prompts, file = self.prompts, self.decoder_file
        if prompts is None or file is None or not prompts.embedded:
            raise ValueError(f"'{self.id}' has no automatic decoder")
        image = self.required_inputs[0]
        axes = [
            replace(axis, size=LikeAxis(image.id, axis.letter)) if axis.letter in "yx" else axis
            for axis in image.axes
        ]
        maps = TensorSpec(
            id=DECODED,
            axes=tuple(
                replace(axis, size=Fixed(len(MAPS)), names=MAPS) if axis.letter == "c" else axis
                for axis in axes
            ),
            dtype="float32",
            value_range=(0.0, 1.0),
        )
        weights = tuple(replace(one, beside=(*one.beside, file)) for one in self.weights)
        decoder = MapDecoder(file, prompts.embedded, self.outputs)
        return replace(self, outputs=(maps,), weights=weights, decoder=decoder)

    def undecoded(self) -> ModelSpec:
        """Return the network without its decoder, as the description has it."""
        if self.decoder is None:
            return self
        return replace(self, outputs=self.decoder.outputs, decoder=None)

    def output(self, name: str) -> TensorSpec:
        """Return the output with this id, which must exist."""
        return next(tensor for tensor in self.outputs if tensor.id == name)

    @property
    def ours(self) -> Mapping[str, Any]:
        """The entry ``config.bmz``; empty if it is not a mapping, since anyone may write there."""
        additions = self.config.get("bmz")
        return additions if isinstance(additions, Mapping) else {}

    @property
    def receptive_field(self) -> Mapping[str, Any]:
        """The entry ``config.bmz.receptive_field``; empty if nothing was measured."""
        measured = self.ours.get("receptive_field")
        return measured if isinstance(measured, Mapping) else {}

    def tolerance_for(self, output: str, weights_format: str) -> Tolerance:
        """Return the declared tolerance of an output with a weights format, or the usual one.

        The first entry that applies is used. Source: ``reproducibility_tolerance`` of
        bioimageio.spec 0.5.13: "Only the first entry matching tensor id and weights format is
        considered."
        """
        kinds = {tensor.id: tensor.kind for tensor in self.outputs}
        kind = kinds.get(output, "continuous")
        return next(
            entry
            for entry in (*self.tolerances, *USUAL_TOLERANCES)
            if (not entry.output_ids or output in entry.output_ids)
            and (not entry.weights_formats or weights_format in entry.weights_formats)
            and entry.output_kind in {None, kind}
        )


DECODED = "decoded"
"""The id of the output that an automatic decoder gives."""

MAPS = ("foreground", "centre distance", "boundary distance")
"""What the channels of that output are, as micro-sam's ``InstanceSegmentationWithDecoder`` reads
them."""

_PROMPTS = {
    "points": "point_prompts",
    "labels": "point_labels",
    "boxes": "box_prompts",
    "shapes": "mask_prompts",
}
"""Field of `PromptTensors` -> the name that micro-sam gives the input."""


def _objects_and_scores(model: ModelSpec) -> tuple[str, str] | None:
    """Find the output of masks, and that of their scores, by their axis of objects."""
    images = {tensor.id for tensor in model.required_inputs}
    for masks in model.outputs:
        objects = {axis.letter for axis in masks.axes if axis.kind == "index"}
        sizes = [axis.size for axis in masks.axes if axis.letter in "yx"]
        of_image = [size for size in sizes if isinstance(size, LikeAxis) and size.tensor in images]
        if len(objects) != 1 or len(of_image) != len("yx"):
            continue
        for scores in model.outputs:
            letters = set(scores.letters)
            if objects <= letters <= objects | {"b", "c"} and scores.kind == "continuous":
                return masks.id, scores.id
    return None
