"""Names of result files, chosen so that no file replaces another one by accident."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

from bmz.base.errors import WrongUsage
from bmz.base.files import FolderNotWritable, is_there
from bmz.image.formats import image_suffix, split_series
from bmz.image.series import PlateField
from bmz.plan.plan import Plan
from bmz.write.outputs import OUTPUT_KINDS, RECORD, ZARR_LABELS, ending_of


class OutputExists(WrongUsage):
    """Files with these names already exist."""

    def __init__(self, existing: Sequence[Path]) -> None:
        others = len(existing) - 1
        more = f" (and {others} more)" if others else ""
        super().__init__(
            f"'{existing[0]}'{more} already exists, and bmz does not overwrite files unless asked "
            "to",
            hint="--overwrite replaces it; -o writes to another folder, such as one per model",
            code="output.exists",
        )


class OutputClaimed(WrongUsage):
    """Another process is writing these files."""

    def __init__(self, record: Path) -> None:
        super().__init__(
            f"another run is writing '{record}' and the files next to it",
            hint="wait until it has ended, or write to another folder with -o NAME",
            code="output.claimed",
        )


class OutputIsInput(WrongUsage):
    """A result would replace one of the input images."""

    def __init__(self, path: Path, image: Path) -> None:
        super().__init__(
            f"the result of '{image}' would replace '{path}', which is one of the images",
            hint="write to another folder with -o, or leave that image out",
            code="output.is-input",
        )


def output_paths(
    images: Sequence[Path],
    folder: Path,
    kinds: Iterable[str] | None = None,
    *,
    zarr: bool = False,
    fields: Mapping[Path, PlateField | None] | None = None,
    roots: Sequence[Path] = (),
) -> dict[Path, dict[str, Path]]:
    """Return the path of every result of every image.

    An output keeps the full stem of its image: only a known image suffix is removed. If images
    share a stem, the names of as many parent folders as necessary are prepended; if they are also
    in the same folder, their suffix is appended (``a_tif``, ``a_png``). Names that differ only in
    letter case count as equal, as they are on some file systems.

    Parameters
    ----------
    images : paths; one that is given twice counts once
    folder : output folder; not modified
    kinds : kinds of `bmz.write.outputs.OUTPUT_KINDS`, and the record; None for all
    zarr : whether labels are written as OME-Zarr rather than TIFF
    fields : image -> field of a plate, or None; results of fields keep the structure of the plate,
        in a folder named after it, and OME-Zarr labels form a plate again
    roots : folders that were given instead of their images; results keep the folder structure
        below them

    Returns
    -------
    dict of dict
        image as first given -> kind -> path

    Raises
    ------
    OutputIsInput
        A result would replace an image.
    """
    every = (*OUTPUT_KINDS, RECORD) if kinds is None else tuple(kinds)
    known = fields or {}
    places: dict[Path, Path] = {}
    for image in images:
        places.setdefault(absolute(image), image)
    alone = [place for place, image in places.items() if known.get(image) is None]
    plates = plate_folders(images, known, folder, roots)
    names = _names_below(alone, [absolute(root) for root in roots])
    paths = {}
    for place, image in places.items():
        field = known.get(image)
        base = folder / names[place] if field is None else plates[field.plate]
        paths[image] = paths_at(base, every, field, zarr=zarr)
    named = _by_name(places)
    for image, results in paths.items():
        clash = next((p for p in results.values() if _is_one_of(p, named)), None)
        if clash is not None:
            raise OutputIsInput(clash, image)
    return paths


def _by_name(places: Iterable[Path]) -> dict[str, list[Path]]:
    """Group files whose names are equal on some file systems; see `_key`."""
    named: dict[str, list[Path]] = {}
    for place in places:
        named.setdefault(_key(place), []).append(place)
    return named


def _is_one_of(path: Path, named: Mapping[str, Sequence[Path]]) -> bool:
    """Return whether a file is one of `named` for its file system, which may ignore letter case."""
    place = absolute(path)
    alike = named.get(_key(place), ())
    return place in alike or (is_there(path) and any(p.samefile(place) for p in alike))


def paths_at(
    base: Path, kinds: Iterable[str], field: PlateField | None = None, *, zarr: bool = False
) -> dict[str, Path]:
    """Return the paths of the results of an image.

    Parameters
    ----------
    base : folder and name prefix of the results of the image, or of its plate
    kinds : kinds of `bmz.write.outputs.OUTPUT_KINDS`, and the record
    field : the field of a plate that the image is; None if it is not part of a plate
    zarr : whether labels are written as OME-Zarr rather than TIFF

    Returns
    -------
    dict
        kind -> path
    """
    place = base if field is None else base / field.within
    paths = {kind: place.with_name(f"{place.name}{ending_of(kind, zarr=zarr)}") for kind in kinds}
    if field is not None and zarr and "labels" in paths:
        paths["labels"] = plate_labels(base) / field.within
    return paths


class StandingNames:
    """Names of the results of images that arrive one after another; a name never changes.

    Parameters
    ----------
    folder : output folder
    root : folder that contains the images; results keep its structure
    owner : returns the name of the file whose results have a base; None if there are none
    """

    def __init__(self, folder: Path, root: Path, owner: Callable[[Path], str | None]) -> None:
        self._folder, self._root, self._owner = folder, absolute(root), owner
        self._bases: dict[Path, Path] = {}
        self._taken: set[str] = set()

    def base(self, image: Path) -> Path:
        """Return the folder and name prefix of the results of an image; see `paths_at`.

        The prefix is the first of these that no other image uses: the stem of the image, the stem
        with the suffix, and the latter with a number.

        Parameters
        ----------
        image : path of an image or a plate
        """
        place = absolute(image)
        if place not in self._bases:
            within = self._folder / split_series(place)[0].parent.relative_to(self._root)
            free = (
                base
                for base in map(within.joinpath, _candidates(place))
                if self._is_free(base, place)
            )
            self._bases[place] = next(free)
            self._taken.add(_key(self._bases[place]))
        return self._bases[place]

    def _is_free(self, base: Path, place: Path) -> bool:
        file, _ = split_series(place)
        return _key(base) not in self._taken and self._owner(base) in {None, file.name}


def _candidates(place: Path) -> Iterator[str]:
    stem, ending = stem_of(place), image_suffix(split_series(place)[0]).replace(".", "_")
    yield stem
    yield f"{stem}{ending}"
    yield from (f"{stem}{ending}_{number}" for number in count(2))


def _names_below(places: Sequence[Path], roots: Sequence[Path]) -> dict[Path, Path]:
    below: dict[Path, list[Path]] = {}
    for place in places:
        root = next((root for root in roots if root in place.parents), None)
        within = Path() if root is None else split_series(place)[0].parent.relative_to(root)
        below.setdefault(within, []).append(place)
    return {
        place: within / name
        for within, group in below.items()
        for place, name in zip(group, _unique_names(group), strict=True)
    }


def plate_folders(
    images: Sequence[Path],
    fields: Mapping[Path, PlateField | None],
    folder: Path,
    roots: Sequence[Path] = (),
) -> dict[Path, Path]:
    """Return the output folder of each plate.

    Each folder name differs from that of any other plate, and of any image that is not in a plate.

    Parameters
    ----------
    images, fields, folder, roots : as for `output_paths`
    """
    plates = {field.plate: None for field in fields.values() if field is not None}
    alone = [absolute(image) for image in images if fields.get(image) is None]
    names = _names_below([*alone, *map(absolute, plates)], [absolute(root) for root in roots])
    return {plate: folder / names[absolute(plate)] for plate in plates}


def plate_labels(folder: Path) -> Path:
    """Return the path of the OME-Zarr labels of a plate, next to the folder of other results."""
    return folder.with_name(f"{folder.name}{ZARR_LABELS}")


def files_of(plan: Plan, files: Mapping[str, Path]) -> dict[str, Path]:
    """Remove the tables of joined objects for axes along which the plan joins nothing."""
    return {
        kind: path
        for kind, path in files.items()
        if kind == RECORD or OUTPUT_KINDS[kind].joined_over in ("", *plan.joined)
    }


def refuse_existing(paths: Iterable[Path]) -> None:
    """Raise an error if any of `paths` exists.

    Raises
    ------
    OutputExists
        At least one exists; the message names the first and counts the others.
    FolderNotWritable
        A path is not a valid file name.
    """
    existing = [path for path in paths if _is_there(path)]
    if existing:
        raise OutputExists(existing)


def _is_there(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except OSError as why:
        raise FolderNotWritable(path.parent, why) from why


def absolute(path: Path) -> Path:
    """Return the absolute path without resolving links: two links to one file are two images."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _unique_names(places: Sequence[Path]) -> list[str]:
    stems = _stems(places)
    depths = [0] * len(places)
    while True:
        names = [
            "_".join((*_folders(place, depth), stem))
            for place, stem, depth in zip(places, stems, depths, strict=True)
        ]
        counts = Counter(map(_key, names))
        deeper = [
            min(depth + (counts[_key(name)] > 1), len(split_series(place)[0].parts) - 2)
            for place, name, depth in zip(places, names, depths, strict=True)
        ]
        if deeper == depths:
            return _numbered(names)
        depths = deeper


def _stems(places: Sequence[Path]) -> list[str]:
    """Remove the image suffix, or turn it into ``_tif`` if a stem occurs twice in a folder."""
    bare = [stem_of(place) for place in places]
    files = [split_series(place)[0] for place in places]
    keys = [_key(p.with_name(stem)) for p, stem in zip(files, bare, strict=True)]
    counts = Counter(keys)
    return [
        f"{stem}{image_suffix(file).replace('.', '_')}" if counts[key] > 1 else stem
        for file, stem, key in zip(files, bare, keys, strict=True)
    ]


def stem_of(place: Path) -> str:
    """Return the name prefix of the results of an image.

    Examples
    --------
    >>> stem_of(Path("a.ome.tif")), stem_of(Path("b.czi[2]")), stem_of(Path("c.h5[/raw/t0]"))
    ('a', 'b[2]', 'c[raw_t0]')
    """
    file, key = split_series(place)
    stem = file.name.removesuffix(image_suffix(file))
    key = _REFUSED_SIGNS.sub("_", key.strip("/"))
    name = f"{Path(stem).stem if stem == file.name else stem}[{key}]" if key else stem
    return _for_windows(name) if sys.platform == "win32" else name


_REFUSED_SIGNS = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(?=\.|$)")
"""Reserved file names on Windows, with any suffix.

Source: "Naming Files, Paths, and Namespaces", Microsoft.
"""


def _for_windows(name: str) -> str:
    """Replace what Windows forbids in names; servers and files may name images otherwise."""
    return _DEVICES.sub(r"\1_", _REFUSED_SIGNS.sub("_", name))


def _key(name: Path | str) -> str:
    """Normalize letter case and composed letters, which some file systems do not distinguish."""
    return unicodedata.normalize("NFC", str(name)).casefold()


def _folders(place: Path, depth: int) -> tuple[str, ...]:
    folder = split_series(place)[0].parent
    return folder.parts[len(folder.parts) - depth :]


def _numbered(names: Sequence[str]) -> list[str]:
    # these names remain equal with all folders prepended, such as A.tif and a.tif in one folder
    counts: Counter[str] = Counter()
    taken = set(map(_key, names))
    result = []
    for name in names:
        counts[_key(name)] += 1
        number = counts[_key(name)]
        while number > 1 and _key(f"{name}_{number}") in taken:
            number += 1
        result.append(name if number == 1 else f"{name}_{number}")
        taken.add(_key(result[-1]))
    return result
