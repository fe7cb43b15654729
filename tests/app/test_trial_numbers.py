"""What is made of one run of a small tile: the tiles that fit, and what the image will take."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from tests.app.small_models import MAP, job_of, mapped, model, planned_image, tensor

from bmz.base.axes import Step
from bmz.engine import memory as trial
from bmz.engine.memory import (
    TrialRun,
    bytes_in_one_piece,
    bytes_in_parts,
    in_parts,
    tile_inputs,
    try_two_tiles,
    why_in_one_piece,
    with_fitting_tiles,
)
from bmz.engine.setup import PlannedImage, RunSetup
from bmz.plan.plan import Blocks
from bmz.predict.backend import CPU, Device, OutOfMemory
from bmz.spec.model import AnySize
from bmz.testing.backend import FakeBackend, pointwise

SEES_ALL = {"bmz": {"receptive_field": {"global_context": True}}}


@dataclass
class Memory:
    """What the fake machine has, and what a run of a network takes of it."""

    free: int = 10**12
    bytes_a_pixel: float | None = 50.0
    most_px: int | None = None
    tried_px: list[int] = field(default_factory=list)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    """Let a run take 3 s and as many bytes as its tiles have pixels, times a number."""
    machine = Memory()

    def try_run(_: object, inputs: list[Any]) -> TrialRun:
        pixels = inputs[0].size
        machine.tried_px.append(pixels)
        if machine.most_px is not None and pixels > machine.most_px:
            raise OutOfMemory(CPU, str(pixels))
        peak = None if machine.bytes_a_pixel is None else int(pixels * machine.bytes_a_pixel)
        return TrialRun(3.0, peak)

    monkeypatch.setattr(trial, "try_run", try_run)
    monkeypatch.setattr(trial, "free_memory", lambda: machine.free)
    monkeypatch.setattr(trial, "held_memory", lambda: 7000)
    monkeypatch.setattr(trial, "available_cpus", lambda: 8)
    return machine


def tried(setup: RunSetup, planned: PlannedImage) -> trial.ProbedPlan:
    return try_two_tiles(setup, planned, FakeBackend(pointwise), parted=False)


@pytest.mark.parametrize(
    ("axes", "shape", "batch", "runs"),
    [
        ("yx", (64, 64), 1, 1),
        ("yx", (170, 170), 1, 9),
        ("yx", (170, 170), 4, 3),
        ("tyx", (5, 170, 170), 4, 15),
        ("tzyx", (2, 3, 64, 64), 2, 6),
    ],
)
@pytest.mark.usefixtures("memory")
def test_the_time_is_that_of_all_runs_of_all_planes(
    axes: str, shape: tuple[int, ...], batch: int, runs: int
) -> None:
    setup = job_of(tile=64, batch=batch)
    planned = planned_image(setup, shape, axes)

    found = tried(setup, planned)

    assert (found.estimate.run_s, found.estimate.network_s) == (3.0, 3.0 * runs)
    assert found.plan == planned.plan
    assert found.estimate.network_bytes == planned.plan.batch * 64 * 64 * 50
    assert (found.estimate.held_bytes, found.estimate.free_bytes) == (7000, 10**12)


@pytest.mark.parametrize(
    ("free", "tile", "count"),
    [
        # ONNX Runtime may take twice of what a small tile took: 100 bytes a pixel, of half of all
        (2 * 100 * 256**2, 256, 1),
        (2 * 100 * 256**2 - 2, 96, 9),
        (0, 16, 31**2),  # halos of 4 px leave 8 px
    ],
)
def test_tiles_become_smaller_until_half_of_the_free_memory_holds_twice_the_run(
    free: int, tile: int, count: int, memory: Memory
) -> None:
    memory.free = free
    setup = job_of()

    found = tried(setup, planned_image(setup, (256, 256)))

    assert found.plan.tiling.tile == {"y": tile, "x": tile}
    assert found.plan.tiling.count == count


@pytest.mark.parametrize(
    ("shape", "batch", "first", "second"),
    [
        ((256, 512), 1, 256 * 512, 256 * 512),
        # two tiles of half the side overlap and do not cover the image: three of 96 and of 176 do
        ((264, 512), 1, 96 * 176, 264 * 512),
        ((256, 512), 2, 96 * 176, 2 * 256 * 512),
    ],
)
def test_the_tile_for_the_memory_has_no_more_than_2_to_the_17_pixels(
    shape: tuple[int, int], batch: int, first: int, second: int, memory: Memory
) -> None:
    setup = job_of(tile=512, batch=batch)

    tried(setup, planned_image(setup, shape))

    assert memory.tried_px == [first, second]


@pytest.mark.parametrize(("bytes_a_pixel", "most_px"), [(None, None), (50.0, 100)])
def test_where_memory_cannot_be_measured_the_tiles_stay(
    bytes_a_pixel: float | None, most_px: int | None, memory: Memory
) -> None:
    memory.bytes_a_pixel, memory.most_px, memory.free = bytes_a_pixel, most_px, 10
    setup = job_of(model(outputs=[MAP], config=SEES_ALL))
    planned = planned_image(setup, (1600, 1600))

    assert with_fitting_tiles(setup, planned, FakeBackend(pointwise)) is planned


@pytest.mark.parametrize(
    ("config", "tile", "size", "free", "side"),
    [
        (SEES_ALL, None, 1600, 10**12, 1600),
        (SEES_ALL, None, 1600, 2 * 100 * 640**2, 328),
        (SEES_ALL, 64, 1600, 10**12, 64),
        (SEES_ALL, None, 640, 10**12, 640),
        ({}, None, 1600, 10**12, 408),  # four of them are as many pixels as three of 544 px
    ],
)
def test_only_a_network_that_sees_the_whole_gets_larger_tiles_and_only_unasked(
    config: dict[str, Any], tile: int | None, size: int, free: int, side: int, memory: Memory
) -> None:
    setup = job_of(model(outputs=[MAP], config=config), tile=tile)
    planned = planned_image(setup, (size, size))
    memory.free = free

    fitting = with_fitting_tiles(setup, planned, FakeBackend(pointwise)).plan

    assert fitting.tiling.tile == {"y": side, "x": side}
    assert tried(setup, planned).plan.tiling == fitting.tiling


@pytest.mark.parametrize(
    ("free", "device", "workers"),
    [
        (10**12, CPU, 8),
        (3 * 203_608, CPU, 3),
        (3 * 203_608 - 1, CPU, 2),
        (1, CPU, 1),
        (10**12, Device("cuda"), 1),
    ],
)
def test_as_many_workers_as_memory_and_processors_hold(
    free: int, device: Device, workers: int, memory: Memory
) -> None:
    setup = job_of(device=device, tile=64)
    # the labels of 64 x 64 px take more than the network: 48 bytes each, and the program itself
    memory.free, memory.bytes_a_pixel = free, 1.0

    assert tried(setup, planned_image(setup, (64, 64))).estimate.workers == workers


def test_without_a_measure_of_memory_there_is_one_worker(memory: Memory) -> None:
    memory.bytes_a_pixel = None
    setup = job_of(tile=64)

    estimate = tried(setup, planned_image(setup, (64, 64))).estimate

    assert (estimate.workers, estimate.network_bytes, estimate.peak_bytes) == (1, None, None)


def test_inputs_of_a_trial_have_the_axes_channels_and_dtypes_of_what_must_be_given() -> None:
    net = model(
        [
            tensor("byxc", channels=3, dtype="uint8"),
            tensor("yx", id_="prompt", optional=True),
            tensor("bcyx", id_="second", channels=2),
        ],
        [MAP],
    )
    setup = job_of(net, tile=32, batch=2)
    plan = planned_image(setup, (5, 90, 100), "cyx").plan

    first, second = tile_inputs(setup, replace(plan, batch=2))

    y, x = plan.tiling.tile["y"], plan.tiling.tile["x"]
    assert (first.shape, second.shape) == ((2, y, x, 3), (2, 2, y, x))
    assert (first.dtype, second.dtype) == (np.dtype(np.uint8), np.dtype(np.float32))
    assert 0 <= second.min() < 0.1
    assert 0.9 < second.max() < 1


@pytest.mark.parametrize(
    ("axes", "shape", "channels", "bytes_a_pixel"),
    [
        # of float32: 4 for each map kept and 8 for its labels, a plane; 8 for each channel taken,
        # 4 for each map of the network, and 24
        ("yx", (10, 20), 1, (4 + 8) + 8 + 4 + 24),
        ("tyx", (3, 10, 20), 1, 3 * (4 + 8) + 8 + 4 + 24),
        ("cyx", (2, 10, 20), 2, (4 * 2 + 8) + 8 * 2 + 4 * 2 + 24),
    ],
)
def test_the_memory_of_an_image_in_one_piece_is_counted_by_pixel(
    axes: str, shape: tuple[int, ...], channels: int, bytes_a_pixel: int
) -> None:
    setup = job_of(
        model([tensor(channels=channels)], [mapped(channels=channels)]), recipe="components"
    )

    assert bytes_in_one_piece(planned_image(setup, shape, axes), setup) == 10 * 20 * bytes_a_pixel


@pytest.mark.parametrize(
    ("recipe", "bytes_on_image"),
    [
        ("components", 8 + 18 * 2),  # the labels, and both channels while they are resized
        ("stardist", 8 + 4 + 24),  # reads channels one by one
        ("affinities", 8),  # makes its labels on the grid of the network
    ],
)
def test_the_maps_that_are_brought_to_the_image_are_counted_on_its_grid(
    recipe: str, bytes_on_image: int
) -> None:
    setup = job_of(model([tensor()], [mapped(channels=2)]), recipe=recipe)
    on_network = 2 * 4 + 8 + 2 * 4 + 24 * (recipe == "affinities")

    needed = bytes_in_one_piece(planned_image(setup, (40, 80), scale=0.25), setup)

    assert needed == 10 * 20 * on_network + 40 * 80 * bytes_on_image


@pytest.mark.parametrize(("scale", "parts"), [(1.0, True), (0.25, True), (0.1, False)])
def test_an_image_that_is_resized_is_run_in_parts_when_its_maps_need_it(
    scale: float, parts: bool
) -> None:
    # of the network's grid alone a quarter of the scale would need a sixteenth
    setup = job_of(model([tensor()], [mapped(channels=8, halo=4)]), recipe="components")
    side = 1000 if scale != 0.1 else 800
    planned = planned_image(setup, (side, side), scale=scale)
    limited = replace(planned.plan, blocks=Blocks(memory_bytes=10**8))

    assert in_parts(replace(planned, plan=limited), setup) == parts


def test_a_block_of_an_image_that_is_resized_is_one_of_its_own_grid() -> None:
    setup = job_of(model([tensor()], [mapped(channels=2)]), recipe="components")

    fine, coarse = (
        bytes_in_parts(planned_image(setup, (9000, 9000), scale=s), setup) for s in (1, 0.1)
    )

    assert fine == coarse


def test_the_memory_of_an_image_in_parts_is_that_of_a_block_with_its_overlap() -> None:
    flat, deep = (
        job_of(),
        job_of(
            model([tensor("bczyx")], [mapped("bczyx", halo=4, channels=2)]), recipe="components"
        ),
    )
    wide = Blocks().side_px + 2 * Blocks().overlap_px

    small = bytes_in_parts(planned_image(flat, (100, 5000)), flat)
    large = bytes_in_parts(planned_image(flat, (9000, 5000)), flat)
    stack = bytes_in_parts(planned_image(deep, (16, 9000, 9000), "zyx"), deep)

    assert wide == 2304
    assert small == 100 * 2304 * (4 + 24 + 8)
    assert large == 2304 * 2304 * (4 + 24 + 8)
    assert stack == 16 * (1024 + 256) ** 2 * (2 * 4 + 24 + 8)


@pytest.mark.parametrize(
    ("words", "scale", "why"),
    [
        ({}, None, ""),
        ({"recipe": "none", "save": frozenset({"raw"})}, None, ""),
        ({"engine": "core"}, None, "bioimageio.core takes whole images"),
        ({"settings": {"min_size": "9"}}, None, ""),
        ({"settings": {"min_size": "9"}}, 0.5, ""),
        ({"settings": {"remove_border": "true"}}, 0.5, ""),
        ({"recipe": "argmax"}, None, ""),
        ({"recipe": "argmax", "settings": {"instances": "false"}}, None, "classes"),
        ({"recipe": "labels"}, None, "recipe 'labels' labels only whole images"),
    ],
    ids=str,
)
def test_an_image_is_run_in_parts_where_labels_of_blocks_are_those_of_the_whole(
    words: dict[str, Any], scale: float | None, why: str
) -> None:
    setup = job_of(**words)

    told = why_in_one_piece(planned_image(setup, (64, 64), scale=scale), setup)

    assert bool(told) == bool(why)
    assert why in told


def test_an_input_that_is_no_image_or_steps_that_make_labels_need_one_piece() -> None:
    flows = Step("cellpose_flow_dynamics", {})
    two = job_of(model([tensor(), tensor(id_="second")], [MAP]))
    number = job_of(model([tensor(), tensor("bc", id_="second")], [MAP]))
    optional = job_of(model([tensor(), tensor(id_="second", optional=True)], [MAP]))
    declared = job_of(model(outputs=[mapped("bcyx", flows, channels=3)]))

    found = [
        why_in_one_piece(planned_image(setup, shape, "cyx"), setup)
        for setup, shape in (
            (two, (2, 64, 64)),
            (number, (2, 64, 64)),
            (optional, (1, 64, 64)),
            (declared, (1, 64, 64)),
        )
    ]

    assert found == [
        "",
        "the model has an input that is not an image",
        "",
        "the declared step cellpose_flow_dynamics makes the labels",
    ]


def test_a_step_whose_statistics_blocks_do_not_give_needs_one_piece() -> None:
    along_x = Step("zero_mean_unit_variance", {"axes": ("x",), "eps": 1e-6})
    setup = job_of(model([tensor(steps=(along_x,))], [MAP]))

    why = why_in_one_piece(planned_image(setup, (64, 64)), setup)

    assert why == (
        "the declared step zero_mean_unit_variance needs statistics that blocks cannot provide"
    )


def test_a_step_with_a_number_for_each_channel_is_tried_with_the_channels_of_the_plan() -> None:
    fixed = Step("scale_linear", {"axis": "c", "gain": (1.0, 2.0), "offset": (0.0, 0.0)})
    measured = Step("zero_mean_unit_variance", {"axes": ("c", "y", "x"), "eps": 1e-6})
    known = tensor("bcyx", fixed, measured)
    free = replace(
        known, axes=tuple(replace(a, size=AnySize()) if a.letter == "c" else a for a in known.axes)
    )
    setup = job_of(model([free], [MAP]))

    assert why_in_one_piece(planned_image(setup, (2, 64, 64), "cyx"), setup) == ""
