"""A parsed description kept as JSON, so that a known model is read without its parser."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from bmz.base.notes import Json, Notes
from bmz.base.steps import Step
from bmz.base.version import version
from bmz.spec import model as words
from bmz.spec.errors import PackageUnreadable
from bmz.spec.model import ModelSpec

VERSION = 8
"""Of the notes; raised with every change of ``bmz.spec.model`` or of its meaning."""

_CLASS = "="
_CLASSES: Mapping[str, type] = {
    cls.__name__: cls
    for cls in (
        words.Fixed, words.Stepped, words.LikeAxis, words.AnySize, words.AxisSpec,
        words.PackagedFile, words.Pad, words.TensorSpec, words.Tolerance, words.Architecture,
        words.Weights, words.Citation, words.ModelSpec, Step,
    )
}  # fmt: skip


def read_stored(
    manifest: Path, *, model_id: str | None = None, alias: str = "", notes: Sequence[Path] = ()
) -> ModelSpec:
    """Read a manifest as ``bmz.spec.read.read_model`` does, but parse it only the first time.

    A kept description holds for the bytes of its manifest and the version of bmz that wrote it.
    One that is damaged or of another version is written anew; where nothing can be written,
    nothing is kept.

    Parameters
    ----------
    manifest : ``bioimageio.yaml`` or ``rdf.yaml`` within its package
    model_id : the name by which the model was asked for
    alias : its name in the zoo, where the zoo gave it; else the manifest tells it
    notes : folders where its description may be kept: each is looked into, the last is written
        to. What lies there is believed, so none may be of the package's own making.

    Raises
    ------
    PackageInvalid, PackageNewer, PathLeavesPackage
        See ``read_model``.
    """
    try:
        sha256 = hashlib.sha256(manifest.read_bytes()).hexdigest()
    except OSError as why:
        raise PackageUnreadable(manifest, why.strerror or "it cannot be read") from why
    kept, key = descriptions_in(manifest.parent), f"{version()} {sha256}"
    found = kept.find(notes, key)
    if found is None:
        from bmz.spec.read import read_model  # here, for its parser takes a second to import

        found = read_model(manifest)
        if notes:
            kept.keep(notes[-1], key, found)
    return replace(found, id=model_id or found.id, alias=alias or found.alias)


def descriptions_in(folder: Path) -> Notes[ModelSpec]:
    """Give the notes of models whose package lies in `folder`."""
    return Notes("description", VERSION, partial(from_plain, folder=folder), to_plain)


def to_plain(model: ModelSpec) -> dict[str, Json]:
    """Turn a model into values of JSON; paths become relative to its folder.

    Raises
    ------
    TypeError
        A step or the configuration holds a value that JSON has no word for, such as a date.
    """
    unnamed = "" if model.id == model.folder.name else model.id
    return _plain_fields(replace(model, id=unnamed), model.folder)


def from_plain(plain: Mapping[str, Any], folder: Path) -> ModelSpec:
    """Turn what `to_plain` gave into the model again, for a package in `folder`.

    Raises
    ------
    TypeError, KeyError, ValueError
        It is something else.
    """
    model = _value(plain, folder)
    if not isinstance(model, ModelSpec):
        raise TypeError(type(model).__name__)
    return model if model.id else replace(model, id=folder.name)


def _plain(value: object, folder: Path) -> Json:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [_plain(one, folder) for one in value]
    if isinstance(value, list):
        return {_CLASS: "list", "of": [_plain(one, folder) for one in value]}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a key is no text")
        return {_CLASS: "dict", "of": {key: _plain(one, folder) for key, one in value.items()}}
    if isinstance(value, Path):
        return {_CLASS: "Path", "of": value.relative_to(folder).as_posix()}
    if type(value).__name__ in _CLASSES:
        return _plain_fields(value, folder)
    raise TypeError(type(value).__name__)


def _plain_fields(value: object, folder: Path) -> dict[str, Json]:
    """Give the class of a dataclass and those of its fields that differ from their defaults."""
    plain: dict[str, Json] = {_CLASS: type(value).__name__}
    for field in fields(_CLASSES[type(value).__name__]):
        content = getattr(value, field.name)
        if field.default is MISSING or content != field.default:
            plain[field.name] = _plain(content, folder)
    return plain


def _value(plain: object, folder: Path) -> object:
    if isinstance(plain, list):
        return tuple(_value(one, folder) for one in plain)
    if not isinstance(plain, dict):
        return plain
    kind = plain[_CLASS]
    if kind == "list":
        return [_value(one, folder) for one in plain["of"]]
    if kind == "dict":
        return {key: _value(one, folder) for key, one in dict(plain["of"]).items()}
    if kind == "Path":
        inside = PurePosixPath(plain["of"])
        if inside.is_absolute() or ".." in inside.parts:
            raise ValueError(plain["of"])
        return folder / inside
    return _CLASSES[kind](**{k: _value(v, folder) for k, v in plain.items() if k != _CLASS})
