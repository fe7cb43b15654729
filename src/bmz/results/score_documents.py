"""The JSON documents that compare masks with each other and with the truth, as types.

See `bmz.results.model_documents`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired

from typing_extensions import Doc, TypedDict  # pydantic asks for it below Python 3.12

from bmz.check.finding import Finding
from bmz.process.consensus import Plausibility
from bmz.process.matching import MaskError, Matching
from bmz.process.quality import Quality
from bmz.results.model_documents import Failure


class MeanAgreement(TypedDict):
    """How well masks agree, as a mean over images."""

    iou: Annotated[float, Doc("overlap from which two objects are the same")]
    precision: Annotated[float, Doc("tp / (tp + fp)")]
    recall: Annotated[float, Doc("tp / (tp + fn)")]
    f1: Annotated[float, Doc("2 tp / (2 tp + fp + fn)")]
    ap: Annotated[float, Doc("tp / (tp + fp + fn)")]
    pq: Annotated[float, Doc("panoptic quality")]
    mean_matched_iou: Annotated[float, Doc("of the pairs")]


class Agreement(MeanAgreement):
    """How well masks agree."""

    tp: Annotated[int, Doc("found and true")]
    fp: Annotated[int, Doc("found, and not true")]
    fn: Annotated[int, Doc("true, and not found")]


class ScoredPair(TypedDict):
    """Two masks of the same name."""

    name: str
    predicted: Annotated[str | None, Doc("path; null where there is none of that name")]
    truth: Annotated[str | None, Doc("path; null where there is none of that name")]
    scores: Annotated[NotRequired[Sequence[Agreement]], Doc("one an IoU")]
    errors: Annotated[
        NotRequired[Sequence[MaskError]], Doc("objects that were split, merged, missed or invented")
    ]
    error: Annotated[NotRequired[str], Doc("why there is no score")]


class ScoreDocument(TypedDict):
    """`bmz score`."""

    schema: Literal["bmz.score/1"]
    predicted: Annotated[str, Doc("path")]
    truth: Annotated[str, Doc("path")]
    scores: Annotated[Sequence[Agreement], Doc("of all objects together")]
    image_mean: Annotated[Sequence[MeanAgreement], Doc("mean over images")]
    pairs: Annotated[Sequence[ScoredPair], Doc("image by image")]


class ComparedModel(TypedDict):
    """A model of a comparison."""

    name: Annotated[str, Doc("the word of the call")]
    title: str
    sha256: Annotated[str, Doc("of the manifest")]


class ComparedResult(TypedDict):
    """One model with one setting on one image."""

    model: str
    settings: Annotated[Mapping[str, str], Doc("of the sweep")]
    recipe: str
    parameters: Annotated[Mapping[str, Any], Doc("of the recipe")]
    objects: int | None
    objects_in: Annotated[
        Mapping[str, int],
        Doc("positions along t and z, at each of which an object was counted anew"),
    ]
    joined_over: Annotated[
        Mapping[str, int], Doc("positions along t and z over which labels were joined")
    ]
    command: Annotated[str, Doc("that repeats it")]
    matchings: Annotated[Mapping[str, Matching], Doc("with the truth, by IoU")]
    errors: Annotated[Sequence[MaskError], Doc("against the truth")]
    agreement: Annotated[float | None, Doc("mean F1 with the other results")]
    consensus: Annotated[float | None, Doc("F1 with the objects that most results have")]
    stability: Annotated[float | None, Doc("mean F1 with results of changed images")]
    predicted: Annotated[Quality | None, Doc("F1 at IoU 0.5, predicted without the truth")]
    plausible: Plausibility | None
    network_s: float | None
    labels_s: float | None
    warnings: Annotated[int, Doc("how many of the findings")]
    findings: Annotated[Sequence[Finding], Doc("of the check and of the output")]
    error: Annotated[Failure | None, Doc("why there is no result")]


class ComparedImage(TypedDict):
    """All results of one image."""

    image: Annotated[str, Doc("path")]
    truth: Annotated[bool, Doc("there is one")]
    results: Annotated[Sequence[ComparedResult], Doc("the best first")]


class CompareDocument(TypedDict):
    """`bmz compare`."""

    schema: Literal["bmz.compare/1"]
    command: Annotated[str, Doc("that repeats it")]
    versions: Mapping[str, str]
    models: Sequence[ComparedModel]
    images: Sequence[ComparedImage]
