"""The check as text, JSON, JUnit XML, SARIF and GitHub annotations."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

from bmz.base.computer import version
from bmz.base.errors import BmzError
from bmz.check.codes import CODES, FindingCode
from bmz.check.finding import Finding
from bmz.check.kind import ImageKind, kind_title, kind_words
from bmz.image.given_names import given_name, with_given_names
from bmz.image.remote import is_address
from bmz.process.quality import quality_record, quality_words
from bmz.report.run_text import finding_lines
from bmz.report.text import Line, document_text, encodable, failure_of, image_words, short_verdict
from bmz.results.images import CheckSummary, Cure, ImageCheck, ImageTrial

if TYPE_CHECKING:
    from bmz.results.image_documents import (
        CheckDocument,
        CheckedImage,
        CureRecord,
        ShownKind,
        TrialRecord,
    )


MANY = 8
"""Above this number of images, each has one row; `bmz check` on a single image prints
everything."""

ORDER = ("error", "warning", "note")

HOW = " (-v shows how)"
"""Follows the verdict of an image that is adapted, if the notes are left out."""


OUTCOMES: Mapping[str | None, tuple[str, str]] = {
    "fits": ("fits as it is", "fit as they are"),
    "adapts": ("fits once adapted", "fit once adapted"),
    "warned": ("fits with warnings", "fit with warnings"),
    "mismatch": ("does not fit", "do not fit"),
    None: ("could not be checked", "could not be checked"),
}
"""Outcome of an image -> words in the summary of several images, for one image and for more."""


def check_lines(summary: CheckSummary, verbosity: int = 0) -> list[Line]:
    """Return the verdict of every image with its findings, worst first.

    Above `MANY` images, each has one row of a table, with its worst finding.

    Parameters
    ----------
    verbosity : 1 to include notes; -1 to leave out images that fit without a warning
    """
    lines: list[Line] = []
    images = [image for image in summary.images if verbosity >= 0 or _is_doubted(image)]
    for image in images if len(summary.images) <= MANY else ():
        more = HOW if verbosity < 1 and image.verdict == "adapts" else ""
        lines.append(("answer", f"{image.name}: {image_words(image)}{more}"))
        lines += _details(image, with_notes=verbosity > 0)
    if len(summary.images) > MANY:
        lines += _rows(images)
    if verbosity < 0:
        return lines
    if len(summary.images) > 1:
        counts = Counter(_outcome(image) for image in summary.images)
        shown = ", ".join(f"{n} {OUTCOMES[outcome][n > 1]}" for outcome, n in counts.items())
        what = "images" if summary.images[0].step is None else "checks of steps on images"
        lines.append(("answer", f"{len(summary.images)} {what}: {shown}"))
        lines += _table(summary)
        lines += _kinds(summary)
    return lines


def _is_doubted(image: ImageCheck) -> bool:
    return image.verdict not in ("fits", "adapts") or image.warnings > 0


def _rows(images: Sequence[ImageCheck]) -> list[Line]:
    width = max((len(image.name) for image in images), default=0)
    cells = [_row_words(image) for image in images]
    wide = max(map(len, cells), default=0)
    return [
        ("answer", f"{image.name:<{width}}  {words:<{wide}}  {_worst(image)}".rstrip())
        for image, words in zip(images, cells, strict=True)
    ]


def _outcome(image: ImageCheck) -> str | None:
    """Return a key of `OUTCOMES`."""
    warned = image.verdict in ("fits", "adapts") and image.warnings
    return "warned" if warned else image.verdict


def _row_words(image: ImageCheck) -> str:
    if image.verdict in ("fits", "adapts"):
        return short_verdict(image.verdict, image.warnings)
    return "unknown" if image.verdict is None else "does not fit"


def _worst(image: ImageCheck) -> str:
    if image.error is not None:
        return str(image.error)
    grave = [f for f in image.report.findings if f.severity != "note"]
    first = min(grave, key=lambda f: ORDER.index(f.severity), default=None)
    more = f" (and {len(grave) - 1} more)" if len(grave) > 1 else ""
    return f"{first.severity}: {first.message} [{first.code}]{more}" if first else ""


def _table(summary: CheckSummary) -> list[Line]:
    """Count in how many images each finding occurs, the worst and most frequent first."""
    counts = Counter(
        seen
        for image in summary.images
        for seen in dict.fromkeys((f.severity, f.code) for f in image.report.findings)
    )
    ranked = sorted(counts.items(), key=lambda item: (ORDER.index(item[0][0]), -item[1]))
    return [("answer", f"  {count:>5} x {kind:<8}{code}") for (kind, code), count in ranked]


def _kinds(summary: CheckSummary) -> list[Line]:
    """Count how many images show each kind."""
    counts = summary.kinds
    if not counts:
        return []
    told = "kinds of images, as stated" if summary.stated else "kinds of images, as recognised"
    return [
        ("answer", f"{told}:"),
        *(("answer", f"  {count:>5} x {kind}") for kind, count in counts.items()),
    ]


def _details(image: ImageCheck, *, with_notes: bool) -> list[Line]:
    if image.error is not None:
        return [("error", str(image.error)), ("hint", image.error.hint)]
    kind = image.report.kind
    shown: list[Line] = [] if kind is None else [("answer", f"  shows {kind_words(kind)}")]
    if image.trial is not None:
        shown.append(("answer", f"  trial: {trial_words(image.trial)}"))
    told = [f for f in image.report.findings if with_notes or f.severity != "note"]
    return shown + finding_lines(told)


def check_json(summary: CheckSummary) -> str:
    """Return the document ``bmz.check/1``."""
    document: CheckDocument = {
        "schema": "bmz.check/1",
        "model": summary.model,
        "model_sha256": summary.model_sha256,
        "stated_kind": None if summary.stated is None else str(summary.stated),
        "kinds": [{"kind": kind, "images": count} for kind, count in summary.kinds.items()],
        "images": [_image(image) for image in summary.images],
    }
    return document_text(document)


def _image(image: ImageCheck) -> CheckedImage:
    return {
        "image": given_name(image.image),
        "series": image.series,
        "step": image.step,
        "verdict": image.verdict,
        "warnings": image.warnings,
        "findings": image.report.findings,
        "kind": _shown_kind(image.report.kind),
        "error": None if image.error is None else failure_of(image.error),
        "trial": None if image.trial is None else trial_record(image.trial),
    }


def trial_record(trial: ImageTrial) -> TrialRecord:
    """Return the result of a trial, as documents hold it."""
    return {
        **quality_record(trial.quality),
        "crops": [
            {"box": crop.box, "objects": crop.objects, "f1": round(crop.quality.f1, 3)}
            for crop in trial.crops
        ],
        "picture": None if trial.picture is None else str(trial.picture),
        "cure": None if trial.cure is None else _cure(trial.cure),
    }


def _cure(cure: Cure) -> CureRecord:
    f1, word = round(cure.quality.f1, 3), cure.quality.word
    return {"options": cure.options, "f1": f1, "word": word}


def trial_words(trial: ImageTrial) -> str:
    """Return the result of a trial on one line."""
    objects = "1 object" if trial.objects == 1 else f"{trial.objects} objects"
    crops = "1 crop" if len(trial.crops) == 1 else f"{len(trial.crops)} crops"
    picture = "" if trial.picture is None else f"; the worst crop is in {trial.picture}"
    told = f"{quality_words(trial.quality)}, from {objects} in {crops}{picture}"
    if trial.cure is None or trial.quality.word != "likely good":
        return told  # the finding about the poor mask states the cure
    return f"{told}; with {trial.cure.options} {quality_words(trial.cure.quality)}"


def _shown_kind(kind: ImageKind | None) -> ShownKind | None:
    if kind is None:
        return None
    families, structures = (
        {word: round(probability, 4) for word, probability in one.items()}
        for one in (kind.families, kind.structures)
    )
    return {"title": kind_title(kind), "families": families, "structures": structures}


def check_github(summary: CheckSummary) -> str:
    """Return one workflow command per error and warning; GitHub shows them next to the files.

    Errors come first and notes are left out, because GitHub shows only ten annotations of a kind.
    """
    by_level: dict[str, list[str]] = {"error": [], "warning": []}
    for image in summary.images:
        if image.error is not None:
            by_level["error"].append(_command("error", image, image.error))
        for finding in image.report.findings:
            if finding.severity in by_level:
                by_level[finding.severity].append(_command(finding.severity, image, finding))
    lines = [line for lines in by_level.values() for line in lines]
    warned = sum(image.warnings > 0 and image.verdict != "mismatch" for image in summary.images)
    if warned:
        lines.append(f"{warned} of {len(summary.images)} images: fits, with warnings")
    return encodable("\n".join(lines))


def _command(level: str, image: ImageCheck, why: Finding | BmzError) -> str:
    series = "" if image.series is None else f"series {image.series}: "
    series += "" if image.step is None else f"step {image.step}: "
    hint = f" ({why.hint})" if why.hint else ""
    # https://docs.github.com/actions: properties escape % CR LF : and , ; the message % CR LF
    file, title = (_escaped(text, ":,") for text in (given_name(image.image), why.code))
    told = _escaped(with_given_names(series + why.message + hint), "")
    return f"::{level} file={file},title={title}::{told}"


def _escaped(text: str, more: str) -> str:
    for sign in "%\r\n" + more:
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text


def explanation_rows(code: str, page: FindingCode) -> list[tuple[str, str]]:
    """Explain one code."""
    return [
        ("code", f"{code} ({page.severity})"),
        ("cause", page.cause),
        ("fix", page.cure),
        ("example", page.example),
    ]


# XML 1.0, 2.2: "any Unicode character, excluding the surrogate blocks, FFFE, and FFFF", and of the
# control characters tab and line ends alone; ElementTree writes the others as they are
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
SARIF_LEVELS = {"error": "error", "warning": "warning", "note": "note"}
_PROJECT = "https://github.com/bmz-dev/bmz"
_RULES = f"{_PROJECT}/blob/main/docs/reference/findings.md"
"""The page with a section for the code of each finding."""


def check_junit(summary: CheckSummary) -> str:
    """Return JUnit XML: one test case per image, which findings of severity error fail.

    An image that could not be read is an ``error``, not a ``failure``. Warnings and notes are in
    ``system-out``, below the verdict if there are warnings.
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


def _case(model: str, image: ImageCheck) -> ET.Element:
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
    """Return SARIF 2.1.0 with one result per finding and one rule per code.

    Errors come first, then warnings, because readers truncate long lists. The verdicts of the
    images are in the properties of the run.
    """
    results = [result for image in summary.images for result in _results(image)]
    order = list(SARIF_LEVELS)
    results.sort(key=lambda result: order.index(result["level"]))
    codes = sorted({result["ruleId"] for result in results})
    for result in results:
        result["ruleIndex"] = codes.index(result["ruleId"])
    verdicts = [
        {"image": image.name, "verdict": image.verdict, "warnings": image.warnings}
        for image in summary.images
    ]
    run = {**_tool(codes), "results": results, "properties": {"verdicts": verdicts}}
    return _sarif_of(run | {"invocations": [{"executionSuccessful": True}]})


def _sarif_of(run: Mapping[str, Any]) -> str:
    document = {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2)


def _tool(codes: Sequence[str]) -> dict[str, Any]:
    rules = [_rule(code) for code in codes]
    driver = {"name": "bmz", "version": version(), "informationUri": _PROJECT, "rules": rules}
    return {"tool": {"driver": driver}}


def failed_documents(error: BmzError, model: str) -> dict[str, str]:
    """Return what each format says if nothing could be checked, so that no file is empty.

    Parameters
    ----------
    error : why nothing could be checked
    model : model as named in the call

    Returns
    -------
    dict
        format -> text; there is no such JSON document, because its reader looks at the exit status
    """
    why = failure_of(error)
    text = f"{why['message']} ({why['hint']})" if why["hint"] else why["message"]
    notice = {"level": "error", "message": {"text": text}, "descriptor": {"id": why["code"]}}
    invocation = {"executionSuccessful": False, "toolExecutionNotifications": [notice]}
    suite = ET.Element("testsuite", name=f"bmz check {model}", tests="1", failures="0", errors="1")
    case = ET.SubElement(suite, "testcase", classname="bmz", name=model)
    told = ET.SubElement(case, "error", type=why["code"], message=why["message"])
    told.text = why["hint"]
    root = ET.Element("testsuites")
    root.append(suite)
    return {
        "sarif": _sarif_of({**_tool([]), "results": [], "invocations": [invocation]}),
        "junit": xml_text(root),
        "github": encodable(f"::error title={_escaped(error.code, ':,')}::{_escaped(text, '')}"),
    }


def _rule(code: str) -> dict[str, Any]:
    page = CODES.get(code)
    if page is None:
        return {"id": code, "helpUri": _PROJECT}
    return {
        "id": code,
        "helpUri": f"{_RULES}#{code.replace('.', '')}",
        "shortDescription": {"text": page.cause},
        "help": {"text": page.cure},
        "defaultConfiguration": {"level": SARIF_LEVELS[page.severity]},
    }


def _results(image: ImageCheck) -> Iterator[dict[str, Any]]:
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


def _result(image: ImageCheck, code: str, level: str, message: str, hint: str) -> dict[str, Any]:
    # code scanning of GitHub shows no result without a line, which pictures do not have
    place = {"artifactLocation": {"uri": _uri(image.image)}, "region": {"startLine": 1}}
    location = {"physicalLocation": place}
    series = "" if image.series is None else str(image.series)
    series += image.step or ""
    same = hashlib.sha256(f"{_uri(image.image)}\n{series}\n{code}".encode()).hexdigest()
    text = f"{message} ({hint})" if hint else message
    text = text if image.step is None else f"step {image.step}: {text}"
    return {
        "ruleId": code,
        "level": level,
        "message": {"text": text},
        "locations": [location],
        # identifies the same finding in the next run; GitHub supports only this name
        "partialFingerprints": {"primaryLocationLineHash": f"{same[:16]}:1"},
    }


def xml_text(root: ET.Element) -> str:
    """Return a document as indented text, with a replacement mark for what XML cannot represent.

    Non-ASCII letters are character references, so that any terminal and any encoding can show it.
    """
    for element in root.iter():
        element.text = element.text and _legal(element.text)
        element.attrib.update({name: _legal(value) for name, value in element.items()})
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="us-ascii", xml_declaration=True)
    return document.decode("ascii")


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", text)
