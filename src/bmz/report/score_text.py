"""Scores of label masks in words and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bmz.process.matching import Kind, MaskError, Matching
from bmz.report.text import Line, document_text
from bmz.results.compare import PairFailed, PairScore, ScoreSummary

if TYPE_CHECKING:
    from bmz.results.documents import Agreement, MeanAgreement, ScoreDocument, ScoredPair


HEADINGS = ("IoU", "F1", "precision", "recall", "AP", "PQ", "mean IoU", "TP", "FP", "FN")
PAIR_HEADINGS = ("mask", "F1", "AP", "PQ", "true", "found", "split", "merged", "missed", "false")
_SHARES = ("f1", "precision", "recall", "ap", "pq", "mean_matched_iou")
_KINDS: tuple[Kind, ...] = ("split", "merge", "missed", "false")
_TOLD = 10  # errors in words; JSON has all


def score_table(summary: ScoreSummary) -> list[tuple[str, ...]]:
    """Give a line of cells for each threshold, under the headings `HEADINGS`."""
    return [
        (
            f"{iou:.2f}",
            *(f"{getattr(found, name):.3f}" for name in _SHARES),
            *(str(n) for n in (found.tp, found.fp, found.fn)),
        )
        for iou, found in summary.total
    ]


def pair_table(summary: ScoreSummary) -> list[tuple[str, ...]]:
    """Give a line of cells for each pair at its first threshold, under `PAIR_HEADINGS`."""
    return [_pair_cells(one) for one in summary.scored]


def _pair_cells(one: PairScore) -> tuple[str, ...]:
    first = one.matchings[0]
    kinds = [error.kind for error in one.errors]
    counts = (first.tp + first.fn, first.tp + first.fp, *(kinds.count(kind) for kind in _KINDS))
    shares = (f"{share:.3f}" for share in (first.f1, first.ap, first.pq))
    return one.pair.name, *shares, *map(str, counts)


def score_lines(summary: ScoreSummary) -> list[Line]:
    """Tell what is wrong: the largest errors of a single mask, and pairs without a score."""
    lines: list[Line] = []
    if len(summary.outcomes) == 1 and summary.scored:
        errors = summary.scored[0].errors
        lines += [("answer", _error_words(error)) for error in errors[:_TOLD]]
        if len(errors) > _TOLD:
            lines.append(("answer", f"and {len(errors) - _TOLD} more; --json lists all"))
    for one in summary.failed:
        lines += _failed_lines(one)
    return lines


def _error_words(error: MaskError) -> str:
    at = ", ".join(f"{value:.0f}" for value in error.centroid)
    parts = ", ".join(map(str, error.parts))
    what = {
        "split": f"split: true object {error.label} lies in pieces {parts}",
        "merge": f"merged: object {error.label} holds the true objects {parts}",
        "missed": f"missed: true object {error.label}",
        "false": f"false: object {error.label}",
    }[error.kind]
    return f"{what}, {error.area_px} px at ({at})"


def _failed_lines(one: PairFailed) -> list[Line]:
    if one.error is not None:
        return [("error", f"{one.pair.name}: {one.error}"), ("hint", one.error.hint)]
    lacking = "predicted" if one.pair.predicted is None else "true"
    return [("error", f"{one.pair.name}: there is no {lacking} mask of that name")]


def score_json(summary: ScoreSummary) -> str:
    """Give all of it as one document."""
    document: ScoreDocument = {
        "schema": "bmz.score/1",
        "predicted": summary.predicted,
        "truth": summary.truth,
        "scores": [_values(iou, found) for iou, found in summary.total],
        "image_mean": _image_mean(summary.scored),
        "pairs": [_pair_values(one) for one in summary.outcomes],
    }
    return document_text(document)


def _values(iou: float, found: Matching) -> Agreement:
    return {
        "iou": iou,
        "tp": found.tp,
        "fp": found.fp,
        "fn": found.fn,
        "precision": found.precision,
        "recall": found.recall,
        "f1": found.f1,
        "ap": found.ap,
        "pq": found.pq,
        "mean_matched_iou": found.mean_matched_iou,
    }


def _image_mean(scored: Sequence[PairScore]) -> list[MeanAgreement]:
    """Give for each threshold the mean over masks, in which each mask weighs the same."""
    if not scored:
        return []
    columns = zip(*(one.matchings for one in scored), strict=True)
    return [_mean(iou, some) for iou, some in zip(scored[0].ious, columns, strict=True)]


def _mean(iou: float, matchings: Sequence[Matching]) -> MeanAgreement:
    return {
        "iou": iou,
        "f1": statistics.fmean(one.f1 for one in matchings),
        "precision": statistics.fmean(one.precision for one in matchings),
        "recall": statistics.fmean(one.recall for one in matchings),
        "ap": statistics.fmean(one.ap for one in matchings),
        "pq": statistics.fmean(one.pq for one in matchings),
        "mean_matched_iou": statistics.fmean(one.mean_matched_iou for one in matchings),
    }


def _pair_values(one: PairScore | PairFailed) -> ScoredPair:
    sides: ScoredPair = {
        "name": one.pair.name,
        "predicted": None if one.pair.predicted is None else str(one.pair.predicted),
        "truth": None if one.pair.truth is None else str(one.pair.truth),
    }
    if isinstance(one, PairFailed):
        return {**sides, "error": str(one.error or _failed_lines(one)[0][1])}
    scores = [_values(iou, m) for iou, m in zip(one.ious, one.matchings, strict=True)]
    return {**sides, "scores": scores, "errors": one.errors}
