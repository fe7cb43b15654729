"""A comparison in words, as a table, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bmz.report.run_text import finding_lines
from bmz.report.text import Line, document_text, encodable, failure_of, within
from bmz.results.compare import Comparison, ImageCompared, SettingResult

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


def headings(image: ImageCompared) -> tuple[str, ...]:
    """Give the headings of the table of an image."""
    return WITHOUT if image.truth is None else WITH_TRUTH


def table(image: ImageCompared) -> list[tuple[str, ...]]:
    """Give one line a result that has labels, the best first."""
    return [_cells(one, known=image.truth is not None) for one in image.done]


def _cells(one: SettingResult, *, known: bool) -> tuple[str, ...]:
    quality, seconds = one.quality, (f"{one.network_s:.2f} s", f"{one.labels_s:.2f} s")
    if known:
        counts = [str(sum(e.kind == kind for e in quality.errors)) for kind in _KINDS]
        near = (_share(quality.f1), _share(quality.mean_ap))
        return (one.name, _count(one), *near, *counts, *seconds)
    plausible = None if quality.plausible is None else quality.plausible.share
    known_of = (quality.agreement, quality.consensus, quality.stability, plausible, quality.guess)
    return (one.name, _count(one), *map(_share, known_of), *seconds)


def _count(one: SettingResult) -> str:
    return f"{one.objects}{within(one.apart, one.joined)}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def lines(image: ImageCompared) -> list[Line]:
    """Tell what failed, what the check found, and why the first one is first."""
    told: list[Line] = []
    seen: set[tuple[str, str]] = set()
    for one in image.results:
        if one.error is not None:
            told += [("error", f"{one.name}: {one.error}"), ("hint", one.error.hint)]
        worth = [f for f in one.findings if f.severity != "note"]
        for line in finding_lines(worth, one.model):
            if line not in seen:
                seen.add(line)
                told.append(line)
    if image.done:
        best = image.done[0]
        warned = f"; it has {best.warnings} warning{'s' * (best.warnings > 1)}"
        told.append(("answer", f"{best.name}: {why_first(image)}{warned * (best.warnings > 0)}"))
    return told


def why_first(image: ImageCompared) -> str:
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
    keys = dict.fromkeys(k for i in comparison.images for one in i.results for k in one.settings)
    apart = dict.fromkeys(a for i in comparison.images for one in i.results for a in one.apart)
    for image in comparison.images:
        for rank, one in enumerate(image.results, start=1):
            quality, plausible = one.quality, one.quality.plausible
            yield {
                "image": str(image.path),
                "rank": rank if one.error is None else None,
                "model": one.model,
                **{key: one.settings.get(key) for key in keys},
                "recipe": one.recipe,
                "objects": one.objects,
                "warnings": one.warnings,
                **{f"{axis}_positions": one.apart.get(axis, 1) for axis in apart},
                "f1": quality.f1,
                "mean_ap": quality.mean_ap,
                **{f"f1_iou_{iou:g}": m.f1 for iou, m in (quality.matchings or {}).items()},
                "agreement": quality.agreement,
                "consensus": quality.consensus,
                "stability": quality.stability,
                "plausible": None if plausible is None else plausible.share,
                "network_s": round(one.network_s, 4),
                "labels_s": round(one.labels_s, 4),
                "error": "" if one.error is None else str(one.error),
                "command": one.command,
            }


def as_csv(comparison: Comparison) -> str:
    """Give all results as CSV, one row each; what is not known stays an empty cell."""
    found = list(rows(comparison))
    names = list(dict.fromkeys(name for row in found for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in found)
    return encodable(text.getvalue())


def as_json(comparison: Comparison) -> str:
    """Give all results as one JSON document."""
    images: list[ComparedImage] = [
        {
            "image": str(image.path),
            "truth": image.truth is not None,
            "results": [_described(one) for one in image.results],
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


def _described(one: SettingResult) -> ComparedResult:
    quality = one.quality
    return {
        "model": one.model,
        "settings": one.settings,
        "recipe": one.recipe,
        "parameters": one.parameters,
        "objects": one.objects,
        "objects_in": one.apart,
        "joined_over": one.joined,
        "command": one.command,
        "matchings": {f"{iou:g}": m for iou, m in quality.matchings.items()},
        "errors": quality.errors,
        "agreement": quality.agreement,
        "consensus": quality.consensus,
        "stability": quality.stability,
        "plausible": quality.plausible,
        "network_s": one.network_s,
        "labels_s": one.labels_s,
        "warnings": one.warnings,
        "findings": one.findings,
        "error": None if one.error is None else failure_of(one.error, str(one.error)),
    }
