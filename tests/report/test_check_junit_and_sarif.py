"""Other programs read what the check writes, whatever names and messages are in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.report.examples import EMPTY, ERROR, FORCEABLE, NOT_UTF8, NOTE, WARNING, checked, summary

from bmz.check.codes import CODES
from bmz.report.check_text import check_junit, check_sarif, failed_documents, xml_text
from bmz.results.images import CheckSummary

ROOT = Path(__file__).parents[2]
PAGE = "https://github.com/bmz-dev/bmz/blob/main/docs/reference/findings.md"


def suite_of(told: CheckSummary) -> ET.Element:
    (suite,) = ET.fromstring(check_junit(told))  # noqa: S314  (our own text)
    return suite


def results_of(told: CheckSummary) -> list[dict[str, str]]:
    (run,) = json.loads(check_sarif(told))["runs"]
    return [one | {"message": one["message"]["text"]} for one in run["results"]]


def test_a_case_that_fails_tells_all_of_its_errors_and_apart_from_them_the_rest() -> None:
    suite = suite_of(summary(checked("a.tif", NOTE, ERROR, FORCEABLE, WARNING)))

    (case,) = suite
    failure, rest = case
    assert case.attrib == {"classname": "shark", "name": "a.tif"}
    assert failure.attrib == {"type": "channel.count", "message": "3 channels, not 1"}
    assert failure.text == (
        "error: 3 channels, not 1 [channel.count] (--channels 0)\n"
        "error: 4 um, not 1 um [scale.far] (--scale 4)"
    )
    assert rest.tag == "system-out"
    assert rest.text == (
        "note: uint8 is cast [dtype.cast] (never told of a note)\n"
        "warning: almost no contrast [range.flat] (stain again)"
    )


def test_an_image_that_cannot_be_read_is_an_error_with_its_next_step() -> None:
    unread = checked("c.tif", error=EMPTY, series=2)

    suite = suite_of(summary(unread, checked("a.tif", WARNING), checked("b.tif")))

    assert suite.attrib == {
        "name": "bmz check shark", "tests": "3", "failures": "0", "errors": "1",
    }  # fmt: skip
    assert suite[0].get("name") == "c.tif[2]"
    (error,) = suite[0]
    assert error.attrib == {"type": "image.empty", "message": "'c.tif' is empty"}
    assert error.text == "copy it again"
    assert [[child.tag for child in case] for case in suite] == [["error"], ["system-out"], []]


def test_an_image_with_warnings_does_not_just_fit() -> None:
    told = summary(checked("a.tif", WARNING), checked("b.tif", NOTE), checked("c.tif", error=EMPTY))

    warned, noted, _ = suite_of(told)
    (run,) = json.loads(check_sarif(told))["runs"]

    assert (warned[0].text or "").splitlines()[0] == "fits, with warnings"
    assert (noted[0].text or "").splitlines()[0].startswith("note: ")
    assert run["properties"]["verdicts"] == [
        {"image": "a.tif", "verdict": "fits", "warnings": 1},
        {"image": "b.tif", "verdict": "adapts", "warnings": 0},
        {"image": "c.tif", "verdict": None, "warnings": 0},
    ]


def test_an_image_that_fits_is_an_empty_case_and_no_image_an_empty_suite() -> None:
    assert [len(case) for case in suite_of(summary(checked("a.tif")))] == [0]
    assert suite_of(summary()).get("tests") == "0"


@example(text="\r\n")
@given(text=st.text(st.characters(exclude_categories=[]), max_size=8))
def test_whatever_a_finding_says_the_xml_can_be_read_and_keeps_what_xml_can_hold(
    text: str,
) -> None:
    legal = [
        c if c in "\t\n" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff"
        else "\ufffd"
        for c in text.replace("\r\n", "\n").replace("\r", "\n")
    ]  # fmt: skip
    image = checked("a.tif", replace(ERROR, message=text, hint=""))

    xml = check_junit(summary(image)).encode()

    (failure,) = ET.fromstring(xml)[0][0]  # noqa: S314  (our own text)
    # a line end is a line end to XML, however it is written
    assert (failure.text or "").replace("\r", "\n") == f"error: {''.join(legal)} [channel.count]"


@pytest.mark.parametrize("sign", ["\x00", "\x1b", "\x0b", "\ud800", "\ufffe", "\uffff"])
def test_a_sign_that_xml_cannot_hold_is_marked_in_texts_and_in_attributes(sign: str) -> None:
    root = ET.Element("a", name=f"<{sign}>")
    ET.SubElement(root, "b").text = f"{sign}&"

    found = ET.fromstring(xml_text(root))  # noqa: S314  (our own text)

    assert found.get("name") == "<\ufffd>"
    assert found[0].text == "\ufffd&"


def test_a_result_joins_the_message_with_the_next_step() -> None:
    told = summary(checked("a.tif", WARNING, replace(NOTE, hint="")), checked("c.tif", error=EMPTY))

    results = results_of(told)

    assert [(one["ruleId"], one["level"], one["message"]) for one in results] == [
        ("image.empty", "error", "'c.tif' is empty (copy it again)"),
        ("range.flat", "warning", "almost no contrast (stain again)"),
        ("dtype.cast", "note", "uint8 is cast"),
    ]


def test_rules_are_sorted_and_told_once_with_cause_cure_and_level() -> None:
    told = summary(checked("b.tif", WARNING, WARNING, NOTE), checked("c.tif", error=EMPTY))

    (run,) = json.loads(check_sarif(told))["runs"]

    cast, empty, flat = run["tool"]["driver"]["rules"]
    page = CODES["range.flat"]
    assert cast["id"] == "dtype.cast"
    assert flat == {
        "id": "range.flat",
        "helpUri": f"{PAGE}#rangeflat",
        "shortDescription": {"text": page.cause},
        "help": {"text": page.cure},
        "defaultConfiguration": {"level": "warning"},
    }
    assert empty == {"id": "image.empty", "helpUri": "https://github.com/bmz-dev/bmz"}
    assert run["tool"]["driver"]["informationUri"] == "https://github.com/bmz-dev/bmz"


def test_every_code_of_a_finding_has_a_section_to_which_its_rule_leads() -> None:
    page = (ROOT / "docs/reference/findings.md").read_text(encoding="utf-8")
    headings = {line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")}

    told = summary(checked("a.tif", *(replace(ERROR, code=code) for code in CODES)))
    (run,) = json.loads(check_sarif(told))["runs"]

    # GitHub makes the anchor of a heading by leaving its dots out
    anchors = {f"{PAGE}#{heading.replace('.', '')}" for heading in headings}
    assert {rule["helpUri"] for rule in run["tool"]["driver"]["rules"]} <= anchors


def test_a_result_has_a_line_and_a_print_that_the_next_run_repeats() -> None:
    first, again = (
        json.loads(check_sarif(summary(checked("a.tif", *findings))))["runs"][0]["results"]
        for findings in ((WARNING, NOTE), (NOTE, replace(WARNING, message="another number")))
    )

    for result in first:
        place = result["locations"][0]["physicalLocation"]
        assert place["region"] == {"startLine": 1}
    prints = [{one["ruleId"]: one["partialFingerprints"] for one in run} for run in (first, again)]
    assert prints[0] == prints[1]
    assert prints[0]["range.flat"] != prints[0]["dtype.cast"]


def test_where_nothing_could_be_checked_each_document_tells_why() -> None:
    documents = failed_documents(EMPTY, "shark")

    (run,) = json.loads(documents["sarif"])["runs"]
    (invocation,) = run["invocations"]
    (notice,) = invocation["toolExecutionNotifications"]
    assert (invocation["executionSuccessful"], run["results"]) == (False, [])
    assert notice["descriptor"] == {"id": "image.empty"}
    suite = ET.fromstring(documents["junit"])[0]  # noqa: S314  (our own text)
    assert (suite.get("errors"), suite[0][0].get("type")) == ("1", "image.empty")
    assert documents["github"].startswith("::error title=image.empty::")


@pytest.mark.parametrize("folder", ["", "/data/"])
def test_a_name_that_is_no_text_has_a_uri_of_its_bytes(folder: str) -> None:
    told = json.loads(check_sarif(summary(checked(f"{folder}{NOT_UTF8}", NOTE))))

    (result,) = told["runs"][0]["results"]
    uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert unquote_to_bytes(uri.removeprefix("file://")) == folder.encode() + b"a\xff.tif"
