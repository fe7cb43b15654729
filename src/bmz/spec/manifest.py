"""Write a description: build its parts as plain values, save it, and have it validated."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bmz.base.errors import WrongUsage
from bmz.base.files import sha256_of, whole_file
from bmz.base.values import dataclass
from bmz.spec.model import Citation
from bmz.spec.read import content_of
from bmz.spec.translate import repaired

FORMAT = "0.5.12"
"""The format that is written: the oldest one that has both steps that produce labels."""

MANIFEST = "bioimageio.yaml"
PLACEHOLDER = "to be stated"
"""Placeholder for a text that the format requires and the author has not given."""

Content = dict[str, Any]


class DescriptionRefused(WrongUsage):
    """A value that was given for a description violates the specification."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the description would not be valid: {why}",
            hint="give another value; licence identifiers are listed at https://spdx.org/licenses",
            code="adopt.description",
        )


@dataclass(frozen=True)
class Credits:
    """Name, authors, licence and citations of a model, as its author states them.

    Parameters
    ----------
    name : name of the model; if empty, it is derived from the file name
    description : one sentence; if empty, it is derived from the checkpoint
    authors : names of the authors
    license : SPDX identifier; empty if none is given
    cite : texts, each with a DOI or an address after a bar, such as ``A. B., 2024|10.1000/x``
    """

    name: str = ""
    description: str = ""
    authors: tuple[str, ...] = ()
    license: str = ""
    cite: tuple[str, ...] = ()

    def citations(self) -> tuple[Citation, ...]:
        """Split each reference into its text and its DOI or address.

        Raises
        ------
        DescriptionRefused
            A reference has neither a DOI nor an address.
        """
        parted = [tuple(part.strip() for part in entry.partition("|")[::2]) for entry in self.cite]
        lacking = next((text for text, where in parted if not where), None)
        if lacking is not None:
            raise DescriptionRefused(
                f"'{lacking}' has no DOI or address after it, as in 'A. B., 2024|10.1000/x'"
            )
        return tuple(Citation(text, where) for text, where in parted)


def credit_fields(credits_: Credits, cite: Sequence[Citation]) -> Content:
    """Return the fields of a description for authors, citations and licence.

    Parameters
    ----------
    cite : citations of the method, which precede those of the author
    """
    references = [_reference(entry) for entry in (*cite, *credits_.citations())]
    fields: Content = {
        "authors": [{"name": name} for name in credits_.authors or (f"author {PLACEHOLDER}",)],
        "cite": references,
    }
    return fields | ({"license": credits_.license} if credits_.license else {})


def _reference(entry: Citation) -> dict[str, str]:
    doi = re.sub(r"^(?:https?://(?:dx\.)?doi\.org/|doi:)", "", entry.where)
    return {"text": entry.text, "doi" if doi.startswith("10.") else "url": doi}


def file_entry(path: Path) -> dict[str, str]:
    """Return the entry of a description for a file in the same folder."""
    return {"source": path.name, "sha256": sha256_of(path)}


def space_axes(
    space: str,
    *,
    rule: Mapping[str, int] | None = None,
    like: str = "",
    pixel_um: float | None = None,
    halo: int = 0,
    grid: Sequence[int] = (),
) -> list[Content]:
    """Return the spatial axes of a tensor.

    Parameters
    ----------
    rule : allowed sizes of an input, as ``min`` and ``step``
    like : id of the input that an output takes its size from
    pixel_um : pixel size in um
    halo : halo of an output in px of the input
    grid : spacing of an output along each axis in px of the input; empty for 1
    """

    def axis(letter: str, spacing: int) -> Content:
        size = {"tensor_id": like, "axis_id": letter} if like else dict(rule or {})
        described: Content = {"type": "space", "id": letter, "size": size}
        if pixel_um:
            described |= {"unit": "micrometer", "scale": pixel_um * spacing}
        elif spacing > 1:
            described["scale"] = float(spacing)
        return described | ({"halo": -(-halo // spacing)} if halo else {})

    return [axis(*along) for along in zip(space, grid or (1,) * len(space), strict=True)]


def write_manifest(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write a description into the folder of its package.

    Returns
    -------
    Path
        path of the manifest
    """
    from ruyaml import YAML

    yaml: Any = YAML()  # its type annotations lack `width`
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = io.StringIO()
    yaml.dump(_plain(content), text)
    path = folder / MANIFEST
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def refuse_invalid(manifest: Path) -> None:
    """Raise an error if bioimageio.spec finds a description invalid.

    Files are not hashed here; ``bmz test`` hashes them.

    Raises
    ------
    DescriptionRefused
        The description is not valid.
    """
    from bioimageio.spec import InvalidDescr, load_description
    from loguru import logger

    logger.disable("pydantic")
    logger.disable("bioimageio.spec")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        description = load_description(manifest, perform_io_checks=False)
    summary = description.validation_summary
    if isinstance(description, InvalidDescr) or summary.status == "failed":
        errors = summary.errors
        where = ".".join(str(part) for part in errors[0].loc) if errors else "the whole"
        raise DescriptionRefused(f"{where}: {errors[0].msg if errors else summary.status}")


def newest_content(manifest: Path) -> Content:
    """Return a description as plain values, converted to the newest format by bioimageio.spec.

    Raises
    ------
    DescriptionRefused
        The description is not valid in the newest format.
    """
    from bioimageio.spec import (
        InvalidDescr,
        ValidationContext,
        build_description,
        dump_description,
    )
    from loguru import logger

    logger.disable("bioimageio.spec")
    context = ValidationContext(
        perform_io_checks=False, log_warnings=False, root=manifest.parent, file_name=manifest.name
    )
    content, _ = repaired(current_content(manifest))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        description = build_description(content, context=context, format_version="latest")
        if isinstance(description, InvalidDescr):
            raise DescriptionRefused(description.validation_summary.errors[0].msg)
        return dict(dump_description(description))


def current_content(manifest: Path) -> Content:
    """Read a description as plain values, in its own format."""
    text = content_of(manifest.read_text(encoding="utf-8"))
    content: Content = dict(text) if isinstance(text, Mapping) else {}
    return content


def zip_package(folder: Path, archive: Path) -> Path:
    """Write the files of a package into a zip archive, with the description at the top level."""
    with whole_file(archive) as temporary, zipfile.ZipFile(temporary, "w") as target:
        for path in sorted(_files(folder)):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())  # with a constant time
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, path.read_bytes())
    return archive


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
