from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bmz.base.errors import CouldNotTell
from bmz.check.finding import CheckReport, Finding
from bmz.report.check_documents import check_junit, check_sarif
from bmz.report.check_outcome import CheckSummary, ImageChecked
from bmz.report.check_text import check_github, check_json, check_lines

NOTE = Finding("dtype.cast", "note", "in", "uint8 is cast")
ERROR = Finding("axes.ambiguous", "error", "in", "what is <q> & 100%?", "yx", "q", "say, or else")
UNREAD = CouldNotTell("it is empty", hint="copy it again", code="image.empty")
SUMMARY = CheckSummary(
    "shark",
    "0" * 64,
    (
        ImageChecked(Path("a.tif"), None, CheckReport((NOTE,)), None),
        ImageChecked(Path("b,1.tif"), 2, CheckReport((NOTE, ERROR)), None),
        ImageChecked(Path("c.tif"), None, CheckReport(()), UNREAD),
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
    assert [result["level"] for result in run["results"]] == ["note", "note", "error", "error"]
    assert {result["ruleId"] for result in run["results"]} == rules


def test_sarif_is_valid() -> None:
    sarif = pytest.importorskip("sarif_pydantic")

    sarif.Sarif.model_validate(json.loads(check_sarif(SUMMARY)))


def test_annotations_of_github_escape_what_would_end_them() -> None:
    lines = check_github(SUMMARY).splitlines()

    assert lines[0] == "::notice file=a.tif,title=dtype.cast::uint8 is cast"
    assert lines[2].startswith(
        "::error file=b%2C1.tif[2],title=axes.ambiguous::what is <q> & 100%25?"
    )
    assert len(lines) == 4


def test_text_tells_verdicts_and_counts() -> None:
    answers = [text for kind, text in check_lines(SUMMARY) if kind == "answer"]

    assert answers[1] == "b,1.tif[2]: does not fit"
    assert answers[3].startswith("3 images: 1 fits")
    assert answers[4:] == ["      1 x error   axes.ambiguous", "      2 x note    dtype.cast"]


@pytest.mark.slow
def test_sarif_is_valid_against_the_schema_of_its_makers(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed; it brings the schema, in a package of its makers")
    subprocess.run([npm, "pack", "@microsoft/jest-sarif@1.0.0-beta.0"], cwd=tmp_path, check=True)
    (archive,) = tmp_path.glob("*.tgz")
    with tarfile.open(archive) as packed:
        member = packed.extractfile("package/lib/schemas/sarif-2.1.0-rtm.5.json")
        assert member is not None
        schema = json.load(member)
    document = json.loads(check_sarif(SUMMARY))
    broken = json.loads(check_sarif(SUMMARY))
    broken["runs"][0]["results"][0]["level"] = "loud"
    validator = jsonschema.validators.validator_for(schema)(schema)

    assert list(validator.iter_errors(document)) == []
    assert list(validator.iter_errors(broken)) != []
