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
            *(f"{getattr(matching, name):.3f}" for name in _SHARES),
            *(str(n) for n in (matching.tp, matching.fp, matching.fn)),
        )
        for iou, matching in summary.total
    ]


def pair_table(summary: ScoreSummary) -> list[tuple[str, ...]]:
    """Give a line of cells for each pair at its first threshold, under `PAIR_HEADINGS`."""
    return [_pair_cells(score) for score in summary.scored]


def _pair_cells(score: PairScore) -> tuple[str, ...]:
    first = score.matchings[0]
    kinds = [error.kind for error in score.errors]
    counts = (first.tp + first.fn, first.tp + first.fp, *(kinds.count(kind) for kind in _KINDS))
    shares = (f"{share:.3f}" for share in (first.f1, first.ap, first.pq))
    return score.pair.name, *shares, *map(str, counts)


def score_lines(summary: ScoreSummary) -> list[Line]:
    """Tell what is wrong: the largest errors of a single mask, and pairs without a score."""
    lines: list[Line] = []
    if len(summary.outcomes) == 1 and summary.scored:
        errors = summary.scored[0].errors
        lines += [("answer", _error_words(error)) for error in errors[:_TOLD]]
        if len(errors) > _TOLD:
            lines.append(("answer", f"and {len(errors) - _TOLD} more; --json lists all"))
    for pair in summary.failed:
        lines += _failed_lines(pair)
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
    return {**sides, "scores": scores, "errors": pair.errors}
