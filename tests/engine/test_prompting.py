"""A network with prompts is asked for the objects of an image, tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.process.ideal_maps import cells
from tests.promptable import picture_of, write_promptable

import bmz
from bmz.base.arrays import AnyArray
from bmz.base.axes import Box
from bmz.engine.asking import tiles_of
from bmz.engine.labelling import network_way
from bmz.engine.load import load_model
from bmz.engine.prompting import AT_ONCE, NoPrompts, PromptedNetwork, batches_of
from bmz.image.prompt_files import Prompt
from bmz.plan.plan import tiling_of
from bmz.plan.recipe_choice import choose_recipe
from bmz.predict.backend import CPU, Device
from bmz.predict.torch_network import held_networks, tensors_of, unused_copy
from bmz.process.matching import match_labels
from bmz.spec.model import ModelSpec
from bmz.testing.package import write_package

pytest.importorskip("torch")
pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def promptable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_promptable(tmp_path_factory.mktemp("promptable") / "net")


class Recorder:
    """A backend that keeps what it is given, and answers each point with a mask of one pixel."""

    name, device = "recorder", CPU

    def __init__(self) -> None:
        self.calls: list[list[AnyArray]] = []

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        self.calls.append(list(inputs))
        image, points = inputs[0], inputs[2]
        masks = np.zeros((1, points.shape[1], 1, *image.shape[2:]), np.uint8)
        for number, (x, y) in enumerate(points[0, :, 0]):
            masks[0, number, 0, y, x] = 1
        scores = np.linspace(0, 1, points.shape[1], dtype=np.float32)[None, :, None]
        return [masks, scores, np.full((1, 256, 64, 64), 7, np.float32)]

    def close(self) -> None: ...


def asked(points: AnyArray) -> list[Prompt]:
    return [Prompt(point[None].astype(float)) for point in points]


def whole(tile: AnyArray) -> Box:
    return tuple(slice(0, size) for size in tile.shape[-2:])


def model_of(folder: Path) -> ModelSpec:
    return load_model(str(folder))


def test_a_tile_is_encoded_once_however_many_points_are_asked_for(promptable: Path) -> None:
    backend = Recorder()
    points = np.stack([np.arange(80) % 30, np.arange(80) % 40], axis=1)
    tile = np.zeros((1, 3, 30, 40), np.uint8)

    network = PromptedNetwork(model_of(promptable), backend)
    answers = list(network.masks(tile, asked(points), whole(tile)))

    assert [len(masks) for _, masks, _ in answers] == [AT_ONCE, AT_ONCE, 80 - 2 * AT_ONCE]
    given = [call[5].size for call in backend.calls]
    assert given == [0, 256 * 64 * 64, 256 * 64 * 64]
    assert all(call[1].size == call[4].size == 0 for call in backend.calls)
    at = [np.argwhere(mask)[0].tolist() for _, masks, _ in answers for mask in masks]
    assert at == points.tolist()


@pytest.mark.parametrize(("side", "tile"), [(180, None), (300, 96)])
def test_a_grid_of_points_finds_all_objects_whole_and_in_tiles(
    side: int, tile: int | None, promptable: Path, tmp_path: Path
) -> None:
    truth = cells(4, side, 6)
    image = tmp_path / "a.tif"
    tifffile.imwrite(image, picture_of(truth), photometric="rgb")
    model = bmz.load(promptable, trust=True, tile=tile)

    result = model.run(image, settings={"spacing": 8})

    assert match_labels(np.asarray(result.labels), truth, 0.95).f1 == 1
    assert result.record["recipe"]["name"] == "prompts"


def test_a_model_without_prompts_is_not_asked_for_objects(tmp_path: Path) -> None:
    model = model_of(write_package(tmp_path / "net").parent)
    tile = np.zeros((1, 1, 8, 8))

    with pytest.raises(NoPrompts, match="takes no points"):
        next(PromptedNetwork(model, Recorder()).masks(tile, asked(np.zeros((1, 2))), whole(tile)))


@pytest.mark.parametrize("missing", ["point_prompts", "point_labels"])
def test_a_network_needs_points_and_their_labels_to_be_asked(
    missing: str, promptable: Path
) -> None:
    model = model_of(promptable)
    inputs = tuple(tensor for tensor in model.inputs if tensor.id != missing)

    assert model.prompts is not None
    assert model.prompts.embeddings == "embeddings"
    without = replace(model, inputs=inputs).prompts
    assert without is not None
    assert (without.points, without.labels, without.boxes) == ("", "", "box_prompts")


def test_a_network_that_keeps_its_embeddings_is_asked_with_the_image_alone(
    promptable: Path,
) -> None:
    model = model_of(promptable)
    backend = Recorder()
    outputs = tuple(tensor for tensor in model.outputs if tensor.id != "embeddings")
    closed = replace(model, outputs=outputs)
    backend.run = lambda inputs, run=backend.run: run(inputs)[:2]  # type: ignore[method-assign,misc]

    tile = np.zeros((1, 3, 9, 9), np.uint8)
    network = PromptedNetwork(closed, backend)

    answers = list(network.masks(tile, asked(np.zeros((40, 2))), whole(tile)))

    assert [len(masks) for _, masks, _ in answers] == [AT_ONCE, 40 - AT_ONCE]
    assert [call[5].size for call in backend.calls] == [0, 0]
    assert isinstance(backend.device, Device)


@pytest.mark.parametrize("tile", [None, 96])
def test_a_network_that_takes_the_image_alone_is_known_by_its_axis_of_objects(
    tile: int | None, tmp_path: Path
) -> None:
    truth = cells(4, 180, 6)
    package = write_promptable(tmp_path / "net", alone=True)

    with bmz.load(package, trust="unconfined", tile=tile) as model:
        result = model.run(picture_of(truth), axes="yxc")

    prompts = model.spec.prompts
    assert prompts is not None
    assert (prompts.masks, prompts.scores, prompts.asks) == ("masks", "scores", False)
    assert result.record["recipe"]["name"] == "prompts"
    assert match_labels(np.asarray(result.labels), truth, 0.95).f1 == 1


def test_masks_and_scores_are_told_by_their_axes_and_not_by_their_names(promptable: Path) -> None:
    model = model_of(promptable)
    names = {"masks": "a", "scores": "b", "embeddings": "c"}
    renamed = replace(
        model,
        inputs=model.inputs[:1],
        outputs=tuple(replace(t, id=names[t.id]) for t in model.outputs[::-1]),
    )
    a_map = replace(model.outputs[0], axes=model.inputs[0].axes)

    assert renamed.prompts is not None
    assert (renamed.prompts.masks, renamed.prompts.scores) == ("a", "b")
    assert replace(model, outputs=(a_map, *model.outputs[1:])).prompts is None


@pytest.mark.parametrize("sizes", [(96, 96), (300, 180), (97, 400), (40, 250)])
def test_tiles_are_those_of_the_plan_and_their_own_parts_cover_the_image(
    sizes: tuple[int, int], promptable: Path
) -> None:
    model = model_of(promptable)
    way = network_way(model, choose_recipe(model))
    tiling = tiling_of(model, dict(zip("yx", sizes, strict=True)), way, 96)

    tiles = list(tiles_of(sizes, tiling))

    covered = np.zeros(sizes, int)
    for core, tile in tiles:
        covered[core] += 1
        for axis, own, seen, size in zip("yx", core, tile, sizes, strict=True):
            assert 0 <= seen.start <= own.start < own.stop <= seen.stop <= size
            assert seen.stop - seen.start == min(tiling.tile[axis], size)
    assert len(tiles) == tiling.count
    assert (covered == 1).all()


@settings(max_examples=30, deadline=None)
@given(count=st.integers(0, 70), seed=st.integers(0, 99))
def test_every_prompt_is_answered_once_and_in_batches_of_one_kind(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = [
        Prompt(np.zeros((int(n), 2)), box=np.zeros(4) if box or not n else None)
        for n, box in zip(rng.integers(0, 3, count), rng.integers(0, 2, count), strict=True)
    ]

    batches = list(batches_of(kinds))

    assert sorted(map(id, kinds)) == sorted(id(prompt) for some in batches for prompt in some)
    assert all(len({(len(p.points), p.box is None) for p in some}) == 1 for some in batches)
    assert all(len(some) <= AT_ONCE for some in batches)


def test_networks_that_plain_objects_hold_are_found_and_share_their_tensors_with_a_copy() -> None:
    torch = pytest.importorskip("torch")

    class Held:
        def __init__(self) -> None:
            self.model = torch.nn.Conv2d(1, 1, 1)
            self.owner: object = self

    class Whole(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.own = torch.nn.Conv2d(1, 1, 1)
            self.parts = {"held": [Held()]}
            self.again = self.parts

    network: Any = Whole()
    held = network.parts["held"][0]

    copied: Any = unused_copy(network)
    held.owner = "an image"

    assert held_networks(network) == (held.model,)
    assert len(list(tensors_of(network))) == 4
    assert copied.parts["held"][0] is not held
    assert copied.parts["held"][0].model.weight is held.model.weight
    assert copied.parts["held"][0].owner is copied.parts["held"][0]
