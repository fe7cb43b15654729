"""The check in words, as JSON, and as annotations of GitHub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bmz.base.errors import BmzError
from bmz.check.codes import FindingCode
from bmz.check.finding import Finding
from bmz.check.kind import ImageKind
from bmz.check.kind_words import kind_title, kind_words
from bmz.image.given_names import given_name, with_given_names
from bmz.report.run_text import finding_lines
from bmz.report.text import Line, document_text, encodable, failure_of, image_words, short_verdict
from bmz.results.check import CheckSummary, ImageChecked

if TYPE_CHECKING:
    from bmz.results.documents import CheckDocument, CheckedImage, ShownKind


MANY = 8
"""Of more images than these each has but one row; `bmz check` of one alone tells all of it."""

ORDER = ("error", "warning", "note")


def check_lines(summary: CheckSummary) -> list[Line]:
    """Tell the verdict of every image with its findings, the worst first.

    Of more than `MANY` images each has one row of a table, with the worst of its findings.
    """
    lines: list[Line] = []
    for image in summary.images if len(summary.images) <= MANY else ():
        lines.append(("answer", f"{image.name}: {image_words(image)}"))
        lines += _details(image)
    if len(summary.images) > MANY:
        lines += _rows(summary.images)
    if len(summary.images) > 1:
        counts = Counter(_sum_words(image) for image in summary.images)
        shown = ", ".join(f"{count} {words}" for words, count in counts.items())
        lines.append(("answer", f"{len(summary.images)} images: {shown}"))
        lines += _table(summary)
        lines += _kinds(summary)
    return lines


def _rows(images: Sequence[ImageChecked]) -> list[Line]:
    width = max(len(image.name) for image in images)
    cells = [_row_words(image) for image in images]
    wide = max(map(len, cells))
    return [
        ("answer", f"{image.name:<{width}}  {words:<{wide}}  {_worst(image)}".rstrip())
        for image, words in zip(images, cells, strict=True)
    ]


def _sum_words(image: ImageChecked) -> str:
    if image.verdict in ("fits", "adapts") and image.warnings:
        return "fits with warnings"
    return "fits as adapted" if image.verdict == "adapts" else image_words(image)


def _row_words(image: ImageChecked) -> str:
    if image.verdict in ("fits", "adapts"):
        return short_verdict(image.verdict, image.warnings)
    return "unknown" if image.verdict is None else "does not fit"


def _worst(image: ImageChecked) -> str:
    if image.error is not None:
        return str(image.error)
    grave = [f for f in image.report.findings if f.severity != "note"]
    first = min(grave, key=lambda f: ORDER.index(f.severity), default=None)
    more = f" (and {len(grave) - 1} more)" if len(grave) > 1 else ""
    return f"{first.severity}: {first.message} [{first.code}]{more}" if first else ""


def _table(summary: CheckSummary) -> list[Line]:
    """Count in how many images each finding comes up, the worst and commonest first."""
    counts = Counter(
        seen
        for image in summary.images
        for seen in dict.fromkeys((f.severity, f.code) for f in image.report.findings)
    )
    ranked = sorted(counts.items(), key=lambda item: (ORDER.index(item[0][0]), -item[1]))
    return [("answer", f"  {count:>5} x {kind:<8}{code}") for (kind, code), count in ranked]


def _kinds(summary: CheckSummary) -> list[Line]:
    """Count how many of the images show what."""
    counts = summary.kinds
    if not counts:
        return []
    told = "kinds of images, as stated" if summary.stated else "kinds of images, as seen"
    return [
        ("answer", f"{told}:"),
        *(("answer", f"  {count:>5} x {kind}") for kind, count in counts.items()),
    ]


def _details(image: ImageChecked) -> list[Line]:
    if image.error is not None:
        return [("error", str(image.error)), ("hint", image.error.hint)]
    kind = image.report.kind
    shown: list[Line] = [] if kind is None else [("answer", f"  shows {kind_words(kind)}")]
    return shown + finding_lines(image.report.findings)


def check_json(summary: CheckSummary) -> str:
    """Give the document ``bmz.check/1``."""
    document: CheckDocument = {
        "schema": "bmz.check/1",
        "model": summary.model,
        "model_sha256": summary.model_sha256,
        "stated_kind": None if summary.stated is None else str(summary.stated),
        "kinds": [{"kind": kind, "images": count} for kind, count in summary.kinds.items()],
        "images": [_image(image) for image in summary.images],
    }
    return document_text(document)


def _image(image: ImageChecked) -> CheckedImage:
    return {
        "image": given_name(image.image),
        "series": image.series,
        "verdict": image.verdict,
        "warnings": image.warnings,
        "findings": image.report.findings,
        "kind": _shown_kind(image.report.kind),
        "error": None if image.error is None else failure_of(image.error),
    }


def _shown_kind(kind: ImageKind | None) -> ShownKind | None:
    if kind is None:
        return None
    families, structures = (
        {word: round(probability, 4) for word, probability in one.items()}
        for one in (kind.families, kind.structures)
    )
    return {"title": kind_title(kind), "families": families, "structures": structures}


def check_github(summary: CheckSummary) -> str:
    """Give one workflow command for each finding; GitHub shows them beside the files."""
    lines = []
    for image in summary.images:
        if image.error is not None:
            lines.append(_command("error", image, image.error))
        for finding in image.report.findings:
            level = "notice" if finding.severity == "note" else finding.severity
            lines.append(_command(level, image, finding))
    warned = sum(image.warnings > 0 and image.verdict != "mismatch" for image in summary.images)
    if warned:  # a line of the log; GitHub shows but ten annotations of a kind
        lines.append(f"{warned} of {len(summary.images)} images: fits, with warnings")
    return encodable("\n".join(lines))


def _command(level: str, image: ImageChecked, why: Finding | BmzError) -> str:
    series = "" if image.series is None else f"series {image.series}: "
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
    """Tell of one code."""
    return [
        ("code", f"{code} ({page.severity})"),
        ("cause", page.cause),
        ("cure", page.cure),
        ("example", page.example),
    ]
