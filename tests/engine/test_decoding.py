"""Labels are made where the network computes, with the same bytes; the device is a CPU here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.process.ideal_maps import FAMILIES, apart, cells

from bmz.app.run import run
from bmz.base.arrays import AnyArray, TensorPlace, Transfers
from bmz.base.progress import Event, Note
from bmz.engine.labelling import Decoding
from bmz.engine.request import RunRequest
from bmz.plan.plan import Blocks
from bmz.predict.backend import torch_beside
from bmz.predict.onnx import OnnxBackend
from bmz.process import region_tensors
from bmz.process.recipe import Labelled
from bmz.process.recipes import RECIPES
from bmz.results.images import ImageRun
from bmz.testing.package import description, write_package

torch: Any = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

THERE = ("components", "argmax", "stardist", "flows")
"""Recipes that work on tensors alone."""

BLOCKS = Blocks(side_px=64, overlap_px=24, stack_px=4 * 64**2, least_side_px=32)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let PyTorch work beside the network, as on a GPU."""
    library: ModuleType = torch
    monkeypatch.setattr(OnnxBackend, "tensor_library", lambda _: library)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def maps_of(recipe: str) -> AnyArray:
    family = next(family for family in FAMILIES if family.recipe == recipe)
    ideal = family.maps(apart(cells(0)))
    noise = np.random.default_rng(0).normal(0, 1e-3, ideal.shape)
    return (ideal + noise).astype(np.float32)


def ran(folder: Path, maps: AnyArray, recipe: str, **more: Any) -> ImageRun:
    """Run a network that gives back what it is given, in tiles."""
    image = folder / "a.npy"
    np.save(image, maps)
    described = more.pop("described", description(channels=len(maps)))
    model = write_package(folder / "model", described).parent
    save = more.pop("save", frozenset({"labels", "table"}))
    request = RunRequest(
        str(model), (image,), folder / "out", recipe=recipe, axes="cyx", tile=64,
        save=save, blocks=BLOCKS, **({"memory_gb": 1e3} | more),
    )  # fmt: skip
    heard: list[Event] = []
    summary = run(request, heard.append)
    assert not summary.failed, summary.failed[0].error
    (done,) = summary.done
    (folder / "notes").write_text("\n".join(e.text for e in heard if isinstance(e, Note)))
    return done


def results(done: ImageRun) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for kind, path in done.files.items() if kind != "record")


def made(done: ImageRun) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(done.files["record"].read_text())
    return dict(record["labels_made"])


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the bytes of every tensor that becomes an array or a list, whoever asks for it."""
    sizes: list[int] = []
    for name in ("numpy", "__array__", "tolist"):
        plain = getattr(torch.Tensor, name)

        def noted(tensor: Any, *words: Any, _plain: Any = plain, **more: Any) -> Any:
            sizes.append(tensor.numel() * tensor.element_size())
            return _plain(tensor, *words, **more)

        monkeypatch.setattr(torch.Tensor, name, noted)
    return sizes


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("recipe", THERE)
def test_no_map_is_copied_where_labels_alone_are_asked_for(
    recipe: str, copies: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = maps_of(recipe)
    monkeypatch.setattr("bmz.engine.run_image.judging_of", lambda *_: None)

    done = ran(tmp_path, maps, recipe)

    record, label_bytes = made(done), 4 * maps[0].size
    assert record["left_to_processor"] == record["maps_copied"] == []
    assert record["planes"] == {"cpu": 1}
    # all that was copied came by the one way that counts it, but for a few numbers
    small = 8192
    assert record["copied_bytes"] <= sum(copies) <= record["copied_bytes"] + small
    assert label_bytes <= record["copied_bytes"]
    if recipe != "flows":  # whose flow errors are added up by the processor
        assert record["copied_bytes"] <= label_bytes + small
    assert max(copies) <= label_bytes
    assert done.objects is not None
    assert done.objects > 10


@pytest.mark.usefixtures("gpu")
def test_objects_are_judged_by_the_first_channels_alone(tmp_path: Path) -> None:
    maps = maps_of("stardist")

    record = made(ran(tmp_path, maps, "stardist"))

    assert record["maps_copied"] == ["objects are judged by their first channels"]
    assert record["copied_bytes"] < maps.nbytes / 5


@pytest.mark.parametrize("recipe", [*THERE, "boundary"])
@pytest.mark.parametrize("memory_gb", [1e3, 0.0], ids=["whole", "in parts"])
def test_labels_have_the_same_bytes_wherever_they_are_made(
    recipe: str, memory_gb: float, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    maps = maps_of(recipe)
    (tmp_path / "arrays").mkdir()
    (tmp_path / "tensors").mkdir()

    expected = ran(tmp_path / "arrays", maps, recipe, memory_gb=memory_gb)
    request.getfixturevalue("gpu")
    found = ran(tmp_path / "tensors", maps, recipe, memory_gb=memory_gb)

    assert results(found) == results(expected)
    assert "labels_made" not in json.loads(expected.files["record"].read_text())
    assert made(found)["left_to_processor"] == []
    assert ("in parts" in " ".join(made(found)["maps_copied"])) == (memory_gb == 0)


@pytest.mark.usefixtures("gpu")
def test_of_boundaries_one_map_is_copied_and_the_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = maps_of("boundary")
    monkeypatch.setattr("bmz.engine.run_image.judging_of", lambda *_: None)

    record = made(ran(tmp_path, maps, "boundary"))

    # the boundary, where cells can be, and the seeds: 4, 1 and 4 bytes a pixel
    assert 9 * maps[0].size <= record["copied_bytes"] <= 9 * maps[0].size + 8192
    assert record["left_to_processor"] == record["maps_copied"] == []


def test_every_recipe_that_works_on_tensors_is_asked_for_its_bytes() -> None:
    stated = {name for name, recipe in RECIPES.items() if recipe.on_tensors is not None}

    assert stated == {*THERE, "boundary"}


def with_step(name: str) -> dict[str, Any]:
    described = description(channels=1)
    described["outputs"][0]["postprocessing"] = [{"id": name}]
    return described


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("recipe", "more", "left", "copied"),
    [
        ("distance_watershed", {}, "'distance_watershed' works on arrays", "works on arrays"),
        ("components", {"save": frozenset({"labels", "raw"})}, "", "they are requested as output"),
        ("components", {"scale": 0.5}, "", "they are resized to the image"),
        ("components", {"described": with_step("sigmoid")}, "", "declared steps"),
    ],
    ids=["recipe", "raw", "resized", "step"],
)
def test_what_is_not_done_there_is_told_and_recorded_with_its_reason(
    recipe: str, more: dict[str, Any], left: str, copied: str, tmp_path: Path
) -> None:
    maps = maps_of("components")

    record = made(ran(tmp_path, maps, recipe, **more))

    assert copied in record["maps_copied"][0]
    assert record["copied_bytes"] > 0
    notes = (tmp_path / "notes").read_text()
    if left:
        assert left in record["left_to_processor"][0]
        assert f"the CPU makes the labels: the recipe {left}" in notes
    else:
        assert record["left_to_processor"] == []
        assert "processor" not in notes


@pytest.mark.usefixtures("gpu")
def test_maps_that_the_memory_there_does_not_hold_are_kept_by_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = maps_of("argmax")
    monkeypatch.setattr(TensorPlace, "free_bytes", lambda _: 1000)

    done = ran(tmp_path, maps, "argmax")

    record = made(done)
    assert "does not have enough memory" in record["maps_copied"][0]
    assert "does not have enough memory" in record["left_to_processor"][0]
    assert record["copied_bytes"] >= maps.nbytes
    assert (
        "the CPU makes the labels: cpu does not have enough memory"
        in (tmp_path / "notes").read_text()
    )
    assert done.objects is not None
    assert done.objects > 10


@pytest.mark.usefixtures("gpu")
def test_memory_that_runs_out_on_the_way_leaves_labels_to_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> Labelled:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(region_tensors, "label_components_there", full)

    done = ran(tmp_path, maps_of("components"), "components")

    assert "does not have enough memory" in made(done)["left_to_processor"][0]
    assert done.objects is not None
    assert done.objects > 10


def test_each_reason_is_told_once_and_bytes_are_added_up() -> None:
    told: list[Event] = []
    there = TensorPlace(torch, "cpu", Transfers())
    decoding = Decoding(there, told.append)

    for _ in range(3):
        decoding.note_copied("they are requested as output", 100)
        there.get(torch.zeros(5))

    record = decoding.as_record()
    assert record is not None
    assert record["maps_copied"] == ["they are requested as output"]
    assert record["copied_bytes"] == 3 * (100 + 20)
    assert Decoding().as_record() is None


def test_free_memory_is_also_what_pytorch_holds_and_does_not_use() -> None:
    cuda = SimpleNamespace(
        memory_reserved=lambda _: 60,
        memory_allocated=lambda _: 50,
        mem_get_info=lambda _: (90, 500),
    )
    library: Any = SimpleNamespace(cuda=cuda)

    there = TensorPlace(library, "cuda:0")

    assert there.free_bytes() == 100
    assert there.lacks(50) == ""
    assert "does not have enough memory for them" in there.lacks(51)


def test_pytorch_is_not_looked_for_beside_a_network_on_a_processor() -> None:
    from bmz.predict.backend import CPU, Device

    assert torch_beside(CPU) is None
    # here PyTorch is there, and finds no such device
    assert torch_beside(Device("cuda", 99)) is None
