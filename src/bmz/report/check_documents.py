"""The check as documents that other programs read: JUnit XML and SARIF."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

from bmz.base.version import version
from bmz.check.codes import CODES
from bmz.check.finding import Finding
from bmz.image.given_names import given_name
from bmz.image.remote import is_address
from bmz.report.text import failure_of, image_words
from bmz.results.check import CheckSummary, ImageChecked

# XML 1.0, 2.2: "any Unicode character, excluding the surrogate blocks, FFFE, and FFFF", and of the
# control characters tab and line ends alone; ElementTree writes the others as they are
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
SARIF_LEVELS = {"error": "error", "warning": "warning", "note": "note"}


def check_junit(summary: CheckSummary) -> str:
    """Give JUnit XML: a test case an image, failed by findings of severity error.

    An image that could not be read is an ``error``, not a ``failure``. Warnings and notes stand in
    ``system-out``, below the verdict where there are warnings.
    """
    cases = summary.images
    suite = ET.Element(
        "testsuite",
        name=f"bmz check {summary.model}",
        tests=str(len(cases)),
        failures=str(sum(image.verdict == "mismatch" for image in cases)),
        errors=str(sum(image.verdict is None for image in cases)),
    )
    for image in cases:
        suite.append(_case(summary.model, image))
    root = ET.Element("testsuites")
    root.append(suite)
    return xml_text(root)


def _case(model: str, image: ImageChecked) -> ET.Element:
    case = ET.Element("testcase", classname=model, name=image.name)
    if image.error is not None:
        why = failure_of(image.error)
        told = ET.SubElement(case, "error", type=why["code"], message=why["message"])
        told.text = why["hint"]
    if image.report.errors:
        first = image.report.errors[0]
        failure = ET.SubElement(case, "failure", type=first.code, message=first.message)
        failure.text = "\n".join(map(_sentence, image.report.errors))
    others = [f for f in image.report.findings if f.severity != "error"]
    if others:
        verdict = [image_words(image)] if image.warnings and not image.report.errors else []
        lines = [*verdict, *map(_sentence, others)]
        ET.SubElement(case, "system-out").text = "\n".join(lines)
    return case


def _sentence(finding: Finding) -> str:
    hint = f" ({finding.hint})" if finding.hint else ""
    return f"{finding.severity}: {finding.message} [{finding.code}]{hint}"


def check_sarif(summary: CheckSummary) -> str:
    """Give SARIF 2.1.0 with one result a finding and one rule a code.

    The verdicts of the images stand in the properties of the run.
    """
    results = [result for image in summary.images for result in _results(image)]
    codes = sorted({result["ruleId"] for result in results})
    driver = {
        "name": "bmz",
        "version": version(),
        "rules": [_rule(code) for code in codes],
    }
    verdicts = [
        {"image": image.name, "verdict": image.verdict, "warnings": image.warnings}
        for image in summary.images
    ]
    run = {"tool": {"driver": driver}, "results": results, "properties": {"verdicts": verdicts}}
    document = {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2)


def _rule(code: str) -> dict[str, Any]:
    page = CODES.get(code)
    if page is None:
        return {"id": code}
    return {
        "id": code,
        "shortDescription": {"text": page.cause},
        "help": {"text": page.cure},
        "defaultConfiguration": {"level": SARIF_LEVELS[page.severity]},
    }


def _results(image: ImageChecked) -> Iterator[dict[str, Any]]:
    if image.error is not None:
        why = failure_of(image.error)
        yield _result(image, why["code"], "error", why["message"], why["hint"])
    for finding in image.report.findings:
        level = SARIF_LEVELS[finding.severity]
        yield _result(image, finding.code, level, finding.message, finding.hint)


def _uri(path: Path) -> str:
    # SARIF 2.1.0, 3.4.3: "a uri property ... contains a valid URI or URI reference (RFC 3986)"
    name = given_name(path)
    if is_address(name):
        return quote(name, safe=":/?=&%[]")
    return path.as_uri() if path.is_absolute() else quote(os.fsencode(path.as_posix()))


def _result(image: ImageChecked, code: str, level: str, message: str, hint: str) -> dict[str, Any]:
    location = {"physicalLocation": {"artifactLocation": {"uri": _uri(image.image)}}}
    text = f"{message} ({hint})" if hint else message
    return {
        "ruleId": code,
        "level": level,
        "message": {"text": text},
        "locations": [location],
    }


def xml_text(root: ET.Element) -> str:
    """Give a document as indented text, with a replacement mark for what XML cannot hold.

    Letters beyond ASCII are character references, so that any terminal and any encoding holds it.
    """
    for element in root.iter():
        element.text = element.text and _legal(element.text)
        element.attrib.update({name: _legal(value) for name, value in element.items()})
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="us-ascii", xml_declaration=True)
    return document.decode("ascii")


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", text)
