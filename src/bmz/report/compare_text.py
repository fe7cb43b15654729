"""A comparison in words, as a table, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bmz.report.run_text import finding_lines
from bmz.report.text import Line, document_text, encodable, failure_of, within
from bmz.results.compare import Comparison, ImageComparison, SettingResult

if TYPE_CHECKING:
    from bmz.results.documents import ComparedImage, CompareDocument, ComparedResult


WITH_TRUTH = (
    "result",
    "objects",
    "F1",
    "AP",
    "split",
    "merged",
    "missed",
    "false",
    "network",
    "labels",
)
WITHOUT = (
    "result",
    "objects",
    "agrees",
    "consensus",
    "stable",
    "plausible",
    "guess",
    "network",
    "labels",
)
_KINDS = ("split", "merge", "missed", "false")


def headings(image: ImageComparison) -> tuple[str, ...]:
    """Give the headings of the table of an image."""
    return WITHOUT if image.truth is None else WITH_TRUTH


def table(image: ImageComparison) -> list[tuple[str, ...]]:
    """Give one line a result that has labels, the best first."""
    return [_cells(result, known=image.truth is not None) for result in image.done]


def _cells(result: SettingResult, *, known: bool) -> tuple[str, ...]:
    quality, seconds = result.quality, (f"{result.network_s:.2f} s", f"{result.labels_s:.2f} s")
    if known:
        counts = [str(sum(e.kind == kind for e in quality.errors)) for kind in _KINDS]
        near = (_share(quality.f1), _share(quality.mean_ap))
        return (result.name, _count(result), *near, *counts, *seconds)
    plausible = None if quality.plausible is None else quality.plausible.share
    known_of = (quality.agreement, quality.consensus, quality.stability, plausible, quality.guess)
    return (result.name, _count(result), *map(_share, known_of), *seconds)


def _count(result: SettingResult) -> str:
    return f"{result.objects}{within(result.apart, result.joined)}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def lines(image: ImageComparison) -> list[Line]:
    """Tell what failed, what the check found, and why the first one is first."""
    text: list[Line] = []
    known: set[tuple[str, str]] = set()
    for result in image.results:
        if result.error is not None:
            text += [("error", f"{result.name}: {result.error}"), ("hint", result.error.hint)]
        worth = [f for f in result.findings if f.severity != "note"]
        for line in finding_lines(worth, result.model):
            if line not in known:
                known.add(line)
                text.append(line)
    if image.done:
        best = image.done[0]
        warned = f"; it has {best.warnings} warning{'s' * (best.warnings > 1)}"
        text.append(("answer", f"{best.name}: {why_first(image)}{warned * (best.warnings > 0)}"))
    return text


def why_first(image: ImageComparison) -> str:
    """Say in a sentence why the first result of an image is the first."""
    best = image.done[0]
    quality = best.quality
    if image.truth is not None:
        return (
            f"the nearest to the truth, F1 {_share(quality.f1)} at IoU 0.5 and "
            f"mean AP {_share(quality.mean_ap)}"
        )
    reasons = []
    if quality.agreement is not None:
        reasons.append(f"it agrees with the others (F1 {quality.agreement:.2f})")
    if quality.stability is not None:
        reasons.append(f"stays when the image is changed a little (F1 {quality.stability:.2f})")
    if quality.plausible is not None:
        reasons.append(f"{quality.plausible.share:.0%} of its objects look like single ones")
    return f"a guess without the truth: {', '.join(reasons)}; look at it before you trust it"


def rows(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Give one flat row a result, for CSV."""
    keys = dict.fromkeys(
        k for i in comparison.images for result in i.results for k in result.settings
    )
    apart = dict.fromkeys(
        a for i in comparison.images for result in i.results for a in result.apart
    )
    for image in comparison.images:
        for rank, result in enumerate(image.results, start=1):
            quality, plausible = result.quality, result.quality.plausible
            yield {
                "image": str(image.path),
                "rank": rank if result.error is None else None,
                "model": result.model,
                **{key: result.settings.get(key) for key in keys},
                "recipe": result.recipe,
                "objects": result.objects,
                "warnings": result.warnings,
                **{f"{axis}_positions": result.apart.get(axis, 1) for axis in apart},
                "f1": quality.f1,
                "mean_ap": quality.mean_ap,
                **{f"f1_iou_{iou:g}": m.f1 for iou, m in (quality.matchings or {}).items()},
                "agreement": quality.agreement,
                "consensus": quality.consensus,
                "stability": quality.stability,
                "plausible": None if plausible is None else plausible.share,
                "network_s": round(result.network_s, 4),
                "labels_s": round(result.labels_s, 4),
                "error": "" if result.error is None else str(result.error),
                "command": result.command,
            }


def as_csv(comparison: Comparison) -> str:
    """Give all results as CSV, one row each; what is not known stays an empty cell."""
    records = list(rows(comparison))
    names = list(dict.fromkeys(name for row in records for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in records)
    return encodable(text.getvalue())


def as_json(comparison: Comparison) -> str:
    """Give all results as one JSON document."""
    images: list[ComparedImage] = [
        {
            "image": str(image.path),
            "truth": image.truth is not None,
            "results": [_described(result) for result in image.results],
        }
        for image in comparison.images
    ]
    document: CompareDocument = {
        "schema": "bmz.compare/1",
        "command": comparison.command,
        "versions": comparison.versions,
        "models": comparison.models,
        "images": images,
    }
    return document_text(document)


def _described(result: SettingResult) -> ComparedResult:
    quality = result.quality
    return {
        "model": result.model,
        "settings": result.settings,
        "recipe": result.recipe,
        "parameters": result.parameters,
        "objects": result.objects,
        "objects_in": result.apart,
        "joined_over": result.joined,
        "command": result.command,
        "matchings": {f"{iou:g}": m for iou, m in quality.matchings.items()},
        "errors": quality.errors,
        "agreement": quality.agreement,
        "consensus": quality.consensus,
        "stability": quality.stability,
        "plausible": quality.plausible,
        "network_s": result.network_s,
        "labels_s": result.labels_s,
        "warnings": result.warnings,
        "findings": result.findings,
        "error": None if result.error is None else failure_of(result.error, str(result.error)),
    }
