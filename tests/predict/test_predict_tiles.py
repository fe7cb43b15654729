"""Tile by tile gives what one tile gives, and says clearly when it cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray
from bmz.base.progress import Event, Note, Progress
from bmz.plan.tiling import AxisRule, OutputRule, Tiling, plan_tiles
from bmz.predict.backend import TensorCountDiffers
from bmz.predict.cutting import Tensor
from bmz.predict.mosaic import NotTileable, OutputShapeDiffers
from bmz.predict.tiles import (
    InputShapeDiffers,
    TileTooLarge,
    predict_tiled,
    run_tiles,
)
from bmz.testing.backend import (
    FakeBackend,
    OverlappingFake,
    block_mean,
    every,
    local_mean,
    pointwise,
    repeated,
)

WHOLE = 10**6
PLAIN = [OutputRule("bcyx")]


def noise(*shape: int, seed: int = 0) -> AnyArray:
    return np.random.default_rng(seed).random(shape, np.float32)


def tiles_of(array: AnyArray, rules: Sequence[AxisRule], side: int) -> Tiling:
    sizes = dict(zip("zyx"[-len(rules) :], array.shape[-len(rules) :], strict=True))
    return plan_tiles(sizes, rules, side=dict.fromkeys(sizes, side))


def rules_for(axes: str, least: int, step: int, **more: int) -> list[AxisRule]:
    return [AxisRule(axis, least, step, **more) for axis in axes]


@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    side=st.integers(24, 64),
    halo=st.integers(0, 5),
    step=st.sampled_from([0, 1, 4, 8]),
    batch=st.integers(1, 5),
)
def test_a_pointwise_network_gives_the_same_in_any_tiles(
    size: tuple[int, int], side: int, halo: int, step: int, batch: int
) -> None:
    first, second = noise(2, 3, *size), noise(2, 3, *size, seed=1)
    tiling = tiles_of(first, rules_for("yx", 16, step, halo=halo), side)
    inputs = [Tensor(first, "bcyx"), Tensor(second, "bcyx")]

    (found,) = predict_tiled(FakeBackend(pointwise, takes=2), inputs, tiling, PLAIN, batch=batch)

    np.testing.assert_array_equal(found, pointwise([first, second])[0])


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 30), st.integers(1, 30)),
    grid=st.sampled_from([1, 2, 3]),
    halo=st.integers(0, 3),
)
def test_a_3d_network_of_a_coarser_grid_gives_the_same_in_any_tiles(
    size: tuple[int, int, int], grid: int, halo: int
) -> None:
    image = noise(1, 1, *size)
    rules = rules_for("zyx", 12, 4, halo=halo, grid=grid)
    output = OutputRule("bczyx", dict.fromkeys("zyx", grid))

    (found,) = predict_tiled(
        FakeBackend(every(grid, spatial=3)),
        [Tensor(image, "bczyx")],
        tiles_of(image, rules, 24),
        [output],
        batch=2,
    )

    np.testing.assert_array_equal(found, image[..., ::grid, ::grid, ::grid])


@given(
    size=st.tuples(st.integers(20, 90), st.integers(20, 90)),
    radius=st.integers(0, 4),
    more=st.integers(0, 3),
    step=st.sampled_from([0, 1, 4, 8]),
)
def test_a_local_network_gives_the_same_in_any_tiles_but_for_the_padded_end(
    size: tuple[int, int], radius: int, more: int, step: int
) -> None:
    image = noise(1, 1, *size)
    network = FakeBackend(local_mean(radius, spatial=2))
    rules = rules_for("yx", 24 if step else 32, step, halo=radius + more)
    tiling = tiles_of(image, rules, 40)
    # the start of the image is the edge of a tile in both; its end only where nothing is padded,
    # or where both pad so much that the edge is out of reach
    one = tiles_of(image, rules_for("yx", 1, 1), WHOLE)

    (tiled,) = predict_tiled(network, [Tensor(image, "bcyx")], tiling, PLAIN)
    (whole,) = predict_tiled(network, [Tensor(image, "bcyx")], one, PLAIN)

    same = tuple(slice(None, n - radius * (a.padding[1] > 0))
                 for n, a in zip(size, tiling.axes, strict=True))  # fmt: skip
    np.testing.assert_allclose(tiled[0, 0][same], whole[0, 0][same], rtol=0, atol=1e-6)


def test_a_halo_below_the_radius_leaves_seams() -> None:
    image = noise(1, 1, 128, 128)
    network = FakeBackend(local_mean(4, spatial=2))
    whole = local_mean(4, spatial=2)([image])[0]

    seams = {
        halo: predict_tiled(
            network,
            [Tensor(image, "bcyx")],
            tiles_of(image, rules_for("yx", 32, 0, halo=halo), 32),
            PLAIN,
        )[0]
        - whole
        for halo in (0, 4)
    }

    assert abs(seams[0]).max() > 0.1
    assert abs(seams[4]).max() < 1e-6


@given(size=st.integers(1, 120))
def test_a_valid_convolution_sees_reflected_pixels_on_both_sides(size: int) -> None:
    image = noise(1, 1, size, size)
    rules = rules_for("yx", 28, 4, lost=6)
    output = OutputRule("bcyx", lost={"y": 6, "x": 6})
    padded = np.pad(image, [(0, 0), (0, 0), (6, 6), (6, 6)], mode="reflect")

    (found,) = predict_tiled(
        FakeBackend(local_mean(6, spatial=2, lost=6)),
        [Tensor(image, "bcyx")],
        tiles_of(image, rules, 48),
        [output],
    )

    wanted = local_mean(6, spatial=2, lost=6)([padded])[0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


@given(size=st.integers(1, 150), side=st.integers(32, 80))
def test_a_pooling_network_gives_the_same_since_tiles_start_at_its_step(
    size: int, side: int
) -> None:
    image = noise(1, 1, size - size % 8 or 8, 16)
    network = FakeBackend(block_mean(8, spatial=2))
    tiling = tiles_of(image, rules_for("yx", 16, 8, halo=3), side)

    (found,) = predict_tiled(network, [Tensor(image, "bcyx")], tiling, PLAIN)

    np.testing.assert_allclose(found, block_mean(8, spatial=2)([image])[0], rtol=0, atol=1e-6)


def test_super_resolution_gives_an_output_larger_than_the_image() -> None:
    image = noise(1, 1, 50, 37)
    output = OutputRule("bcyx", {"y": Fraction(1, 2), "x": Fraction(1, 2)})

    (found,) = predict_tiled(
        FakeBackend(repeated(2, spatial=2)),
        [Tensor(image, "bcyx")],
        tiles_of(image, rules_for("yx", 16, 8, halo=2), 24),
        [output],
    )

    np.testing.assert_array_equal(found, repeated(2, spatial=2)([image])[0])


def test_outputs_of_different_grids_come_from_the_same_tiles() -> None:
    image = noise(1, 2, 45, 70)
    rules = rules_for("yx", 16, 4, halo=1, grid=2)
    network = FakeBackend(lambda inputs: [inputs[0].copy(), *every(2, spatial=2)(inputs)])

    full, half = predict_tiled(
        network,
        [Tensor(image, "bcyx")],
        tiles_of(image, rules, 24),
        [OutputRule("bcyx"), OutputRule("bcyx", {"y": 2, "x": 2})],
    )

    np.testing.assert_array_equal(full, image)
    np.testing.assert_array_equal(half, image[..., ::2, ::2])


def test_axes_may_stand_in_any_order() -> None:
    image = noise(40, 2, 50, 3)  # y, b, x, c
    tiling = plan_tiles({"y": 40, "x": 50}, rules_for("yx", 16, 8), side=24)
    network = FakeBackend(lambda inputs: [inputs[0].transpose(1, 3, 0, 2) * 2])

    (found,) = predict_tiled(network, [Tensor(image, "ybxc")], tiling, PLAIN, batch=3)

    np.testing.assert_array_equal(found, image.transpose(1, 3, 0, 2) * 2)


@pytest.mark.parametrize("size", [10, 32, 33, 100])
def test_a_network_of_a_fixed_size_sees_that_size_alone(size: int) -> None:
    network = FakeBackend(pointwise, only=(32, 32))
    image = noise(1, 1, size, 70)

    (found,) = predict_tiled(
        network,
        [Tensor(image, "bcyx")],
        tiles_of(image, rules_for("yx", 32, 0, halo=4), 512),
        PLAIN,
        batch=2,
    )

    np.testing.assert_array_equal(found, image)


def test_tiles_run_in_batches_and_the_listener_hears_of_each() -> None:
    network, heard = FakeBackend(pointwise), list[Event]()
    image = noise(1, 1, 16, 80)

    predict_tiled(
        network,
        [Tensor(image, "bcyx")],
        tiles_of(image, rules_for("yx", 16, 0), 16),
        PLAIN,
        batch=2,
        listener=heard.append,
    )

    assert [shapes[0][0] for shapes in network.seen] == [2, 2, 1]
    assert heard == [Progress("tiles", done, 5) for done in (2, 4, 5)]


def test_tiles_are_not_stacked_where_a_tensor_has_no_batch_axis() -> None:
    network = FakeBackend(pointwise)
    image = noise(3, 16, 64)
    tiling = plan_tiles({"y": 16, "x": 64}, rules_for("yx", 16, 0))

    (found,) = predict_tiled(network, [Tensor(image, "cyx")], tiling, [OutputRule("cyx")], batch=8)

    assert [shapes[0] for shapes in network.seen] == [(3, 16, 16)] * 4
    np.testing.assert_array_equal(found, image)


def test_the_dtype_of_the_network_is_kept() -> None:
    network = FakeBackend(lambda inputs: [inputs[0] > 0.5])
    image = noise(1, 1, 16, 64)

    (found,) = predict_tiled(
        network, [Tensor(image, "bcyx")], tiles_of(image, rules_for("yx", 16, 0), 16), PLAIN
    )

    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, image > 0.5)


def test_a_smaller_batch_is_tried_when_memory_runs_out() -> None:
    network, heard = FakeBackend(pointwise, most_px=2 * 16 * 16), list[Event]()
    image = noise(1, 1, 16, 96)

    (found,) = predict_tiled(
        network,
        [Tensor(image, "bcyx")],
        tiles_of(image, rules_for("yx", 16, 0), 16),
        PLAIN,
        batch=8,
        listener=heard.append,
    )

    assert [shapes[0][0] for shapes in network.seen] == [6, 3, 1, 1, 1, 1, 1, 1]
    assert heard[0] == Note("6 tiles at once do not fit into memory; continuing with 3")
    np.testing.assert_array_equal(found, image)


def test_a_tile_that_does_not_fit_into_memory_is_named_with_a_smaller_one() -> None:
    image = noise(1, 1, 64, 64)
    tiling = tiles_of(image, rules_for("yx", 16, 16), 64)

    with pytest.raises(TileTooLarge, match="64 x 64 px") as raised:
        predict_tiled(FakeBackend(pointwise, most_px=9), [Tensor(image, "bcyx")], tiling, PLAIN)

    assert raised.value.code == "predict.out-of-memory"
    assert "--tile 32" in raised.value.hint


@given(count=st.integers(1, 9), batch=st.integers(1, 4))
def test_a_backend_that_overlaps_has_two_batches_under_way_and_gives_the_same(
    count: int, batch: int
) -> None:
    image = noise(1, 1, 16, 16 * count)
    tiling = tiles_of(image, rules_for("yx", 16, 0), 16)
    network = OverlappingFake(pointwise)

    (found,) = predict_tiled(network, [Tensor(image, "bcyx")], tiling, PLAIN, batch=batch)

    np.testing.assert_array_equal(found, image)
    assert (network.open, network.most_open) == (0, min(2, -(-count // batch)))


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize(("held", "batch"), [(8, 7), (3, 3), (2, 1), (1, 1)])
def test_the_batch_that_memory_held_is_told_and_no_tile_is_lost(
    held: int, batch: int, *, overlapping: bool
) -> None:
    image = noise(1, 1, 16, 16 * 13)
    tiling = tiles_of(image, rules_for("yx", 16, 0), 16)
    kind = OverlappingFake if overlapping else FakeBackend
    network = kind(pointwise, most_px=held * 256)

    found = run_tiles(network, [Tensor(image, "bcyx")], tiling, PLAIN, batch=7)

    np.testing.assert_array_equal(found.arrays[0], image)
    assert found.batch == batch


WRONG: dict[str, Callable[[AnyArray], AnyArray]] = {
    "half-size": lambda x: x[:, :, ::2, ::2],
    "rank-3": lambda x: x[:, 0],
    "a-row-less": lambda x: x[:, :, :-1],
    "an-image-more": lambda x: np.concatenate([x, x]),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_an_output_of_another_shape_than_promised_is_refused(
    wrong: Callable[[AnyArray], AnyArray],
) -> None:
    image = noise(1, 1, 32, 32)
    network = FakeBackend(lambda inputs: [wrong(inputs[0])])
    tiling = tiles_of(image, rules_for("yx", 32, 0), 32)

    with pytest.raises(OutputShapeDiffers, match="y=32, x=32") as raised:
        predict_tiled(network, [Tensor(image, "bcyx")], tiling, PLAIN)

    assert raised.value.code == "predict.output-shape"


def test_channels_that_change_from_tile_to_tile_are_refused() -> None:
    image = noise(1, 1, 16, 64)
    network = FakeBackend(lambda inputs: [inputs[0].repeat(len(network.seen), 1)])

    with pytest.raises(OutputShapeDiffers, match="c=1"):
        predict_tiled(
            network,
            [Tensor(image, "bcyx")],
            tiles_of(image, rules_for("yx", 16, 0), 16),
            PLAIN,
        )


def test_one_answer_for_the_whole_image_needs_a_single_tile() -> None:
    network = FakeBackend(lambda inputs: [inputs[0].mean((2, 3))])
    image = noise(2, 3, 32, 32)
    rules, output = rules_for("yx", 32, 0), [OutputRule("bc")]

    (found,) = predict_tiled(
        network, [Tensor(image, "bcyx")], tiles_of(image, rules, 32), output, batch=2
    )

    np.testing.assert_allclose(found, image.mean((2, 3)), rtol=1e-6)
    wide = noise(1, 1, 32, 40)
    with pytest.raises(NotTileable, match="2 tiles of 32 px") as raised:
        predict_tiled(network, [Tensor(wide, "bcyx")], tiles_of(wide, rules, 32), output)
    assert raised.value.code == "predict.not-tileable"


def test_inputs_of_different_sizes_are_refused() -> None:
    image, other = noise(1, 1, 32, 32), noise(1, 1, 16, 32)
    tiling = tiles_of(image, rules_for("yx", 32, 0), 32)
    inputs = [Tensor(image, "bcyx"), Tensor(other, "bcyx")]

    with pytest.raises(InputShapeDiffers, match="wanted y=32") as raised:
        predict_tiled(FakeBackend(pointwise, takes=2), inputs, tiling, PLAIN)

    assert raised.value.code == "predict.input-shape"


def test_several_images_for_an_output_without_batch_axis_are_refused() -> None:
    image = noise(2, 1, 32, 32)
    tiling = tiles_of(image, rules_for("yx", 32, 0), 32)

    with pytest.raises(InputShapeDiffers, match="wanted b=1"):
        predict_tiled(FakeBackend(pointwise), [Tensor(image, "bcyx")], tiling, [OutputRule("cyx")])


def test_another_number_of_outputs_than_promised_is_refused() -> None:
    image = noise(1, 1, 32, 32)
    tiling = tiles_of(image, rules_for("yx", 32, 0), 32)

    with pytest.raises(TensorCountDiffers, match="1 outputs, but its description names 2"):
        predict_tiled(FakeBackend(pointwise), [Tensor(image, "bcyx")], tiling, PLAIN * 2)
