"""A folder of results as a Process Run Crate, which records how each file was produced."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import quote

from bmz.base.errors import WrongUsage
from bmz.base.files import whole_file

CRATE_FILE = "ro-crate-metadata.json"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_PROGRAM = "https://github.com/bmz-dev/bmz"
_SCHEMA = "bmz.run/1"

Entity = dict[str, Any]
"""A JSON-LD entity with its ``@id``."""

_FORMATS: Final = {
    ".csv": "text/csv",
    ".geojson": "application/geo+json",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".zip": "application/zip",
}
"""Suffix of a file -> media type."""


class CrateOfOthers(WrongUsage):
    """The output folder is a crate that was not written by bmz."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"'{path}' already exists, and was not written by bmz",
            hint="write to another folder with -o, or leave crate out of --save",
            code="output.crate",
        )


def refuse_crate_of_others(folder: Path) -> None:
    """Raise an error if a folder is a crate that was not written by bmz.

    Raises
    ------
    CrateOfOthers
    """
    path = folder / CRATE_FILE
    if path.is_file() and _PROGRAM not in path.read_text(encoding="utf-8", errors="replace"):
        raise CrateOfOthers(path)


def write_crate(folder: Path) -> None:
    """Write the description of all runs with records in a folder, also of earlier calls.

    Source: RO-Crate 1.1, and the profile Process Run Crate 0.5.

    Parameters
    ----------
    folder : output folder; ``ro-crate-metadata.json`` is written to it, or replaced

    Raises
    ------
    CrateOfOthers
        The folder has such a file that was written by another program.
    """
    refuse_crate_of_others(folder)
    records = {
        path: record for path in sorted(folder.rglob("*.run.json")) if (record := _run(path))
    }
    document = {
        "@context": [
            "https://w3id.org/ro/crate/1.1/context",
            "https://w3id.org/ro/terms/workflow-run/context",
        ],
        "@graph": list(_graph(folder, records)),
    }
    with whole_file(folder / CRATE_FILE) as temporary:
        text = json.dumps(document, indent=1, ensure_ascii=False)
        temporary.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")


def _run(path: Path) -> Mapping[str, Any] | None:
    """Read the record of a run; return None for another file with such a name."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    ours = isinstance(document, dict) and document.get("schema") == _SCHEMA
    return document if ours else None


def _graph(folder: Path, records: Mapping[Path, Mapping[str, Any]]) -> Iterator[Entity]:
    """Yield each entity once."""
    entities: dict[str, Entity] = {}
    actions = []
    for path, record in records.items():
        own = {entity["@id"]: entity for entity in _of_run(folder, path, record)}
        actions.append(next(reversed(own)))
        entities |= own
    kinds = ("File", "Dataset")
    latest = max((path.stat().st_mtime for path in records), default=0)
    yield {
        "@id": CRATE_FILE,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    yield {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Results of bmz in {folder.resolve().name}",
        "description": f"Label masks and measurements from {len(records)} runs of bmz.",
        "datePublished": _time(latest),
        "license": {"@id": "#license"},
        "conformsTo": {"@id": _PROFILE},
        "hasPart": [{"@id": i} for i, entity in entities.items() if entity["@type"] in kinds],
        "mentions": [{"@id": action} for action in actions],
    }
    yield {
        "@id": _PROFILE,
        "@type": "CreativeWork",
        "name": "Process Run Crate",
        "version": "0.5",
    }
    yield {
        "@id": "#license",
        "@type": "CreativeWork",
        "name": "not stated",
        "description": "To be stated by whoever publishes these results.",
    }
    yield from entities.values()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _of_run(folder: Path, path: Path, record: Mapping[str, Any]) -> Iterator[Entity]:
    """Yield the inputs and outputs of a run, and finally the run itself."""
    program = _program(record)
    used = [_image(record), _model(record), *_settings(path, folder, record)]
    made = list(_files(folder, path, record))
    yield program
    yield from used
    yield from made
    within = path.relative_to(folder).as_posix()
    yield {
        "@id": f"#run-{quote(within)}",
        "@type": "CreateAction",
        "name": f"bmz run {record['model']} {PurePosixPath(record['image']).name}",
        "description": f"{record['objects']} objects; recipe {_recipe(record)}",
        "endTime": _time(path.stat().st_mtime),
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
        "instrument": {"@id": program["@id"]},
        "object": [{"@id": entity["@id"]} for entity in used],
        "result": [{"@id": entity["@id"]} for entity in made],
    }


def _recipe(record: Mapping[str, Any]) -> str:
    recipe = record.get("recipe")
    return "none" if recipe is None else f"{recipe['name']}"


def _program(record: Mapping[str, Any]) -> Entity:
    version = record["versions"]["bmz"]
    return {
        "@id": f"{_PROGRAM}#{quote(version)}",
        "@type": "SoftwareApplication",
        "name": "bmz",
        "url": _PROGRAM,
        "softwareVersion": version,
        "softwareRequirements": [f"{name} {of}" for name, of in record["versions"].items()],
    }


def _image(record: Mapping[str, Any]) -> Entity:
    """Return the image, which is outside the folder and therefore identified by its hash."""
    digest = record["image_sha256"]
    return {
        "@id": f"#image-{digest}",
        "@type": "ImageObject",
        "name": PurePosixPath(record["image"]).name,
        "alternateName": record["image"],
        "sha256": digest,
    }


def _model(record: Mapping[str, Any]) -> Entity:
    digest = record["model_sha256"]
    return {
        "@id": f"#model-{digest}",
        "@type": "SoftwareApplication",
        "name": record["model_name"],
        "identifier": record["model"],
        "sha256": digest,
    }


def _settings(path: Path, folder: Path, record: Mapping[str, Any]) -> Iterator[Entity]:
    """Yield the options of the call that were set."""
    within = quote(path.relative_to(folder).as_posix())
    for name, value in record["request"].items():
        if value not in (None, False, [], {}) and name != "model":
            text = value if isinstance(value, str | int | float) else json.dumps(value)
            entity = {"@id": f"#{name}-{within}", "@type": "PropertyValue"}
            yield {**entity, "name": name, "value": text}


def _files(folder: Path, path: Path, record: Mapping[str, Any]) -> Iterator[Entity]:
    """Yield the files of a run that are in the folder."""
    for kind, name in record["files"].items():
        file = path.parent / name
        if ".." in PurePosixPath(name).parts or not file.exists():
            continue
        within = quote(file.relative_to(folder).as_posix())
        if file.is_dir():
            yield {"@id": f"{within}/", "@type": "Dataset", "name": f"{kind} of {path.name}"}
            continue
        yield {
            "@id": within,
            "@type": "File",
            "name": file.name,
            "description": f"{kind} of {PurePosixPath(record['image']).name}",
            "contentSize": str(file.stat().st_size),
            "encodingFormat": _FORMATS.get(file.suffix.lower(), "application/octet-stream"),
        }
