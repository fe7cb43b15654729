"""Outputs of tiles on the disk are those of a mosaic in memory, and are never run twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray
from bmz.plan.tile_way import MIRRORED, Blend, SplineBlend, TileWay
from bmz.plan.tiling import AxisRule, OutputRule, plan_tiles
from bmz.predict.cutting import Tensor, TileJob
from bmz.predict.mosaic import OutputShapeDiffers, TileStore
from bmz.predict.tiles import Tiles, fill, predict_tiled
from bmz.testing.backend import FakeBackend, pointwise

PLAIN = (OutputRule("bcyx"),)
RULES = [AxisRule("y", least=8, step=8), AxisRule("x", least=8, step=8)]


AVERAGED = TileWay("constant", 3, None, Blend(0.1, 4, 1.5))
SPLINED = TileWay("constant", 0, None, SplineBlend(0.75), centred=True, alone="reflect")
WAYS = [MIRRORED, AVERAGED, SPLINED]


def picture(height: int, width: int) -> AnyArray:
    return np.random.default_rng(height * width).random((1, 2, height, width), dtype=np.float32)


def every_fourth(inputs: Sequence[AnyArray]) -> list[AnyArray]:
    return [inputs[0][..., ::4, ::4]]


def tiles_for(
    image: AnyArray, outputs: tuple[OutputRule, ...], backend: FakeBackend, way: TileWay = MIRRORED
) -> Tiles:
    sizes = {"y": image.shape[2], "x": image.shape[3]}
    tiling = plan_tiles(sizes, RULES, side=16, way=way)
    return Tiles(backend, [Tensor(image, "bcyx")], tiling, outputs)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(5, 60), st.integers(5, 60), st.sampled_from(WAYS), st.data())
def test_every_part_is_that_of_the_mosaic(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    way: TileWay,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("store")
    image = picture(height, width)
    tiles = tiles_for(image, PLAIN, FakeBackend(pointwise), way)
    store = TileStore(folder, tiles.places(), 0)

    fill(store, tiles)

    (whole,) = predict_tiled(FakeBackend(pointwise), tiles.inputs, tiles.tiling, PLAIN)
    stored = store.stored()
    box = tuple(data.draw(st.slices(n).filter(lambda s: s.step in (None, 1))) for n in whole.shape)
    assert stored.shape == whole.shape
    np.testing.assert_array_equal(stored[box], whole[box])


def test_a_coarse_output_is_put_together(tmp_path: Path) -> None:
    coarse = (OutputRule("bcyx", {"y": 4, "x": 4}),)
    image = picture(50, 41)
    tiles = tiles_for(image, coarse, FakeBackend(every_fourth))
    store = TileStore(tmp_path, tiles.places(), 0)

    fill(store, tiles)

    (whole,) = predict_tiled(FakeBackend(every_fourth), tiles.inputs, tiles.tiling, coarse)
    everything = tuple(slice(None) for _ in whole.shape)
    np.testing.assert_array_equal(store.stored()[everything], whole)


def test_only_what_is_missing_is_run(tmp_path: Path) -> None:
    backend = FakeBackend(pointwise)
    tiles = tiles_for(picture(40, 40), PLAIN, backend)
    some = TileStore(tmp_path, tiles.places(), 0, only={1, 3})
    rest = TileStore(tmp_path, tiles.places(), 0)

    fill(some, tiles)
    left = len(rest.missing())
    fill(rest, tiles)

    assert left == tiles.tiling.count - 2
    assert len(backend.seen) == tiles.tiling.count
    assert rest.missing() == []


def test_a_half_written_tile_is_missing(tmp_path: Path) -> None:
    tiles = tiles_for(picture(40, 40), PLAIN, FakeBackend(pointwise))
    store = TileStore(tmp_path, tiles.places(), 0)
    (tmp_path / ".writing-1-abc.npy").write_bytes(b"half")

    assert len(store.missing()) == tiles.tiling.count


def test_several_images_are_refused(tmp_path: Path) -> None:
    image = np.concatenate([picture(20, 20)] * 2)
    tiles = tiles_for(image, PLAIN, FakeBackend(pointwise))

    with pytest.raises(ValueError, match="2 images"):
        TileStore(tmp_path, tiles.places(), 0)


def test_tiles_that_are_wanted_are_told_in_order_and_those_there_are_not(tmp_path: Path) -> None:
    tiles = tiles_for(picture(40, 40), PLAIN, FakeBackend(pointwise))
    store = TileStore(tmp_path, tiles.places(), 0, only=(8, 3, 5))
    (tmp_path / "tile-000005.npy").touch()

    assert store.missing_numbers() == [3, 8]
    # 3 x 3 tiles, the last axis fastest
    assert store.missing() == [TileJob(0, (1, 0)), TileJob(0, (2, 2))]


def test_the_files_hold_what_is_kept_of_each_tile_and_nothing_of_its_halo(tmp_path: Path) -> None:
    image = picture(8, 30)
    rules = [AxisRule("y", 8, 8), AxisRule("x", 16, 8, halo=2)]
    tiling = plan_tiles({"y": 8, "x": 30}, rules, side=16)
    tiles = Tiles(FakeBackend(pointwise), [Tensor(image, "bcyx")], tiling, PLAIN)
    store = TileStore(tmp_path, tiles.places(), 0)

    fill(store, tiles)

    files = sorted(tmp_path.iterdir())
    parts = [np.load(file) for file in files]
    assert [file.name for file in files] == [f"tile-{n:06d}.npy" for n in range(len(files))]
    assert [part.shape[3] for part in parts] == np.diff(tiling.axes[1].cuts).tolist()
    np.testing.assert_array_equal(np.concatenate(parts, axis=3), pointwise([image])[0])


def test_a_part_is_read_from_the_files_of_its_tiles_alone(tmp_path: Path) -> None:
    image = picture(40, 40)
    tiles = tiles_for(image, PLAIN, FakeBackend(pointwise))
    store = TileStore(tmp_path, tiles.places(), 0)
    fill(store, tiles)
    stored, cuts = store.stored(), tiles.tiling.axes[0].cuts
    for number in (1, 2, 4, 5, 7, 8):  # all but those along the left edge
        (tmp_path / f"tile-{number:06d}.npy").unlink()

    left = stored[:, :, 3:38, : cuts[1]]

    np.testing.assert_array_equal(left, pointwise([image])[0][:, :, 3:38, : cuts[1]])
    with pytest.raises(FileNotFoundError):
        stored[:, :, 3:38, : cuts[1] + 1]


def test_the_output_of_a_number_is_stored_with_its_own_spacing_and_dtype(tmp_path: Path) -> None:
    def network(inputs: Sequence[AnyArray]) -> list[AnyArray]:
        return [inputs[0], (every_fourth(inputs)[0] * 100).astype(np.uint8)]

    two = (*PLAIN, OutputRule("bcyx", {"y": 4, "x": 4}))
    image = picture(30, 33)
    tiles = tiles_for(image, two, FakeBackend(network))
    store = TileStore(tmp_path, tiles.places(), 1)

    fill(store, tiles)

    stored = store.stored()
    assert stored.shape == (1, 2, 8, 9)
    assert stored.dtype == np.uint8
    wanted = (image[..., ::4, ::4] * 100).astype(np.uint8)
    np.testing.assert_array_equal(stored[:, :, :, :], wanted)


def test_an_output_of_another_shape_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    tiles = tiles_for(picture(40, 40), PLAIN, FakeBackend(every_fourth))

    with pytest.raises(OutputShapeDiffers, match="y=16, x=16"):
        fill(TileStore(tmp_path, tiles.places(), 0), tiles)

    assert list(tmp_path.iterdir()) == []
