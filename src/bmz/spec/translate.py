"""Translate a description into a model: repair or report its defects, and convert its fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from bmz.base.axes import LETTERS, Step
from bmz.base.values import dataclass
from bmz.spec.facts import bare_alias
from bmz.spec.model import (
    AnySize,
    Architecture,
    AxisSpec,
    Citation,
    Fixed,
    LikeAxis,
    ModelSpec,
    PackagedFile,
    Pad,
    Size,
    Stepped,
    TensorSpec,
    Weights,
)
from bmz.spec.package_files import PackageInvalid, PathLeavesPackage
from bmz.spec.tolerances import tolerances_of

if TYPE_CHECKING:
    from bioimageio.spec.model import v0_5


Content = dict[str, Any]
Repair = Callable[[Content], tuple[Content, tuple[str, ...]]]

_STEPS = {"inputs": "preprocessing", "outputs": "postprocessing"}


def repaired(content: Content) -> tuple[Content, tuple[str, ...]]:
    """Repair harmless known mistakes in a manifest; return a correct one unchanged.

    Parameters
    ----------
    content : a manifest as written; it is not modified

    Returns
    -------
    tuple
        the content to validate, and a remark for each change
    """
    if not str(content.get("format_version", "")).startswith("0.4"):
        return content, ()
    rules: tuple[Repair, ...] = (
        without_needless_axes,
        with_sizes_that_follow,
        without_text_dependencies,
    )
    remarks: tuple[str, ...] = ()
    for rule in rules:
        content, more = rule(content)
        remarks += more
    return content, remarks


@dataclass(frozen=True)
class LaterStep:
    """A step that bioimageio.core supports before any released bioimageio.spec does.

    Parameters
    ----------
    description : name of the class that will describe the step in bioimageio.spec
    defaults : argument -> its value if a manifest does not state one
    """

    description: str
    defaults: Mapping[str, Any]

    def stated(self, name: str, kwargs: Mapping[str, Any] | None) -> Step:
        """Return the step with all its arguments."""
        return Step(name, {**self.defaults, **(kwargs or {})})


LATER_STEPS: Mapping[str, LaterStep] = {
    "microsam_watershed": LaterStep(
        "MicroSamWatershedDescr",
        {
            "center_distance_threshold": 0.5,
            "boundary_distance_threshold": 0.5,
            "foreground_threshold": 0.5,
            "foreground_smoothing": 1.0,
            "distance_smoothing": 1.6,
            "min_size": 0,
            "output_dtype": "uint16",
        },
    ),
}
"""By name. Those that bioimageio.spec does not know yet are put back after validation."""

Later = dict[tuple[str, int], list[tuple[int, Step]]]
"""Kind and index of a tensor -> removed steps, with their positions among all of its steps."""


def without_later_steps(content: Content) -> tuple[Content, Later]:
    """Remove those of the `LATER_STEPS` that the installed bioimageio.spec does not know yet.

    Parameters
    ----------
    content : content of a manifest of format 0.5; it is not modified
    """
    from bioimageio.spec.model import v0_5  # imported here, since it takes a second to import

    unknown = {name for name, step in LATER_STEPS.items() if not hasattr(v0_5, step.description)}
    result, later = dict(content), Later()
    for kind, steps in _STEPS.items():
        tensors = content.get(kind)
        if not isinstance(tensors, list):
            continue
        result[kind] = list(tensors)
        for number, tensor in enumerate(tensors):
            written = tensor.get(steps) if isinstance(tensor, Mapping) else None
            numbered = list(enumerate(written)) if isinstance(written, list) else []
            taken = [(n, step) for n, step in numbered if _later_step(step, unknown)]
            if not taken:
                continue
            kept = [step for n, step in numbered if (n, step) not in taken]
            result[kind][number] = {**tensor, steps: kept}
            later[kind, number] = [
                (n, LATER_STEPS[one["id"]].stated(one["id"], one.get("kwargs"))) for n, one in taken
            ]
    return (result, later) if later else (content, {})


def _later_step(step: object, unknown: set[str]) -> bool:
    if not isinstance(step, Mapping) or step.get("id") not in unknown:
        return False
    return isinstance(step.get("kwargs") or {}, Mapping) and set(step) <= {"id", "kwargs"}


def _with_later_steps(model: ModelSpec, later: Later) -> ModelSpec:
    """Put back the steps that were removed before validation."""
    tensors = {"inputs": list(model.inputs), "outputs": list(model.outputs)}
    for (kind, number), taken in later.items():
        steps = list(tensors[kind][number].steps)
        for place, step in taken:
            steps.insert(place, step)
        tensors[kind][number] = replace(tensors[kind][number], steps=tuple(steps))
    given, got = tensors.values()
    return replace(model, inputs=tuple(given), outputs=tuple(got))


def without_needless_axes(content: Content) -> tuple[Content, tuple[str, ...]]:
    """Remove the axes of ``scale_linear`` if its gain and offset are scalars.

    Such a step does the same with and without axes. Format 0.5 forbids an axis there (``Do not
    specify an `axis` for scalar gain and offset values``), so the conversion would fail.
    """
    result, remarks = dict(content), []
    for kind, steps in _STEPS.items():
        tensors = content.get(kind)
        if not isinstance(tensors, list):
            continue
        result[kind] = [_tensor_without(tensor, steps) for tensor in tensors]
        remarks += [
            f"repaired: scale_linear of '{old.get('name')}' has one gain for all axes; its "
            "superfluous axes were removed"
            for old, new in zip(tensors, result[kind], strict=True)
            if old is not new
        ]
    return (result, tuple(remarks)) if remarks else (content, ())


def _tensor_without(tensor: object, steps: str) -> object:
    if not isinstance(tensor, Mapping) or not isinstance(tensor.get(steps), list):
        return tensor
    mended = [_step_without(step) for step in tensor[steps]]
    if all(old is new for old, new in zip(tensor[steps], mended, strict=True)):
        return tensor
    return {**tensor, steps: mended}


def _step_without(step: object) -> object:
    if not isinstance(step, Mapping) or step.get("name") != "scale_linear":
        return step
    kwargs = step.get("kwargs")
    if not isinstance(kwargs, Mapping) or "axes" not in kwargs:
        return step
    numbers = (kwargs.get("gain", 1.0), kwargs.get("offset", 0.0))
    if not all(isinstance(number, int | float) for number in numbers):
        return step
    return {**step, "kwargs": {key: value for key, value in kwargs.items() if key != "axes"}}


def with_sizes_that_follow(content: Content) -> tuple[Content, tuple[str, ...]]:
    """Tie the size of an output with a halo to its input if it states the input's (minimum) size.

    Format 0.5 requires the size of an output with a halo to refer to another axis (``output axis
    with halo and fixed size not allowed``), and the conversion does not look for one.
    """
    inputs, outputs = content.get("inputs"), content.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != 1:
        return content, ()
    mended = [_following(output, inputs[0]) for output in outputs]
    remarks = tuple(
        f"repaired: output '{old.get('name')}' has a halo and the fixed size of its input; its "
        "size was made to follow the input"
        for old, new in zip(outputs, mended, strict=True)
        if old is not new
    )
    return ({**content, "outputs": mended}, remarks) if remarks else (content, ())


def _following(output: object, entry: object) -> object:
    if not isinstance(output, Mapping) or not isinstance(entry, Mapping):
        return output
    axes, shape, least = str(entry.get("axes")), output.get("shape"), entry.get("shape")
    if isinstance(least, Mapping):
        least = least.get("min")
    halo = output.get("halo")
    if not isinstance(shape, list) or not isinstance(halo, list) or not any(halo):
        return output
    if shape != least or axes != output.get("axes") or len(axes) != len(shape):
        return output
    # format 0.4 expresses an independent size as scale 0 and half the size as offset
    alone = [axis in "ci" for axis in axes]
    follows = {
        "reference_tensor": entry.get("name"),
        "scale": [0.0 if own else 1.0 for own in alone],
        "offset": [size / 2 if own else 0 for own, size in zip(alone, shape, strict=True)],
    }
    return {**output, "shape": follows}


def without_text_dependencies(content: Content) -> tuple[Content, tuple[str, ...]]:
    """Remove the dependencies of weights if they are a text file instead of a YAML file.

    Format 0.5 requires a conda environment (``Expected a suffix from ('.yaml', '.yml')``), and a
    list for pip cannot be converted. bmz installs nothing, so only the file name is lost.
    """
    weights = content.get("weights")
    if not isinstance(weights, Mapping):
        return content, ()
    faulty = {
        name: entry["dependencies"]
        for name, entry in weights.items()
        if isinstance(entry, Mapping) and str(entry.get("dependencies", "")).endswith(".txt")
    }
    if not faulty:
        return content, ()
    mended = {
        name: {k: v for k, v in entry.items() if k != "dependencies"} if name in faulty else entry
        for name, entry in weights.items()
    }
    remarks = tuple(
        f"repaired: dependencies of {name} are '{dependencies}', not a YAML file; they were removed"
        for name, dependencies in faulty.items()
    )
    return {**content, "weights": mended}, remarks


_PLACEHOLDER = re.compile(r"channel_?\d*$")

_MOST_NAME = 255  # bytes, on every file system in use

_DECODER = re.compile(r"vit_\w+_decoder\.pt")

_ALIAS = re.compile(r"[a-z]+(-[a-z]+)+")


@dataclass(frozen=True)
class Source:
    """The manifest from which a description was parsed.

    Parameters
    ----------
    manifest : path of the manifest
    sha256 : sha256 of its bytes
    content : content as written; the conversion from 0.4 drops hashes, which are looked up here
    remarks : warnings of the parser
    """

    manifest: Path
    sha256: str
    content: Mapping[str, Any]
    remarks: tuple[str, ...]

    def file(self, description: object) -> PackagedFile:
        """Return a file of the package.

        Raises
        ------
        PathLeavesPackage
            The path is absolute or contains ``..``.
        PackageInvalid
            The path is not a valid file name.
        """
        written = str(getattr(description, "source", description))
        pure = PurePosixPath(written.replace("\\", "/"))
        url, named = (written if "://" in written else None), pure
        if url:  # a remote file is downloaded into the folder of the manifest
            pure = PurePosixPath(pure.name.partition("?")[0])
            written = pure.name
        if pure.is_absolute() or ".." in pure.parts or ":" in written.split("/")[0]:
            raise PathLeavesPackage(self.manifest, written)
        if not all(part.isprintable() and len(part.encode()) <= _MOST_NAME for part in pure.parts):
            raise PackageInvalid(self.manifest, f"'{written[:80]}' is not a valid file name")
        stated = getattr(description, "sha256", None) or _hash_of(self.content, named)
        return PackagedFile(self.manifest.parent / pure, str(stated) if stated else None, url)


def _hash_of(node: object, path: PurePosixPath) -> str | None:
    for entry in _mappings(node):
        source = entry.get("source")
        if not isinstance(source, str) or not entry.get("sha256"):
            continue
        if PurePosixPath(source.replace("\\", "/")) == path:
            return str(entry["sha256"])
    return None


def _mappings(node: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, Mapping):
        yield node
        for value in node.values():
            yield from _mappings(value)
    elif isinstance(node, list):
        for value in node:
            yield from _mappings(value)


def translate(
    description: v0_5.ModelDescr,
    source: Source,
    *,
    model_id: str | None = None,
    later: Later | None = None,
) -> ModelSpec:
    """Convert a validated description to a ModelSpec.

    Parameters
    ----------
    description : ``bioimageio.spec.model.v0_5.ModelDescr``, converted from 0.4 if necessary
    source : the manifest of the description
    model_id : the name by which the model was requested
    later : steps that `without_later_steps` removed before validation
    """
    config = description.config.model_dump(mode="json", exclude_unset=True)
    documentation = description.documentation
    model = ModelSpec(
        id=model_id or str(description.id or source.manifest.parent.name),
        name=description.name,
        folder=source.manifest.parent,
        sha256=source.sha256,
        format_version=str(source.content.get("format_version", "")),
        inputs=tuple(_tensor(t, t.preprocessing, source) for t in description.inputs),
        outputs=tuple(_tensor(t, t.postprocessing, source) for t in description.outputs),
        weights=tuple(_weights(description, source)),
        description=str(description.description or ""),
        license=str(description.license or ""),
        authors=tuple(author.name for author in description.authors),
        cite=tuple(Citation(c.text, str(c.doi or c.url or "")) for c in description.cite),
        tags=tuple(str(tag) for tag in description.tags),
        documentation=str(getattr(documentation, "source", documentation) or ""),
        config=config,
        tolerances=tolerances_of(description, source.content),
        remarks=source.remarks,
        alias=_alias(description.id, config),
        decoder_file=_decoder_file(description, source),
    )
    return _with_later_steps(model, later or {})


def _decoder_file(description: v0_5.ModelDescr, source: Source) -> PackagedFile | None:
    """Find the automatic decoder among the attachments by the file name that micro-sam exports."""
    files = (str(attached.source) for attached in description.attachments)
    found = [name for name in files if _DECODER.fullmatch(PurePosixPath(name).name)]
    return source.file(found[0]) if len(found) == 1 else None


def _alias(own_id: object, config: Mapping[str, Any]) -> str:
    """Return the name in the zoo: the nickname, or else the id, if it is an alias."""
    ours = config.get("bioimageio")
    nickname = ours.get("nickname") if isinstance(ours, Mapping) else None
    bare = bare_alias(str(nickname or own_id or ""))
    return bare if _ALIAS.fullmatch(bare) else ""


def _weights(description: v0_5.ModelDescr, source: Source) -> Iterator[Weights]:
    for name, entry in description.weights.available_formats.items():
        external = getattr(entry, "external_data", None)
        architecture = getattr(entry, "architecture", None)
        code = architecture if hasattr(architecture, "source") else None  # else from a library
        environment = getattr(entry, "dependencies", None)
        yield Weights(
            str(name),
            source.file(entry),
            tuple(source.file(file) for file in (external, code) if file is not None),
            source.file(environment) if environment is not None else None,
            None if architecture is None else _architecture(architecture, source),
            strict=bool(getattr(entry, "strict", True)),
        )


def _architecture(
    written: v0_5.ArchitectureFromFileDescr | v0_5.ArchitectureFromLibraryDescr, source: Source
) -> Architecture:
    return Architecture(
        callable=str(written.callable),
        kwargs=written.kwargs,
        code=source.file(written) if hasattr(written, "source") else None,
        library=str(getattr(written, "import_from", "")),
    )


def _tensor(
    tensor: v0_5.InputTensorDescr | v0_5.OutputTensorDescr,
    steps: Iterable[v0_5.PreprocessingDescr | v0_5.PostprocessingDescr],
    source: Source,
) -> TensorSpec:
    data = tensor.data
    quantities = data if isinstance(data, (list, tuple)) else (data,)
    low, high = getattr(quantities[0], "range", None) or (None, None)
    return TensorSpec(
        id=str(tensor.id),
        axes=_axes(tensor.axes),
        dtype=str(tensor.dtype),
        steps=tuple(_step(step) for step in steps),
        value_range=(low, high),
        test=source.file(tensor.test_tensor) if tensor.test_tensor else None,
        sample=source.file(tensor.sample_tensor) if tensor.sample_tensor else None,
        optional=bool(getattr(tensor, "optional", False)),
        description=str(tensor.description or ""),
        pad=_pad(getattr(tensor, "pad", None)),
    )


def _pad(pad: v0_5.Padding | None) -> Pad | None:
    return None if pad is None else Pad(pad.mode, float(getattr(pad, "value", 0.0)))


def _axes(axes: Iterable[v0_5.AnyAxis]) -> tuple[AxisSpec, ...]:
    taken: set[str] = set()
    specs = []
    for axis in axes:
        letter = _letter(str(axis.id), taken)
        taken.add(letter)
        specs.append(_axis(axis, letter))
    return tuple(specs)


def _letter(axis_id: str, taken: set[str]) -> str:
    letter = LETTERS.get(axis_id, axis_id[0])
    free = (c for c in (letter, *"ijklmnopqrsuvw") if c not in taken)
    return str(next(free))


def _axis(axis: v0_5.AnyAxis, letter: str) -> AxisSpec:
    names = tuple(str(name) for name in getattr(axis, "channel_names", ()))
    if all(_PLACEHOLDER.match(name) for name in names):
        names = ()
    unit = getattr(axis, "unit", None)
    return AxisSpec(
        letter=letter,
        kind=axis.type,
        size=_size(axis),
        halo=int(getattr(axis, "halo", 0)),
        scale=float(getattr(axis, "scale", 1.0)),
        unit=str(unit) if unit else None,
        names=names,
    )


def _size(axis: v0_5.AnyAxis) -> Size:
    from bioimageio.spec.model import v0_5  # imported here, since it takes a second to import

    if axis.type == "channel":
        return Fixed(len(axis.channel_names))
    size = axis.size
    if isinstance(size, int):
        return Fixed(size)
    if isinstance(size, v0_5.SizeReference):
        other = LETTERS.get(str(size.axis_id), str(size.axis_id))
        return LikeAxis(str(size.tensor_id), other, int(size.offset))
    if isinstance(size, v0_5.ParameterizedSize):
        return Stepped(int(size.min), int(size.step))
    return AnySize()


def _step(step: v0_5.PreprocessingDescr | v0_5.PostprocessingDescr) -> Step:
    kwargs = step.kwargs if isinstance(step.kwargs, dict) else step.kwargs.model_dump(mode="python")
    words: dict[str, Any] = {key: value for key, value in kwargs.items() if value is not None}
    if words.get("axes") is not None:
        words["axes"] = tuple(LETTERS.get(str(a), str(a)) for a in words["axes"])
    if words.get("axis") is not None:
        words["axis"] = LETTERS.get(str(words["axis"]), str(words["axis"]))
    if step.id == "custom":
        words = {"callable": step.callable, "source": str(step.source), "kwargs": kwargs}
    return Step(str(step.id), words)
