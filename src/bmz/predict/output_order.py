"""Determine the order of a network's outputs, and unpack SavedModel bundles."""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from bmz.base.errors import CouldNotTell
from bmz.predict.backend import LoadRequest, TensorCountDiffers, WeightsUnreadable
from bmz.zoo.archive import damage_told, opened_zip

FORMAT = "tensorflow_saved_model_bundle"
GRAPH = "saved_model.pb"

_OTHER_GRAPHS = ("saved_model.pbtxt", "saved_model.cpb")  # TensorFlow may take these instead


@contextmanager
def unpacked_bundle(path: Path) -> Iterator[Path]:
    """Yield the folder that contains ``saved_model.pb``; an unpacked zip is removed afterwards.

    Parameters
    ----------
    path : a zip or a folder, with the bundle at its top level or in a subfolder

    Raises
    ------
    WeightsUnreadable
        The bundle is absent or damaged, or there are several.
    ArchiveRefused
        A member would be unpacked outside the folder or is a link, the members would be far larger
        when unpacked, or they are not the same for all programs.
    """
    if path.is_dir():
        yield path / _top(path, _names_below(path))
        return
    folder = Path(tempfile.mkdtemp(prefix="bmz-bundle-"))
    try:
        with _opened(path) as archive:
            top = _top(path, archive.namelist())
            archive.extractall(folder)
        yield folder / top
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_graph(path: Path) -> bytes:
    """Read ``saved_model.pb`` of a bundle without unpacking anything else.

    Raises
    ------
    WeightsUnreadable, ArchiveRefused
        As in `unpacked_bundle`.
    """
    try:
        if path.is_dir():
            return (path / _top(path, _names_below(path)) / GRAPH).read_bytes()
        with _opened(path) as archive:
            names = archive.namelist()
            graph = _top(path, names) / GRAPH
            return archive.read(next(name for name in names if PurePosixPath(name) == graph))
    except OSError as why:
        raise WeightsUnreadable(path, FORMAT, str(why)) from why


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with damage_told(), opened_zip(path) as archive:
            yield archive
    except (OSError, zipfile.BadZipFile) as why:
        raise WeightsUnreadable(path, FORMAT, f"it is not a complete zip file ({why})") from why


def _names_below(folder: Path) -> list[str]:
    links = [entry for entry in folder.rglob("*") if entry.is_symlink()]
    if links:
        raise WeightsUnreadable(folder, FORMAT, f"'{links[0].name}' is a link")
    return [entry.relative_to(folder).as_posix() for entry in folder.rglob("*")]


def _top(path: Path, names: list[str]) -> PurePosixPath:
    parts = [PurePosixPath(name) for name in names]
    tops = [name.parent for name in parts if name.name == GRAPH]
    if len(tops) != 1:
        raise WeightsUnreadable(
            path, FORMAT, f"it contains {len(tops)} files called {GRAPH}, not 1"
        )
    other = [n for n in parts if n.parent == tops[0] and n.name in _OTHER_GRAPHS]
    if other:
        raise WeightsUnreadable(path, FORMAT, f"'{other[0].name}' is next to its {GRAPH}")
    return tops[0]


_NUMBERED = re.compile(r"output_(\d+)")
_MOST_TRIED = 6  # 720 assignments; no model of the zoo has more than 4 outputs
_DIGITS = re.compile(r"(\d+)")


class Named(NamedTuple):
    """An output as the framework reports it: its name, and its sizes, None if variable."""

    name: str
    shape: tuple[int | None, ...] | None


class OutputsUnclear(CouldNotTell):
    """Nothing states how the network's outputs correspond to those of the description.

    Parameters
    ----------
    names : names in the network
    ids : ids in the description
    candidates : possible assignments, each as names in the order of `ids`
    """

    def __init__(
        self,
        names: Sequence[str],
        ids: Sequence[str],
        candidates: Sequence[tuple[str, ...]],
    ) -> None:
        super().__init__(
            f"the network calls its outputs {', '.join(names)}, the description calls them "
            f"{', '.join(ids)}, and it is not known which is which",
            hint="the description is at fault: its outputs must have the network's names; tell "
            "the model's authors, or choose other --weights",
            code="predict.outputs-unclear",
        )
        self.candidates = tuple(candidates)


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """Return a key that sorts names in natural order.

    Examples
    --------
    >>> sorted(["input_10", "input_9", "input"], key=natural)
    ['input', 'input_9', 'input_10']
    """
    parts = _DIGITS.split(name)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def input_order(names: Sequence[str], request: LoadRequest) -> tuple[str, ...]:
    """Return the names of the inputs in the description's order: by id, else in natural order.

    Raises
    ------
    TensorCountDiffers
    """
    if len(names) != len(request.input_ids):
        raise TensorCountDiffers("inputs", expected=len(request.input_ids), actual=len(names))
    if set(names) == set(request.input_ids):
        return request.input_ids
    return tuple(sorted(names, key=natural))


def output_order(outputs: Sequence[Named], request: LoadRequest) -> tuple[str, ...]:
    """Return the names of the outputs in the order of the description.

    Tried in turn are the known assignment (``request.output_names``), names equal to the ids, the
    order of ``output_0, output_1, ...`` if the shapes allow it, and the only assignment that the
    shapes allow.

    Raises
    ------
    TensorCountDiffers
        There are too few outputs.
    OutputsUnclear
        Several assignments are possible, or none.
    """
    ids, output_names = request.output_ids, [output.name for output in outputs]
    if len(output_names) < len(ids):
        raise TensorCountDiffers("outputs", expected=len(ids), actual=len(output_names))
    for known in (request.output_names, ids):
        if known and set(known) <= set(output_names):
            return known
    if len(output_names) == 1:
        return tuple(output_names)
    possible = _possible({output.name: output.shape for output in outputs}, request)
    numbered = tuple(sorted(output_names, key=natural))
    in_order = [_NUMBERED.fullmatch(name) for name in numbered]
    if all(match and match[1] == str(i) for i, match in enumerate(in_order)):
        # TensorFlow gives these names to the outputs of a list
        documented = numbered[: len(ids)]
        if documented in possible:
            return documented
    if len(possible) != 1:
        raise OutputsUnclear(numbered, ids, possible)
    return possible[0]


def _possible(
    shapes: Mapping[str, tuple[int | None, ...] | None], request: LoadRequest
) -> list[tuple[str, ...]]:
    if len(shapes) > _MOST_TRIED:
        return []
    names = sorted(shapes, key=natural)
    return [
        order
        for order in permutations(names, len(request.output_ids))
        if all(_fits(shapes[name], request, number) for number, name in enumerate(order))
    ]


def _fits(shape: tuple[int | None, ...] | None, request: LoadRequest, number: int) -> bool:
    if shape is None or not request.output_axes:
        return True
    axes = request.output_axes[number]
    if len(shape) != len(axes):
        return False
    channels = request.output_channels[number] if request.output_channels else None
    if channels is None or "c" not in axes:
        return True
    return shape[axes.index("c")] in (None, channels)
