"""The test of models in lines, as JUnit, and in the zoo's own form: statuses, counts, escapes."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from bmz.report import tested_text
from bmz.results.models import (
    CheckChange,
    CheckStatus,
    ModelCheck,
    ModelTestResult,
    exit_status,
    strictly,
)


def model(name: str = "m", **checks: CheckStatus) -> ModelTestResult:
    """Give a model with checks such as ``onnx__loads="passed"``."""
    return ModelTestResult(
        name, tuple(ModelCheck(k.replace("__", "."), v, f"why {v}") for k, v in checks.items())
    )


WORKS = model("a", onnx__loads="passed", onnx__reproduces="passed")
FAILS = model("b", files__verified="passed", onnx__reproduces="failed", keras__loads="skipped")
PARTLY = model("c", onnx__reproduces="passed", keras__reproduces="failed", files="failed")
WARNED = model("w", onnx__reproduces="passed", halo="warning", seams="warning")
UNTOLD = model("d", files__verified="passed", onnx__reproduces="skipped")


@pytest.mark.parametrize(
    ("tested", "status", "worst"),
    [
        (WORKS, "passed", None),
        (FAILS, "failed", "onnx.reproduces"),
        (PARTLY, "failed", "keras.reproduces"),
        (UNTOLD, "not-applicable", "onnx.reproduces"),
        (WARNED, "passed", None),
        (model(), "not-applicable", None),
        (model(onnx__loads="passed"), "not-applicable", None),
        (model(onnx__reproduces="passed", keras__reproduces="skipped"), "passed", None),
    ],
    ids=["works", "fails", "partly", "untold", "warned", "no check", "loads alone", "one skipped"],
)
def test_one_failure_fails_and_only_a_reproduced_output_passes(
    tested: ModelTestResult, status: str, worst: str | None
) -> None:
    assert tested.status == status
    assert (tested.worst.name if tested.worst else None) == worst


@pytest.mark.parametrize(
    ("models", "status"),
    [((), 0), ((WORKS,), 0), ((WARNED,), 0), ((WORKS, UNTOLD), 3), ((UNTOLD, FAILS, WORKS), 1)],
)
def test_a_failure_outweighs_what_could_not_be_told(
    models: tuple[ModelTestResult, ...], status: int
) -> None:
    assert exit_status(models) == status


def test_with_a_baseline_only_what_is_worse_counts() -> None:
    better = CheckChange("b", "onnx.loads", "failed", "passed", "")

    assert exit_status([FAILS], []) == 0
    assert exit_status([FAILS], [better]) == 0
    assert exit_status([FAILS], [CheckChange("b", "x", "failed", "skipped", "")]) == 0
    assert exit_status([WORKS], [CheckChange("b", "x", "passed", None, "")]) == 1


def test_one_model_is_told_check_by_check_in_columns() -> None:
    lines = tested_text.tested_lines([FAILS])

    texts = [text for _, text in lines]
    assert [text.index("why") for text in texts[:-1]] == [53, 53, 53]
    assert [text.split()[:2] for text in texts[:-1]] == [
        ["passed", "files.verified"],
        ["failed", "onnx.reproduces"],
        ["skipped", "keras.loads"],
    ]
    assert texts[-1] == "b: failed"


def test_several_models_are_told_in_a_line_each_and_counted() -> None:
    lines = tested_text.tested_lines([WORKS, FAILS, UNTOLD])

    assert [text for _, text in lines] == [
        "passed          a  2 checks passed",
        "failed          b  1 check passed  onnx.reproduces: why failed",
        "not-applicable  d  1 check passed  onnx.reproduces: why skipped",
        "3 models: 1 passed, 1 failed, 1 not applicable",
    ]
    assert tested_text.tested_lines([WORKS, WORKS])[-1][1] == "2 models: 2 passed, 0 failed"


def test_a_check_that_was_not_made_is_called_so() -> None:
    changes = [
        CheckChange("m", "new", None, "passed", "fine"),
        CheckChange("m", "gone", "passed", None, "no framework"),
    ]

    assert tested_text.change_lines(changes) == [
        ("error", "m: gone was passed, is not made (no framework)"),
        ("answer", "m: new was not made, is passed (fine)"),
    ]


def test_the_document_has_changes_only_with_a_baseline() -> None:
    change = CheckChange("m", "x", "passed", "failed", "why")

    alone = json.loads(tested_text.model_tests_json([UNTOLD]))
    compared = json.loads(tested_text.model_tests_json([UNTOLD], [change]))
    same = json.loads(tested_text.model_tests_json([UNTOLD], []))

    (told,) = alone["models"]
    assert "changes" not in alone
    assert (told["model"], told["status"]) == ("d", "not-applicable")
    assert told["checks"][1] == {
        "name": "onnx.reproduces", "status": "skipped", "detail": "why skipped",
    }  # fmt: skip
    assert same["changes"] == []
    assert compared["changes"] == [
        {
            "model": "m", "check": "x", "before": "passed", "now": "failed", "detail": "why",
            "worse": True,
        }
    ]  # fmt: skip


def test_junit_has_a_suite_a_model_and_counts_what_failed_and_was_skipped() -> None:
    root = ET.fromstring(tested_text.tested_junit([FAILS, model("e")]))  # noqa: S314  (our own)

    suite, empty = root
    assert suite.attrib == {
        "name": "bmz test b", "tests": "3", "failures": "1", "skipped": "1",
    }  # fmt: skip
    assert [(case.get("classname"), case[0].tag) for case in suite] == [
        ("b", "system-out"),
        ("b", "failure"),
        ("b", "skipped"),
    ]
    assert (suite[0][0].text, suite[1][0].get("message")) == ("why passed", "why failed")
    assert (empty.get("tests"), len(empty)) == ("0", 0)


def test_the_colours_of_a_framework_do_not_break_junit() -> None:
    checks = tuple(
        ModelCheck(f"keras.{status}", status, "\x1b[31mno <layer>\x1b[0m")
        for status in ("passed", "failed", "skipped")
    )

    root = ET.fromstring(tested_text.tested_junit([ModelTestResult("m", checks)]))  # noqa: S314

    told = [case[0].text or case[0].get("message") for case in root[0]]
    assert told == ["\ufffd[31mno <layer>\ufffd[0m"] * 3


@pytest.mark.parametrize(
    ("tested", "status", "score", "error"),
    [
        (WORKS, "passed", 1.0, None),
        (FAILS, "failed", 0.5, "onnx.reproduces: why failed"),
        # it works in one of its formats
        (PARTLY, "passed", 0.3333, None),
        (UNTOLD, "not-applicable", 0.0, None),
        # what warns was made, and did not pass
        (WARNED, "passed", 0.3333, None),
    ],
    ids=["works", "fails", "partly", "untold", "warned"],
)
def test_the_zoo_is_told_a_share_of_the_checks_that_were_made(
    tested: ModelTestResult, status: str, score: float, error: str | None
) -> None:
    report = json.loads(tested_text.zoo_reports([tested]))

    assert (report["status"], report["score"], report["error"]) == (status, score, error)
    assert [one["name"] for one in report["details"]["checks"]] == [c.name for c in tested.checks]


def test_reports_of_several_models_are_told_by_name() -> None:
    assert list(json.loads(tested_text.zoo_reports([WORKS, FAILS]))) == ["a", "b"]


def test_warnings_are_told_and_counted_and_fail_nothing() -> None:
    (document,) = json.loads(tested_text.model_tests_json([WARNED]))["models"]
    root = ET.fromstring(tested_text.tested_junit([WARNED]))  # noqa: S314  (our own)

    assert tested_text.tested_lines([WARNED])[-1][1] == "w: passed, with 2 warnings"
    assert [text for _, text in tested_text.tested_lines([WARNED, WORKS])] == [
        "passed          w  1 check passed, 2 warnings",
        "passed          a  2 checks passed",
        "2 models: 2 passed, 0 failed; 2 warnings",
    ]
    assert (document["status"], document["warnings"]) == ("passed", 2)
    assert root[0].get("failures") == "0"
    assert root[0][1][0].text == "warning: why warning"


def test_strictly_each_warning_is_a_failure() -> None:
    strict, same = strictly([WARNED, WORKS])

    assert strict.status == "failed"
    assert [check.status for check in strict.checks] == ["passed", "failed", "failed"]
    assert [check.detail for check in strict.checks] == [check.detail for check in WARNED.checks]
    assert same == WORKS
