from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import bmz
from bmz.app.check import check
from bmz.app.fit import fit
from bmz.app.search.query import FilterUnknown
from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.base.progress import Event, Note
from bmz.check.finding import Finding
from bmz.check.fit_case import FitCase
from bmz.check.fit_score import Content, size_closeness
from bmz.check.kind import ImageKind
from bmz.check.measured import PlaneMeasures, image_measures
from bmz.check.object_size import ObjectSize
from bmz.cli.main import status_of
from bmz.engine import fit_candidates, fit_image, fit_judge
from bmz.engine.fit_image import ChannelAbsent, FitRequest, read_measured
from bmz.engine.fit_judge import ranked
from bmz.engine.load import load_model
from bmz.engine.request import RunRequest
from bmz.image.pixels import Pixels
from bmz.predict import frameworks
from bmz.report.zoo_text import FIT_HEADINGS, fit_json, fit_summary, run_line, run_lines
from bmz.results.fit import AboutModel, ImageFit, ModelFit, Ranking, SeenImage
from bmz.spec import read as read_module
from bmz.spec.facts import Fact, Facts
from bmz.spec.made_for import MadeFor, stated_kind
from bmz.testing.package import SmallZoo, description, small_zoo, write_package
from bmz.zoo.index import Index, IndexEntry
from bmz.zoo.settings import ZooSettings


def blobs(*shape: int) -> AnyArray:
    """Give bright discs of 12 px, 30 px apart, on a noisy dark ground, uint8."""
    y, x = np.indices(shape[-2:])
    far = np.hypot(y % 30 - 15, x % 30 - 15)
    discs = np.where(far < 6, 180, 20) + np.random.default_rng(0).normal(0, 4, shape)
    return np.clip(discs, 0, 255).astype(np.uint8)


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallZoo]:
    """A zoo of a 2-D, a 3-D and a tiled model, and one that is not YAML; ONNX runs here."""
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


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give what makes up the kinds of all channels of every image."""

    def made_up(*kinds: ImageKind) -> None:
        def measures(pixels: Pixels, channels: Sequence[int]) -> dict[int, PlaneMeasures]:
            found = image_measures(pixels, channels)
            return {n: replace(one, kind=kinds[n]) for n, one in found.items()}

        monkeypatch.setattr(fit_image, "image_measures", measures)

    return made_up


def kind(family: str, structure: str, share: float = 0.9) -> ImageKind:
    return ImageKind({family: share}, {structure: share})


NUCLEI, MEMBRANES = kind("fluorescence", "nuclei"), kind("fluorescence", "membranes")
MITOCHONDRIA, PHOTOGRAPH = kind("electron", "mitochondria"), kind("not-microscopy", "other")


def by_id(view: Ranking) -> dict[str, ModelFit]:
    return {model.id: model for model in view.models}


def findings_of(model: ModelFit) -> tuple[Finding, ...]:
    return model.images[0].findings


def codes(model: ModelFit) -> set[str]:
    return {finding.code for finding in findings_of(model)}


def request(*images: Path, **words: Any) -> FitRequest:
    return FitRequest(images, **words)


def test_the_flat_model_ranks_above_the_deep_one_and_the_broken_is_last(
    settings: ZooSettings, image: Path
) -> None:
    view = fit(request(image), settings)

    order = [model.id for model in view.models]
    assert order.index("flat-cat") < order.index("deep-dog")
    assert order.index("tiled-cow") < order.index("deep-dog")
    assert "starter/nuclei" in order
    assert order[-1] == "broken-pig"
    assert by_id(view)["deep-dog"].images[0].reasons[0].code == "axes.missing"
    assert "not YAML" in (by_id(view)["broken-pig"].broken or "")
    assert all(0 <= model.score <= 1 for model in view.models)


def test_what_fit_says_of_a_model_is_what_check_says_with_its_channels_and_scale(
    settings: ZooSettings, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = fit(request(image), settings)
    monkeypatch.setenv("BMZ_OFFLINE", "0")
    monkeypatch.setenv("BMZ_CACHE_DIR", str(settings.cache))
    monkeypatch.setenv("BMZ_INDEX_URL", settings.index_url)

    for model in view.ranked:
        (judged,) = model.images
        asked = RunRequest(
            model.id,
            (image,),
            Path("unused"),
            channels=judged.channels if judged.named else None,
            scale=judged.scale if judged.resized else None,
        )
        (checked,) = check(asked).images
        of_fit = {*findings_of(model), *model.about.needs}
        assert {f.code for f in checked.report.findings} == {f.code for f in of_fit}


def test_what_a_model_needs_to_run_here_neither_lowers_its_verdict_nor_its_place(
    settings: ZooSettings, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = fit(request(image), settings)
    monkeypatch.setattr(frameworks, "find_spec", lambda _: None)
    nowhere = fit(request(image), settings)

    assert [model.id for model in here.models] == [model.id for model in nowhere.models]
    model = by_id(nowhere)["flat-cat"]
    assert [need.code for need in model.about.needs] == ["weights.no-backend"]
    assert model.verdict == by_id(here)["flat-cat"].verdict
    assert model.score == by_id(here)["flat-cat"].score
    assert by_id(here)["flat-cat"].about.needs == ()


def test_several_images_give_one_ranking_that_names_the_worst(
    settings: ZooSettings, image: Path, tmp_path: Path, seen: Callable[..., None]
) -> None:
    seen(NUCLEI)
    flat = tmp_path / "flat.tif"
    tifffile.imwrite(flat, np.full((256, 256), 7, np.uint8))

    view = fit(request(image, flat), settings)
    alone = by_id(fit(request(image), settings))["flat-cat"]

    model = by_id(view)["flat-cat"]
    assert [one.image for one in model.images] == [str(image), str(flat)]
    assert model.images[0] == alone.images[0]
    assert model.worst is not None
    assert model.worst.image == str(flat)
    assert model.score == model.worst.score < alone.score
    document = json.loads(fit_json(view))
    assert [seen["image"] for seen in document["images"]] == [str(image), str(flat)]
    assert {m["image"] for m in document["models"] if m["id"] == "flat-cat"} == {str(flat)}


@pytest.mark.usefixtures("zoo")
def test_test_artefacts_and_models_of_predictions_are_left_out_unless_asked_for(
    image: Path, tmp_path: Path
) -> None:
    write_package(tmp_path / "more" / "ex-net")
    described = description()
    described["config"] = {"bmz": {"made_for": {"modality": ["prediction"]}}}
    write_package(tmp_path / "more" / "second-stage", described)
    with small_zoo(tmp_path / "more") as served:
        settings = ZooSettings(tmp_path / "cache", index_url=served.index_url)
        plain = fit(request(image), settings)
        everything = fit(request(image, everything=True), settings)

    out = {"ex-net", "second-stage"}
    assert out == plain.left_out.keys()
    assert not out & by_id(plain).keys()
    assert out <= by_id(everything).keys()
    assert everything.left_out == {}
    assert "2 models are left out" in " ".join(text for _, text in fit_summary(plain))


def test_a_model_of_ones_own_is_ranked_beside_those_of_the_zoo(
    settings: ZooSettings, image: Path, tmp_path: Path
) -> None:
    folder = write_package(tmp_path / "mine").parent

    view = fit(request(image, models=(str(folder),)), settings)

    assert by_id(view)[str(folder)].verdict == by_id(view)["flat-cat"].verdict


def test_all_packages_of_a_folder_are_ranked_and_one_that_cannot_be_read_is_named(
    settings: ZooSettings, image: Path, tmp_path: Path
) -> None:
    good = [write_package(tmp_path / "mine" / name).parent for name in ("one", "two")]
    bad = tmp_path / "mine" / "three"
    bad.mkdir()
    (bad / "rdf.yaml").write_text("[")

    named = by_id(fit(request(image, models=(str(tmp_path / "mine"),)), settings))
    always = by_id(fit(request(image), replace(settings, models=(str(tmp_path / "mine"),))))

    for view in (named, always):
        assert {view[str(folder)].status for folder in good} == {"ok"}
        assert view[str(bad)].status == "broken"


@pytest.mark.usefixtures("zoo")
def test_a_model_that_only_restores_stands_below_all_others_and_that_is_said(
    image: Path, tmp_path: Path
) -> None:
    described = description()
    described["tags"] = ["image-restoration"]
    write_package(tmp_path / "more" / "clear-ant", described)
    write_package(tmp_path / "more" / "deep-dog", description(space="zyx"))
    with small_zoo(tmp_path / "more") as served:
        settings = ZooSettings(tmp_path / "cache", index_url=served.index_url)
        plain = fit(request(image), settings)
        wished = fit(request(image, task="restoration"), settings)

    assert [model.id for model in plain.ranked][-1] == "clear-ant"
    assert wished.ranked[0].id == "clear-ant"
    assert any("1 make no label mask and are ranked last" in text for _, text in fit_summary(plain))


def test_an_image_of_another_kind_fits_no_model_and_that_is_said(
    settings: ZooSettings, image: Path, seen: Callable[..., None]
) -> None:
    seen(PHOTOGRAPH)

    view = fit(request(image), settings)

    assert not view.any_fits
    assert all(model.verdict == "mismatch" for model in view.ranked)
    assert json.loads(fit_json(view))["none_made_for_this"] is True
    assert ("note", "no model in the zoo is made for this") in fit_summary(view)


def test_of_packages_manifests_alone_are_fetched_and_the_second_time_nothing(
    settings: ZooSettings, zoo: SmallZoo, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fit(request(image), settings)
    case = len(zoo.log)
    monkeypatch.delattr(read_module, "read_model")

    second = fit(request(image), settings)

    files = [path for path in zoo.log if "/files/" in path and not path.endswith("/files/")]
    assert all("rdf.yaml" in path or "bioimageio.yaml" in path for path in files), zoo.log
    assert len(zoo.log) == case
    assert second.models == first.models


def test_how_much_is_to_be_fetched_is_told_of_the_first_and_asked_for_once(
    settings: ZooSettings, zoo: SmallZoo, image: Path
) -> None:
    weights = zoo.folder / "flat-cat" / "weights.onnx"

    first = by_id(fit(request(image), settings))["flat-cat"]
    asked = len(zoo.log)
    second = by_id(fit(request(image), settings))["flat-cat"]

    assert first.about.download_bytes == second.about.download_bytes == weights.stat().st_size
    assert len(zoo.log) == asked
    assert by_id(fit(request(image), settings))["starter/nuclei"].about.download_bytes == 0


def test_measure_fetches_samples_of_the_best_and_compares_them(
    settings: ZooSettings, zoo: SmallZoo, image: Path
) -> None:
    view = fit(request(image, measure=True, top=4), settings)

    fetched = {path for path in zoo.log if ".npy" in path}
    assert by_id(view)["flat-cat"].about.sampled
    assert not by_id(view)["deep-dog"].about.sampled
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

    view = fit(request(image, measure=True), settings, told.append)

    notes = [event.text for event in told if isinstance(event, Note)]
    assert any("flat-cat was not compared" in text for text in notes)
    assert by_id(view)["tiled-cow"].about.sampled


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
        fit(request(image, **words), settings)

    assert caught.value.exit_status == 2


def test_axes_that_nobody_names_are_asked_for_and_once_named_taken(
    settings: ZooSettings, tmp_path: Path
) -> None:
    np.save(tmp_path / "stack.npy", blobs(20, 64, 64))

    with pytest.raises(BmzError) as caught:
        fit(request(tmp_path / "stack.npy"), settings)
    view = fit(request(tmp_path / "stack.npy", axes="zyx"), settings)

    assert caught.value.code == "axes.ambiguous"
    assert "axes.missing" not in codes(by_id(view)["deep-dog"])
    assert by_id(view)["deep-dog"].images[0].axes is None


def stack_of(path: Path, fullest: int) -> Path:
    """Write a stack of blobs of which one plane has most contrast."""
    stack = blobs(6, 96, 96).astype(np.float32)
    stack *= np.where(np.arange(6) == fullest, 1.0, 0.4)[:, None, None]
    tifffile.imwrite(path, stack.astype(np.uint8), imagej=True, metadata={"axes": "ZYX"})
    return path


@pytest.mark.parametrize("kind", ["phase", "fluorescence"])
def test_of_a_stack_a_model_without_z_is_given_a_plane_or_of_fluorescence_the_projection(
    kind: str, settings: ZooSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, stated = stack_of(tmp_path / "a.tif", 4), stated_kind(kind)
    better = {"z=4": 0.5, "z=max": 0.9}
    monkeypatch.setattr(
        fit_judge, "_content", lambda _, image, __: better[image.axes] if image.axes else 0.0
    )

    model = by_id(fit(request(path, kind=stated), settings))["flat-cat"]

    word = "z=max" if kind == "fluorescence" else "z=4"
    assert model.images[0].axes == word
    assert "axes.extra" not in codes(model)
    assert f"--axes {word}" in run_line(model, {})


def test_stacks_of_which_no_one_plane_suits_all_are_run_plane_by_plane(
    settings: ZooSettings, tmp_path: Path
) -> None:
    paths = (stack_of(tmp_path / "a.tif", 4), stack_of(tmp_path / "b.tif", 2))
    asked = replace(request(paths[0], kind=stated_kind("phase")), images=paths)

    model = by_id(fit(asked, settings))["flat-cat"]

    assert [one.axes for one in model.images] == [None, None]
    assert "axes.extra" in codes(model)


def test_the_channel_that_shows_what_a_model_is_made_for_is_named(
    settings: ZooSettings, tmp_path: Path, seen: Callable[..., None]
) -> None:
    seen(MEMBRANES, NUCLEI)
    path = tmp_path / "two.tif"
    tifffile.imwrite(path, blobs(2, 64, 64), metadata={"axes": "CYX"}, ome=True)

    model = by_id(fit(request(path), settings))["starter/nuclei"]
    told = by_id(fit(request(path, channels=(0,)), settings))["starter/nuclei"]

    assert model.images[0].channels == (1,)
    assert "channel.count" not in codes(model)
    assert told.images[0].channels == (0,)
    assert told.score < model.score


def test_a_plane_is_a_stack_for_a_model_that_works_plane_by_plane_and_for_no_other(
    settings: ZooSettings, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = Facts(plane_by_plane=Fact(value=True, source="manifest"))
    plain = by_id(fit(request(image), settings))["deep-dog"]
    monkeypatch.setattr(fit_candidates, "facts_of", lambda _: facts)
    flat = by_id(fit(request(image), settings))["deep-dog"]

    assert "axes.missing" in codes(plain)
    assert "axes.missing" not in codes(flat)
    assert flat.images[0].axes == "zyx"
    assert "--axes zyx" in run_line(flat, {"--axes": "yx"})


def test_the_closer_the_object_size_the_more_it_earns(settings: ZooSettings, image: Path) -> None:
    seen = read_measured(image, request(image))
    model = load_model("flat-cat", settings)
    size = ObjectSize(12.0, 0.1, 1.0, "blobs")
    earned = []
    for px in (12.0, 17.0, 24.0, 48.0, 96.0):
        sample = {0: replace(seen.measured[0], size=replace(size, diameter_px=px))}
        ours = {0: replace(seen.measured[0], size=size)}
        earned.append(size_closeness(FitCase(model, seen.info, measured=ours, sample=sample)))

    assert earned[0] == 1.0
    assert earned == sorted(earned, reverse=True)
    assert earned[2] == pytest.approx(2 / 3)
    assert earned[-1] == 0.0


def made(name: str, *, source: str = "manifest: description", **about: Any) -> ModelFit:
    """Give a model that fits an image with a score of 0.5."""
    kinds = MadeFor(("fluorescence",), ("nuclei",), source)
    images = (ImageFit("a.tif", "fits", 0.5, content=Content(0.9, 0.9)),)
    return ModelFit(name, "v0", images, AboutModel(name, made_for=kinds, **about))


def test_equal_scores_stand_in_the_order_of_the_evidence_and_last_of_names() -> None:
    models = [
        made("a", source="tags: nuclei"),
        made("c", passed=1),
        made("b", passed=1),
        made("d", passed=3, failed=1),
        made("e", passed=3),
        made("starter/nuclei"),
    ]

    ordered = [model.id for model in ranked(models)]

    assert ordered == ["starter/nuclei", "e", "d", "b", "c", "a"]


def test_the_first_five_are_for_all_that_an_image_may_show() -> None:
    def shown(name: str, structure: str, score: float) -> ModelFit:
        fits = (ImageFit("a.tif", "fits", score, content=Content(0.9, 0.5, shown=structure)),)
        return replace(made(name), images=fits)

    models = [shown(f"cells {n}", "cells", 0.3) for n in range(5)]
    models += [shown(f"membranes {n}", "membranes", 0.25) for n in range(5)]
    models += [shown("filaments", "filaments", 0.1)]

    first = [model.id for model in ranked(models)][:5]

    assert first[:2] == ["cells 0", "membranes 0"]
    assert "filaments" in first
    assert len(first) == len(set(first))


def test_the_commands_run_the_first_model_of_each_structure_as_ranked() -> None:
    cells = MadeFor(("fluorescence",), ("cells",), "manifest")
    pair = ImageFit("my image.tif", "adapts", 0.4, (0, 1), named=True, scale=0.5, resized=True)
    trust = Finding("package.runs-code", "error", "model", "code", hint="allow it with --trust")
    second = ModelFit("b", "v0", (pair,), AboutModel("b", made_for=cells, needs=(trust,)))
    view = Ranking(
        (SeenImage("my image.tif"),), (made("a"), made("a2"), second), words={"--kind": "light"}
    )

    assert list(run_lines(view)) == [
        "bmz run a a.tif --kind light -o out",
        "bmz run b 'my image.tif' --kind light --channels 0,1 --scale auto --trust -o out",
    ]


@pytest.mark.parametrize(("axis", "joins"), [("z", True), ("t", False)])
def test_of_a_stack_that_is_run_plane_by_plane_it_is_said_how_to_join_objects(
    axis: str, *, joins: bool
) -> None:
    extra = Finding("axes.extra", "note", f"image.{axis}", "each plane is segmented on its own")
    fit_of_stack = ImageFit("s.tif", "adapts", 0.4, findings=(extra,))
    view = Ranking((SeenImage("s.tif"),), (ModelFit("a", "v0", (fit_of_stack,)), made("b")))

    told = list(run_lines(view))

    assert any("--link" in line for line in told) == joins
    assert sum(line.startswith("bmz run") for line in told) == len(told) - joins


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
    assert lines[0].split()[:3] == [FIT_HEADINGS[0], FIT_HEADINGS[1], "made"]
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line[0].isdigit()] == ["1", "2"]
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
    monkeypatch.setattr("bmz.engine.cards.load_index", lambda *_, **__: index)
    monkeypatch.setattr(frameworks, "find_spec", lambda name: name in {"onnxruntime", "torch"})
    return shared / "data" / "stardist" / "img2d.tif"


def test_nuclei_bring_flat_fluorescence_models_before_deep_ones_of_electron_microscopy(
    nuclei: Path, kept: ZooSettings
) -> None:
    view = fit(request(nuclei), kept)

    place = {model.id: number for number, model in enumerate(view.ranked)}
    deep = [m.id for m in view.ranked if "axes.missing" in codes(m)]
    assert len(view.models) + len(view.left_out) == 140
    assert len(deep) > 25
    assert view.ranked[0].id == "starter/nuclei"
    assert max(place["affable-shark"], place["fearless-crab"]) < min(place[m] for m in deep)
    assert json.loads(fit_json(view))["of"] == len(view.models)


def test_a_named_task_brings_its_models_to_the_front(nuclei: Path, kept: ZooSettings) -> None:
    view = fit(request(nuclei, task="restoration"), kept)

    assert [model.about.task for model in view.ranked[:4]] == ["image-restoration"] * 4
    assert view.ranked[0].verdict != "mismatch"


@pytest.mark.usefixtures("_as_a_user")
def test_python_ranks_a_file_an_array_and_several_alike(image: Path) -> None:
    pixels = tifffile.imread(image)

    file, array = bmz.fit(image), bmz.fit(pixels, axes="yx")
    both = bmz.fit([image, pixels], task="segmentation")

    assert [model.id for model in file.ranked] == [model.id for model in array.ranked]
    assert [model.score for model in file.ranked] == [model.score for model in array.ranked]
    assert {len(model.images) for model in both.ranked} == {2}
    assert isinstance(both.ranked[0], bmz.ModelFit)
    assert str(file).startswith(f"<bmz.Ranking of {len(file.models)} models for 1 image: ")
    assert str(both).endswith(f"; the first is {both.models[0].id}>")
    with pytest.raises(bmz.WrongUsage):
        bmz.fit(image, kind="fluo")


def test_following_the_first_rows_gives_the_nuclei_and_the_cells_of_the_seed_image(
    shared: Path, nuclei: Path, kept: ZooSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    assert nuclei.exists()  # the real models are the zoo
    seed = shared / "data" / "neubias" / "xyc_8bit__membranes_nuclei.tif"
    cellpose = str(shared / "models" / "cellpose-cyto")

    view = fit(request(seed, models=(cellpose,)), kept)

    ids = [model.id for model in view.fitting]
    assert ids[0] == "starter/nuclei"
    assert next(m.id for m in view.fitting if "cells" in m.about.made_for.structures) == cellpose
    assert by_id(view)["starter/nuclei"].images[0].channels == (1,)
    assert by_id(view)[cellpose].images[0].channels == (0, 1)
    monkeypatch.undo()
    found = {}
    for number, line in enumerate(list(run_lines(view))[:2]):
        words = shlex.split(line)[1:]
        folder = tmp_path / str(number)
        assert status_of([*words[:-1], str(folder)]) == 0
        record = json.loads((folder / "xyc_8bit__membranes_nuclei.run.json").read_text())
        found[words[1]] = record["objects"]
    assert found == {"starter/nuclei": 38, cellpose: 41}


@pytest.mark.usefixtures("_as_a_user")
def test_an_image_that_cannot_be_read_leaves_the_ranking_for_the_others(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.tif").touch()
    bad = [str(tmp_path / "empty"), str(tmp_path / "bad.tif")]

    status = status_of(["fit", *bad, str(image), "--json"])
    told = capsys.readouterr()
    text = status_of(["fit", *bad, str(image)])
    alone = status_of(["fit", bad[1]])

    document = json.loads(told.out)
    assert [(row["image"], row["code"]) for row in document["failed"]] == [
        (bad[0], "image.none"),
        (bad[1], "image.empty"),
    ]
    assert document["image"] == str(image)
    assert (status, text, alone) == (1, 1, 3)
    assert "is empty (0 bytes)" in capsys.readouterr().err


@pytest.mark.usefixtures("_as_a_user")
def test_python_ranks_for_every_image_of_a_file(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "two.ome.tif", ome=True) as file:
        for name in ("left", "right"):
            file.write(blobs(256, 256), metadata={"axes": "YX", "Name": name})

    view = bmz.fit(tmp_path / "two.ome.tif")

    assert [Path(seen.image).name for seen in view.images] == [
        "two.ome.tif[left]",
        "two.ome.tif[right]",
    ]
