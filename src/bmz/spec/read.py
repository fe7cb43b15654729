"""Read a manifest; the only module that imports bioimageio.spec."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmz.spec.errors import PackageInvalid, PackageNewer, PackageUnreadable
from bmz.spec.format_version import FormatVersion, dotted, format_version, unknown_words
from bmz.spec.model import ModelSpec
from bmz.spec.repair import repaired
from bmz.spec.tolerance import with_lists_of_outputs
from bmz.spec.translate import Source, translate
from bmz.spec.yaml_guard import fault_of

if TYPE_CHECKING:
    from bioimageio.spec.model.v0_5 import ModelDescr


_UNKNOWN_KIND = frozenset({"union_tag_invalid", "extra_forbidden"})
"""Errors of pydantic about a name that it does not know."""


def read_model(manifest: Path, *, model_id: str | None = None) -> ModelSpec:
    """Read and validate a manifest of format 0.4 or 0.5.

    Files are neither opened nor hashed here (see ``bmz.spec.files``) and nothing is fetched.
    Harmless mistakes of format 0.4 are mended (see ``bmz.spec.repair``), each with a remark.

    Parameters
    ----------
    manifest : ``bioimageio.yaml`` or ``rdf.yaml`` within its package
    model_id : the name by which the model was asked for

    Raises
    ------
    PackageUnreadable
        Not there, or no YAML mapping.
    PackageInvalid
        Not a model, or against the specification.
    PackageNewer
        Written in a newer format, or with steps or weights that are not known here.
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
        description = _validate(manifest, with_lists_of_outputs(content), written)
    newer = (written.why_newer,) if written.newer else ()
    remarks = (*newer, *repairs, *dict.fromkeys(str(w.message) for w in caught))
    source = Source(manifest, hashlib.sha256(raw).hexdigest(), content, remarks)
    return translate(description, source, model_id=model_id)


_OF_VALUES = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What ruyaml raises for keys and values that cannot be made, such as a mapping for a key."""


def _parse(manifest: Path, raw: bytes) -> dict[str, Any]:
    from bioimageio.spec.utils import read_yaml
    from ruyaml.error import YAMLError

    try:
        text = raw.decode("utf-8")
        fault = fault_of(text)
        if fault:
            raise PackageUnreadable(manifest, fault)
        content = read_yaml(io.StringIO(text))
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
        raise _refusal(manifest, content, written, description)
    if not isinstance(description, ModelDescr):
        raise PackageInvalid(manifest, f"wanted a model, found {type(description).__name__}")
    return description


def _refusal(
    manifest: Path,
    content: Mapping[str, Any],
    written: FormatVersion,
    description: Any,  # noqa: ANN401  (InvalidDescr is imported lazily)
) -> PackageInvalid | PackageNewer:
    errors = description.validation_summary.errors
    places = [error.loc for error in errors if error.type in _UNKNOWN_KIND]
    unknown = unknown_words(content, places)
    if unknown:
        known = f"format {dotted(written.known)}"
        return PackageNewer(manifest, f"it has {', '.join(unknown)}, unknown in {known}")
    first = _first_error(description)
    if written.newer:
        return PackageNewer(manifest, f"{written.why_newer} ({first})")
    return PackageInvalid(manifest, first)


def _first_error(description: Any) -> str:  # noqa: ANN401  (InvalidDescr is imported lazily)
    errors = description.validation_summary.errors
    where = ".".join(str(part) for part in errors[0].loc) or "the whole"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{where}: {errors[0].msg}{more}"
