"""Words for states that are rare: nothing installed, nothing scored, hours of work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from bmz.base.errors import CouldNotTell
from bmz.image.pixels import Pixels
from bmz.plan.plan import Estimate
from bmz.process.matching import Matching
from bmz.report import comparison_page, tested_text
from bmz.report.compare_text import score_json
from bmz.report.computer_text import doctor_rows
from bmz.report.reference import schema_of
from bmz.report.run_text import plan_json, plan_lines
from bmz.results.compare import MaskPair, PairFailed, PairScore, ScoreSummary
from bmz.results.images import ImageFailure, ImagePlan
from bmz.results.models import DoctorView, FormatView, ModelCheck, ModelTestResult

PAIR = MaskPair("a", Path("found/a.tif"), Path("truth/a.tif"))
ALONE = MaskPair("b", Path("found/b.tif"), None)


def doctor(*formats: FormatView, **changes: Any) -> dict[str, str]:
    view = DoctorView(
        {"bmz": "1", "python": "3.13", "numpy": "2"}, "Linux x86_64", 2, 2**34, "/cache", 0,
        formats, ("starter/nuclei",), {"files": "", "calls": ""},
    )  # fmt: skip
    rows = doctor_rows(replace(view, **changes))
    return {heading: text for heading, text in rows if heading}


def test_the_doctor_tells_what_runs_what_is_missing_and_what_is_broken() -> None:
    rows = doctor(
        FormatView("onnx", "onnxruntime", "1.20", ("cpu", "cuda:0"), "", "pip install x"),
        FormatView("torchscript", "torch", None, (), "", "pip install y"),
        FormatView("keras_v3", "keras", "3.0", (), "it does not import", "pip install z"),
    )

    assert rows["onnx"] == "onnxruntime 1.20 on cpu, cuda:0"
    assert rows["torchscript"] == "no torch"
    assert rows["keras_v3"] == "it does not import"
    assert rows["libraries"] == "numpy 2"
    assert rows["own code"].endswith("runs in a sandbox")


def test_the_doctor_tells_what_it_does_not_know_or_have() -> None:
    rows = doctor(
        memory_bytes=None, starters=(), confinement={"files": "no Landlock", "calls": "no seccomp"}
    )

    assert "unknown of memory" in rows["computer"]
    assert rows["bundled"] == "no model"
    assert "no Landlock; no seccomp" in rows["own code"]


def matching() -> Matching:
    return Matching(1, 0, 0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("error", [None, CouldNotTell("it is damaged", hint="", code="x.y")])
def test_a_mask_without_a_score_is_in_the_document_with_its_reason(
    error: CouldNotTell | None,
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    summary = ScoreSummary("found", "truth", (PairFailed(ALONE, error),))

    document = json.loads(score_json(summary))

    assert document["scores"] == document["image_mean"] == []
    assert document["pairs"][0]["error"]
    assert summary.exit_status == 3
    jsonschema.Draft202012Validator(schema_of("bmz.score/1")).validate(document)


def test_some_scores_and_some_failures_are_status_1() -> None:
    scored = PairScore(PAIR, (0.5,), (matching(),), ())

    assert ScoreSummary("f", "t", (scored,)).exit_status == 0
    assert ScoreSummary("f", "t", (scored, PairFailed(ALONE, None))).exit_status == 1


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.5, "0.5 s"), (99.0, "99 s"), (600.0, "10 min"), (9000.0, "2.5 h")]
)
def test_times_are_told_in_seconds_minutes_or_hours(
    seconds: float, words: str, planned: ImagePlan
) -> None:
    estimate = Estimate(0.1, seconds, 10**9, 10**8, 10**8, 10**10, 4)

    text = "\n".join(line for _, line in plan_lines(replace(planned, estimate=estimate)))

    assert f"about {words} for the network" in text
    assert "--workers 4" in text


def test_without_a_measured_peak_or_a_trial_nothing_is_said_of_it(planned: ImagePlan) -> None:
    blind = Estimate(0.1, 1.0, 10**9, None, 10**8, 10**10, 1)

    told = "\n".join(line for _, line in plan_lines(replace(planned, estimate=blind)))
    untried = "\n".join(line for _, line in plan_lines(replace(planned, estimate=None)))

    assert "peak " not in told
    assert "time " in told
    assert "time " not in untried


def test_an_image_that_cannot_be_planned_says_why() -> None:
    failed = ImageFailure(Path("a.tif"), CouldNotTell("it is damaged", hint="h", code="x.y"))

    lines = plan_lines(failed)

    assert lines == [("error", "it is damaged [x.y]"), ("hint", "h")]
    assert json.loads(plan_json("m", [failed]))["failed"][0]["code"] == "x.y"


@pytest.fixture
def planned(tmp_path: Path) -> ImagePlan:
    """Plan a small image."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from bmz.app.run import plan_run
    from bmz.engine.request import RunRequest
    from bmz.testing.package import description, write_package

    model = write_package(tmp_path / "net", description(halo=4)).parent
    np.save(tmp_path / "a.npy", np.zeros((64, 64), np.float32))
    words = RunRequest(str(model), (tmp_path / "a.npy",), tmp_path / "o", axes="yx")
    (one,) = plan_run(words)
    assert isinstance(one, ImagePlan)
    return one


def test_skipped_checks_are_skipped_tests_of_junit() -> None:
    model = ModelTestResult("m", (ModelCheck("onnx.loads", "skipped", "no framework"),))

    root = ET.fromstring(tested_text.tested_junit([model]))  # noqa: S314  (our own text)

    assert [one.get("message") for one in root.iter("skipped")] == ["no framework"]
    assert root.find(".//failure") is None


def test_a_photograph_keeps_its_colours_in_the_page_of_a_comparison() -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[..., 0] = 200
    photo = Pixels(pixels, ("y", "x", "c"), colour=True)

    channels = comparison_page._channels(photo, comparison_page.Kept(1, {}, (4, 5)))

    assert [one["name"] for one in channels] == ["red", "green", "blue"]


def test_a_channel_of_one_value_is_drawn_black_and_not_divided_by_zero() -> None:
    flat, dot = np.full((1, 1, 8, 8), 7.0), np.zeros((1, 1, 40, 40))
    dot[0, 0, 3, 3] = 5

    ((black, level),) = comparison_page._as_bytes(flat, together=False)
    ((one, _),) = comparison_page._as_bytes(dot, together=False)

    assert (black.max(), level) == (0, (7, 7))
    assert one.max() == 255
