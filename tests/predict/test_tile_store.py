"""Outputs of tiles on the disk are those of a mosaic in memory, and are never run twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray
from bmz.plan.axis_tiling import OutputRule
from bmz.plan.tiling import AxisRule, plan_tiles
from bmz.predict.cutting import Tensor
from bmz.predict.tile_store import TileStore
from bmz.predict.tiles import Tiles, fill, predict_tiled
from bmz.testing.backend import FakeBackend, pointwise

PLAIN = (OutputRule("bcyx"),)
RULES = [AxisRule("y", least=8, step=8), AxisRule("x", least=8, step=8)]


def picture(height: int, width: int) -> AnyArray:
    return np.random.default_rng(height * width).random((1, 2, height, width), dtype=np.float32)


def every_fourth(inputs: Sequence[AnyArray]) -> list[AnyArray]:
    return [inputs[0][..., ::4, ::4]]


def tiles_for(image: AnyArray, outputs: tuple[OutputRule, ...], backend: FakeBackend) -> Tiles:
    sizes = {"y": image.shape[2], "x": image.shape[3]}
    return Tiles(backend, [Tensor(image, "bcyx")], plan_tiles(sizes, RULES, side=16), outputs)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(5, 60), st.integers(5, 60), st.data())
def test_every_part_is_that_of_the_mosaic(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("store")
    image = picture(height, width)
    tiles = tiles_for(image, PLAIN, FakeBackend(pointwise))
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
