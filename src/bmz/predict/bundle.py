"""The files of a TensorFlow SavedModel: a folder, or a zip that holds one."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from bmz.predict.backend import WeightsUnreadable
from bmz.zoo.archive import damage_told, opened_zip

FORMAT = "tensorflow_saved_model_bundle"
GRAPH = "saved_model.pb"

_OTHER_GRAPHS = ("saved_model.pbtxt", "saved_model.cpb")  # TensorFlow may take these instead
_LARGEST_GRAPH = 2**31  # bytes; protocol buffers end here


@contextmanager
def unpacked_bundle(path: Path) -> Iterator[Path]:
    """Give the folder that holds ``saved_model.pb``; what a zip was unpacked to is removed after.

    Parameters
    ----------
    path : a zip or a folder, with the bundle at its top or in a folder within

    Raises
    ------
    WeightsUnreadable
        It is absent, damaged, or holds none or several bundles.
    ArchiveRefused
        A member leaves the folder or is a link, they would swell beyond measure, or programs
        differ in what the zip holds.
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
    """Read ``saved_model.pb`` of a bundle, and unpack nothing else.

    Raises
    ------
    WeightsUnreadable, ArchiveRefused
        See `unpacked_bundle`.
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
        raise WeightsUnreadable(path, FORMAT, f"it is no whole zip file ({why})") from why


def _names_below(folder: Path) -> list[str]:
    links = [entry for entry in folder.rglob("*") if entry.is_symlink()]
    if links:
        raise WeightsUnreadable(folder, FORMAT, f"'{links[0].name}' is a link")
    return [entry.relative_to(folder).as_posix() for entry in folder.rglob("*")]


def _top(path: Path, names: list[str]) -> PurePosixPath:
    parts = [PurePosixPath(name) for name in names]
    tops = [name.parent for name in parts if name.name == GRAPH]
    if len(tops) != 1:
        raise WeightsUnreadable(path, FORMAT, f"it holds {len(tops)} files called {GRAPH}, not 1")
    other = [n for n in parts if n.parent == tops[0] and n.name in _OTHER_GRAPHS]
    if other:
        raise WeightsUnreadable(path, FORMAT, f"'{other[0].name}' lies beside its {GRAPH}")
    return tops[0]
