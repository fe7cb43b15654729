"""One description of a model, whatever the format version of its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bmz.base.axes import SPACE
from bmz.base.steps import Step

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
    """As many entries as another axis has: size x its scale / own scale + `offset`."""

    tensor: str
    axis: str
    offset: int = 0

    def __str__(self) -> str:
        return f"as {self.tensor}.{self.axis}" + (f" {self.offset:+d}" if self.offset else "")


@dataclass(frozen=True)
class AnySize:
    """Not known before the network has run, or of no concern (batch)."""

    def __str__(self) -> str:
        return "any"


Size = Fixed | Stepped | LikeAxis | AnySize


@dataclass(frozen=True)
class AxisSpec:
    """One axis of a tensor.

    Parameters
    ----------
    letter : of ``bitczyx``
    kind : what the axis counts
    size : how many entries are legal
    halo : pixels to crop from each side of this (output) axis, in its own pixels
    scale : spacing of the entries, in `unit`; 1.0 when nothing is declared
    unit : of `scale`, as declared; None when nothing is
    names : of the channels; empty where they are placeholders or undeclared
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
    path : where it lies, or will lie once it is fetched
    sha256 : as the manifest states it; None where it states none
    url : its address, where the manifest names one instead of a file beside it
    """

    path: Path
    sha256: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class Pad:
    """How an input goes on beyond its border, in the words of ``numpy.pad``."""

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
    optional : the network runs without it
    pad : how an input goes on beyond its border; None when nothing is declared
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
        """Give the axes as one word, such as ``bcyx``."""
        return "".join(axis.letter for axis in self.axes)

    @property
    def space(self) -> str:
        """Give the spatial axes in the order z, y, x."""
        return "".join(letter for letter in SPACE if letter in self.letters)

    @property
    def per_object(self) -> bool:
        """Say whether it has an axis of objects, such as ``s``: its y and x are no image's then."""
        return any(axis.kind == "space" and axis.letter not in SPACE for axis in self.axes)

    def axis(self, letter: str) -> AxisSpec | None:
        """Give the axis of this letter, None when there is none."""
        return next((axis for axis in self.axes if axis.letter == letter), None)

    @property
    def kind(self) -> OutputKind:
        """Say whether its values are floating numbers, or whole numbers and truth values."""
        return "continuous" if self.dtype.startswith("float") else "discrete"

    @property
    def channels(self) -> int | None:
        """Give the number of channels; 1 without a channel axis, None when it is not fixed."""
        axis = self.axis("c")
        if axis is None:
            return 1
        return axis.size.size if isinstance(axis.size, Fixed) else None


OutputKind = Literal["continuous", "discrete"]


@dataclass(frozen=True)
class Tolerance:
    """How far an output may be from the test tensor (``config.bioimageio``).

    Parameters
    ----------
    absolute, relative, mismatched_per_million : see ``bmz.process.agreement.compare``
    output_ids : to which outputs it applies; all when empty
    weights_formats : to which weights it applies; all when empty
    output_kind : it applies to outputs of floating numbers (continuous) or of whole numbers and
        truth values (discrete) alone; None for both
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
"""What holds where a description says nothing.

Source: ``ContinuousReproducibilityTolerance`` and ``DiscreteReproducibilityTolerance`` of
bioimageio.spec 0.5.13, which are the default of ``reproducibility_tolerance``.
"""


@dataclass(frozen=True)
class Architecture:
    """The Python code that builds a network for a state dict.

    Parameters
    ----------
    callable : class or function in it
    kwargs : what it is called with
    code : a file of the package; None where a library has it
    library : the module to import it from; empty where a file of the package has it
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
    beside : files without which it cannot be loaded: external data of ONNX, the code that
        builds a network for its state dict
    environment : a list of what must be installed, as its authors had it
    architecture : of a state dict; None for formats that hold their network
    strict : every tensor of a state dict must have its place in the network, and the reverse
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
    """All that bmz wants to know of a model.

    Parameters
    ----------
    id : the name by which it was asked for, or the id in the manifest
    folder : where its files lie
    sha256 : of the manifest; the identity of the model
    alias : its name in the zoo, as the zoo or the manifest itself tells it, never the name of a
        folder; empty when neither does
    config : free additions of the manifest (``stardist``, ``bmz``, ``deepimagej``, ...)
    remarks : what the parser of the description had to say
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
        """Give the spatial axes of the network: ``yx`` or ``zyx``."""
        letters = {letter for tensor in self.inputs for letter in tensor.space}
        return "".join(letter for letter in SPACE if letter in letters)

    @property
    def required_inputs(self) -> tuple[TensorSpec, ...]:
        """Give the inputs that are not optional, in their order."""
        return tuple(tensor for tensor in self.inputs if not tensor.optional)

    def output(self, name: str) -> TensorSpec:
        """Give the output with this id; there must be one."""
        return next(tensor for tensor in self.outputs if tensor.id == name)

    @property
    def ours(self) -> Mapping[str, Any]:
        """Give ``config.bmz``; empty where it is no mapping: anyone may write there."""
        found = self.config.get("bmz")
        return found if isinstance(found, Mapping) else {}

    @property
    def receptive_field(self) -> Mapping[str, Any]:
        """Give ``config.bmz.receptive_field``; empty where nothing was measured."""
        found = self.ours.get("receptive_field")
        return found if isinstance(found, Mapping) else {}

    def tolerance_for(self, output: str, weights_format: str) -> Tolerance:
        """Give the declared tolerance of an output with a weights format, or the usual one.

        The first entry that applies holds. Source: ``reproducibility_tolerance`` of bioimageio.spec
        0.5.13: "Only the first entry matching tensor id and weights format is considered."
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
