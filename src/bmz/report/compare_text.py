"""Comparisons of models and scores of label masks, as text, CSV and JSON."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bmz.image.given_names import given_name, with_given_names
from bmz.process.matching import Fault, Kind, MaskError, Matching, WorstObject
from bmz.process.quality import f1_words
from bmz.report.run_text import finding_lines
from bmz.report.text import Line, document_text, encodable, failure_of, within
from bmz.results.compare import (
    Comparison,
    ImageComparison,
    PairFailed,
    PairScore,
    ScoreSummary,
    SettingResult,
)

if TYPE_CHECKING:
    from bmz.results.model_documents import (
        Agreement,
        ComparedImage,
        CompareDocument,
        ComparedResult,
        MeanAgreement,
        ScoreDocument,
        ScoredPair,
    )


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
    "warnings",
    "predicted",
    "agrees",
    "consensus",
    "stable",
    "guess",
    "network",
    "labels",
)


def headings(image: ImageComparison) -> tuple[str, ...]:
    """Give the headings of the table of an image."""
    return WITHOUT if image.truth is None else WITH_TRUTH


def table(image: ImageComparison) -> list[tuple[str, ...]]:
    """Give one line per result that has labels, the best first."""
    return [_cells(result, known=image.truth is not None) for result in image.done]


def _cells(result: SettingResult, *, known: bool) -> tuple[str, ...]:
    quality, seconds = result.quality, (f"{result.network_s:.2f} s", f"{result.labels_s:.2f} s")
    if known:
        counts = [str(sum(e.kind == kind for e in quality.errors)) for kind in _KINDS]
        near = (_share(quality.f1), _share(quality.mean_ap))
        return (result.name, _count(result), *near, *counts, *seconds)
    known_of = (
        quality.predicted_f1,
        quality.agreement,
        quality.consensus,
        quality.stability,
        result.guess,
    )
    warned = str(result.warnings or "")
    return (result.name, _count(result), warned, *map(_share, known_of), *seconds)


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
            f"closest to the ground truth, F1 {_share(quality.f1)} at IoU 0.5 and "
            f"mean AP {_share(quality.mean_ap)}"
        )
    reasons = []
    if quality.predicted is not None:
        reasons.append(f"{f1_words(quality.predicted)} is predicted")
    if quality.agreement is not None:
        reasons.append(f"it agrees with the others (F1 {quality.agreement:.2f})")
    if quality.stability is not None:
        reasons.append(
            f"it is stable under small changes of the image (F1 {quality.stability:.2f})"
        )
    tie = tied(image)
    more = f"; it is a tie with {', '.join(tie)}" if tie else ""
    reason = f"estimated without ground truth: {', '.join(reasons)}"
    return f"{reason}{more}; look at it before you trust it"


def tied(image: ImageComparison) -> tuple[str, ...]:
    """Name the results whose prediction is not surely lower than that of the first."""
    first, *others = image.done
    if image.truth is not None:
        return ()
    return tuple(other.name for other in others if other.quality.ties_with(first.quality))


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
                "image": given_name(image.path),
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
                "predicted": quality.predicted_f1,
                "plausible": None if plausible is None else plausible.share,
                "network_s": round(result.network_s, 4),
                "labels_s": round(result.labels_s, 4),
                "error": "" if result.error is None else with_given_names(str(result.error)),
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
            "image": given_name(image.path),
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
        "predicted": quality.predicted,
        "plausible": quality.plausible,
        "network_s": result.network_s,
        "labels_s": result.labels_s,
        "warnings": result.warnings,
        "findings": result.findings,
        "error": None if result.error is None else failure_of(result.error, str(result.error)),
    }


HEADINGS = ("IoU", "F1", "precision", "recall", "AP", "PQ", "mean IoU", "TP", "FP", "FN")
PAIR_HEADINGS = ("mask", "F1", "AP", "PQ", "true", "found", "split", "merged", "missed", "false")
_SHARES = ("f1", "precision", "recall", "ap", "pq", "mean_matched_iou")
_KINDS: tuple[Kind, ...] = ("split", "merge", "missed", "false")
_TOLD = 10
"""Objects that the table names."""


def score_table(summary: ScoreSummary) -> list[tuple[str, ...]]:
    """Give a line of cells for each threshold, under the headings `HEADINGS`."""
    return [
        (
            f"{iou:.2f}",
            *(f"{getattr(matching, name):.3f}" for name in _SHARES),
            *(str(n) for n in (matching.tp, matching.fp, matching.fn)),
        )
        for iou, matching in summary.total
    ]


def pair_table(summary: ScoreSummary) -> list[tuple[str, ...]]:
    """Give a line of cells for each pair at its first threshold, under `PAIR_HEADINGS`.

    Below several of them stands one for the objects of all masks counted together.
    """
    rows = [_pair_cells(s.pair.name, s.matchings[0], s.errors) for s in summary.scored]
    if len(rows) > 1:
        errors = [error for score in summary.scored for error in score.errors]
        rows.append(_pair_cells(f"all {len(rows)}", summary.total[0][1], errors))
    return rows


def _pair_cells(name: str, first: Matching, errors: Sequence[MaskError]) -> tuple[str, ...]:
    kinds = [error.kind for error in errors]
    counts = (first.tp + first.fn, first.tp + first.fp, *(kinds.count(kind) for kind in _KINDS))
    shares = (f"{share:.3f}" for share in (first.f1, first.ap, first.pq))
    return name, *shares, *map(str, counts)


WORST_HEADINGS = ("worst objects", "object", "true object", "IoU", "px", "at")

FAULTS: Mapping[Fault, str] = {
    "split": "split into {parts}",
    "merge": "holds true objects {parts}",
    "missed": "missed",
    "false": "no true object",
    "small": "too small",
    "large": "too large",
    "moved": "of another shape",
}
"""What is wrong with an object, in words."""


def worst_table(summary: ScoreSummary) -> list[tuple[str, ...]]:
    """Give a line of cells for each of the worst objects, under `WORST_HEADINGS`."""
    many = len(summary.outcomes) > 1
    worst = [(score.pair.name, one) for score in summary.scored for one in score.worst]
    worst.sort(key=lambda entry: (entry[1].iou, -entry[1].area_px))
    return [_worst_cells(f"{name}: " if many else "", one) for name, one in worst[:_TOLD]]


def _worst_cells(image: str, worst: WorstObject) -> tuple[str, ...]:
    numbers = ("" if number is None else str(number) for number in (worst.label, worst.truth))
    at = ", ".join(f"{value:.0f}" for value in worst.centroid)
    what = FAULTS[worst.what].format(parts=", ".join(map(str, worst.parts)))
    return (image + what, *numbers, f"{worst.iou:.2f}", str(worst.area_px), at)


def score_lines(summary: ScoreSummary) -> list[Line]:
    """Tell how many more objects are wrong than the table names, and of pairs without a score."""
    lines: list[Line] = []
    wrong = sum(len(score.worst) for score in summary.scored)
    if wrong > _TOLD:
        lines.append(("note", f"{_TOLD} of the worst objects are named; --json has more of them"))
    for pair in summary.failed:
        lines += _failed_lines(pair)
    return lines


def _failed_lines(pair: PairFailed) -> list[Line]:
    if pair.error is not None:
        return [("error", f"{pair.pair.name}: {pair.error}"), ("hint", pair.error.hint)]
    lacking = "predicted" if pair.pair.predicted is None else "true"
    return [("error", f"{pair.pair.name}: there is no {lacking} mask of that name")]


def score_json(summary: ScoreSummary) -> str:
    """Give all of it as one document."""
    document: ScoreDocument = {
        "schema": "bmz.score/1",
        "predicted": summary.predicted,
        "truth": summary.truth,
        "scores": [_values(iou, matching) for iou, matching in summary.total],
        "image_mean": _image_mean(summary.scored),
        "pairs": [_pair_values(pair) for pair in summary.outcomes],
    }
    return document_text(document)


def _values(iou: float, matching: Matching) -> Agreement:
    return {
        "iou": iou,
        "tp": matching.tp,
        "fp": matching.fp,
        "fn": matching.fn,
        "precision": matching.precision,
        "recall": matching.recall,
        "f1": matching.f1,
        "ap": matching.ap,
        "pq": matching.pq,
        "mean_matched_iou": matching.mean_matched_iou,
    }


def _image_mean(scored: Sequence[PairScore]) -> list[MeanAgreement]:
    """Give for each threshold the mean over masks, in which each mask weighs the same."""
    if not scored:
        return []
    columns = zip(*(score.matchings for score in scored), strict=True)
    return [_mean(iou, some) for iou, some in zip(scored[0].ious, columns, strict=True)]


def _mean(iou: float, matchings: Sequence[Matching]) -> MeanAgreement:
    return {
        "iou": iou,
        "f1": statistics.fmean(matching.f1 for matching in matchings),
        "precision": statistics.fmean(matching.precision for matching in matchings),
        "recall": statistics.fmean(matching.recall for matching in matchings),
        "ap": statistics.fmean(matching.ap for matching in matchings),
        "pq": statistics.fmean(matching.pq for matching in matchings),
        "mean_matched_iou": statistics.fmean(matching.mean_matched_iou for matching in matchings),
    }


def _pair_values(pair: PairScore | PairFailed) -> ScoredPair:
    sides: ScoredPair = {
        "name": pair.pair.name,
        "predicted": None if pair.pair.predicted is None else str(pair.pair.predicted),
        "truth": None if pair.pair.truth is None else str(pair.pair.truth),
    }
    if isinstance(pair, PairFailed):
        return {**sides, "error": str(pair.error or _failed_lines(pair)[0][1])}
    scores = [_values(iou, m) for iou, m in zip(pair.ious, pair.matchings, strict=True)]
    return {**sides, "scores": scores, "errors": pair.errors, "worst": pair.worst}
