from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bmz.app.check import check
from bmz.app.fit import Candidate, ChannelAbsent, FitRequest, _Judge, fit, ranked, read_measured
from bmz.app.search import FilterUnknown
from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.base.progress import Event, Note
from bmz.check.finding import Finding
from bmz.check.fit import size_closeness
from bmz.check.fit_case import FitCase
from bmz.check.object_size import ObjectSize
from bmz.cli.main import status_of
from bmz.engine.image_header import check_file_header
from bmz.engine.load import describe, load_model
from bmz.engine.request import RunRequest
from bmz.predict import frameworks
from bmz.report.fit_text import HEADINGS, fit_json, fit_summary
from bmz.results.fit import FitView, ModelFit
from bmz.results.search import Card
from bmz.spec import read as read_module
from bmz.testing.package import description, write_package
from bmz.testing.zoo import SmallZoo, small_zoo
from bmz.zoo.index import Index, IndexEntry
from bmz.zoo.package import Package
from bmz.zoo.settings import ZooSettings


def blobs(*shape: int) -> AnyArray:
    """Give bright discs of 12 px, 30 px apart, on a noisy dark ground, uint8."""
    y, x = np.indices(shape[-2:])
    far = np.hypot(y % 30 - 15, x % 30 - 15)
    discs = np.where(far < 6, 180, 20) + np.random.default_rng(0).normal(0, 4, shape)
    return np.clip(discs, 0, 255).astype(np.uint8)


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallZoo]:
    """A zoo of a 2-D, a 3-D and a tiled model, and one that is no YAML; ONNX runs here."""
    pytest.importorskip("onnx")
    monkeypatch.setattr(frameworks, "find_spec", lambda name: name == "onnxruntime")
    write_package(tmp_path / "zoo" / "flat-cat")
    write_package(tmp_path / "zoo" / "deep-dog", description(space="zyx"))
    write_package(tmp_path / "zoo" / "tiled-cow", description(size=64))
    (tmp_path / "zoo" / "broken-pig").mkdir()
    (tmp_path / "zoo" / "broken-pig" / "rdf.yaml").write_text("a: b: c")
    with small_zoo(tmp_path / "zoo") as served:
        yield served


@pytest.fixture
def settings(zoo: SmallZoo, tmp_path: Path) -> ZooSettings:
    return ZooSettings(tmp_path / "cache", index_url=zoo.index_url)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "a.tif", blobs(256, 256))
    return tmp_path / "a.tif"


def by_id(view: FitView) -> dict[str, ModelFit]:
    return {model.id: model for model in view.models}


def codes(model: ModelFit) -> set[str]:
    return {finding.code for finding in model.findings}


def test_the_flat_model_ranks_above_the_deep_one_and_the_broken_is_last(
    settings: ZooSettings, image: Path
) -> None:
    view = fit(FitRequest(image), settings)

    order = [model.id for model in view.models]
    assert order.index("flat-cat") < order.index("tiled-cow") < order.index("deep-dog")
    assert "starter/nuclei" in order
    assert order[-1] == "broken-pig"
    assert by_id(view)["deep-dog"].reasons[0].code == "axes.missing"
    assert "not YAML" in (by_id(view)["broken-pig"].broken or "")
    assert all(0 <= model.score <= 1 for model in view.models)


def test_what_fit_says_of_a_model_is_what_check_says(
    settings: ZooSettings, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = fit(FitRequest(image), settings)
    monkeypatch.setenv("BMZ_OFFLINE", "0")
    monkeypatch.setenv("BMZ_CACHE_DIR", str(settings.cache))
    monkeypatch.setenv("BMZ_INDEX_URL", settings.index_url)

    for model in view.ranked:
        (checked,) = check(RunRequest(model.id, (image,), Path("unused"))).images
        assert checked.report.findings == model.findings
        assert checked.verdict == model.verdict


def test_channels_that_check_takes_by_name_are_measured_by_name(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    described = description(channels=2)
    for tensor in (*described["inputs"], *described["outputs"]):
        tensor["axes"][1]["channel_names"] = ["membrane", "nuclei"]
    manifest = write_package(tmp_path / "net", described)
    stack = np.stack([blobs(128, 128), np.full((128, 128), 7, np.uint8)])
    metadata = {"axes": "CYX", "Channel": {"Name": ["nuclei", "membrane"]}}
    tifffile.imwrite(tmp_path / "a.tif", stack, ome=True, metadata=metadata)
    settings = ZooSettings(tmp_path / "cache")
    card = Card("net", "", "")
    candidate = Candidate(Package("net", manifest), describe(manifest, settings), card)
    request = FitRequest(tmp_path / "a.tif")

    seen = read_measured(request)
    judge = _Judge(request, seen, settings)

    judged, measured = judge(candidate), judge._measured
    case = check_file_header(candidate.model, request.image, RunRequest("", (), Path()), {}).case

    assert case.channels_taken == (1, 0)
    assert measured(case) == {0: seen.measured[1], 1: seen.measured[0]}
    assert [f.message for f in judged.findings if f.code == "channel.empty"] == [
        "every pixel of channel 1 is 7"
    ]


def test_nothing_but_index_and_manifests_is_fetched_and_the_second_time_nothing(
    settings: ZooSettings, zoo: SmallZoo, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fit(FitRequest(image), settings)
    case = len(zoo.log)
    monkeypatch.delattr(read_module, "read_model")

    second = fit(FitRequest(image), settings)

    assert all("index.json" in path or ".yaml" in path for path in zoo.log)
    assert len(zoo.log) == case
    assert second.models == first.models


def test_measure_fetches_samples_of_the_best_and_compares_them(
    settings: ZooSettings, zoo: SmallZoo, image: Path
) -> None:
    view = fit(FitRequest(image, measure=True, top=4), settings)

    fetched = {path for path in zoo.log if ".npy" in path}
    assert by_id(view)["flat-cat"].sampled
    assert not by_id(view)["deep-dog"].sampled
    assert any("flat-cat" in path for path in fetched)
    assert not any("deep-dog" in path for path in fetched)
    assert not any("weights" in path for path in zoo.log)
    assert not any("output" in path for path in fetched)


def test_a_sample_that_cannot_be_fetched_is_told_and_stops_nothing(
    settings: ZooSettings, zoo: SmallZoo, image: Path
) -> None:
    for tensor in zoo.folder.glob("flat-cat/*.npy"):
        tensor.unlink()
    told: list[Event] = []

    view = fit(FitRequest(image, measure=True), settings, told.append)

    notes = [event.text for event in told if isinstance(event, Note)]
    assert any("flat-cat is not compared" in text for text in notes)
    assert by_id(view)["tiled-cow"].sampled


def test_a_wish_for_a_task_lifts_its_models(settings: ZooSettings, image: Path) -> None:
    plain = by_id(fit(FitRequest(image), settings))
    wished = by_id(fit(FitRequest(image, task="denoising"), settings))

    assert wished["flat-cat"].score < plain["flat-cat"].score
    assert wished["flat-cat"].verdict == plain["flat-cat"].verdict


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"task": "counting"}, FilterUnknown),
        ({"channels": (3,)}, ChannelAbsent),
        ({"axes": "q"}, BmzError),
    ],
)
def test_words_that_suit_nothing_are_wrong_usage(
    words: dict[str, object], error: type[BmzError], image: Path, settings: ZooSettings
) -> None:
    with pytest.raises(error) as caught:
        fit(replace(FitRequest(image), **words), settings)  # type: ignore[arg-type]  # a table

    assert caught.value.exit_status == 2


def test_axes_that_nobody_names_are_asked_for_and_once_named_taken(
    settings: ZooSettings, tmp_path: Path
) -> None:
    np.save(tmp_path / "stack.npy", blobs(20, 64, 64))

    with pytest.raises(BmzError) as caught:
        fit(FitRequest(tmp_path / "stack.npy"), settings)
    view = fit(FitRequest(tmp_path / "stack.npy", axes="zyx"), settings)

    assert caught.value.code == "axes.ambiguous"
    assert "axes.missing" not in codes(by_id(view)["deep-dog"])
    assert "axes.extra" in codes(by_id(view)["flat-cat"])


def test_a_named_channel_is_enough_for_a_model_of_one(
    settings: ZooSettings, tmp_path: Path
) -> None:
    path = tmp_path / "two.tif"
    tifffile.imwrite(path, blobs(2, 64, 64), metadata={"axes": "CYX"}, ome=True)

    unnamed = by_id(fit(FitRequest(path), settings))
    named = by_id(fit(FitRequest(path, channels=(1,)), settings))

    assert "channel.count" in codes(unnamed["flat-cat"])
    assert "channel.count" not in codes(named["flat-cat"])
    assert named["flat-cat"].score > unnamed["flat-cat"].score


def test_the_closer_the_object_size_the_more_it_earns(settings: ZooSettings, image: Path) -> None:
    seen = read_measured(FitRequest(image))
    model = load_model("flat-cat", settings)
    size = ObjectSize(12.0, 0.1, 1.0, "blobs")
    earned = []
    for px in (12.0, 17.0, 24.0, 48.0, 96.0):
        sample = {0: replace(seen.measured[0], size=replace(size, diameter_px=px))}
        ours = {0: replace(seen.measured[0], size=size)}
        earned.append(size_closeness(FitCase(model, seen.info, measured=ours, sample=sample)))

    assert earned[0] == 1.0
    assert earned == sorted(earned, reverse=True)
    assert earned[2] == pytest.approx(0.5)
    assert earned[-1] == 0.0


def test_without_a_fitting_model_the_summary_says_what_holds_the_best_back() -> None:
    missing = Finding("axes.missing", "error", "x", "no axis z", hint="take a 2-D model")
    none = ModelFit("a", "v0", "mismatch", 0.1, (missing,))

    (count, hint) = fit_summary(FitView(Path("a.tif"), (none,), 0.0, stale=False))

    assert count == ("note", "of 1 models 1 do not fit")
    assert hint == ("hint", "the best is held back by: no axis z; take a 2-D model")


def test_equal_scores_stand_in_the_order_of_names() -> None:
    models = [ModelFit(name, "v0", "fits", 0.5) for name in "bca"]

    assert [model.id for model in ranked(models)] == ["a", "b", "c"]


@pytest.fixture
def _as_a_user(settings: ZooSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("BMZ_OFFLINE", "0")
    monkeypatch.setenv("BMZ_CACHE_DIR", str(settings.cache))
    monkeypatch.setenv("BMZ_INDEX_URL", settings.index_url)


@pytest.mark.usefixtures("_as_a_user")
def test_the_command_prints_a_table_that_fits_the_terminal_or_one_document(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(["fit", str(image), "--top", "2"]) == 0
    table = capsys.readouterr()
    assert status_of(["fit", str(image), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)

    lines = table.out.splitlines()
    assert len(lines) == 3
    assert lines[0].split() == " ".join(HEADINGS).split()
    assert max(map(len, lines)) <= 80
    assert "broken-pig" not in table.out
    assert document["schema"] == "bmz.fit/1"
    assert document["models"][-1]["id"] == "broken-pig"
    assert "not YAML" in document["models"][-1]["reasons"][0]
    assert all(len(model["reasons"]) <= 2 for model in document["models"])


@pytest.mark.usefixtures("_as_a_user")
def test_a_warm_run_loads_no_framework_and_no_parser(image: Path) -> None:
    program = (
        "import sys; from bmz.cli.main import status_of; s = status_of(['fit', sys.argv[1]]);"
        "heavy = {'torch', 'onnxruntime', 'tensorflow', 'pydantic', 'bioimageio', 'ruyaml'};"
        "print(s, sorted(heavy & {m.split('.')[0] for m in sys.modules}))"
    )
    command = [sys.executable, "-c", program, str(image)]
    status_of(["fit", str(image)])

    warm = subprocess.run(command, capture_output=True, check=True, text=True)

    assert warm.stdout.splitlines()[-1] == "0 []"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> ZooSettings:
    """A cache in which the descriptions of the real models are kept after the first test."""
    return ZooSettings(tmp_path_factory.mktemp("kept"), offline=True)


@pytest.fixture
def nuclei(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image of nuclei; the 137 real models are the zoo, ONNX and TorchScript run here."""
    manifests = sorted((shared / "zoo" / "models").glob("*/rdf.yaml"))
    entries = tuple(
        IndexEntry(path.parent.name, "v0", f"{number:064}", "", manifest=path)
        for number, path in enumerate(manifests)
        if not path.parent.name.startswith("ex-")
    )
    index = Index(entries, 0.0, stale=False)
    monkeypatch.setattr("bmz.app.fit.load_index", lambda *_, **__: index)
    monkeypatch.setattr(frameworks, "find_spec", lambda name: name in {"onnxruntime", "torch"})
    return shared / "data" / "stardist" / "img2d.tif"


def test_nuclei_bring_flat_fluorescence_models_before_deep_ones_of_electron_microscopy(
    nuclei: Path, kept: ZooSettings
) -> None:
    view = fit(FitRequest(nuclei), kept)

    place = {model.id: number for number, model in enumerate(view.ranked)}
    deep = [m.id for m in view.ranked if "axes.missing" in codes(m)]
    assert len(view.models) == 140
    assert len(view.ranked) == 138
    assert len(deep) > 25
    assert {"affable-shark", "powerful-chipmunk"} <= {m.id for m in view.ranked[:8]}
    assert max(place["affable-shark"], place["fearless-crab"]) < min(place[m] for m in deep)
    assert json.loads(fit_json(view))["of"] == 140


def test_a_named_task_brings_its_models_to_the_front(nuclei: Path, kept: ZooSettings) -> None:
    view = fit(FitRequest(nuclei, task="restoration"), kept)

    assert [model.task for model in view.ranked[:4]] == ["image-restoration"] * 4
    assert view.ranked[0].verdict != "mismatch"
