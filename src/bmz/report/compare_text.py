"""Format comparisons of models and scores of label masks as text, CSV and JSON."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bmz.image.formats import name_of
from bmz.image.given_names import given_name, with_given_names
from bmz.process.judged import Judged
from bmz.process.matching import Fault, Kind, MaskError, Matching, WorstObject
from bmz.process.quality import f1_words
from bmz.report.run_text import finding_lines
from bmz.report.text import Line, document_text, encodable, failure_of, within
from bmz.results.compare import (
    Comparison,
    ImageComparison,
    OverImages,
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
        ComparedSetting,
        JudgedAgreement,
        MeanAgreement,
        ScoreDocument,
        ScoredPair,
    )


WITH_TRUTH = (
    "result",
    "objects",
    "AP",
    "judged",
    "F1",
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
    "judged",
    "guess",
    "predicted",
    "warnings",
    "agrees",
    "consensus",
    "stable",
    "network",
    "labels",
)
"""Headings of the table without the truth; the figures for sorting come before the others."""

_WHERE_KNOWN = frozenset({"judged", "warnings", "agrees", "consensus", "stable"})
"""Columns that are left out if no result has an entry."""

SORTED_BY = ("AP", "judged", "guess")
"""Columns of the figures by which results are sorted, in order of precedence."""


def headings(image: ImageComparison) -> tuple[str, ...]:
    """Return the headings of the table of an image."""
    return tuple(_columns(image))


def table(image: ImageComparison) -> list[tuple[str, ...]]:
    """Return one row per result that has labels, the best first."""
    return list(zip(*_columns(image).values(), strict=True))


def _columns(image: ImageComparison) -> dict[str, list[str]]:
    names = WITHOUT if image.truth is None else WITH_TRUTH
    lines_ = [_cells(result) for result in image.done]
    columns = {name: [cells[name] for cells in lines_] for name in names}
    return {n: cells for n, cells in columns.items() if n not in _WHERE_KNOWN or any(cells)}


def _cells(result: SettingResult) -> dict[str, str]:
    quality = result.quality
    kinds = [error.kind for error in quality.errors]
    return {
        "result": result.name,
        "objects": _count(result),
        "AP": _share(quality.mean_ap),
        "judged": _share(quality.judged_f1),
        "F1": _share(quality.f1),
        **{name: str(kinds.count(k)) for name, k in zip(WITH_TRUTH[5:9], _KINDS, strict=True)},
        "guess": _share(result.guess),
        "predicted": _share(quality.predicted_f1),
        "warnings": str(result.warnings or ""),
        "agrees": _share(quality.agreement),
        "consensus": _share(quality.consensus),
        "stable": _share(quality.stability),
        "network": f"{result.network_s:.2f} s",
        "labels": f"{result.labels_s:.2f} s",
    }


OVER_IMAGES = ("over all images", "images", "first in", "AP", "judged", "guess", "least", "in")
"""Headings of the table of settings over all images."""


def table_over_images(comparison: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the headings and one row per setting over all images, the best first.

    Of the three figures by which results are sorted, the known ones are shown. ``least`` is the
    lowest value of the first of them; the next column names the image that has it.
    """
    lines_ = [_cells_over_images(setting) for setting in comparison.over_images]
    known = [n for n in OVER_IMAGES if n not in SORTED_BY or any(cells[n] for cells in lines_)]
    if "AP" in known and "guess" in known:
        known.remove("guess")  # there is no need to guess if the truth is known
    return tuple(known), [tuple(cells[name] for name in known) for cells in lines_]


def _cells_over_images(setting: OverImages) -> dict[str, str]:
    least, where = setting.least
    figures = (_share(mean) for mean in setting.means)
    return {
        "over all images": setting.name,
        "images": str(len(setting.results)),
        "first in": str(setting.first),
        **dict(zip(SORTED_BY, figures, strict=True)),
        "least": _share(least),
        "in": "" if where is None else name_of(where),
    }


def _count(result: SettingResult) -> str:
    return f"{result.objects}{within(result.apart, result.joined)}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def lines(image: ImageComparison) -> list[Line]:
    """Report what failed, what the check found, and why the first result is first."""
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
    """Explain in a sentence why the first result of an image is first."""
    best = image.done[0]
    quality = best.quality
    if image.truth is not None:
        return (
            f"closest to the ground truth, mean AP {_share(quality.mean_ap)} "
            f"(F1 {_share(quality.f1)} at IoU 0.5)"
        )
    reasons = []
    if quality.judged is not None:
        reasons.append(judged_words(quality.judged))
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
    """Return the names of results whose prediction is not clearly lower than that of the first."""
    first, *others = image.done
    if image.truth is not None:
        return ()
    return tuple(
        other.name
        for other in others
        if other.quality.judged_f1 == first.quality.judged_f1
        and other.quality.ties_with(first.quality)
    )


def judged_words(judged: Judged) -> str:
    """Describe how well a result agrees with the user's judgements."""
    told = []
    if judged.right:
        told.append(f"has {judged.found:.3g} of {judged.right} judged right")
    if judged.wrong:
        told.append(f"repeats {judged.repeated:.3g} of {judged.wrong} judged wrong")
    return f"it {' and '.join(told)}"


def rows(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Yield one flat row per result, for CSV."""
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
                **_judged_row(quality.judged),
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


def _judged_row(judged: Judged | None) -> dict[str, Any]:
    if judged is None:
        return {}
    names = ("right", "found", "wrong", "repeated")
    return {"judged_f1": judged.f1, **{f"judged_{n}": getattr(judged, n) for n in names}}


def as_csv(comparison: Comparison) -> str:
    """Return all results as CSV, one row each; unknown values are empty cells."""
    records = list(rows(comparison))
    names = list(dict.fromkeys(name for row in records for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in records)
    return encodable(text.getvalue())


def as_json(comparison: Comparison) -> str:
    """Return all results as one JSON document."""
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
        "over_images": [_described_setting(setting) for setting in comparison.over_images],
    }
    return document_text(document)


def _described_setting(setting: OverImages) -> ComparedSetting:
    mean_ap, judged, guess = setting.means
    return {
        "model": setting.model,
        "settings": setting.settings,
        "images": len(setting.results),
        "first": setting.first,
        "mean_ap": mean_ap,
        "judged": judged,
        "guess": None if mean_ap is not None else guess,
    }


def _described_judged(judged: Judged | None) -> JudgedAgreement | None:
    if judged is None:
        return None
    return {
        "f1": judged.f1,
        "right": judged.right,
        "found": judged.found,
        "wrong": judged.wrong,
        "repeated": judged.repeated,
    }


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
        "judged": _described_judged(quality.judged),
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
"""Maximum number of objects that the table names."""


def score_table(summary: ScoreSummary) -> list[tuple[str, ...]]:
    """Return one row of cells per threshold, under the headings `HEADINGS`."""
    return [
        (
            f"{iou:.2f}",
            *(f"{getattr(matching, name):.3f}" for name in _SHARES),
            *(str(n) for n in (matching.tp, matching.fp, matching.fn)),
        )
        for iou, matching in summary.total
    ]


def pair_table(summary: ScoreSummary) -> list[tuple[str, ...]]:
    """Return one row of cells per pair at its first threshold, under `PAIR_HEADINGS`.

    Several pairs are followed by a row for the objects of all masks counted together.
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
"""Kind of error -> what is wrong with an object, in words."""


def worst_table(summary: ScoreSummary) -> list[tuple[str, ...]]:
    """Return one row of cells for each of the worst objects, under `WORST_HEADINGS`."""
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
    """Report how many wrong objects the table leaves out, and the pairs without a score."""
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
    """Return the JSON document."""
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
    """Return the mean over masks for each threshold, with equal weight for each mask."""
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
