"""Translate a parsed description into ModelSpec, once for every format version."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from bmz.base.axes import LETTERS
from bmz.base.steps import Step
from bmz.spec.errors import PackageInvalid, PathLeavesPackage
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
from bmz.spec.tolerance import tolerances_of

if TYPE_CHECKING:
    from bioimageio.spec.model import v0_5

_PLACEHOLDER = re.compile(r"channel_?\d*$")

_MOST_NAME = 255  # bytes, on every file system in use

_ALIAS = re.compile(r"[a-z]+(-[a-z]+)+")


@dataclass(frozen=True)
class Source:
    """The manifest from which a description was parsed.

    Parameters
    ----------
    manifest : its path
    sha256 : of its bytes
    content : as written; conversion from 0.4 drops hashes, so they are looked up here
    remarks : warnings of the parser
    """

    manifest: Path
    sha256: str
    content: Mapping[str, Any]
    remarks: tuple[str, ...]

    def file(self, description: Any) -> PackagedFile:  # noqa: ANN401  (any FileDescr or path)
        """Give a file of the package.

        Raises
        ------
        PathLeavesPackage
            An absolute path, or one with ``..``.
        PackageInvalid
            A name that no file can have.
        """
        written = str(getattr(description, "source", description))
        pure = PurePosixPath(written.replace("\\", "/"))
        url, named = (written if "://" in written else None), pure
        if url:  # a remote file lies, once fetched, beside the manifest
            pure = PurePosixPath(pure.name.partition("?")[0])
            written = pure.name
        if pure.is_absolute() or ".." in pure.parts or ":" in written.split("/")[0]:
            raise PathLeavesPackage(self.manifest, written)
        if not all(part.isprintable() and len(part.encode()) <= _MOST_NAME for part in pure.parts):
            raise PackageInvalid(self.manifest, f"no file can be called '{written[:80]}'")
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
    description: v0_5.ModelDescr, source: Source, *, model_id: str | None = None
) -> ModelSpec:
    """Turn a validated description into a ModelSpec.

    Parameters
    ----------
    description : ``bioimageio.spec.model.v0_5.ModelDescr``, converted from 0.4 where need be
    source : the manifest behind it
    model_id : the name by which the model was asked for
    """
    config = description.config.model_dump(mode="json", exclude_unset=True)
    documentation = description.documentation
    return ModelSpec(
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
    )


def _alias(own_id: object, config: Mapping[str, Any]) -> str:
    """Give the name in the zoo: the nickname that it gave, else the id if that is an alias."""
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


def _architecture(written: Any, source: Source) -> Architecture:  # noqa: ANN401  (of a file or a library)
    return Architecture(
        callable=str(written.callable),
        kwargs=written.kwargs,
        code=source.file(written) if hasattr(written, "source") else None,
        library=str(getattr(written, "import_from", "")),
    )


def _tensor(
    tensor: v0_5.InputTensorDescr | v0_5.OutputTensorDescr,
    steps: Iterable[Any],
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


def _pad(pad: Any) -> Pad | None:  # noqa: ANN401  (any padding class)
    return None if pad is None else Pad(pad.mode, float(getattr(pad, "value", 0.0)))


def _axes(axes: Any) -> tuple[AxisSpec, ...]:  # noqa: ANN401  (a list of any axis class)
    taken: set[str] = set()
    specs = []
    for axis in axes:
        letter = _letter(str(axis.id), taken)
        taken.add(letter)
        specs.append(_axis(axis, letter))
    return tuple(specs)


def _letter(axis_id: str, taken: set[str]) -> str:
    wanted = LETTERS.get(axis_id, axis_id[0])
    free = (c for c in (wanted, *"ijklmnopqrsuvw") if c not in taken)
    return str(next(free))


def _axis(axis: Any, letter: str) -> AxisSpec:  # noqa: ANN401  (any axis class)
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


def _size(axis: Any) -> Size:  # noqa: ANN401  (any axis class)
    if axis.type == "channel":
        return Fixed(len(axis.channel_names))
    size = axis.size
    if isinstance(size, int):
        return Fixed(size)
    if hasattr(size, "tensor_id"):
        other = LETTERS.get(str(size.axis_id), str(size.axis_id))
        return LikeAxis(str(size.tensor_id), other, int(size.offset))
    if hasattr(size, "step"):
        return Stepped(int(size.min), int(size.step))
    return AnySize()


def _step(step: Any) -> Step:  # noqa: ANN401  (any op)
    kwargs = step.kwargs if isinstance(step.kwargs, dict) else step.kwargs.model_dump(mode="python")
    words = {key: value for key, value in kwargs.items() if value is not None}
    if words.get("axes") is not None:
        words["axes"] = tuple(LETTERS.get(str(a), str(a)) for a in words["axes"])
    if words.get("axis") is not None:
        words["axis"] = LETTERS.get(str(words["axis"]), str(words["axis"]))
    if step.id == "custom":
        words = {"callable": step.callable, "source": str(step.source), "kwargs": kwargs}
    return Step(str(step.id), words)
