"""Define the description of a model, independent of the format version of its manifest."""

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
    """The size of another axis x its scale / own scale + `offset`."""

    tensor: str
    axis: str
    offset: int = 0

    def __str__(self) -> str:
        return f"as {self.tensor}.{self.axis}" + (f" {self.offset:+d}" if self.offset else "")


@dataclass(frozen=True)
class AnySize:
    """A size that is unknown until the network has run, or irrelevant (batch)."""

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
    size : the allowed numbers of entries
    halo : pixels to crop from each side of an output axis, in pixels of the output
    scale : spacing of the entries in `unit`; 1.0 if nothing is declared
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
    path : path of the file, which may not have been downloaded yet
    sha256 : hash stated in the manifest; None if it states none
    url : address of the file, if the manifest gives one instead of a path in the package
    """

    path: Path
    sha256: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class Pad:
    """How an input is padded beyond its border, in the terms of ``numpy.pad``."""

    mode: Literal["constant", "edge", "reflect", "symmetric"]
    value: float = 0.0


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of the network.

    Parameters
    ----------
    id : name of the tensor
    axes : axes in the order of the tensor's dimensions
    dtype : dtype declared for an input before its steps, or for an output after them
    steps : pre- or postprocessing steps, in order
    value_range : declared lower and upper bound; None for no bound
    test, sample : files with an example; the model must reproduce the `test` of an output
    optional : whether the network runs without this tensor
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
        """Whether it has an object axis, such as ``s``; y and x are then not axes of the image."""
        return any(axis.kind == "space" and axis.letter not in SPACE for axis in self.axes)

    def axis(self, letter: str) -> AxisSpec | None:
        """Return the axis with this letter; None if there is none."""
        return next((axis for axis in self.axes if axis.letter == letter), None)

    @property
    def kind(self) -> OutputKind:
        """Whether the values are floating-point numbers, or integers or booleans."""
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
    """Ids of the tensors of a network that segments single objects; empty for those it lacks.

    Parameters
    ----------
    masks, scores : outputs with one entry per object
    points : optional input, (b, object, point, 2), x and y in px
    labels : optional input, (b, object, point), 1 for a point inside the object
    boxes : optional input, (b, object, 4), smallest x and y, largest x and y in px
    shapes : optional input, (b, object, 1, y, x), logits; the longer side of the image fills it
    embeddings : the embeddings of the image, if they are both an optional input and an output
    embedded : the output with the embeddings, whether or not it is also an input
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
        """Whether it takes prompts for single objects, instead of only segmenting all of them."""
        return bool(self.points or self.boxes or self.shapes)


@dataclass(frozen=True)
class MapDecoder:
    """A second network, which decodes the embeddings of the first one into maps of the image.

    Parameters
    ----------
    file : weights of the decoder
    takes : id of the output of the first network that is the input of the decoder
    outputs : outputs of the first network
    """

    file: PackagedFile
    takes: str
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Tolerance:
    """How far an output may differ from the test tensor (``config.bioimageio``).

    Parameters
    ----------
    absolute, relative, mismatched_per_million : as for ``bmz.process.consensus.compare``
    output_ids : the outputs that it applies to; all if empty
    weights_formats : the weights formats that it applies to; all if empty
    output_kind : whether it applies only to outputs of floating-point numbers (continuous), or
        only to outputs of integers or booleans (discrete); None for both
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
bioimageio.spec 0.5.13, the defaults of ``reproducibility_tolerance``.
"""


@dataclass(frozen=True)
class Architecture:
    """The Python code that builds a network for a state dict.

    Parameters
    ----------
    callable : class or function in the code
    kwargs : keyword arguments of the callable
    code : file of the package with the code; None if the code is in a library
    library : module to import the callable from; empty if the code is a file of the package
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
    environment : file that lists the packages that the authors had installed
    architecture : code that builds the network of a state dict; None for other formats
    strict : whether the tensors of a state dict must match those of the network one to one
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
    where : DOI or address
    """

    text: str
    where: str = ""


@dataclass(frozen=True)
class ModelSpec:
    """Everything that bmz needs to know about a model.

    Parameters
    ----------
    id : the name by which the model was requested, or the id in the manifest
    folder : folder of the package
    sha256 : sha256 of the manifest, which identifies the model
    alias : name in the zoo, as the zoo or the manifest states it, never the name of a
        folder; empty if neither states one
    config : free-form additions to the manifest (``stardist``, ``bmz``, ``deepimagej``, ...)
    remarks : warnings from parsing the description
    decoder_file : weights of an automatic decoder of micro-sam, attached to the package
    decoder : decoder that computes `outputs`; None unless the model is a result of `decoded`
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
        """The tensors of a network that segments single objects; None for any other network.

        Its masks are as large as the image and share an object axis with the scores. Prompts are
        inputs with the names that micro-sam uses. A network without prompts segments all objects.
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
        """Whether an automatic decoder is attached and the network has the output that it takes."""
        prompts = self.prompts
        return self.decoder_file is not None and prompts is not None and bool(prompts.embedded)

    def decoded(self) -> ModelSpec:
        """Return the model with its automatic decoder appended, so that its outputs are maps.

        The file of the decoder is then one of those that the weights need.

        Raises
        ------
        ValueError
            The model has no decoder.
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
        """Return the model without its decoder, as in its description."""
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
        """Return the tolerance of an output for a weights format: the declared or the usual one.

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
"""The id of the output of an automatic decoder."""

MAPS = ("foreground", "centre distance", "boundary distance")
"""The channels of that output, in the order in which micro-sam's
``InstanceSegmentationWithDecoder`` reads them."""

_PROMPTS = {
    "points": "point_prompts",
    "labels": "point_labels",
    "boxes": "box_prompts",
    "shapes": "mask_prompts",
}
"""Field of `PromptTensors` -> name of the input in micro-sam."""


def _objects_and_scores(model: ModelSpec) -> tuple[str, str] | None:
    """Find the ids of the outputs with masks and with scores by their object axis."""
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
