"""The single checks of ``bmz test``, asked of networks whose faults are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.app.small_models import ONNX, job_of, mapped, model, planned_image, tensor

from bmz.base.arrays import AnyArray
from bmz.base.axes import Step
from bmz.engine import model_trial
from bmz.engine.model_trial import (
    file_checks,
    halo_check,
    label_check,
    manifest_check,
    reproduces,
    seam_check,
)
from bmz.engine.test_tensors import OwnTensors, own_labels
from bmz.predict.cutting import Tensor
from bmz.predict.reach import Reach, TwoWays
from bmz.spec.model import Fixed, ModelSpec, PackagedFile, Tolerance, Weights
from bmz.testing.backend import FakeBackend, Network, block_mean, local_mean, pointwise
from bmz.testing.package import sha256_of


def noise(*shape: int) -> AnyArray:
    return np.random.default_rng(0).random(shape).astype(np.float32)


def own(net: ModelSpec, *inputs: AnyArray, wanted: tuple[AnyArray, ...] = ()) -> OwnTensors:
    taken = {t.id: (array, t.letters) for t, array in zip(net.inputs, inputs, strict=True)}
    return OwnTensors(taken, [Tensor(*pair) for pair in taken.values()], wanted)


def test_remarks_of_the_parser_stand_behind_the_format() -> None:
    plain, remarked = model(), model(remarks=("odd tag", "no cover"))

    assert manifest_check(plain).detail == "format 0.5.4"
    assert manifest_check(remarked).detail == "format 0.5.4; odd tag; no cover"


@pytest.fixture
def packaged(tmp_path: Path) -> ModelSpec:
    """Give a model with two weights entries, of which one has a file beside it, and two tensors."""
    files = {}
    for name in ("a.onnx", "b.pt", "net.py", "in.npy", "out.npy"):
        (tmp_path / name).write_text(name)
        files[name] = PackagedFile(tmp_path / name, sha256_of(tmp_path / name))
    takes, gives = tensor(test=files["in.npy"]), mapped(test=PackagedFile(tmp_path / "out.npy"))
    weights = (
        Weights("onnx", files["a.onnx"]),
        Weights("pytorch_state_dict", files["b.pt"], beside=(files["net.py"],)),
    )
    return model([takes], [gives], tmp_path, weights=weights)


@pytest.mark.parametrize(("local", "count"), [(True, 5), (False, 3)])
def test_all_files_of_a_folder_count_and_of_the_zoo_those_that_are_needed(
    local: bool, count: int, packaged: ModelSpec
) -> None:
    (check,) = file_checks(packaged, packaged.weights[:1], local=local)

    assert check.status == "passed"
    assert check.detail == f"{count} files, 1 of them without a stated sha256"


def test_every_file_that_is_wrong_is_named_once(packaged: ModelSpec) -> None:
    (packaged.folder / "net.py").unlink()
    (packaged.folder / "in.npy").write_text("another")

    (check,) = file_checks(packaged, packaged.weights, local=False)

    assert check.status == "failed"
    assert check.detail.count("the package has no file 'net.py'") == 1
    assert check.detail.count("is not the file described") == 1
    assert "pytorch_state_dict weights (net.py)" in check.detail


SHIFT = Step("scale_linear", {"gain": 1.0, "offset": 0.5})


@pytest.mark.parametrize(
    ("off", "allowed", "status"),
    [(0.0, 0.25, "passed"), (0.2, 0.25, "passed"), (0.3, 0.25, "failed")],
)
def test_outputs_are_compared_after_the_declared_steps_within_the_tolerance(
    off: float, allowed: float, status: str
) -> None:
    gives = mapped("yx", SHIFT)
    tolerance = Tolerance(absolute=allowed, relative=0.0, mismatched_per_million=0)
    net = model([tensor("yx")], [gives], tolerances=(tolerance,))
    image = noise(3, 4)
    wanted = image + np.float32(0.5)
    wanted[1, 2] += np.float32(off)

    check, outputs = reproduces(
        net, ONNX, own(net, image, wanted=(wanted,)), FakeBackend(pointwise)
    )

    assert (check.name, check.status) == ("onnx.reproduces", status)
    assert check.detail.startswith(f"largest difference {off:.3g}")
    assert outputs is not None
    np.testing.assert_array_equal(outputs[0], image + np.float32(0.5))


def test_of_several_outputs_each_is_named_and_one_fault_is_enough() -> None:
    net = model([tensor("yx")], [mapped("yx", id_="near"), mapped("yx", id_="far")])
    image = np.ones((2, 2), np.float32)
    backend = FakeBackend(lambda inputs: [inputs[0], inputs[0] + 1])

    check, _ = reproduces(net, ONNX, own(net, image, wanted=(image, image)), backend)

    assert check.status == "failed"
    near, far = check.detail.split("; ")
    assert near == "near: largest difference 0, 0 of 100 ppm mismatched"
    assert far.startswith("far: largest difference 1 (2 for 1 at y=0 x=0), 1e+06 of 100 ppm")


def test_a_network_that_gives_another_shape_fails_without_outputs() -> None:
    net = model([tensor("yx")], [mapped("yx")])
    tensors = own(net, np.ones((2, 2), np.float32), wanted=(np.ones((2, 3)),))

    check, outputs = reproduces(net, ONNX, tensors, FakeBackend(pointwise))

    assert (check.status, outputs) == ("failed", None)
    assert check.detail == "tensor 'map' has shape (2, 2), wanted (2, 3) [test.shape]"


def with_halo(halo: int) -> ModelSpec:
    return model([tensor()], [mapped(halo=halo)])


@pytest.mark.parametrize(
    ("halo", "radius", "status", "told"),
    [
        (
            0,
            3,
            "passed",
            "none is declared; a pixel has influence 3 px away, an edge 3 px away",
        ),
        (
            4,
            3,
            "passed",
            "declared y 4, x 4 px; a pixel has influence 3 px away, an edge 3 px away",
        ),
        (
            3,
            3,
            "passed",
            "declared y 3, x 3 px; a pixel has influence 3 px away, an edge 3 px away",
        ),
        (
            2,
            3,
            "warning",
            "declared y 2, x 2 px; a pixel has influence 3 px away, an edge 3 px away",
        ),
    ],
)
def test_a_halo_must_be_as_wide_as_a_pixel_is_seen(
    halo: int, radius: int, status: str, told: str
) -> None:
    net = with_halo(halo)
    backend = FakeBackend(local_mean(radius, spatial=2))

    reach, check = halo_check(net, own(net, noise(1, 1, 64, 64)), backend)

    assert (check.name, check.status, check.detail) == ("halo", status, told)
    assert reach is not None
    assert reach.pixel_px == radius


def test_the_narrowest_halo_decides() -> None:
    output = mapped()
    axes = tuple(replace(axis, halo={"y": 2, "x": 4}.get(axis.letter, 0)) for axis in output.axes)
    net = model([tensor()], [replace(output, axes=axes)])

    _, check = halo_check(net, own(net, noise(1, 1, 64, 64)), FakeBackend(local_mean(3, spatial=2)))

    assert check.status == "warning"
    assert check.detail.startswith("declared y 2, x 4 px; ")


def of_whole(inputs: Sequence[AnyArray]) -> list[AnyArray]:
    return [inputs[0] + 100 * inputs[0].mean(dtype=np.float64).astype(np.float32)]


def test_no_halo_is_wide_enough_for_a_network_that_sees_the_whole() -> None:
    net = with_halo(2)

    reach, check = halo_check(net, own(net, noise(1, 1, 64, 64)), FakeBackend(of_whole))

    assert reach is not None
    assert reach.sees_whole
    assert check.status == "skipped"
    assert check.detail.startswith("the network sees the whole input (a pixel has influence ")


def test_an_output_without_the_axes_of_space_has_neither_halo_nor_seams() -> None:
    net = model([tensor()], [mapped(), tensor("bc", id_="class")])
    tensors, backend = own(net, noise(1, 1, 64, 64)), FakeBackend(pointwise)

    reach, halo = halo_check(net, tensors, backend)
    seams = seam_check(net, tensors, backend, reach)

    assert [(one.name, one.status, one.detail) for one in (halo, seams)] == [
        ("halo", "skipped", "an output is not on a grid of the input"),
        ("seams", "skipped", "an output is not on a grid of the input"),
    ]
    assert backend.seen == []


@pytest.mark.parametrize(
    ("network", "halo", "status"),
    [
        (pointwise, 4, "passed"),
        (local_mean(4, spatial=2), 4, "passed"),
        (local_mean(6, spatial=2), 2, "warning"),
        (block_mean(8, spatial=2), 8, "passed"),
        (of_whole, 4, "skipped"),
    ],
    ids=["point", "enough", "narrow", "pool", "whole"],
)
def test_tiles_change_nothing_where_the_halo_is_wide_enough(
    network: Network, halo: int, status: str
) -> None:
    net = with_halo(halo)
    tensors, backend = own(net, noise(1, 1, 64, 64)), FakeBackend(network)
    reach, _ = halo_check(net, tensors, backend)

    check = seam_check(net, tensors, backend, reach)

    assert (check.name, check.status) == ("seams", status)
    assert ("the network sees the whole image" in check.detail) == (status == "skipped")
    assert "4 tiles of y " in check.detail
    if network is pointwise:
        assert check.detail.endswith(": at most 0 of the range apart, 0 ppm by > 1 %")


NEAR = Reach(pixel_px=3, edge_px=3, seen_px=32, sees_whole=False)


def ways(apart: int, differ_by: float, brightest: int) -> Callable[..., TwoWays]:
    """Let the first of 1000 values differ between four tiles and one piece of 0 to `brightest`."""
    whole = np.zeros((1, 1, 20, 50))
    whole[0, 0, 19, 49] = brightest
    tiled = whole + differ_by * (np.arange(1000) < apart).reshape(whole.shape)
    tiling = planned_image(job_of(tile=64), (90, 90)).plan.tiling
    return lambda *_: TwoWays(tiling, [tiled], [whole], {})


@pytest.mark.parametrize(
    ("apart", "differ_by", "brightest", "told"),
    [
        (1, 50, 100, "at most 0.5 of the range apart, 1000 ppm"),
        (2, 50, 100, "at most 0.5 of the range apart, 2000 ppm"),
        (500, 1, 100, "at most 0.01 of the range apart, 0 ppm"),
        (500, 1.1, 100, "at most 0.011 of the range apart, 5e+05 ppm"),
        (500, 0.01, 0, "at most 0.01 of the range apart, 0 ppm"),
        (500, 2, 0, "at most 2 of the range apart, 5e+05 ppm"),
    ],
)
def test_of_a_million_values_a_thousand_may_be_more_than_a_hundredth_of_the_range_apart(
    apart: int, differ_by: float, brightest: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_trial, "run_two_ways", ways(apart, differ_by, brightest))
    net = with_halo(4)

    check = seam_check(net, own(net, noise(1, 1, 64, 64)), FakeBackend(pointwise), NEAR)

    assert check.detail == f"4 tiles of y 56 x x 56: {told} by > 1 %"
    assert check.status == ("warning" if told.endswith((" 2000 ppm", "5e+05 ppm")) else "passed")


@pytest.mark.parametrize(
    ("reach", "status"),
    [
        (replace(NEAR, sees_whole=True), "skipped"),
        (replace(NEAR, edge_px=31), "skipped"),
        (replace(NEAR, edge_px=30), "warning"),
    ],
)
def test_what_tiles_change_is_no_fault_of_a_network_that_sees_to_the_border(
    reach: Reach, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_trial, "run_two_ways", ways(2, 50, 100))
    net = with_halo(4)

    check = seam_check(net, own(net, noise(1, 1, 64, 64)), FakeBackend(pointwise), reach)

    assert check.status == status


def test_one_output_that_tiles_change_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    same, other = ways(0, 50, 100)(), ways(2, 50, 100)()
    both = replace(same, tiled=same.tiled + other.tiled, whole=same.whole + other.whole)
    monkeypatch.setattr(model_trial, "run_two_ways", lambda *_: both)
    net = model([tensor()], [mapped(halo=4), mapped(halo=4, id_="other")])

    check = seam_check(net, own(net, noise(1, 1, 64, 64)), FakeBackend(pointwise), NEAR)

    assert check.status == "warning"
    assert check.detail.endswith("at most 0.5 of the range apart, 2000 ppm by > 1 %")


def of_fixed_size() -> ModelSpec:
    return model([tensor(size=Fixed(32))], [replace(mapped(halo=16), id="map")])


def test_a_halo_that_leaves_nothing_of_a_fixed_size_cannot_be_tried() -> None:
    net = of_fixed_size()
    tensors, backend = own(net, noise(1, 1, 32, 32)), FakeBackend(pointwise, only=(32, 32))
    reach, _ = halo_check(net, tensors, backend)

    check = seam_check(net, tensors, backend, reach)

    assert check.status == "skipped"
    assert "[size.halo]" in check.detail


def squares() -> AnyArray:
    image = np.zeros((2, 1, 32, 32), np.float32)
    image[0, 0, 2:8, 2:8] = image[0, 0, 20:25, 20:25] = 1
    image[1, 0, 2:8, 2:8] = 1
    return image


def test_labels_are_those_of_the_first_image_of_the_test_input() -> None:
    net = model()
    tensors, backend = own(net, squares()), FakeBackend(pointwise)

    recipe, labels = own_labels(net, tensors, backend)
    check = label_check(net, tensors, backend)

    assert (recipe, labels.shape, labels.max()) == ("components", (32, 32), 2)
    assert np.count_nonzero(labels == 2) == 25
    assert (check.status, check.detail) == (
        "passed",
        "recipe components: 2 objects on the test input",
    )


def test_a_model_that_makes_no_labels_is_no_failure_and_one_that_falls_over_is_warned_of() -> None:
    restoring = model(tags=("denoising",))
    net = model()
    tensors = own(net, squares())

    no_labels = label_check(restoring, tensors, FakeBackend(pointwise))
    fell_over = label_check(net, tensors, FakeBackend(pointwise, only=(8, 8)))

    assert no_labels.status == "skipped"
    assert fell_over.status == "warning"
    assert "[predict.network-failed]" in fell_over.detail
