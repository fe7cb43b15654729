"""The workbench of ``bmz open``: parts of images, networks that are kept, masks of any setting."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bmz.app.open import MOST_ATTEMPTS, OpenRequest, Workbench, objects_of
from bmz.app.run import demo_image, run
from bmz.base.arrays import AnyArray
from bmz.base.errors import WrongUsage
from bmz.engine import image_view as viewing
from bmz.engine.attempts import Choice, NoAttempt
from bmz.engine.image_view import ImageView, Plane, Window, halved
from bmz.engine.request import RunRequest
from bmz.process.edits import Edit
from bmz.process.judged import Place, object_of
from bmz.testing.package import description, write_package
from bmz.write.judgements import Judgement, VerdictUnknown, keep_judgement, read_judgements

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
zarr = pytest.importorskip("zarr")

EVERYTHING = Window(0, 0, 10**6, 10**6)


def squares(height: int = 90, width: int = 100) -> AnyArray:
    image = np.zeros((height, width), np.float32)
    for number, (row, column) in enumerate(np.ndindex(height // 22, width // 20), start=1):
        image[row * 22 + 3 : row * 22 + 15, column * 20 + 3 : column * 20 + 15] = (
            0.3 + 0.7 * (number % 7) / 7
        )
    return image


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_package(tmp_path / "model", description())
    tifffile.imwrite(tmp_path / "a.tif", squares(), metadata={"axes": "YX"})
    return tmp_path


@pytest.fixture
def bench(place: Path) -> Iterator[Workbench]:
    with opened(place, "a.tif") as bench:
        yield bench


def opened(place: Path, name: str, **words: object) -> Workbench:
    options = replace(RunRequest("", (), place / "out", device="cpu"), **words)  # type: ignore[arg-type]
    return Workbench(OpenRequest((place / name,), (), options))


def chosen(place: Path, **words: object) -> Choice:
    return replace(Choice(0, str(place / "model")), **words)  # type: ignore[arg-type]


def labels_of_run(request: RunRequest) -> AnyArray:
    run(request)
    return tifffile.imread(request.folder / "a.labels.tif")


@pytest.mark.parametrize("setting", [{}, {"threshold": "0.5"}, {"min_size": "140"}])
def test_a_mask_is_the_one_that_run_writes_with_the_same_settings(
    place: Path, bench: Workbench, setting: dict[str, str]
) -> None:
    attempt = bench.attempt(chosen(place))

    objects = bench.relabel(attempt.number, setting)
    mask, _ = bench.mask(attempt.number, {}, EVERYTHING)

    request = RunRequest(
        str(place / "model"), (place / "a.tif",), place / "run", settings=setting, device="cpu"
    )
    assert np.array_equal(mask, labels_of_run(request))
    assert objects == mask.max()


def test_what_is_saved_is_what_run_writes(place: Path, bench: Workbench) -> None:
    attempt = bench.attempt(chosen(place))

    bench.save(attempt.number, {"threshold": "0.5"})

    written = tifffile.imread(place / "out" / "a.labels.tif")
    request = RunRequest(
        str(place / "model"), (place / "a.tif",), place / "run", settings={"threshold": "0.5"},
        device="cpu",
    )  # fmt: skip
    assert np.array_equal(written, labels_of_run(request))
    assert (place / "out" / "a.run.json").is_file()


def test_the_command_names_every_image_and_setting(place: Path) -> None:
    tifffile.imwrite(place / "b.tif", squares(), metadata={"axes": "YX"})
    images = (place / "a.tif", place / "b.tif")
    request = OpenRequest(images, (), RunRequest("", (), place / "out", device="cpu"))
    with Workbench(request) as bench:
        attempt = bench.attempt(chosen(place, scale=0.5))

        command = bench.command(attempt.number, {"threshold": "0.4"})

    assert command.endswith(f"--scale 0.5 --set threshold=0.4 {place / 'b.tif'}")
    assert f"bmz run {place / 'model'} {place / 'a.tif'} -o " in command


def test_the_network_runs_once_for_many_settings(
    place: Path, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bmz.predict.onnx import OnnxBackend

    attempt = bench.attempt(chosen(place))
    monkeypatch.setattr(OnnxBackend, "run", None)

    counts = [bench.relabel(attempt.number, {"threshold": t}) for t in ("0.2", "0.6", "1")]

    assert counts[0] > counts[1] > counts[2]


def test_a_setting_that_the_recipe_does_not_have_is_refused(place: Path, bench: Workbench) -> None:
    attempt = bench.attempt(chosen(place))

    with pytest.raises(WrongUsage, match="nonsense"):
        bench.relabel(attempt.number, {"nonsense": "1"})


def test_old_attempts_are_let_go(place: Path, bench: Workbench) -> None:
    numbers = [bench.attempt(chosen(place)).number for _ in range(MOST_ATTEMPTS + 1)]

    with pytest.raises(NoAttempt):
        bench.relabel(numbers[0], {})
    assert bench.relabel(numbers[-1], {})


def test_of_a_stack_the_plane_that_is_shown_is_run(place: Path) -> None:
    planes = np.stack([np.zeros((90, 100), np.float32), squares()])
    tifffile.imwrite(place / "z.tif", planes, metadata={"axes": "ZYX"})
    with opened(place, "z.tif") as bench:
        empty = bench.attempt(chosen(place, at={"z": 0}))
        full = bench.attempt(chosen(place, at={"z": 1}))

        low = {"threshold": "0.2"}
        counts = [bench.relabel(one.number, low) for one in (empty, full)]
        mask, _ = bench.mask(full.number, {"z": 1}, EVERYTHING)

    assert counts == [0, 20]
    assert (mask > 0).sum() == 20 * 144


def test_of_a_large_image_the_part_in_view_is_run(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmz.engine.attempts.MOST_PX", 100)
    monkeypatch.setattr("bmz.engine.attempts.REGION_PX", 64)
    with opened(place, "a.tif") as bench:
        attempt = bench.attempt(chosen(place, window=Window(20, 30, 80, 90)))
        bench.relabel(attempt.number, {"threshold": "0.2"})
        mask, window = bench.mask(attempt.number, {}, EVERYTHING)
        table = objects_of(bench.objects(attempt.number), attempt.corner)

    assert (window.top, window.left, *mask.shape) == (18, 28, 64, 64)
    assert np.array_equal(mask > 0, squares()[18:82, 28:92] > 0)
    for label, y, x in zip(
        table["label"], table["centroid_y_px"], table["centroid_x_px"], strict=True
    ):
        assert mask[round(y) - 18, round(x) - 28] == label


def test_a_part_of_a_mask_is_every_so_many_pixels_of_it(place: Path, bench: Workbench) -> None:
    attempt = bench.attempt(chosen(place))
    bench.relabel(attempt.number, {})
    whole, _ = bench.mask(attempt.number, {}, EVERYTHING)

    part, window = bench.mask(attempt.number, {}, Window(21, 9, 70, 64, 4))

    assert (window.top, window.left, window.step) == (20, 8, 4)
    assert np.array_equal(part, whole[20:70:4, 8:64:4])


def viewed(path: Path, stack: ExitStack) -> ImageView:
    return ImageView(path, RunRequest("", (), Path()), stack)


@pytest.mark.parametrize("whole_px", [2**24, 100], ids=["kept whole", "read in bands"])
def test_a_part_of_an_image_is_the_mean_of_so_many_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_px: int
) -> None:
    monkeypatch.setattr(viewing, "WHOLE_PX", whole_px)
    values = np.random.default_rng(0).integers(0, 60000, (2, 64, 48)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, metadata={"axes": "CYX"})
    with ExitStack() as stack:
        view = viewed(tmp_path / "a.tif", stack)
        plain, _ = view.part(Plane(1), Window(8, 16, 40, 32))
        part, window = view.part(Plane(1), Window(9, 17, 40, 32, 4))

    blocks = values[1, 8:40, 16:32].reshape(8, 4, 4, 4).mean((1, 3))
    assert np.array_equal(plain, values[1, 8:40, 16:32])
    assert (window.top, window.left, window.step) == (8, 16, 4)
    assert np.abs(part - blocks).max() <= 1  # each of two halvings is rounded


def test_coarser_arrays_of_an_ome_zarr_are_read_where_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewing, "WHOLE_PX", 100)
    write_pyramid(tmp_path / "a.zarr")
    with ExitStack() as stack:
        view = viewed(tmp_path / "a.zarr", stack)
        parts = [view.part(Plane(), Window(0, 0, 64, 64, step))[0] for step in (1, 2, 4, 8)]

    # each array holds a number of its own
    assert [int(part.mean()) for part in parts] == [10, 20, 40, 40]
    assert [part.shape for part in parts] == [(64, 64), (32, 32), (16, 16), (8, 8)]


def write_pyramid(path: Path) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=2)
    for name, (side, value) in enumerate([(64, 10), (32, 20), (16, 40)]):
        array = group.create_array(str(name), shape=(side, side), dtype="u1", chunks=(16, 16))
        array[:] = value
    scale = [
        {"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": [2.0**k] * 2}]}
        for k in range(3)
    ]
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": scale}]


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint32", "int64", "float16", "float64"])
def test_pixels_of_every_dtype_reach_the_browser(tmp_path: Path, dtype: str) -> None:
    values = (np.arange(12).reshape(3, 4) % 2).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    with ExitStack() as stack:
        view = viewed(tmp_path / "a.npy", stack)
        part, _ = view.part(Plane(), EVERYTHING)
        (channel,) = view.facts()["channels"]

    assert part.dtype.name in ("uint8", "int16", "float32", "float64")
    assert np.array_equal(part, values.astype(float))
    assert channel["low"] < channel["high"]


def test_pixels_that_are_no_numbers_do_not_spoil_the_contrast(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    values[0, :3] = [np.nan, np.inf, -np.inf]
    np.save(tmp_path / "a.npy", values)
    with ExitStack() as stack:
        (channel,) = viewed(tmp_path / "a.npy", stack).facts()["channels"]

    assert 0 <= channel["low"] < channel["high"] <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 4), (8, 8)])
def test_half_of_a_plane_keeps_its_mean_where_sides_are_even(shape: tuple[int, int]) -> None:
    plane = np.random.default_rng(1).random(shape)

    half = halved(plane)

    assert half.shape == tuple(-(-n // 2) for n in shape)
    if all(n % 2 == 0 for n in shape):
        assert np.isclose(half.mean(), plane.mean())


def test_corrections_are_a_layer_of_their_own(place: Path, bench: Workbench) -> None:
    attempt = bench.attempt(chosen(place))
    before = bench.relabel(attempt.number, {})
    mask, _ = bench.mask(attempt.number, {}, EVERYTHING)
    y, x = (int(n) for n in np.argwhere(mask == 1).mean(0))
    delete = Edit("delete", ((y, x),), {})

    after = bench.relabel(attempt.number, {}, [delete])
    bench.save(attempt.number, {}, [delete])

    corrected = tifffile.imread(place / "out/corrected/a.labels.tif")
    shown, _ = bench.mask(attempt.number, {}, EVERYTHING)
    assert after == before - 1
    assert np.array_equal(shown, np.where(mask == 1, 0, mask))
    assert np.array_equal(corrected, shown)
    assert np.array_equal(tifffile.imread(place / "out/a.labels.tif"), mask)
    listed = json.loads((place / "out/corrected/a.edits.json").read_text())
    assert listed == [{"kind": "delete", "points_yx_px": [[y, x]], "at": {}}]
    assert len(bench.objects(attempt.number).table["label"]) == before


def test_judgements_are_kept_row_by_row(tmp_path: Path) -> None:
    labels = np.array([[0, 3, 3], [7, 0, 7]], np.uint8)
    whole = Judgement("a.tif", "m", {"threshold": "0.5"}, {}, "wrong", Place(10, 20, labels), {})
    values = {"label": 7, "y_px": 3.5, "x_px": 9.0, "area_px": 40}
    one = Judgement("a.tif", "m", {}, {"z": 2}, "right", object_of(labels, 7, (10, 20)), values)

    keep_judgement(tmp_path, whole)
    path, rows = keep_judgement(tmp_path, one)

    first, second = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    assert rows == 2
    assert (first["settings"], first["label"], first["verdict"]) == ("threshold=0.5", "", "wrong")
    assert (second["z"], second["label"], second["y_px"], second["verdict"]) == (
        "2", "7", "3.5", "right",
    )  # fmt: skip
    mask, single = read_judgements(path)
    assert (mask.at, mask.values, mask.right, single.at, single.right) == (
        {}, {}, False, {"z": 2}, True,
    )  # fmt: skip
    assert (mask.place.top, mask.place.left, single.place.top, single.place.left) == (
        10, 20, 11, 20,
    )  # fmt: skip
    assert mask.place.labels.tolist() == labels.tolist()
    assert single.place.labels.tolist() == [[1, 0, 1]]
    with pytest.raises(VerdictUnknown):
        keep_judgement(tmp_path, replace(one, verdict="perhaps"))


def test_options_behind_a_model_hold_until_others_are_chosen(place: Path) -> None:
    planes = np.stack([np.zeros((90, 100), np.float32), squares()])
    tifffile.imwrite(place / "c.tif", planes, metadata={"axes": "CYX"})
    word = f"{place / 'model'}:channels=1:threshold=0.5:scale=0.5"
    with opened(place, "c.tif") as bench:
        own = bench.attempt(Choice(0, word))
        other = bench.attempt(Choice(0, word, channels=(0,), scale=1.0))

        counts = [bench.relabel(one.number, {}) for one in (own, other)]

        plans = [one.outputs.work.plan for one in (own, other)]
        assert [plan.channels for plan in plans] == [((1,),), ((0,),)]
        assert [plan.scale for plan in plans] == [0.5, 1.0]
        assert (counts[0] > 0, counts[1]) == (True, 0)
        assert "--channels 1 --scale 0.5" in bench.command(own.number, {})
        assert "--set threshold=0.5" in bench.command(own.number, {})


def test_options_of_the_call_hold_where_a_model_has_none(place: Path) -> None:
    with opened(place, "a.tif", scale=0.5) as bench:
        attempt = bench.attempt(chosen(place))

        assert attempt.outputs.work.plan.scale == 0.5


@pytest.mark.parametrize("option", ["scale=large", "channels=none", "invert=perhaps"])
def test_an_option_that_run_would_not_take_is_refused_before_a_page_opens(
    place: Path, option: str
) -> None:
    request = OpenRequest(
        (place / "a.tif",), (f"starter/nuclei:{option}",), RunRequest("", (), place)
    )

    with pytest.raises(WrongUsage, match=option.split("=", maxsplit=1)[0]):
        Workbench(request)


MOVES = {
    "starter/nuclei": (
        {}, {"prob_threshold": "0.7"}, {"prob_threshold": "0.2"}, {"nms_threshold": "0.1"}, {},
    ),
    "starter/nuclei-flows": (
        {}, {"cellprob_threshold": "2"}, {"cellprob_threshold": "-2", "flow_threshold": "0.1"},
        {"min_size": "90"}, {"niter": "20"}, {},
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 0.8])
@pytest.mark.parametrize("model", MOVES)
def test_after_every_move_of_a_slider_the_mask_is_that_of_run(
    place: Path, model: str, scale: float
) -> None:
    tifffile.imwrite(place / "a.tif", tifffile.imread(demo_image()))
    with opened(place, "a.tif") as bench:
        attempt = bench.attempt(Choice(0, model, scale=scale))
        for number, setting in enumerate(MOVES[model]):
            bench.relabel(attempt.number, setting)
            mask, _ = bench.mask(attempt.number, {}, EVERYTHING)

            request = RunRequest(
                model, (place / "a.tif",), place / f"run{number}", settings=setting, device="cpu",
                scale=scale,
            )  # fmt: skip
            assert np.array_equal(mask, labels_of_run(request)), setting
