"""What is told of a run and of a plan: counts, units, failures, and the documents."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests.report.examples import EMPTY, ERROR, FORCEABLE, NOTE, WARNING, model, planned

from bmz.base.computer import versions
from bmz.base.errors import WrongUsage
from bmz.base.progress import Note
from bmz.check.finding import DoesNotFit, Finding
from bmz.image.info import ImageInfo
from bmz.image.series import content_sha256
from bmz.plan.plan import Blocks, Estimate
from bmz.report.run_text import (
    finding_lines,
    finding_notes,
    plan_json,
    plan_lines,
    run_json,
    run_lines,
    runs_json,
)
from bmz.results.image_documents import RanRecord, RecipeRecord
from bmz.results.images import (
    DeviceUse,
    ImageFailure,
    ImageRun,
    RunSummary,
    run_record,
    with_result,
)

LABELS, RECORD = Path("o/a.labels.tif"), Path("o/a.run.json")
FAILED = ImageFailure(Path("d/c.tif"), EMPTY)
USAGE = ImageFailure(Path("u.tif"), WrongUsage("no axis w", hint="of tczyx", code="axes.word"))


def done(objects: int | None = 2, **files: Path) -> ImageRun:
    return ImageRun(Path("d/a.tif"), files, objects, (), {"schema": "bmz.run/1"})


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (done(0, labels=LABELS, record=RECORD), "d/a.tif: 0 objects, o/a.labels.tif"),
        (done(1, labels=LABELS, record=RECORD), "d/a.tif: 1 object, o/a.labels.tif"),
        (done(2, labels=LABELS, raw=Path("o/r.tif")), "d/a.tif: 2 objects, o/a.labels.tif"),
        (done(None, raw=Path("o/r.tif"), record=RECORD), "d/a.tif: o/r.tif"),
        (done(None, record=RECORD), "d/a.tif: o/a.run.json"),
    ],
    ids=["none", "one", "two", "no labels", "record alone"],
)
def test_an_image_that_is_done_is_told_with_its_objects_and_the_file_that_matters(
    outcome: ImageRun, words: str
) -> None:
    assert run_lines(RunSummary((outcome,))) == [("answer", words)]


def test_the_picture_is_offered_to_be_looked_at() -> None:
    lines = run_lines(RunSummary((done(labels=LABELS, overlay=Path("o/a.overlay.png")),)))

    assert lines[1:] == [("answer", "  look at o/a.overlay.png")]


def test_of_several_images_those_that_failed_are_named_again_at_the_end() -> None:
    other = ImageFailure(Path("e/f.tif"), EMPTY)

    lines = run_lines(RunSummary((FAILED, done(labels=LABELS), other)))

    assert lines == [
        ("error", "'c.tif' is empty [image.empty]"),
        ("hint", "copy it again"),
        ("answer", "d/a.tif: 2 objects, o/a.labels.tif"),
        ("error", "'c.tif' is empty [image.empty]"),
        ("hint", "copy it again"),
        ("error", "2 of 3 images failed: c.tif, f.tif"),
    ]


def test_one_image_that_failed_is_not_counted_but_one_of_two_is() -> None:
    assert len(run_lines(RunSummary((FAILED,)))) == 2
    assert run_lines(RunSummary((FAILED, done(labels=LABELS))))[-1] == (
        "error",
        "1 of 2 images failed: c.tif",
    )


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ((), 0),
        ((done(),), 0),
        ((FAILED,), 3),
        ((FAILED, FAILED), 3),
        ((USAGE,), 2),
        ((FAILED, USAGE), 1),
        ((done(), FAILED), 1),
    ],
)
def test_the_status_is_that_of_all_failures_or_1(
    outcomes: tuple[ImageRun | ImageFailure, ...], status: int
) -> None:
    assert RunSummary(outcomes).exit_status == status


def test_an_image_that_does_not_fit_tells_its_first_error_and_then_the_others() -> None:
    why = DoesNotFit(Path("d/a.tif"), (FORCEABLE, replace(FORCEABLE, message="z too")))

    lines = run_lines(RunSummary((ImageFailure(Path("d/a.tif"), why),)))

    assert lines == [
        ("error", "'a.tif' does not fit: 4 um, not 1 um [scale.far]"),
        ("hint", "--scale 4 (or run anyway: --force)"),
        ("error", "a.tif: z too [scale.far]"),
        ("hint", "--scale 4"),
    ]


@pytest.mark.parametrize(
    ("errors", "hint"),
    [
        ((FORCEABLE,), "--scale 4 (or run anyway: --force)"),
        ((replace(FORCEABLE, hint=""),), "(or run anyway: --force)"),
        ((ERROR,), "--channels 0"),
        ((FORCEABLE, ERROR), "--scale 4"),
    ],
    ids=["forceable", "without a hint", "unforceable", "one of each"],
)
def test_force_is_offered_only_where_it_would_help(errors: tuple[Finding, ...], hint: str) -> None:
    assert DoesNotFit(Path("a.tif"), errors).hint == hint


def test_findings_of_equal_severity_keep_their_order_and_begin_with_the_image() -> None:
    second = replace(WARNING, code="range.outlier", hint="")

    lines = finding_lines([NOTE, WARNING, second, ERROR], "a.tif")

    assert lines == [
        ("error", "a.tif: 3 channels, not 1 [channel.count]"),
        ("hint", "--channels 0"),
        ("warning", "a.tif: almost no contrast [range.flat]"),
        ("hint", "stain again"),
        ("warning", "a.tif: almost no contrast [range.outlier]"),
        ("note", "a.tif: uint8 is cast [dtype.cast]"),
    ]


def test_a_listener_is_told_findings_as_loud_as_they_are_grave() -> None:
    assert finding_notes([NOTE, WARNING], "a.tif") == [
        Note("almost no contrast [range.flat]", "warning", "a.tif", "range.flat"),
        Note("stain again", "hint", "a.tif", "range.flat"),
        Note("uint8 is cast [dtype.cast]", "detail", "a.tif", "dtype.cast"),
    ]


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (510_000, "about 0.00051 GB"),
        (2_340_000_000, "about 2.3 GB"),
        (99_400_000_000, "about 99 GB"),
        (99_600_000_000, "about 100 GB"),
        (1_234_000_000_000, "about 1234 GB"),
    ],
)
def test_the_memory_of_a_large_image_is_no_power_of_ten(size: int, words: str) -> None:
    (line,) = (t for _, t in plan_lines(planned(bytes_in_one_piece=size)) if "memory" in t)

    assert line == f"  memory  {words} in one piece, in addition to the network"


def test_an_image_that_is_too_large_is_said_to_be_run_in_parts() -> None:
    large = planned(bytes_in_one_piece=2 * 10**10, in_parts=True, findings=(NOTE,))
    blocks = Blocks(1024, 64, memory_bytes=8 * 10**9)

    lines = plan_lines(replace(large, plan=replace(large.plan, blocks=blocks)))

    assert lines[:2] == [("note", "a.tif: uint8 is cast [dtype.cast]"), ("answer", "d/a.tif")]
    memory = (
        "  memory  about 20 GB in one piece, above the limit of 8 GB: runs in parts, in blocks of "
        "1024 px with 64 px of overlap"
    )
    assert lines[-1] == ("answer", memory)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0123, "0.012 s"),
        (99.4, "99 s"),
        (99.6, "2 min"),
        (7140.0, "119 min"),
        (7200.0, "2.0 h"),
        (360_000.0, "100.0 h"),
    ],
)
def test_a_time_is_told_in_the_unit_that_suits(seconds: float, words: str) -> None:
    estimate = Estimate(seconds, 1.0, 10**9, None, 10**8, 10**10, 1)

    lines = plan_lines(planned(estimate=estimate))

    assert lines[-1] == ("answer", f"  time    about 1 s for the network, {words} a tile")


def test_a_trial_tells_the_tiles_at_once_the_peak_and_the_workers() -> None:
    estimate = Estimate(0.5, 90.0, 1_234_000_000, 2_000_000_000, 3_456_000_000, 10**10, 2)
    one = planned(estimate=estimate)

    lines = plan_lines(replace(one, plan=replace(one.plan, batch=2)))

    # the network is done with before labels are made: 1.234 + 3.456, not all three
    peak = "about 4.69 GB of 10.0 GB free: program 1.23, and then network 2.00 or image 3.46"
    assert [text for _, text in lines[-3:]] == [
        "  time    about 90 s for the network, 0.5 s for 2 tiles",
        f"  peak    {peak}",
        "  workers up to 2 on this machine (--workers 2)",
    ]


def test_one_image_prints_its_record_and_several_a_list_with_the_failures() -> None:
    alone = json.loads(run_json(RunSummary((done(),))))
    several = json.loads(run_json(RunSummary((done(), FAILED))))
    failed = json.loads(run_json(RunSummary((FAILED,))))

    why = {"image": "d/c.tif", "code": "image.empty", "message": "'c.tif' is empty"}
    why["hint"] = "copy it again"
    assert alone == {"schema": "bmz.run/1"}
    no_run = {"schema": "bmz.runs/1", "runs": [], "device_busy": None, "failed": [why]}
    assert several == {**no_run, "runs": [alone]}
    assert failed == no_run


def test_the_plans_of_images_stand_beside_those_that_have_none() -> None:
    document = json.loads(plan_json("shark", [FAILED, planned(findings=(WARNING,))]))

    (plan,) = document["plans"]
    assert document["schema"] == "bmz.plan/1"
    assert [one["code"] for one in document["failed"]] == ["image.empty"]
    assert (plan["image"], plan["estimate"], plan["in_parts"]) == ("d/a.tif", None, False)
    assert plan["plan"]["tile"] == {"y": 64, "x": 64}
    assert plan["recipe"] == {"name": "flows", "why": "tags", "output": "map", "parameters": {}}
    assert [one["code"] for one in plan["findings"]] == ["range.flat"]


def test_the_hash_of_a_folder_is_that_of_the_list_that_sha256sum_prints(tmp_path: Path) -> None:
    (tmp_path / "z" / "0").mkdir(parents=True)
    (tmp_path / "z" / "b").write_bytes(b"two")
    (tmp_path / "z" / "0" / "c").write_bytes(b"one")
    one, two = (hashlib.sha256(text).hexdigest() for text in (b"one", b"two"))

    found = content_sha256(tmp_path / "z")

    assert content_sha256(tmp_path / "z" / "b") == two
    assert found == hashlib.sha256(f"{one}  0/c\n{two}  b\n".encode()).hexdigest()


def test_a_file_of_another_name_makes_another_hash_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    before = content_sha256(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")

    assert content_sha256(tmp_path) != before


def test_a_record_tells_image_weights_and_findings(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"pixels")
    info = ImageInfo(tmp_path / "a.tif", "yx", (64, 96), np.dtype(np.uint16), remarks=("lossy",))
    recipe: RecipeRecord = {"name": "flows", "why": "tags", "output": "map", "parameters": {}}

    record = run_record(model(), info, planned().plan, recipe, [NOTE])
    known = run_record(model(), info, planned().plan, recipe, [], "ef" * 32)

    assert record["weights"] == {"format": "onnx", "file": "w.onnx", "sha256": "cd" * 32}
    assert record["image_sha256"] == hashlib.sha256(b"pixels").hexdigest()
    assert known["image_sha256"] == "ef" * 32
    assert (record["image_axes"], record["image_shape"]) == ("yx", [64, 96])
    assert (record["image_dtype"], record["image_remarks"]) == ("uint16", ["lossy"])
    assert (record["model"], record["model_sha256"]) == ("shark", "ab" * 32)
    assert record["recipe"] == recipe
    assert record["versions"] == versions()
    plain = json.loads(json.dumps(record))
    assert plain == record
    assert [one["severity"] for one in plain["findings"]] == ["note"]


def test_a_record_names_files_as_they_lie_beside_it_and_rounds_times() -> None:
    files = {"record": Path("o/a.run.json"), "labels": Path("o/deep/a.tif"), "raw": Path("r.tif")}

    known = cast("RanRecord", {"schema": "bmz.run/1"})
    record: Any = with_result(known, files, None, {"network": 1.23456, "read": 0})

    assert record == {
        "schema": "bmz.run/1",
        "files": {"record": "a.run.json", "labels": "deep/a.tif", "raw": "../r.tif"},
        "objects": None,
        "timings_s": {"network": 1.2346, "read": 0},
    }


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (None, []),
        (DeviceUse("cpu", 3.0, 4.0), []),
        (
            DeviceUse("cuda:1", 3.04, 4.0),
            ["cuda:1 computed for 76 % of the time: 3.0 of the 4.0 s since the network was loaded"],
        ),
    ],
)
def test_how_busy_a_gpu_was_is_told_at_the_end(use: DeviceUse | None, words: list[str]) -> None:
    summary = RunSummary((done(labels=LABELS),), use)

    lines = run_lines(summary)
    document = json.loads(runs_json(summary))

    assert [text for kind, text in lines if kind == "note"] == words
    assert document["device_busy"] == (None if use is None else round(use.share, 4))
