"""Open results: a folder of them, a label mask or the record of a run."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmz.app.run import demo_image
from bmz.base.errors import CouldNotTell, WrongUsage
from bmz.base.files import given_text
from bmz.image.formats import split_series
from bmz.image.inspect import inspect_image
from bmz.image.region import read_image
from bmz.napari.layers import LayerTuple, Placement, image_layer, labels_layer
from bmz.write.outputs import OUTPUT_KINDS, RECORD_ENDING, ZARR_LABELS

if TYPE_CHECKING:
    import pandas as pd

MOST = 20
"""Maximum number of results of a folder; in a larger folder the user must select one."""

_MASKS = (OUTPUT_KINDS["labels"].ending, ZARR_LABELS)
_TABLES = ("table", "planes", "tracks")


class TooManyResults(WrongUsage):
    """A folder contains the results of more images than napari should show at once."""

    def __init__(self, folder: Path, count: int) -> None:
        super().__init__(
            f"'{folder}' contains the results of {count} images, more than the {MOST} that can "
            "be opened",
            hint="open the label masks (.labels.tif) that you want to see",
            code="napari.too-many",
        )


class NotARecord(CouldNotTell):
    """A record of a run cannot be read."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"'{path}' is not the record of a run: {why}",
            hint="open the label mask (.labels.tif) instead",
            code="napari.record",
        )


def reader_of(
    path: str | Sequence[str],
) -> Callable[[str | Sequence[str]], list[LayerTuple]] | None:
    """Return the function that reads these paths, or None if they are not results of bmz.

    Parameters
    ----------
    path : one or several paths of a folder with records of runs, label masks or records
    """
    return read_layers if all(map(_is_result, _paths(path))) else None


def read_layers(path: str | Sequence[str]) -> list[LayerTuple]:
    """Return the images and label masks of results as layers; those of a second image are hidden.

    Raises
    ------
    TooManyResults, NotARecord, CouldNotTell
        There are too many results, or one cannot be read.
    """
    layers: list[LayerTuple] = []
    for result in (one for each in _paths(path) for one in _results(each)):
        shown = not layers
        layers += [
            (data, {**words, "visible": shown}, kind) for data, words, kind in _layers(result)
        ]
    return layers


def demo_layers() -> list[LayerTuple]:
    """Return the bundled image of nuclei."""
    return [image_layer(read_image(inspect_image(demo_image())), "nuclei")]


def _paths(path: str | Sequence[str]) -> list[Path]:
    return [Path(path)] if isinstance(path, str) else [Path(each) for each in path]


def _is_result(path: Path) -> bool:
    known = path.name.lower().endswith((*_MASKS, RECORD_ENDING))
    return known or (path.is_dir() and any(path.glob(f"*{RECORD_ENDING}")))


def _results(path: Path) -> list[Path]:
    """Return the records that a path refers to; a mask without a record is returned itself."""
    name = path.name
    for ending in _MASKS:
        if name.lower().endswith(ending):
            record = path.with_name(f"{name[: -len(ending)]}{RECORD_ENDING}")
            return [record if record.is_file() else path]
    if not path.is_dir():
        return [path]
    records = sorted(path.glob(f"*{RECORD_ENDING}"))
    if len(records) > MOST:
        raise TooManyResults(path, len(records))
    return records


def _layers(result: Path) -> Iterator[LayerTuple]:
    if not result.name.endswith(RECORD_ENDING):
        yield _labels(result, {})
        return
    record = _record(result)
    if (image := _image(record, result.parent)) is not None:
        yield image
    files = {kind: result.parent / name for kind, name in record["files"].items()}
    if "labels" in files:
        yield _labels(files["labels"], {k: _table(files[k]) for k in _TABLES if k in files})


def _record(path: Path) -> Mapping[str, Any]:
    try:
        record = json.loads(given_text(path))
    except (OSError, ValueError) as why:
        raise NotARecord(path, str(why)) from why
    if not isinstance(record, dict) or not {"image", "files", "request"} <= record.keys():
        raise NotARecord(path, "it names neither an image nor files")
    return record


def _image(record: Mapping[str, Any], folder: Path) -> LayerTuple | None:
    """Read the image of a run; if it was moved, look for it next to the results."""
    path = Path(record["image"])
    places = (path, folder / path.name)
    there = next((place for place in places if split_series(place)[0].exists()), None)
    if there is None:
        warnings.warn(f"the image '{path}' does not exist: only its labels are shown", stacklevel=2)
        return None
    series = 0 if split_series(there)[1] else record["image_series"]
    pixels = read_image(inspect_image(there, axes=record["request"]["axes"], series=series))
    return image_layer(pixels, there.name)


def _labels(path: Path, tables: Mapping[str, pd.DataFrame]) -> LayerTuple:
    pixels = read_image(inspect_image(path))
    placement = Placement.of_pixels("".join(pixels.axes), pixels.pixel_um)
    return labels_layer(pixels.array, placement, path.name, tables)


def _table(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(path)
