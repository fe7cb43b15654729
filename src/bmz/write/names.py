"""What the files of a result are called, and that none of them replaces another unasked."""

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
    """Files of these names are there already."""

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
    """A result would replace one of the images it is made from."""

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

    An output keeps the full stem of its image: only a known image ending is cut off. Images of
    one stem get the names of their folders as a prefix, of as many as it takes; images of one
    stem in one folder get their ending (``a_tif``, ``a_png``). Letter case alone tells no two
    files apart, since on some disks it does not.

    Parameters
    ----------
    images : paths; one that is given twice counts once
    folder : where results go; not touched
    kinds : of `bmz.write.outputs.OUTPUT_KINDS`, and the record; None for all
    zarr : labels are OME-Zarr and not TIFF
    fields : those of `images` that are fields of a plate: their results lie as they do, in a
        folder called after the plate, and OME-Zarr labels make up a plate again
    roots : folders that were named instead of their images: results lie below `folder` as the
        images lie below them

    Returns
    -------
    dict of dict
        by image as first given, then by kind

    Raises
    ------
    OutputIsInput
        A result would lie where an image lies.
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
    """Put files together whose names are one on some disk; see `_key`."""
    named: dict[str, list[Path]] = {}
    for place in places:
        named.setdefault(_key(place), []).append(place)
    return named


def _is_one_of(path: Path, named: Mapping[str, Sequence[Path]]) -> bool:
    """Return whether a file is one of `named`, as the disk sees it: letter case may not count."""
    place = absolute(path)
    alike = named.get(_key(place), ())
    return place in alike or (is_there(path) and any(p.samefile(place) for p in alike))


def paths_at(
    base: Path, kinds: Iterable[str], field: PlateField | None = None, *, zarr: bool = False
) -> dict[str, Path]:
    """Return the paths of the results of an image.

    Parameters
    ----------
    base : folder and beginning of the name of the results of the image, or of its plate
    kinds : of `bmz.write.outputs.OUTPUT_KINDS`, and the record
    field : which one of a plate it is; None for none
    zarr : labels are OME-Zarr and not TIFF

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
    """What results are called of images that come one after another: a name once given stays.

    Parameters
    ----------
    folder : of the results
    root : the images lie below it; results keep its structure
    owner : gives the name of the file whose results lie at a base; None if there are none
    """

    def __init__(self, folder: Path, root: Path, owner: Callable[[Path], str | None]) -> None:
        self._folder, self._root, self._owner = folder, absolute(root), owner
        self._bases: dict[Path, Path] = {}
        self._taken: set[str] = set()

    def base(self, image: Path) -> Path:
        """Return where the results of an image lie and how they are called; see `paths_at`.

        It is the stem of the image, then the stem with the ending, then one with a number: the
        first under which no other image has results.

        Parameters
        ----------
        image : or a plate
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
    """Return for each plate the folder of its results.

    No plate has the name of another plate, or of an image beside it.

    Parameters
    ----------
    images, fields, folder, roots : see `output_paths`
    """
    plates = {field.plate: None for field in fields.values() if field is not None}
    alone = [absolute(image) for image in images if fields.get(image) is None]
    names = _names_below([*alone, *map(absolute, plates)], [absolute(root) for root in roots])
    return {plate: folder / names[absolute(plate)] for plate in plates}


def plate_labels(folder: Path) -> Path:
    """Return the OME-Zarr of the labels of a plate, beside the folder of its other results."""
    return folder.with_name(f"{folder.name}{ZARR_LABELS}")


def files_of(plan: Plan, files: Mapping[str, Path]) -> dict[str, Path]:
    """Leave out the tables of joined objects where the plan joins nothing over their axis."""
    return {
        kind: path
        for kind, path in files.items()
        if kind == RECORD or OUTPUT_KINDS[kind].joined_over in ("", *plan.joined)
    }


def refuse_existing(paths: Iterable[Path]) -> None:
    """Do nothing when none of `paths` exists.

    Raises
    ------
    OutputExists
        At least one does; names the first and counts the others.
    FolderNotWritable
        No file can have such a name.
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
    """Return the whole path; two links to one file are two images with two names."""
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
    """Cut the image ending off; put it back with ``_`` where one folder holds one stem twice."""
    bare = [stem_of(place) for place in places]
    files = [split_series(place)[0] for place in places]
    keys = [_key(p.with_name(stem)) for p, stem in zip(files, bare, strict=True)]
    counts = Counter(keys)
    return [
        f"{stem}{image_suffix(file).replace('.', '_')}" if counts[key] > 1 else stem
        for file, stem, key in zip(files, bare, keys, strict=True)
    ]


def stem_of(place: Path) -> str:
    """Return how the names of the results of an image begin.

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
"""Names of files on Windows, whatever follows behind a dot.

Source: "Naming Files, Paths, and Namespaces", Microsoft.
"""


def _for_windows(name: str) -> str:
    """Change what Windows takes in no name: an image may come from a server, or out of a file."""
    return _DEVICES.sub(r"\1_", _REFUSED_SIGNS.sub("_", name))


def _key(name: Path | str) -> str:
    """Return what two names share that are one file on some disk: letter case, composed letters."""
    return unicodedata.normalize("NFC", str(name)).casefold()


def _folders(place: Path, depth: int) -> tuple[str, ...]:
    folder = split_series(place)[0].parent
    return folder.parts[len(folder.parts) - depth :]


def _numbered(names: Sequence[str]) -> list[str]:
    # only names that no folder tells apart are left, such as A.tif beside a.tif
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
