"""``bmz score``: measure how well label masks agree with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bmz.base.errors import BmzError
from bmz.base.progress import Listener, Progress, nobody
from bmz.engine.label_masks import mask_pairs, read_mask_pair
from bmz.process.matching import Overlap, ShapesDiffer, mask_errors, worst_objects
from bmz.results.compare import IOUS, MaskPair, PairFailed, PairScore, ScoreSummary


def score(
    predicted: Path,
    truth: Path,
    *,
    ious: Sequence[float] = IOUS,
    components: bool | None = None,
    dataset: str | None = None,
    listener: Listener = nobody,
) -> ScoreSummary:
    """Score one mask, or all masks of a folder or pattern, against the truth.

    Parameters
    ----------
    predicted, truth : a file, a folder, or a pattern such as ``results/*.labels.tif``
    ious : thresholds, each above 0 and at most 1
    components : how to read masks without object numbers; see `bmz.engine.label_masks.read_mask`
    dataset : dataset of HDF5 files that holds the labels; None for the only suitable one
    listener : called after each file

    Raises
    ------
    NothingToScore
        A path matches no mask, or the two sides have no name in common.
    """
    pairs = mask_pairs(predicted, truth, dataset=dataset)
    outcomes: list[PairScore | PairFailed] = []
    for number, pair in enumerate(pairs, start=1):
        outcomes.append(_scored(pair, ious, components=components))
        listener(Progress("files", number, len(pairs), pair.name))
    return ScoreSummary(str(predicted), str(truth), tuple(outcomes))


def _scored(
    pair: MaskPair, ious: Sequence[float], *, components: bool | None
) -> PairScore | PairFailed:
    if pair.predicted is None or pair.truth is None:
        return PairFailed(pair, None)
    try:
        predicted, truth = read_mask_pair(pair.predicted, pair.truth, components=components)
        if predicted.shape != truth.shape:
            raise ShapesDiffer(predicted.shape, truth.shape)
        overlap = Overlap.of(predicted, truth)
        matchings = tuple(overlap.matching(iou) for iou in ious)
        errors, worst = mask_errors(predicted, truth), worst_objects(predicted, truth)
        return PairScore(pair, tuple(ious), matchings, errors, worst)
    except BmzError as why:
        return PairFailed(pair, why)
