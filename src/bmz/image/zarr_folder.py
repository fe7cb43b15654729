"""The one module that opens Zarr: groups with their attributes, and arrays, of a local folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from bmz.image.faults import ImageUnreadable

if TYPE_CHECKING:
    import zarr

ZarrArray: TypeAlias = "zarr.Array[Any]"

_METADATA: Final = ("zarr.json", ".zgroup", ".zarray")
_OTHER_FILES: Final = (*_METADATA, ".zattrs", ".zmetadata")


def is_node(folder: Path) -> bool:
    """Tell whether `folder` is a group or an array."""
    return any((folder / name).is_file() for name in _METADATA)


def group_attributes(folder: Path) -> Mapping[str, Any] | None:
    """Give the attributes of the group in `folder`; None when it is an array.

    Raises whatever zarr raises for damaged metadata; for a folder that is none, FileNotFoundError.
    """
    import zarr

    # consolidated metadata may be older than what they repeat
    node = zarr.open(folder, mode="r", use_consolidated=False)
    return dict(node.attrs) if isinstance(node, zarr.Group) else None


def opened_array(path: Path, folder: Path) -> ZarrArray:
    """Open the array in `folder` for reading.

    Parameters
    ----------
    path : of the image, for the error
    folder : of the array

    Raises
    ------
    ImageUnreadable
        There is no array, or what packed its chunks is not known to compute only.
    """
    import zarr

    from bmz.image.zarr_codecs import WholeFiles, look_at_chunks

    if not is_node(folder):
        raise ImageUnreadable(path, f"is incomplete: its array '{folder.name}' is not there")
    array = zarr.open_array(WholeFiles(folder, read_only=True), mode="r")
    look_at_chunks(path, array)
    return array


def has_chunks(folder: Path) -> bool:
    """Tell whether anything but metadata lies in the folder of an array."""
    return any(entry.name not in _OTHER_FILES for entry in folder.iterdir())
