"""Read a description: check its YAML and format, build the model, and cache it."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from bmz.base.axes import Step
from bmz.base.computer import version, version_of
from bmz.base.notes import Json, Notes
from bmz.base.values import dataclass
from bmz.spec import model as words
from bmz.spec.model import ModelSpec
from bmz.spec.package_files import (
    LibrariesDoNotMatch,
    PackageInvalid,
    PackageNewer,
    PackageUnreadable,
)
from bmz.spec.tolerances import with_lists_of_outputs
from bmz.spec.translate import Source, repaired, translate, without_later_steps

if TYPE_CHECKING:
    from bioimageio.spec import InvalidDescr
    from bioimageio.spec.model.v0_5 import ModelDescr


OLDEST = (0, 3)
"""The oldest format that bioimageio.spec converts to the current one."""

NEWEST = (0, 5)
"""The newest format that can be translated; the third number is that of bioimageio.spec."""

_VERSION = re.compile(r"(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?((?:[a-z.+-][a-z0-9.+-]*)?)")


@dataclass(frozen=True)
class FormatVersion:
    """The format version of a description.

    Parameters
    ----------
    text : version as written
    numbers : version as numbers, such as (0, 5, 4)
    known : newest version that can be read
    """

    text: str
    numbers: tuple[int, int, int]
    known: tuple[int, int, int]

    @property
    def newer(self) -> bool:
        """Whether it is newer than the newest known format, even if only by its last number."""
        return self.numbers > self.known

    @property
    def why_newer(self) -> str:
        """The clause of a message that says that the format is newer."""
        return f"it uses format {self.text}, but {dotted(self.known)} is the newest known"


def format_version(
    manifest: Path, content: Mapping[str, Any], known: tuple[int, int, int]
) -> FormatVersion:
    """Read the format version of a description that is not validated yet.

    A version that is newer only by its last number is returned, since it may well be readable.

    Parameters
    ----------
    known : the newest format of the installed bioimageio.spec

    Raises
    ------
    PackageInvalid
        The description states no valid format version, or one that is too old.
    PackageNewer
        The format is newer than `NEWEST`.
    """
    if "format_version" not in content:
        raise PackageInvalid(manifest, "it does not state its format_version")
    written = content["format_version"]
    if not isinstance(written, str):
        raise PackageInvalid(manifest, f"its format_version is {_kind(written)}; {_WANTED}")
    match = _VERSION.fullmatch(written.strip())
    if match is None:
        raise PackageInvalid(manifest, f"its format_version is '{written[:40]}'; {_WANTED}")
    major, minor, patch = (int(part or 0) for part in match.groups()[:3])
    version = FormatVersion(written, (major, minor, patch), known)
    if version.numbers[:2] > NEWEST:
        raise PackageNewer(manifest, version.why_newer)
    if match[3] is None or match[4]:
        raise PackageInvalid(manifest, f"its format_version is '{written[:40]}'; {_WANTED}")
    if version.numbers[:2] < OLDEST:
        older = f"it uses format {written}, which is older than {dotted(OLDEST)}"
        raise PackageInvalid(manifest, older)
    return version


_WANTED = "wanted a text of three numbers, such as '0.5.4'"

_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "a boolean"),
    ((int, float), "a number"),
    (list, "a list"),
    (Mapping, "a mapping"),
)


def _kind(written: object) -> str:
    if written is None:
        return "empty"
    name = next((word for kind, word in _KINDS if isinstance(written, kind)), "not a text")
    return f"{name}, {written}" if isinstance(written, int | float) else name


def dotted(numbers: tuple[int, ...]) -> str:
    """Join the numbers of a version with dots."""
    return ".".join(map(str, numbers))


def unknown_words(content: Mapping[str, Any], where: list[tuple[str | int, ...]]) -> list[str]:
    """List the steps, axes and weights formats of a description that the validator does not know.

    Parameters
    ----------
    content : content of the manifest
    where : locations that the validator refuses because it does not know their kind
    """
    names = (_unknown(content, place) for place in where)
    return list(dict.fromkeys(word for word in names if word))


def _unknown(content: Mapping[str, Any], place: tuple[str | int, ...]) -> str:
    match place:
        case ("weights", weights_format):
            return f"the weights format '{str(weights_format)[:40]}'"
    kinds = {"preprocessing": "step", "postprocessing": "step", "axes": "axis type"}
    kind = next((kinds[str(part)] for part in place if part in kinds), None)
    node: Any = content
    for part in place:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return ""  # the location includes a branch of the validator's union
    if kind is None or not isinstance(node, Mapping):
        return ""
    names = ("type",) if kind == "axis type" else ("id", "name")
    name = next((str(node[key]) for key in names if key in node), "")
    return f"the {kind} '{name[:40]}'" if name else ""


MOST_BYTES = 2**23
"""Maximum size of a manifest in bytes, 100 times the largest one of the zoo."""

MOST_DEPTH = 64
"""Maximum nesting depth of mappings and lists; the manifests of the zoo reach ten."""

MOST_NODES = 500_000
"""Maximum number of values after all aliases are expanded."""


class ManifestRefused(Exception):
    """A YAML text was refused before its values were built; the message says why."""


def content_of(text: str) -> object:
    """Build the values of a YAML text, unless it is too long, too deeply nested or too large.

    Each alias counts as many values as it refers to, so that a few lines that would expand to
    gigabytes are refused before they are expanded.

    Raises
    ------
    ManifestRefused
        The text exceeds `MOST_BYTES`, `MOST_DEPTH` or `MOST_NODES`.
    ruyaml.error.YAMLError
        The text is not YAML.
    """
    from ruyaml import YAML
    from ruyaml.parser import Parser

    if len(text) > MOST_BYTES:
        raise ManifestRefused(f"it is longer than {MOST_BYTES} characters")
    guard = _Guard()

    class GuardedParser(Parser):
        def get_event(self) -> Any:  # noqa: ANN401  (an event has no type of its own)
            event = super().get_event()
            guard.take(event)
            return event

    yaml = YAML(typ="safe", pure=True)
    yaml.Parser = GuardedParser
    return yaml.load(io.StringIO(text))


class _Guard:
    """Counts the values, and the nesting levels, in the events of a parser."""

    def __init__(self) -> None:
        self._named: dict[str, int] = {}
        self._open: list[tuple[str | None, int]] = [(None, 0)]

    def take(self, event: object) -> None:
        kind, anchor = type(event).__name__, getattr(event, "anchor", None)
        if kind in {"MappingStartEvent", "SequenceStartEvent"}:
            self._open.append((anchor, 1))
            if len(self._open) > MOST_DEPTH:
                raise ManifestRefused(f"it is nested deeper than {MOST_DEPTH} levels")
            return
        if kind in {"MappingEndEvent", "SequenceEndEvent"}:
            anchor, size = self._open.pop()
        elif kind in {"ScalarEvent", "AliasEvent"}:
            size = self._named.get(anchor or "", 1) if kind == "AliasEvent" else 1
        else:
            return
        if anchor and kind != "AliasEvent":
            self._named[anchor] = size
        above, held = self._open.pop()
        self._open.append((above, held + size))
        if held + size > MOST_NODES:
            raise ManifestRefused(f"its aliases would expand it to more than {MOST_NODES} values")


_UNKNOWN_KIND = frozenset({"union_tag_invalid", "extra_forbidden"})
"""Types of pydantic's errors for an unknown name."""


def read_model(manifest: Path, *, model_id: str | None = None) -> ModelSpec:
    """Read and validate a manifest of format 0.4 or 0.5.

    Other files of the package are neither opened nor hashed (``bmz.spec.package_files`` does so),
    and nothing is downloaded. Harmless mistakes of format 0.4 are repaired by
    ``bmz.spec.translate``, each with a remark.

    Parameters
    ----------
    manifest : ``bioimageio.yaml`` or ``rdf.yaml`` in the package
    model_id : the name by which the model was requested

    Raises
    ------
    PackageUnreadable
        The manifest does not exist, or is not a YAML mapping.
    PackageInvalid
        The manifest does not describe a model, or violates the specification.
    PackageNewer
        The manifest has a newer format, or steps or weights that are not known here.
    LibrariesDoNotMatch
        The installed versions of bioimageio.spec and pydantic cannot read any model.
    PathLeavesPackage
        A file lies outside the folder of the manifest.
    """
    try:
        raw = manifest.read_bytes()
    except OSError as why:
        raise PackageUnreadable(manifest, why.strerror or "it cannot be read") from why
    parsed = _parse(manifest, raw)
    written = format_version(manifest, parsed, _known_format())
    content, repairs = repaired(parsed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        known, later = without_later_steps(with_lists_of_outputs(content))
        description = _validate(manifest, known, written)
    newer = (written.why_newer,) if written.newer else ()
    remarks = (*newer, *repairs, *dict.fromkeys(str(w.message) for w in caught))
    source = Source(manifest, hashlib.sha256(raw).hexdigest(), content, remarks)
    return translate(description, source, model_id=model_id, later=later)


_OF_VALUES = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""Errors of ruyaml for keys and values that cannot be built, such as a mapping as a key."""


def _parse(manifest: Path, raw: bytes) -> dict[str, Any]:
    from ruyaml.error import YAMLError

    try:
        content = content_of(raw.decode("utf-8"))
    except ManifestRefused as why:
        raise PackageUnreadable(manifest, str(why)) from why
    except UnicodeDecodeError as why:
        raise PackageUnreadable(manifest, "it is not UTF-8 text") from why
    except (YAMLError, *_OF_VALUES) as why:
        words = str(getattr(why, "problem", None) or why).splitlines()
        reason = words[0] if words else type(why).__name__
        raise PackageUnreadable(manifest, f"it is not YAML: {reason}") from why
    if not isinstance(content, dict):
        raise PackageUnreadable(manifest, f"wanted a mapping, found {type(content).__name__}")
    kind = content.get("type", "model")
    if kind != "model":
        raise PackageInvalid(manifest, f"it describes a {kind}, not a model")
    return {str(key): value for key, value in content.items()}


def _known_format() -> tuple[int, int, int]:
    from bioimageio.spec.model.v0_5 import ModelDescr

    return ModelDescr.implemented_format_version_tuple


def _validate(manifest: Path, content: dict[str, Any], written: FormatVersion) -> ModelDescr:
    from bioimageio.spec import InvalidDescr, ValidationContext, build_description
    from bioimageio.spec.model.v0_5 import ModelDescr
    from loguru import logger

    logger.disable("pydantic")  # the validators of axis ids log through their caller's name
    logger.disable("bioimageio.spec")
    context = ValidationContext(
        perform_io_checks=False,
        log_warnings=False,
        root=manifest.parent,
        file_name=manifest.name,
    )
    description = build_description(content, context=context, format_version="latest")
    if isinstance(description, InvalidDescr):
        _refuse_libraries()
        raise _refusal(manifest, content, written, description)
    if not isinstance(description, ModelDescr):
        raise PackageInvalid(manifest, f"wanted a model, found {type(description).__name__}")
    return description


def _refuse_libraries() -> None:
    """Raise an error if the installed versions of two libraries call every model invalid.

    Before 0.5.14.3, bioimageio.spec calls pydantic's handlers with an argument that pydantic 2.14
    no longer accepts.
    """
    spec, pydantic = version_of("bioimageio.spec") or "", version_of("pydantic") or ""
    if _numbers(spec) < (0, 5, 14, 3) and _numbers(pydantic) >= (2, 14):
        raise LibrariesDoNotMatch(spec, pydantic)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version."""
    start = version.partition("+")[0].split(".")
    return tuple(int(number[0]) for part in start if (number := re.match(r"\d+", part)))


def _refusal(
    manifest: Path,
    content: Mapping[str, Any],
    written: FormatVersion,
    description: InvalidDescr,
) -> PackageInvalid | PackageNewer:
    errors = description.validation_summary.errors
    places = [error.loc for error in errors if error.type in _UNKNOWN_KIND]
    unknown = unknown_words(content, places)
    if unknown:
        known = f"format {dotted(written.known)}"
        return PackageNewer(manifest, f"it has {', '.join(unknown)}, which {known} does not know")
    first = _first_error(description)
    if written.newer:
        return PackageNewer(manifest, f"{written.why_newer} ({first})")
    return PackageInvalid(manifest, first)


def _first_error(description: InvalidDescr) -> str:
    errors = description.validation_summary.errors
    where = ".".join(str(part) for part in errors[0].loc) or "the whole"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{where}: {errors[0].msg}{more}"


VERSION = 9
"""Version of the stored notes; increased whenever ``bmz.spec.model`` or its meaning changes."""

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

    A stored description is valid only for the same manifest and the version of bmz that wrote it.
    One that is damaged or of another version is replaced. Nothing is stored in read-only folders.

    Parameters
    ----------
    manifest : ``bioimageio.yaml`` or ``rdf.yaml`` in the package
    model_id : the name by which the model was requested
    alias : name in the zoo, if the model came from there; otherwise the manifest may state it
    notes : folders where the description may be stored: all are read, the last one is written.
        Their content is trusted, so none may come from the package itself.

    Raises
    ------
    PackageInvalid, PackageNewer, PathLeavesPackage
        As ``read_model`` does.
    """
    try:
        sha256 = hashlib.sha256(manifest.read_bytes()).hexdigest()
    except OSError as why:
        raise PackageUnreadable(manifest, why.strerror or "it cannot be read") from why
    descriptions, key = descriptions_in(manifest.parent), f"{version()} {sha256}"
    model = descriptions.find(notes, key)
    if model is None:
        model = read_model(manifest)
        if notes:
            descriptions.keep(notes[-1], key, model)
    return replace(model, id=model_id or model.id, alias=alias or model.alias)


def descriptions_in(folder: Path) -> Notes[ModelSpec]:
    """Return the notes for descriptions of models whose package is in `folder`."""
    return Notes("description", VERSION, partial(from_plain, folder=folder), to_plain)


def to_plain(model: ModelSpec) -> dict[str, Json]:
    """Convert a model to JSON values; paths become relative to the folder of the model.

    Raises
    ------
    TypeError
        A step or the configuration has a value that JSON cannot represent, such as a date.
    """
    unnamed = "" if model.id == model.folder.name else model.id
    return _plain_fields(replace(model, id=unnamed), model.folder)


def from_plain(plain: Mapping[str, Any], folder: Path) -> ModelSpec:
    """Convert the result of `to_plain` back to the model, for a package in `folder`.

    Raises
    ------
    TypeError, KeyError, ValueError
        `plain` is not a result of `to_plain`.
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
            raise TypeError("a key is not text")
        return {_CLASS: "dict", "of": {key: _plain(entry, folder) for key, entry in value.items()}}
    if isinstance(value, Path):
        return {_CLASS: "Path", "of": value.relative_to(folder).as_posix()}
    if type(value).__name__ in _CLASSES:
        return _plain_fields(value, folder)
    raise TypeError(type(value).__name__)


def _plain_fields(value: object, folder: Path) -> dict[str, Json]:
    """Return the class name of a dataclass and its fields that differ from their defaults."""
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
