"""How far a network sees, and what tiles change, for networks whose reach is known."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.plan.geometry import axis_rules, output_rules
from bmz.plan.tiling import AxisRule, HaloTooWide, OutputRule
from bmz.predict.backend import LoadRequest
from bmz.predict.cutting import Tensor
from bmz.predict.onnx import open_onnx
from bmz.predict.reach import NothingToCompare, enlarged, legal_size, measured_reach, run_two_ways
from bmz.process.ops import apply_steps
from bmz.spec.read import read_model
from bmz.testing.backend import FakeBackend, block_mean, every, local_mean, pointwise

OUTPUT = (OutputRule("bcyx"),)


def noise(*shape: int) -> list[Tensor]:
    letters = "bczyx" if len(shape) == 5 else "bcyx"
    return [Tensor(np.random.default_rng(3).random(shape, dtype=np.float32), letters)]


def rules(least: int, step: int, **words: Any) -> tuple[AxisRule, ...]:
    return tuple(AxisRule(axis, least, step, **words) for axis in "yx")


def normalised(inputs: Sequence[AnyArray]) -> list[AnyArray]:
    """See the whole image, as group normalisation does."""
    x = inputs[0]
    return [((x - x.mean()) / x.std()).astype(np.float32)]


def apart(ways: Any) -> float:
    pairs = zip(ways.tiled, ways.whole, strict=True)
    return max(float(np.abs(tiled - whole).max()) for tiled, whole in pairs)


@pytest.mark.parametrize("radius", [0, 1, 7, 20])
def test_the_reach_of_a_local_mean_is_its_radius(radius: int) -> None:
    backend = FakeBackend(local_mean(radius, spatial=2))

    reach = measured_reach(backend, noise(1, 1, 96, 128), rules(16, 8), OUTPUT)

    assert reach.edge_px == radius
    assert reach.pixel_px <= radius
    assert not reach.sees_whole


def test_one_pixel_is_seen_as_far_as_a_whole_half_where_it_weighs_enough() -> None:
    backend = FakeBackend(local_mean(4, spatial=2))

    reach = measured_reach(backend, noise(1, 1, 64, 64), rules(64, 0), OUTPUT)

    assert reach.pixel_px == reach.edge_px == 4
    assert reach.seen_px == 32


def test_a_network_that_normalises_sees_the_whole_image() -> None:
    backend, image = FakeBackend(normalised), noise(1, 1, 64, 64)

    # as much bright as dark: an inverted half alone would leave mean and deviation as they are
    image[0].array[..., :20] *= 3
    reach = measured_reach(backend, image, rules(64, 0), OUTPUT)

    assert reach.sees_whole
    assert reach.edge_px >= reach.seen_px - 1


def test_a_local_network_sees_its_halo_beyond_an_edge() -> None:
    backend = FakeBackend(local_mean(9, spatial=2))

    reach = measured_reach(backend, noise(1, 1, 64, 64), rules(64, 0), OUTPUT)

    assert reach.edge_px == 9
    assert not reach.sees_whole


def test_the_reach_of_a_coarse_output_is_counted_in_pixels_of_the_input() -> None:
    def network(inputs: Sequence[AnyArray]) -> list[AnyArray]:
        return every(2, spatial=2)(local_mean(8, spatial=2)(inputs))

    output = (OutputRule("bcyx", {"y": 2, "x": 2}),)

    reach = measured_reach(FakeBackend(network), noise(1, 1, 64, 64), rules(64, 0, grid=2), output)

    assert reach.edge_px in {7, 8}


def test_a_network_without_padding_is_measured_at_the_place_of_its_output() -> None:
    backend = FakeBackend(local_mean(5, spatial=2, lost=5))
    output = (OutputRule("bcyx", {}, {"y": 5, "x": 5}),)

    reach = measured_reach(backend, noise(1, 1, 74, 74), rules(26, 8, lost=5), output)

    assert reach.edge_px == 5
    assert {shape[0][-1] % 8 for shape in backend.seen} == {2}


def test_what_is_done_with_the_output_decides_what_is_seen() -> None:
    backend = FakeBackend(local_mean(6, spatial=2))

    reach = measured_reach(
        backend, noise(1, 1, 64, 64), rules(64, 0), OUTPUT, lambda arrays: [a * 0 for a in arrays]
    )

    assert (reach.pixel_px, reach.edge_px) == (0, 0)


@pytest.mark.parametrize(("least", "step", "size"), [(16, 8, 96), (64, 0, 64), (64, 16, 64)])
def test_tiles_with_the_halo_of_a_network_change_nothing(least: int, step: int, size: int) -> None:
    backend = FakeBackend(local_mean(6, spatial=2), only=None if step else (least, least))

    ways = run_two_ways(backend, noise(1, 1, size, size), rules(least, step, halo=6), OUTPUT)

    assert all(len(along.starts) >= 2 for along in ways.tiling.axes)
    assert ways.tiled[0].shape == ways.whole[0].shape
    assert min(ways.tiled[0].shape[-2:]) > 16
    assert apart(ways) < 1e-5


@pytest.mark.parametrize(("least", "step", "size"), [(16, 8, 96), (64, 0, 64), (64, 16, 64)])
def test_tiles_with_too_small_a_halo_are_seen(least: int, step: int, size: int) -> None:
    backend = FakeBackend(local_mean(9, spatial=2))

    ways = run_two_ways(backend, noise(1, 1, size, size), rules(least, step, halo=2), OUTPUT)

    assert apart(ways) > 1e-3


@pytest.mark.parametrize("halo", [0, 4, 8, 12, 20])
@pytest.mark.parametrize(("least", "step"), [(16, 8), (32, 16), (64, 0), (7, 1)])
def test_tiles_overlap_by_no_more_than_the_halo_and_the_step_ask_for(
    least: int, step: int, halo: int
) -> None:
    backend = FakeBackend(pointwise)

    ways = run_two_ways(backend, noise(1, 1, 64, 64), rules(least, step, halo=halo), OUTPUT)

    for along in ways.tiling.axes:
        assert len(along.starts) == 2
        assert 2 * halo <= along.overlap < 2 * halo + (step or 16)
        assert along.padding == (0, 0)


def test_a_network_that_pools_is_laid_on_its_own_step() -> None:
    backend = FakeBackend(block_mean(8, spatial=2))

    ways = run_two_ways(backend, noise(1, 1, 64, 64), rules(64, 0, halo=8), OUTPUT)

    assert apart(ways) < 1e-6


def test_a_test_input_that_holds_two_tiles_is_taken_as_it_is_and_a_smaller_one_mirrored() -> None:
    backend = FakeBackend(pointwise)

    large = run_two_ways(backend, noise(1, 1, 96, 96), rules(16, 8, halo=4), OUTPUT)
    small = run_two_ways(backend, noise(1, 1, 64, 64), rules(64, 16, halo=8), OUTPUT)

    assert large.enlarged_to == {}
    assert small.enlarged_to == {"y": 112, "x": 112}


@pytest.mark.parametrize("spacing", [2, Fraction(1, 2)])
def test_outputs_of_another_spacing_are_compared_at_the_same_place(spacing: int | Fraction) -> None:
    def network(inputs: Sequence[AnyArray]) -> list[AnyArray]:
        if spacing == 2:
            return every(2, spatial=2)(inputs)
        return [inputs[0].repeat(2, axis=-1).repeat(2, axis=-2)]

    output = (OutputRule("bcyx", {"y": spacing, "x": spacing}),)
    grid = Fraction(spacing).numerator

    ways = run_two_ways(
        FakeBackend(network), noise(1, 1, 64, 64), rules(64, 0, halo=4, grid=grid), output
    )

    assert ways.tiled[0].size
    assert apart(ways) == 0


def test_valid_convolutions_are_compared_where_neither_way_is_made_up() -> None:
    backend = FakeBackend(local_mean(4, spatial=2, lost=4))
    output = (OutputRule("bcyx", {}, {"y": 4, "x": 4}),)

    for rule in (rules(64, 0, lost=4), rules(24, 8, lost=4)):
        ways = run_two_ways(backend, noise(1, 1, 64, 64), rule, output)
        assert ways.tiled[0].size
        assert apart(ways) < 1e-6


def test_stacks_are_tiled_along_all_three_axes() -> None:
    rule = tuple(AxisRule(axis, 16, 8, halo=3) for axis in "zyx")
    backend = FakeBackend(local_mean(3, spatial=3))

    ways = run_two_ways(backend, noise(1, 1, 32, 48, 48), rule, (OutputRule("bczyx"),))

    assert ways.tiling.count >= 8
    assert apart(ways) < 1e-5


def test_only_the_first_image_of_a_batch_is_looked_at() -> None:
    backend = FakeBackend(pointwise)

    run_two_ways(backend, noise(3, 1, 64, 64), rules(16, 8, halo=4), OUTPUT)

    assert {shapes[0][0] for shapes in backend.seen} == {1}


def test_a_halo_that_leaves_nothing_is_told() -> None:
    with pytest.raises((HaloTooWide, NothingToCompare)):
        run_two_ways(FakeBackend(pointwise), noise(1, 1, 64, 64), rules(64, 0, halo=32), OUTPUT)


def test_what_is_enlarged_goes_on_as_a_mirror() -> None:
    line = Tensor(np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1), "bcyx")

    (grown,) = enlarged([line], {"y": 8})

    assert grown.array.ravel().tolist() == [0, 1, 2, 3, 2, 1, 0, 1]


@pytest.mark.parametrize(
    ("rule", "least", "size"),
    [
        (AxisRule("x", 64, 0), 100, 64),
        (AxisRule("x", 64, 0, lost=4), 100, 56),
        (AxisRule("x", 16, 8), 60, 64),
        (AxisRule("x", 16, 8), 64, 64),
        (AxisRule("x", 16, 8, lost=2), 60, 60),
    ],
)
def test_a_legal_size_needs_no_padding(rule: AxisRule, least: int, size: int) -> None:
    assert legal_size(rule, least) == size


@pytest.mark.parametrize(
    ("name", "pixel_px", "edge_px", "whole"),
    # the packages' own pages: 31 px of nuclei-broad, 70 px of cremi-membrane by any change at all
    [("nuclei-broad", 31, 40, False), ("cremi-membrane", 46, 61, False),
     ("stardist-dsb2018", 128, 128, True)],
)  # fmt: skip
def test_trained_networks_see_as_far_as_their_pages_say(
    shared: Path, name: str, pixel_px: int, edge_px: int, whole: bool
) -> None:
    pytest.importorskip("onnxruntime")
    model = read_model(shared / "models" / name / "bioimageio.yaml")
    weights = model.weights[[w.format for w in model.weights].index("onnx")]
    (tensor,), (output,) = model.inputs, model.outputs
    assert tensor.test is not None
    image, axes = apply_steps(tensor.steps, np.load(tensor.test.path), tensor.letters)

    def finish(found: list[AnyArray]) -> list[AnyArray]:
        return [apply_steps(output.steps, array, output.letters)[0] for array in found]

    with closing(open_onnx(LoadRequest(weights.file.path, (tensor.id,), (output.id,)))) as backend:
        reach = measured_reach(
            backend, [Tensor(image, axes)], axis_rules(model), output_rules(model), finish
        )

    assert reach.sees_whole is whole
    assert reach.pixel_px == pytest.approx(pixel_px, abs=10 if whole else 1)
    assert reach.edge_px == pytest.approx(edge_px, abs=1)
    assert whole or reach.pixel_px <= max(axis.halo for axis in output.axes)
