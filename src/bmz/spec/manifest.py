"""Write a description: its parts as plain values, the file, and what bioimageio.spec says of it."""

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
"""The format that is written: the oldest with both steps that give labels."""

MANIFEST = "bioimageio.yaml"
PLACEHOLDER = "to be stated"
"""What stands where the format asks for a text that nobody has given."""

Content = dict[str, Any]


class DescriptionRefused(WrongUsage):
    """What was given for a description does not keep the specification."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the description would not be valid: {why}",
            hint="give another value; licence identifiers are listed at https://spdx.org/licenses",
            code="adopt.description",
        )


@dataclass(frozen=True)
class Credits:
    """Whose a model is, as its author says it.

    Parameters
    ----------
    name : of the model; empty for one made of the name of its file
    description : one sentence; empty for what the checkpoint tells
    authors : names
    license : SPDX identifier; empty if it is not said
    cite : texts, each with a DOI or an address behind a bar, such as ``A. B., 2024|10.1000/x``
    """

    name: str = ""
    description: str = ""
    authors: tuple[str, ...] = ()
    license: str = ""
    cite: tuple[str, ...] = ()

    def citations(self) -> tuple[Citation, ...]:
        """Part text and place of each reference.

        Raises
        ------
        DescriptionRefused
            One has no place.
        """
        parted = [tuple(part.strip() for part in entry.partition("|")[::2]) for entry in self.cite]
        lacking = next((text for text, where in parted if not where), None)
        if lacking is not None:
            raise DescriptionRefused(
                f"'{lacking}' has no DOI or address after it, as in 'A. B., 2024|10.1000/x'"
            )
        return tuple(Citation(text, where) for text, where in parted)


def credit_fields(credits_: Credits, cite: Sequence[Citation]) -> Content:
    """Return the fields of a description that say whose it is.

    Parameters
    ----------
    cite : of the method, before those of the author
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
    """Return what a description says of a file that lies beside it."""
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
    rule : sizes that an input takes, ``min`` and ``step``
    like : id of the input whose size an output has
    pixel_um : pixel size, um
    halo : of an output, px of the input
    grid : spacing of an output along each axis, px of the input; empty for 1
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
        of the manifest
    """
    from ruyaml import YAML

    yaml: Any = YAML()  # its types know no width
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
    """Let bioimageio.spec validate a description; its files are hashed by ``bmz test``.

    Raises
    ------
    DescriptionRefused
        It is not valid.
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
    """Return a description as plain values of the newest format, as bioimageio.spec converts it.

    Raises
    ------
    DescriptionRefused
        It has no valid form in that format.
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
    """Read a description as plain values of the format that it has."""
    text = content_of(manifest.read_text(encoding="utf-8"))
    content: Content = dict(text) if isinstance(text, Mapping) else {}
    return content


def zip_package(folder: Path, archive: Path) -> Path:
    """Write the files of a package into a zip, its description at the top level."""
    with whole_file(archive) as temporary, zipfile.ZipFile(temporary, "w") as target:
        for path in sorted(_files(folder)):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())  # with a constant time
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, path.read_bytes())
    return archive


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
