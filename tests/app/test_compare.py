"""Models and settings side by side: the network once, failures as rows, an order with reasons."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bmz.app.compare import CompareRequest, compare
from bmz.base.arrays import AnyArray
from bmz.base.errors import WrongUsage
from bmz.base.progress import Event, Note, Progress
from bmz.engine.judged import JudgedElsewhere
from bmz.engine.kept_outputs import SweepRefused, of_model
from bmz.engine.label_masks import NoTruthFor, write_masks
from bmz.engine.request import RunRequest
from bmz.predict.onnx import OnnxBackend
from bmz.process.judged import Judged, Place, object_of
from bmz.report import compare_text
from bmz.report.comparison_page import comparison_page, kept_of, packed
from bmz.results.compare import Comparison
from bmz.testing.package import description, write_package
from bmz.write.judgements import Judgement, JudgementsUnreadable, keep_judgement

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def spots() -> tuple[AnyArray, AnyArray]:
    image, truth = np.zeros((90, 100), np.float32), np.zeros((90, 100), np.uint16)
    rng = np.random.default_rng(0)
    for number, (row, column) in enumerate(np.ndindex(4, 5), start=1):
        place = np.s_[row * 22 + 3 : row * 22 + 15, column * 20 + 3 : column * 20 + 15]
        image[place] = rng.uniform(0.3, 1)
        truth[place] = number
    return image, truth


@pytest.fixture
def place(tmp_path: Path) -> Path:
    image, truth = spots()
    write_package(tmp_path / "model", description())
    tifffile.imwrite(tmp_path / "a.tif", image, metadata={"axes": "YX"})
    tifffile.imwrite(tmp_path / "a_mask.tif", truth, metadata={"axes": "YX"})
    return tmp_path


def asked(place: Path, **words: Any) -> CompareRequest:
    given: dict[str, Any] = {
        "images": (place / "a.tif",),
        "models": (str(place / "model"),),
        "sweeps": {"threshold": ("0.2", "0.5", "0.9")},
        "truth": place / "a_mask.tif",
        "stability": False,
        "options": RunRequest("", (), Path()),
        "command": "bmz compare",
    }
    return CompareRequest(**{**given, **words})


def test_the_network_runs_once_for_all_settings_of_labels(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    real = OnnxBackend.run

    def counted(self: OnnxBackend, inputs: Any) -> Any:
        runs.append(1)
        return real(self, inputs)

    monkeypatch.setattr(OnnxBackend, "run", counted)

    comparison = compare(asked(place))

    assert len(runs) == 1
    (image,) = comparison.images
    assert [one.settings["threshold"] for one in image.done] == ["0.2", "0.5", "0.9"]
    assert image.done[0].quality.f1 == 1
    assert image.done[0].objects == 20


def test_a_sweep_of_the_scale_runs_the_network_again(place: Path) -> None:
    comparison = compare(asked(place, sweeps={"scale": ("1", "2"), "threshold": ("0.2", "0.9")}))

    (image,) = comparison.images
    assert len(image.done) == 4
    assert image.done[0].command.startswith("bmz run ")
    assert "--scale" in image.done[0].command
    assert "--set threshold=0.2" in image.done[0].command


def test_what_fails_is_a_row_and_not_the_end(place: Path) -> None:
    (place / "bad.tif").write_bytes(b"II*\0no tiff")
    images = (place / "bad.tif", place / "a.tif")
    models = (str(place / "absent"), str(place / "model"))
    told: list[Event] = []

    comparison = compare(
        asked(place, images=images, models=models, truth=None, sweeps={"threshold": ("0.2",)}),
        told.append,
    )

    bad, good = comparison.images
    assert [one.error is None for one in good.results] == [True, False]
    assert all(one.error is not None for one in bad.results)
    assert comparison.exit_status == 1
    progress = [event for event in told if isinstance(event, Progress)]
    assert (progress[-1].done, progress[-1].total) == (4, 4)
    words = "\n".join(text for image in comparison.images for _, text in compare_text.lines(image))
    assert "absent" in words


def test_a_parameter_that_a_recipe_has_not_is_a_row_with_an_error(place: Path) -> None:
    comparison = compare(asked(place, sweeps={"recipe": ("components", "stardist")}))

    (image,) = comparison.images
    assert [one.recipe for one in image.done] == ["components"]
    assert image.results[-1].error is not None


def test_a_model_without_the_parameter_of_a_sweep_is_run_once(place: Path) -> None:
    told: list[Event] = []

    comparison = compare(
        asked(place, sweeps={"nms_threshold": ("0.1", "0.2"), "threshold": ("0.2", "0.9")}),
        told.append,
    )

    assert [one.settings for one in comparison.images[0].done] == [
        {"threshold": "0.2"},
        {"threshold": "0.9"},
    ]
    assert any("nms_threshold" in event.text for event in told if isinstance(event, Note))


def test_without_truth_the_order_has_reasons(place: Path) -> None:
    comparison = compare(asked(place, truth=None, stability=True))

    (image,) = comparison.images
    best, worst = image.done[0].quality, image.done[-1].quality
    assert best.guess >= worst.guess
    assert best.agreement is not None
    assert best.stability is not None
    assert best.stability > 0.9
    assert best.plausible is not None
    assert best.plausible.share > 0.9
    assert best.consensus is not None
    assert best.consensus > 0.9
    assert image.consensus is not None
    assert "is predicted" in compare_text.why_first(image)


def judged(
    folder: Path, verdicts: dict[str, list[int]], *, corner: tuple[int, int] = (0, 0)
) -> Path:
    """Judge true objects, by their numbers; 0 stands for the whole mask."""
    _, truth = spots()
    for verdict, labels in verdicts.items():
        for label in labels:
            place = object_of(truth, label, corner) if label else Place(*corner, truth)
            values = {"label": label, "y_px": 0, "x_px": 0, "area_px": 0} if label else {}
            one = Judgement("a.tif", "m", {}, {}, verdict, place, values)
            file, _ = keep_judgement(folder, one)
    return file


def test_what_was_judged_stands_before_the_guess(place: Path) -> None:
    table = judged(place / "out", {"right": list(range(2, 21)), "wrong": [1]})
    sweeps = {"threshold": ("0.2", "0.7")}

    guessed = compare(asked(place, sweeps=sweeps, truth=None))
    known = compare(asked(place, sweeps=sweeps, truth=None, judgements=table))

    image = known.images[0]
    best, other = image.done
    assert guessed.images[0].done[0].settings == {"threshold": "0.7"}
    assert best.settings == {"threshold": "0.2"}
    assert best.quality.judged == Judged(19, 19, 1, 1)
    assert best.quality.judged_f1 == pytest.approx(38 / 39)
    assert (other.quality.judged_f1 or 0.0) < 0.9
    assert "judged" in compare_text.headings(image)
    assert "it has 19 of 19 judged right and repeats 1 of 1" in compare_text.why_first(image)
    (told,) = json.loads(compare_text.as_json(known))["images"]
    assert told["results"][0]["judged"]["repeated"] == 1


def test_where_nothing_was_judged_right_the_order_stays(place: Path) -> None:
    image, truth = spots()
    bright, dim = (int(truth[image == light][0]) for light in (image.max(), image[truth > 0].min()))
    table = judged(place / "out", {"wrong": [0, bright, dim]})

    plain, known = (compare(asked(place, truth=None, judgements=file)) for file in (None, table))

    (judgement,) = known.images
    assert [r.settings for r in judgement.done] == [r.settings for r in plain.images[0].done]
    by_threshold = {one.settings["threshold"]: one.quality for one in judgement.done}
    assert by_threshold["0.2"].judged == Judged(0, 0, 3, 3)
    assert by_threshold["0.5"].judged == Judged(0, 0, 3, 1)
    assert by_threshold["0.2"].judged_f1 is None


def test_a_later_judgement_of_the_same_object_takes_the_place_of_the_first(place: Path) -> None:
    judged(place / "out", {"wrong": [1]})

    comparison = compare(asked(place, judgements=judged(place / "out", {"right": [1]})))

    assert comparison.images[0].done[0].quality.judged == Judged(1, 1, 0, 0)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: text.replace("a.tif", "b.tif"), "none of its judgements"),
        (lambda text: text.replace("right", "perhaps"), "'perhaps' in line 2"),
        (lambda text: text.replace("12 12: 0", "12 13: 0"), "line 2: the runs"),
        (lambda text: text.replace("3 3 12 12: 0 144", ""), "does not say which pixels"),
        (lambda _: "image,model\n", "it has no judgements"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_before_anything_is_run(
    change: Any, why: str, place: Path
) -> None:
    table = judged(place, {"right": [1]})
    table.write_text(change(table.read_text()))
    told: list[Event] = []

    with pytest.raises(JudgementsUnreadable, match=why):
        compare(asked(place, judgements=table), told.append)

    assert not told


def test_what_was_judged_beyond_the_image_is_refused(place: Path) -> None:
    table = judged(place, {"right": [1]}, corner=(500, 0))

    with pytest.raises(JudgedElsewhere):
        compare(asked(place, judgements=table))


def test_settings_are_put_in_order_over_all_images(place: Path) -> None:
    image, truth = spots()
    tifffile.imwrite(place / "b.tif", image * 0.8, metadata={"axes": "YX"})
    (place / "truth").mkdir()
    for name in "ab":
        tifffile.imwrite(place / f"truth/{name}_mask.tif", truth, metadata={"axes": "YX"})

    comparison = compare(
        asked(place, images=(place / "a.tif", place / "b.tif"), truth=place / "truth")
    )

    first, second, third = comparison.over_images
    assert [s.settings["threshold"] for s in (first, second, third)] == ["0.2", "0.5", "0.9"]
    assert (first.first, second.first, len(third.results)) == (2, 0, 2)
    assert first.means[0] == 1
    assert third.least[1] == place / "b.tif"
    names, lines = compare_text.table_over_images(comparison)
    assert names == ("over all images", "images", "first in", "AP", "least", "in")
    assert lines[0][1:4] == ("2", "2", "1.000")
    told = json.loads(compare_text.as_json(comparison))["over_images"]
    assert [one["first"] for one in told] == [2, 0, 0]
    assert told[0]["guess"] is None


def test_truth_is_found_by_name_in_a_folder(place: Path) -> None:
    (place / "truth").mkdir()
    (place / "a_mask.tif").rename(place / "truth/a_mask.tif")

    comparison = compare(asked(place, truth=place / "truth"))

    assert comparison.images[0].done[0].quality.f1 == 1
    (place / "truth/a_mask.tif").rename(place / "truth/b_mask.tif")
    with pytest.raises(NoTruthFor):
        compare(asked(place, truth=place / "truth"))


def test_a_scale_that_is_no_number_is_refused_before_anything_is_run(place: Path) -> None:
    with pytest.raises(SweepRefused):
        compare(asked(place, sweeps={"scale": ("big",)}))


@pytest.fixture
def comparison(place: Path) -> Comparison:
    return compare(asked(place))


def test_csv_has_a_row_for_each_result(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(compare_text.as_csv(comparison))))

    assert [row["threshold"] for row in rows] == ["0.2", "0.5", "0.9"]
    assert rows[0]["f1"] == "1.0"
    assert rows[0]["rank"] == "1"


def test_json_tells_everything(comparison: Comparison) -> None:
    told = json.loads(compare_text.as_json(comparison))

    assert told["schema"] == "bmz.compare/1"
    (image,) = told["images"]
    assert image["results"][0]["matchings"]["0.5"]["f1"] == 1
    assert image["results"][-1]["errors"][0]["kind"] == "missed"


def test_label_masks_are_written_by_rank(comparison: Comparison, tmp_path: Path) -> None:
    write_masks(comparison, tmp_path / "masks")

    names = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert [name.split(".")[1] for name in names] == ["01", "02", "03"]
    assert tifffile.imread(tmp_path / "masks" / names[0]).max() == 20


def test_the_page_holds_everything_and_asks_for_nothing(comparison: Comparison) -> None:
    text = comparison_page(comparison)

    assert "default-src 'none'" in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
    assert "@DATA@" not in text


def test_of_many_results_all_have_outlines_up_to_a_bound_and_all_a_command(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = tuple(str(number / 20) for number in range(1, 12))
    comparison = compare(asked(place, sweeps={"threshold": values}))
    pages = [comparison_page(comparison)]
    monkeypatch.setattr("bmz.report.comparison_page.MOST_LAYERS", 8)

    pages.append(comparison_page(comparison))

    told = [re.findall(r'id="data">(.*?)</script>', text, re.DOTALL)[0] for text in pages]
    whole, cut = (json.loads(text)["images"][0] for text in told)
    assert [one["masks"] is not None for one in whole["results"]] == [True] * 11
    assert [one["masks"] is not None for one in cut["results"]] == [True] * 8 + [False] * 3
    assert (whole["left_out"], cut["left_out"]) == (0, 3)
    assert len({one["command"] for one in cut["results"]}) == 11
    assert whole["sweep"] == {"threshold": sorted(values, key=float)}


@pytest.mark.parametrize(
    ("layers", "sizes", "budget", "kept"),
    [
        (3, {"y": 300, "x": 400}, 2**26, (3, {}, (300, 400))),
        (60, {"y": 300, "x": 400}, 2**26, (48, {}, (300, 400))),
        (16, {"y": 4096, "x": 4096}, 2**26, (16, {}, (2048, 2048))),
        (32, {"y": 4096, "x": 2048}, 2**26, (32, {}, (2048, 1024))),
        (64, {"y": 4096, "x": 4096}, 2**24, (48, {}, (591, 591))),
        (4, {"z": 3, "y": 100, "x": 100}, 2**26, (4, {"z": (0, 1, 2)}, (100, 100))),
        (1, {"z": 500, "y": 1024, "x": 1024}, 2**24, (1, {"z": 64}, (512, 512))),
        (8, {"z": 500, "y": 512, "x": 512}, 2**24, (8, {"z": 8}, (512, 512))),
        (8, {"t": 40, "z": 40, "y": 64, "x": 64}, 2**26, (8, {"t": 8, "z": 8}, (64, 64))),
        (8, {"t": 4, "z": 40, "y": 64, "x": 64}, 2**26, (8, {"t": 4, "z": 16}, (64, 64))),
        (40, {"y": 4096, "x": 4096}, 2**20, (4, {}, (512, 512))),
    ],
)
def test_what_is_in_the_page_is_bounded(
    layers: int, sizes: dict[str, int], budget: int, kept: tuple[int, dict[str, Any], Any]
) -> None:
    start = {axis: n // 3 for axis, n in sizes.items() if axis in "tz"}

    chosen = kept_of(layers, sizes, start, budget)

    counts = {a: len(at) if isinstance(kept[1][a], int) else at for a, at in chosen.at.items()}
    assert (chosen.layers, counts, chosen.sides) == kept
    assert chosen.layers * len(chosen.planes) * chosen.sides[0] * chosen.sides[1] <= budget
    assert start in chosen.planes


def test_names_cannot_end_the_data_of_the_page(place: Path) -> None:
    odd = place / "<script>alert(1)<.tif"
    (place / "a.tif").rename(odd)

    text = comparison_page(compare(asked(place, images=(odd,))))

    assert "<script>alert" not in text


@pytest.mark.slow
def test_a_page_of_a_large_image_stays_below_five_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    objects = np.kron(rng.random((256, 256)) > 0.7, np.ones((8, 8)))
    image = objects + rng.normal(0, 0.05, objects.shape)
    tifffile.imwrite(tmp_path / "a.tif", image.astype(np.float32), metadata={"axes": "YX"})
    write_package(tmp_path / "model", description())
    sweeps = {"threshold": ("0.3", "0.4", "0.5", "0.6", "0.7"), "min_size": ("20",)}

    text = comparison_page(compare(asked(tmp_path, truth=None, sweeps=sweeps)))

    assert len(text) < 5e6


def test_labels_are_packed_as_differences() -> None:
    import base64
    import zlib

    labels = np.array([[0, 70_000, 70_000], [5, 0, 1]])

    bytes_ = np.frombuffer(zlib.decompress(base64.b64decode(packed(labels))), np.uint8)

    steps = np.ascontiguousarray(bytes_.reshape(4, -1).T).view("<i4").reshape(labels.shape)
    np.testing.assert_array_equal(np.cumsum(steps, axis=1), labels)


def test_a_model_can_have_options_of_its_own(place: Path) -> None:
    model = place / "model"
    words = (str(model), f"{model}:threshold=0.9", f"{model}:scale=0.5:threshold=0.9")

    (image,) = compare(asked(place, models=words, sweeps={}, truth=None)).images

    results = {result.model: result for result in image.results}
    objects = {word: result.objects or 0 for word, result in results.items()}
    assert set(results) == set(words)
    assert objects[words[0]] > objects[words[1]] > 0
    assert "--set threshold=0.9" in results[words[1]].command
    assert "--scale 0.5" in results[words[2]].command
    assert results[words[1]].command.split()[2] == str(model)


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("m", {}),
        ("https://host:8080/m.zip", {"model": "https://host:8080/m.zip"}),
        (r"C:\models\m", {"model": r"C:\models\m"}),
        ("m:channels=1,0", {"model": "m", "channels": (1, 0)}),
        ("m:channels=DAPI:invert=true", {"channels": ("DAPI",), "invert": True}),
        (
            "10.5281/zenodo.1:scale=off:clip=99",
            {"model": "10.5281/zenodo.1", "scale": 1.0, "clip": 99},
        ),
        ("m:recipe=flows:min_size=5", {"recipe": "flows", "settings": {"min_size": "5"}}),
    ],
)
def test_options_of_a_model_are_read(word: str, wanted: dict[str, Any]) -> None:
    request = of_model(word, RunRequest("", (), Path()))

    assert {name: getattr(request, name) for name in wanted} == wanted


@pytest.mark.parametrize("word", ["m:scale=much", "m:invert=perhaps", "m:channels=", "m:clip=3"])
def test_an_option_of_a_model_that_cannot_be_read_is_refused(word: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        of_model(word, RunRequest("", (), Path()))

    assert refused.value.hint
