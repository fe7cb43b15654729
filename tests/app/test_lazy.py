"""Arrays of Dask: labelled block by block, and arrays that say what made them."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import bmz
from bmz.app.api.lazy import NotLazy
from bmz.base.arrays import AnyArray
from bmz.image.pixels import inspect_array
from bmz.testing.package import description, write_package

da = pytest.importorskip("dask.array")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bmz.Model:
    folder = tmp_path_factory.mktemp("lazy") / "net"
    return bmz.load(write_package(folder, description(halo=4)).parent)


def image() -> AnyArray:
    """Two objects over the seams of blocks, and one within."""
    pixels = np.zeros((150, 140), np.float32)
    pixels[30:40, 60:75] = pixels[100:110, 3:7] = pixels[62:70, 62:70] = 1
    return pixels


@pytest.mark.parametrize("memory_gb", [1e3, 0.0])
def test_an_array_of_dask_gives_labels_of_dask_that_are_those_of_the_whole(
    memory_gb: float, model: bmz.Model, tmp_path: Path
) -> None:
    whole = model.run(image())

    lazy = model.run_lazily(da.from_array(image(), chunks=64), tmp_path, memory_gb=memory_gb)

    assert whole.labels is not None
    assert isinstance(lazy.data, da.Array)
    assert max(lazy.data.chunksize) <= 512
    assert np.array_equal(lazy.values, whole.labels)
    assert lazy.attrs == whole.labels.attrs
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "array.labels.ome.zarr", "array.objects.csv", "array.run.json",
    ]  # fmt: skip


def test_blocks_are_computed_once_one_after_the_other(model: bmz.Model, tmp_path: Path) -> None:
    computed = []

    def block(block_info: dict[None, dict[str, list[tuple[int, int]]]]) -> AnyArray:
        (y, _), (x, _) = block_info[None]["array-location"]
        computed.append((threading.get_ident(), y, x))
        return image()[y : y + 50, x : x + 70]

    chunks = ((50,) * 3, (70,) * 2)
    blocks = da.map_blocks(block, chunks=chunks, meta=np.empty((0, 0), np.float32))
    model.run_lazily(blocks, tmp_path)

    assert {thread for thread, _, _ in computed} == {threading.get_ident()}
    assert len({(y, x) for _, y, x in computed}) == len(computed) == 6


def test_a_dataarray_brings_its_axes_names_channels_and_pixel_size(
    model: bmz.Model, tmp_path: Path
) -> None:
    two = np.stack([np.zeros_like(image()), image()])
    named = xr.DataArray(
        da.from_array(two, chunks=(1, 64, 64)), dims=("c", "y", "x"), name="field",
        coords={"c": ["membranes", "nuclei"], "y": np.arange(150) * 0.5, "x": np.arange(140) * 0.5},
    )  # fmt: skip

    lazy = model.run_lazily(named, tmp_path, channels="nuclei")

    assert lazy.dims == ("y", "x")
    assert float(lazy.y[1]) == 0.5
    assert lazy.y.attrs["units"] == "um"
    assert lazy.attrs["objects"] == 3
    assert (tmp_path / "field.labels.ome.zarr").is_dir()


def test_an_array_in_memory_is_refused_with_what_takes_it(model: bmz.Model, tmp_path: Path) -> None:
    with pytest.raises(NotLazy, match="ndarray in memory") as told:
        model.run_lazily(image(), tmp_path / "out")  # type: ignore[arg-type]

    assert "use model.run" in told.value.hint
    assert not (tmp_path / "out").exists()


def test_what_fails_is_raised_and_leaves_no_file(model: bmz.Model, tmp_path: Path) -> None:
    with pytest.raises(bmz.BmzError):
        model.run_lazily(da.zeros((3, 40, 50), chunks=20), tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_labels_and_maps_say_which_model_made_them_and_what_their_numbers_are(
    model: bmz.Model,
) -> None:
    result = model.run(image(), pixel_size=0.25)

    assert result.labels is not None
    assert result.labels.attrs["model"] == result.record["model"]
    assert result.labels.attrs["units"] == "label number"
    assert result.labels.attrs["objects"] == result.objects == 3
    assert result.labels.attrs["recipe"] == "components"
    assert result.labels.x.attrs["units"] == "um"
    assert result.raw.attrs["model_sha256"] == result.record["model_sha256"]
    assert "\n" not in str(result)
    assert "3 objects" in str(result)


def test_an_array_of_dask_is_not_called_by_its_key() -> None:
    lazy = da.zeros((4, 5), chunks=2)

    assert inspect_array(lazy, axes="yx").path.name == "array"
