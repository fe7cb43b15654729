"""Parsed descriptions stored as JSON, so that a known model is read without the parser."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from bmz.base.axes import Step
from bmz.base.computer import version
from bmz.base.notes import Json, Notes
from bmz.spec import model as words
from bmz.spec.model import ModelSpec
from bmz.spec.package_files import PackageUnreadable

VERSION = 8
"""Version of the notes; raised with every change of ``bmz.spec.model`` or of its meaning."""

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

    A stored description is valid for the bytes of its manifest and the version of bmz that wrote
    it. One that is damaged or of another version is replaced; in read-only folders nothing is
    stored.

    Parameters
    ----------
    manifest : ``bioimageio.yaml`` or ``rdf.yaml`` within its package
    model_id : the name by which the model was requested
    alias : its name in the zoo, if it came from there; else the manifest states it
    notes : folders where its description may be stored: all are read, the last one is written.
        Their content is trusted, so none may come from the package itself.

    Raises
    ------
    PackageInvalid, PackageNewer, PathLeavesPackage
        See ``read_model``.
    """
    try:
        sha256 = hashlib.sha256(manifest.read_bytes()).hexdigest()
    except OSError as why:
        raise PackageUnreadable(manifest, why.strerror or "it cannot be read") from why
    descriptions, key = descriptions_in(manifest.parent), f"{version()} {sha256}"
    model = descriptions.find(notes, key)
    if model is None:
        from bmz.spec.read import (
            read_model,
        )  # imported here, since its parser takes a second to import

        model = read_model(manifest)
        if notes:
            descriptions.keep(notes[-1], key, model)
    return replace(model, id=model_id or model.id, alias=alias or model.alias)


def descriptions_in(folder: Path) -> Notes[ModelSpec]:
    """Return the notes of models whose package lies in `folder`."""
    return Notes("description", VERSION, partial(from_plain, folder=folder), to_plain)


def to_plain(model: ModelSpec) -> dict[str, Json]:
    """Convert a model to values of JSON; paths become relative to its folder.

    Raises
    ------
    TypeError
        A step or the configuration holds a value that JSON cannot express, such as a date.
    """
    unnamed = "" if model.id == model.folder.name else model.id
    return _plain_fields(replace(model, id=unnamed), model.folder)


def from_plain(plain: Mapping[str, Any], folder: Path) -> ModelSpec:
    """Convert the result of `to_plain` back to the model, for a package in `folder`.

    Raises
    ------
    TypeError, KeyError, ValueError
        It is not a result of `to_plain`.
    """
    model = _value(plain, folder)
    if not isinstance(model, ModelSpec):
        raise TypeError(type(model).__name__)
    return model if model.id else replace(model, id=folder.name)


def _plain(value: object, folder: Path) -> Json:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [_plain(entry, folder) for entry in value]
    if isinstance(value, list):
        return {_CLASS: "list", "of": [_plain(entry, folder) for entry in value]}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a key is no text")
        return {_CLASS: "dict", "of": {key: _plain(entry, folder) for key, entry in value.items()}}
    if isinstance(value, Path):
        return {_CLASS: "Path", "of": value.relative_to(folder).as_posix()}
    if type(value).__name__ in _CLASSES:
        return _plain_fields(value, folder)
    raise TypeError(type(value).__name__)


def _plain_fields(value: object, folder: Path) -> dict[str, Json]:
    """Return the class of a dataclass and those of its fields that differ from their defaults."""
    plain: dict[str, Json] = {_CLASS: type(value).__name__}
    for field in fields(_CLASSES[type(value).__name__]):
        content = getattr(value, field.name)
        if field.default is MISSING or content != field.default:
            plain[field.name] = _plain(content, folder)
    return plain


def _value(plain: object, folder: Path) -> object:
    if isinstance(plain, list):
        return tuple(_value(entry, folder) for entry in plain)
    if not isinstance(plain, dict):
        return plain
    kind = plain[_CLASS]
    if kind == "list":
        return [_value(entry, folder) for entry in plain["of"]]
    if kind == "dict":
        return {key: _value(entry, folder) for key, entry in dict(plain["of"]).items()}
    if kind == "Path":
        inside = PurePosixPath(plain["of"])
        if inside.is_absolute() or ".." in inside.parts:
            raise ValueError(plain["of"])
        return folder / inside
    return _CLASSES[kind](**{k: _value(v, folder) for k, v in plain.items() if k != _CLASS})
