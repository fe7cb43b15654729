"""Dask arrays in and out: neither the image nor its labels are ever in memory as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from bmz.app.api.options import ImageOptions
from bmz.app.api.result import label_attributes
from bmz.app.run import run
from bmz.base.axes import ChannelKey
from bmz.base.errors import WrongUsage
from bmz.base.progress import Listener
from bmz.engine.request import RunRequest
from bmz.image.info import ImageInfo
from bmz.image.pixels import ArrayImage, Pixels, inspect_array, is_xarray, to_xarray
from bmz.write.ome_zarr import LABELS, NAME, opened_array

if TYPE_CHECKING:
    import dask.array
    import xarray as xr

LazyImage: TypeAlias = "dask.array.Array | xr.DataArray"
"""A Dask array, or a DataArray of one."""


class NotLazy(WrongUsage):
    """The array is not a Dask array."""

    def __init__(self, image: object) -> None:
        super().__init__(
            f"a Dask array is needed, but this is a {type(image).__name__} in memory",
            hint="use model.run, or convert it with dask.array.from_array",
            code="call.not-lazy",
        )


def labelled_lazily(
    request: RunRequest, image: LazyImage, options: ImageOptions, listener: Listener
) -> xr.DataArray:
    """Label an array block by block, through files in the folder of the request.

    Parameters
    ----------
    request : names the model, the folder and the memory
    image : real numbers
    options : of the call

    Returns
    -------
    DataArray
        dims from ``tzyx``, a Dask array of the labels in an OME-Zarr in the folder

    Raises
    ------
    NotLazy
        The array is in memory.
    BmzError
        See `bmz.app.run.run`.
    """
    blocks: dask.array.Array = image.data if is_xarray(image) else cast("dask.array.Array", image)
    if not type(blocks).__module__.startswith("dask."):
        raise NotLazy(image)
    info = inspect_array(cast("ArrayImage", image), axes=options.axes)
    asked = options.put_into(request)
    request.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=request.folder, prefix=".blocks-") as temporary:
        file = Path(temporary) / f"{info.path.name}.npy"
        _store(blocks, file)
        summary = run(_of_file(asked, file, info), listener)
    for failure in summary.failed:
        raise failure.error
    (done,) = summary.done
    pixel_um = {**info.pixel_um, **asked.pixel_um}
    labels = _opened_lazily(done.files["labels"], info, pixel_um)
    return labels.assign_attrs(label_attributes(done.record, done.objects or 0))


def _store(blocks: dask.array.Array, file: Path) -> None:
    """Compute the blocks one after another, each into its place in a NumPy file."""
    import dask.array

    dtype = np.dtype(blocks.dtype).newbyteorder("=")
    stored = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=blocks.shape)
    dask.array.store(blocks, stored, lock=False, scheduler="synchronous")
    stored.flush()


def _of_file(request: RunRequest, file: Path, info: ImageInfo) -> RunRequest:
    """Add to the facts of the file what the array states and a NumPy file cannot."""
    return replace(
        request,
        images=(file,),
        names={file: str(info.path)},
        axes=request.axes or "".join(info.axes),
        channels=_numbers(request.channels, info.channel_names),
        pixel_um={**info.pixel_um, **request.pixel_um},
        labels_format="zarr",
        save=frozenset({"labels", "table"}),
    )


def _numbers(
    channels: Sequence[ChannelKey] | None, names: Sequence[str]
) -> tuple[ChannelKey, ...] | None:
    if channels is None:
        return None
    known = {name.casefold(): number for number, name in enumerate(names)}
    return tuple(
        known.get(key.casefold(), key) if isinstance(key, str) else key for key in channels
    )


def _opened_lazily(store: Path, info: ImageInfo, pixel_um: Mapping[str, float]) -> xr.DataArray:
    import dask.array

    stored = opened_array(store / LABELS / NAME / "0")
    labels = dask.array.from_array(stored, chunks=stored.chunks)  # type: ignore[no-untyped-call]
    axes = tuple(axis for axis in "tzyx" if axis in info.axes)
    um = {axis: length for axis, length in pixel_um.items() if axis in axes}
    return to_xarray(Pixels(labels, axes, um)).rename("labels")
