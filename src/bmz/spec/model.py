"""One description of a model, whatever the format version of its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from itertools import zip_longest
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from bmz.base.axes import SPACE, Step
from bmz.base.values import dataclass

if TYPE_CHECKING:
    from bioimageio.spec.model import v0_5


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
    """The tensors of a network that is asked for objects, by their ids.

    Parameters
    ----------
    points : an optional input, (b, object, point, 2) x and y in px
    labels : an optional input, (b, object, point), 1 for a point of the object
    masks, scores : outputs, one entry per object
    embeddings : an optional input and an output, what the network makes of the image; empty where
        it does not give it away
    """

    points: str
    labels: str
    masks: str
    scores: str
    embeddings: str = ""


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
        """The tensors by which it is asked for objects, named as micro-sam does; None for none."""
        optional = {tensor.id for tensor in self.inputs if tensor.optional}
        outputs = {tensor.id for tensor in self.outputs}
        tensors = PromptTensors("point_prompts", "point_labels", "masks", "scores")
        if not ({tensors.points, tensors.labels} <= optional and {"masks", "scores"} <= outputs):
            return None
        embeddings = "embeddings" if "embeddings" in optional & outputs else ""
        return replace(tensors, embeddings=embeddings)

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


_KEY = "reproducibility_tolerance"

_OUTPUT_KINDS: Mapping[str, OutputKind] = {
    "any_continuous_output": "continuous",
    "any_discrete_output": "discrete",
    "any_label_output": "discrete",
}
"""What ``output_ids`` may state instead of a list, since bioimageio.spec 0.5.13."""


def with_lists_of_outputs(content: Mapping[str, Any]) -> dict[str, Any]:
    """Replace kinds of outputs by an empty list, as version 0.5.12 requires.

    That version refuses the kinds of 0.5.13, or takes them for a sequence of letters;
    `tolerances_of` reads their meaning from the manifest.

    Parameters
    ----------
    content : content of a manifest; it is not changed
    """
    entries = _entries(content)
    if not any(_names_a_kind(entry) for entry in entries):
        return dict(content)
    plain = [{**entry, "output_ids": []} if _names_a_kind(entry) else entry for entry in entries]
    config = content["config"]
    ours = {**config["bioimageio"], _KEY: plain}
    return {**content, "config": {**config, "bioimageio": ours}}


def _entries(content: Mapping[str, Any]) -> list[Any]:
    node: Any = content
    for key in ("config", "bioimageio", _KEY):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node if isinstance(node, list) else []


def _names_a_kind(entry: object) -> bool:
    word = entry.get("output_ids") if isinstance(entry, Mapping) else None
    return isinstance(word, str) and word.startswith("any_") and word.endswith("_output")


def tolerances_of(
    description: v0_5.ModelDescr, content: Mapping[str, Any]
) -> tuple[Tolerance, ...]:
    """Return the tolerances that the manifest itself states, in order of precedence.

    Newer versions of bioimageio.spec add default entries if a manifest states none, and write
    them into every manifest that they save. Nobody chose such an entry, so that the
    ``test_kwargs`` of older models precede it; see `_older_tolerance`. An entry about an unknown
    kind of output is left out.

    Parameters
    ----------
    description : validated
    content : of the manifest, as written
    """
    ours = description.config.bioimageio
    validated = ours.reproducibility_tolerance if _KEY in ours.model_fields_set else ()
    written = [entry["output_ids"] if _names_a_kind(entry) else None for entry in _entries(content)]
    entries = [_tolerance(entry, word) for entry, word in zip_longest(validated, written) if entry]
    declared = [entry for entry in entries if entry is not None]
    kwargs = (ours.model_extra or {}).get("test_kwargs")
    words = kwargs.items() if isinstance(kwargs, Mapping) else ()
    older = [
        _older_tolerance(str(name), kwargs) for name, kwargs in words if isinstance(kwargs, Mapping)
    ]
    usual = (number for number, entry in enumerate(declared) if entry in USUAL_TOLERANCES)
    at = next(usual, len(declared))
    return (*declared[:at], *older, *declared[at:])


def _tolerance(
    entry: v0_5.ReproducibilityTolerance, weights_format: str | None
) -> Tolerance | None:
    kind = None if weights_format is None else _OUTPUT_KINDS.get(weights_format)
    if weights_format is not None and kind is None:
        return None
    return Tolerance(
        absolute=float(entry.absolute_tolerance),
        relative=float(entry.relative_tolerance),
        mismatched_per_million=int(entry.mismatched_elements_per_million),
        output_ids=tuple(str(name) for name in entry.output_ids),
        weights_formats=tuple(str(name) for name in entry.weights_formats),
        output_kind=kind,
    )


def _older_tolerance(weights_format: str, kwargs: Mapping[str, Any]) -> Tolerance:
    """Read what models of the zoo said before the specification had words for it.

    ``config.bioimageio.test_kwargs`` held the arguments of bioimageio.core's ``test_model`` for a
    weights format. ``decimal`` is that of ``numpy.testing.assert_array_almost_equal``:
    ``abs(desired-actual) < float64(1.5 * 10**(-decimal))``, for every element.
    """
    decimal = kwargs.get("decimal")
    if _is_number(decimal) and abs(decimal) <= _MOST_DECIMALS:
        return Tolerance(1.5 * 10 ** -float(decimal), 0.0, 0, weights_formats=(weights_format,))
    usual = Tolerance()
    absolute, relative = kwargs.get("absolute_tolerance"), kwargs.get("relative_tolerance")
    return Tolerance(
        float(absolute) if _is_number(absolute) else usual.absolute,
        float(relative) if _is_number(relative) else usual.relative,
        weights_formats=(weights_format,),
    )


_MOST_DECIMALS = 300
"""More than float64 has, up and down."""


def _is_number(value: object) -> TypeGuard[int | float]:
    # the specification says nothing of these words, so that anything may stand there
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < inf
