"""Types of the JSON documents about models, their masks and this computer.

Code that writes a document states its type, so that mypy keeps the two consistent; the JSON Schemas
and the page of the reference are made from this module by ``bmz.report.reference``. Commands import
this only for type checking. A field may be added to a document; a change of meaning raises its
number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired

from typing_extensions import Doc, TypedDict  # pydantic asks for it below Python 3.12

from bmz.check.finding import Finding
from bmz.plan.recipe_settings import Setting
from bmz.process.consensus import Plausibility
from bmz.process.matching import MaskError, Matching, WorstObject
from bmz.process.quality import Quality
from bmz.results.models import FormatView, ModelCheck, Status, ToolReport, WeightsView
from bmz.results.packages import Proposal
from bmz.spec.facts import NeededPackage
from bmz.spec.model import Citation
from bmz.zoo.cache import FileState
from bmz.zoo.fetch import FetchedFile
from bmz.zoo.settings import TrustedCode
from bmz.zoo.store import CachedPackage


class Failure(TypedDict):
    """Why there is no result."""

    code: Annotated[str, Doc("code of the error; never changes")]
    message: Annotated[str, Doc("what happened, and to what")]
    hint: Annotated[str, Doc("the next step")]


class Listing(TypedDict):
    """How old the list of models is."""

    of: Annotated[int, Doc("number of models in the zoo, including those that come with bmz")]
    listed_at: Annotated[str, Doc("when the list was read")]
    stale: Annotated[bool, Doc("the list is old, and a new one could not be downloaded")]


class MadeForRecord(TypedDict):
    """The kind of image that a model is made for."""

    modalities: Annotated[Sequence[str], Doc("how the images are made; empty if not stated")]
    structures: Annotated[Sequence[str], Doc("what is segmented; empty if not stated")]
    source: Annotated[str, Doc("where this is stated")]


class FoundModel(TypedDict):
    """A model from the zoo, or one that comes with bmz."""

    id: Annotated[str, Doc("the name to give to other commands")]
    version: Annotated[str, Doc("version in the zoo")]
    sha256: Annotated[str, Doc("sha256 of the manifest")]
    aliases: Annotated[Sequence[str], Doc("other names of the model")]
    status: Annotated[Status, Doc("whether the description can be used")]
    reason: Annotated[str | None, Doc("why the description cannot be used")]
    name: Annotated[str, Doc("the model's own name")]
    description: Annotated[str, Doc("one sentence")]
    task: Annotated[str | None, Doc("such as instance-segmentation")]
    dims: Annotated[str | None, Doc("`2d` or `3d`")]
    weights: Annotated[Sequence[str], Doc("formats")]
    tags: Sequence[str]
    labels: Annotated[str | None, Doc("the label recipe, if one is known")]
    made_for: Annotated[MadeForRecord, Doc("the kind of image that the model is made for")]
    runs_here: Annotated[bool, Doc("at least one of its weights formats can run here")]
    score: Annotated[float, Doc("how well the model matches the words; 0 without words")]


class SearchDocument(Listing):
    """`bmz search`."""

    schema: Literal["bmz.search/1"]
    models: Annotated[Sequence[FoundModel], Doc("the models, most relevant first")]


class DeclaredStep(TypedDict):
    """A declared step."""

    name: Annotated[str, Doc("name of the step in the specification")]
    kwargs: Annotated[Mapping[str, Any], Doc("arguments of the step")]


class Tensor(TypedDict):
    """An input or an output of a model."""

    id: str
    axes: Annotated[str, Doc("one letter per axis")]
    sizes: Annotated[Mapping[str, str], Doc("axis -> size, such as `256 + 16n`")]
    halo: Annotated[Mapping[str, int], Doc("px")]
    channels: Annotated[Sequence[str], Doc("names")]
    dtype: str
    range: Annotated[Sequence[float | None], Doc("lowest and highest value")]
    steps: Annotated[Sequence[DeclaredStep], Doc("declared")]
    optional: bool


class ShownRecipe(TypedDict):
    """How the output of a model is turned into labels."""

    name: Annotated[str | None, Doc("name of the recipe; null if there is none")]
    why: Annotated[str, Doc("the evidence for the recipe, or what is missing")]
    output: Annotated[NotRequired[str], Doc("id of the output that is turned into labels")]
    code: Annotated[NotRequired[str], Doc("code of the error, if there is no recipe")]
    parameters: Annotated[
        Mapping[str, Any], Doc("parameters that the description or the curated facts give")
    ]
    settings: Annotated[NotRequired[Sequence[Setting]], Doc("every parameter of the recipe")]


class ShownMadeFor(MadeForRecord):
    """The kind of image that a model is made for, and what is known about the terms."""

    channels: Annotated[Sequence[str], Doc("what each channel of the image should show")]
    input_is_prediction: Annotated[
        bool, Doc("the input is the prediction of a network, not an image")
    ]
    ontology: Annotated[Mapping[str, str], Doc("term -> identifier in a published ontology")]


class ShowDocument(TypedDict):
    """`bmz show`."""

    schema: Literal["bmz.show/1"]
    id: str
    name: str
    version: Annotated[str, Doc("version in the zoo")]
    task: str | None
    dims: str | None
    description: str
    sha256: Annotated[str, Doc("sha256 of the manifest")]
    format_version: str
    folder: Annotated[str, Doc("folder of its files")]
    license: str
    authors: Sequence[str]
    cite: Sequence[Citation]
    tags: Sequence[str]
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    pixel_um: Annotated[Mapping[str, float], Doc("pixel size in um by axis, declared or curated")]
    made_for: Annotated[ShownMadeFor, Doc("the kind of image that the model is made for")]
    facts: Annotated[Mapping[str, Any], Doc("curated facts, each with its source")]
    recipe: Annotated[ShownRecipe, Doc("the label recipe, or why there is none")]
    decoder: Annotated[str | None, Doc("file of the automatic decoder for `--prompts none`")]
    weights: Sequence[WeightsView]
    runs_code: Annotated[Sequence[str], Doc("which parts of the model are code")]
    code_unknown: Annotated[
        Sequence[str], Doc("weights that may contain code, and why this is not known")
    ]
    packages: Annotated[
        Sequence[NeededPackage], Doc("Python packages that its code needs, as far as known")
    ]
    remarks: Annotated[Sequence[str], Doc("remarks of the parser")]
    defects: Annotated[Sequence[str], Doc("known defects")]
    reports: Annotated[
        Sequence[ToolReport] | None,
        Doc("reports of other tools; null if they could not be downloaded"),
    ]


class FetchedModel(TypedDict):
    """A requested model."""

    status: Literal["fetched", "failed"]
    model: str
    folder: Annotated[NotRequired[str], Doc("folder of the model")]
    weights: Annotated[NotRequired[Sequence[str]], Doc("weights formats that were fetched")]
    files: NotRequired[Sequence[FetchedFile]]
    error: Failure | None


class FetchDocument(TypedDict):
    """`bmz fetch`."""

    schema: Literal["bmz.fetch/1"]
    models: Annotated[Sequence[FetchedModel], Doc("the models, in the order of the call")]


class CacheDocument(TypedDict):
    """`bmz cache list`."""

    schema: Literal["bmz.cache/1"]
    packages: Sequence[CachedPackage]


class CacheVerifyDocument(TypedDict):
    """`bmz cache verify`."""

    schema: Literal["bmz.cache-verify/1"]
    files: Sequence[FileState]


class CacheRemoveDocument(TypedDict):
    """`bmz cache remove`."""

    schema: Literal["bmz.cache-remove/1"]
    packages: Annotated[Sequence[CachedPackage], Doc("the packages that were removed")]
    bytes: Annotated[int, Doc("bytes that were freed")]


class CacheArchiveDocument(TypedDict):
    """`bmz cache export` and `import`."""

    schema: Literal["bmz.cache-archive/1"]
    archive: Annotated[str, Doc("path")]
    packages: Annotated[Sequence[str], Doc("sha256 of the manifest of each package")]
    files: Annotated[int, Doc("number of files in the packages")]
    bytes: Annotated[int, Doc("size of the packages")]


class ReportCounts(TypedDict):
    """What other tools report about a model."""

    passed: Annotated[int, Doc("number of tools that reproduce its test output")]
    failed: Annotated[int, Doc("number of tools that do not")]


class TestedModel(TypedDict):
    """A model that was tested."""

    model: Annotated[str, Doc("the model, as named in the call")]
    status: Annotated[
        Literal["passed", "failed", "not-applicable"],
        Doc("result of the test; warnings do not count"),
    ]
    warnings: Annotated[int, Doc("number of checks with a warning")]
    checks: Annotated[Sequence[ModelCheck], Doc("the checks, in the order in which they were made")]


class ChangedCheck(TypedDict):
    """A check whose status differs from the baseline."""

    model: str
    check: str
    before: Annotated[str | None, Doc("status in the baseline; null if the check was not made")]
    now: Annotated[str | None, Doc("status now")]
    detail: Annotated[str, Doc("detail of the check")]
    worse: Annotated[bool, Doc("the change counts for the exit status")]


class TestDocument(TypedDict):
    """`bmz test`."""

    schema: Literal["bmz.test/2"]
    models: Annotated[Sequence[TestedModel], Doc("the models, in the order of the call")]
    changes: Annotated[
        NotRequired[Sequence[ChangedCheck]], Doc("with --baseline: the checks whose status changed")
    ]


class AdoptedModel(TypedDict):
    """A checkpoint that was given."""

    checkpoint: Annotated[str, Doc("path")]
    status: Literal["adopted", "failed"]
    package: Annotated[NotRequired[str], Doc("the folder that was written")]
    archive: Annotated[NotRequired[str], Doc("the zip that was written")]
    family: Annotated[NotRequired[str], Doc("the program that the checkpoint comes from")]
    why: Annotated[NotRequired[str], Doc("how the program was recognised")]
    notes: Annotated[NotRequired[Sequence[str]], Doc("what the author should state or review")]
    test: Annotated[NotRequired[TestedModel], Doc("the result of `bmz test` for the package")]
    error: Failure | None


class AdoptDocument(TypedDict):
    """`bmz adopt`."""

    schema: Literal["bmz.adopt/1"]
    models: Annotated[Sequence[AdoptedModel], Doc("the checkpoints, in the order of the call")]


class DescribeDocument(TypedDict):
    """`bmz describe`."""

    schema: Literal["bmz.describe/1"]
    model: Annotated[str, Doc("the model, as named in the call")]
    package: Annotated[str, Doc("the folder that was written")]
    text: Annotated[str, Doc("file with the text for a pull request")]
    proposals: Annotated[Sequence[Proposal], Doc("what was added, and the evidence for it")]
    refused: Annotated[Sequence[Proposal], Doc("what was left out, and why")]


class DoctorDocument(TypedDict):
    """`bmz doctor`."""

    schema: Literal["bmz.doctor/1"]
    versions: Mapping[str, str]
    system: str
    cpus: Annotated[int, Doc("number of processors that may be used")]
    memory_bytes: Annotated[int | None, Doc("memory of the computer; null if unknown")]
    cache: Annotated[str, Doc("folder of the cache")]
    cache_bytes: int
    formats: Annotated[Sequence[FormatView], Doc("weights formats")]
    others: Annotated[Sequence[FormatView], Doc("further frameworks that run a format")]
    starters: Annotated[Sequence[str], Doc("bundled models")]
    confinement: Annotated[Mapping[str, str], Doc("how the code of models is sandboxed here")]


class TrustDocument(TypedDict):
    """`bmz trust list`."""

    schema: Literal["bmz.trust/1"]
    trusted: Sequence[TrustedCode]


class MeanAgreement(TypedDict):
    """How well masks agree, as a mean over images."""

    iou: Annotated[float, Doc("overlap at which two objects match")]
    precision: Annotated[float, Doc("tp / (tp + fp)")]
    recall: Annotated[float, Doc("tp / (tp + fn)")]
    f1: Annotated[float, Doc("2 tp / (2 tp + fp + fn)")]
    ap: Annotated[float, Doc("tp / (tp + fp + fn)")]
    pq: Annotated[float, Doc("panoptic quality")]
    mean_matched_iou: Annotated[float, Doc("mean IoU of the matched pairs")]


class Agreement(MeanAgreement):
    """How well masks agree."""

    tp: Annotated[int, Doc("true positives: objects that were found and are true")]
    fp: Annotated[int, Doc("false positives: objects that were found but are not true")]
    fn: Annotated[int, Doc("false negatives: true objects that were not found")]


class ScoredPair(TypedDict):
    """Two masks of the same name."""

    name: str
    predicted: Annotated[str | None, Doc("path; null if there is no mask of that name")]
    truth: Annotated[str | None, Doc("path; null if there is no mask of that name")]
    scores: Annotated[NotRequired[Sequence[Agreement]], Doc("one per IoU threshold")]
    errors: Annotated[
        NotRequired[Sequence[MaskError]], Doc("objects that were split, merged, missed or invented")
    ]
    worst: Annotated[
        NotRequired[Sequence[WorstObject]],
        Doc("at most 20 objects that are wrong or have poor outlines, lowest overlap first"),
    ]
    error: Annotated[NotRequired[str], Doc("why there is no score")]


class ScoreDocument(TypedDict):
    """`bmz score`."""

    schema: Literal["bmz.score/1"]
    predicted: Annotated[str, Doc("path")]
    truth: Annotated[str, Doc("path")]
    scores: Annotated[Sequence[Agreement], Doc("scores over all objects together")]
    image_mean: Annotated[Sequence[MeanAgreement], Doc("mean over images")]
    pairs: Annotated[Sequence[ScoredPair], Doc("image by image")]


class ComparedModel(TypedDict):
    """A model of a comparison."""

    name: Annotated[str, Doc("the model, as named in the call")]
    title: str
    sha256: Annotated[str, Doc("sha256 of the manifest")]


class JudgedAgreement(TypedDict):
    """How far a mask agrees with what a user judged right and wrong."""

    f1: Annotated[float | None, Doc("F1 over the judged objects; null if none was judged right")]
    right: Annotated[int, Doc("number of objects that were judged right")]
    found: Annotated[float, Doc("number of these that the mask has")]
    wrong: Annotated[int, Doc("number of objects that were judged wrong")]
    repeated: Annotated[float, Doc("number of these that the mask repeats")]


class ComparedResult(TypedDict):
    """One model with one setting on one image."""

    model: str
    settings: Annotated[Mapping[str, str], Doc("values of the sweep")]
    recipe: str
    parameters: Annotated[Mapping[str, Any], Doc("parameters of the recipe")]
    objects: int | None
    objects_in: Annotated[
        Mapping[str, int],
        Doc("number of positions along t and z at which objects were counted separately"),
    ]
    joined_over: Annotated[
        Mapping[str, int], Doc("number of positions along t and z over which labels were joined")
    ]
    command: Annotated[str, Doc("command that repeats it")]
    matchings: Annotated[Mapping[str, Matching], Doc("agreement with the truth, by IoU threshold")]
    errors: Annotated[Sequence[MaskError], Doc("errors compared with the truth")]
    judged: Annotated[JudgedAgreement | None, Doc("null if nothing of the image was judged")]
    agreement: Annotated[float | None, Doc("mean F1 with the other results")]
    consensus: Annotated[float | None, Doc("F1 with the objects that most results have")]
    stability: Annotated[float | None, Doc("mean F1 with results of changed images")]
    predicted: Annotated[Quality | None, Doc("F1 at IoU 0.5, predicted without the truth")]
    plausible: Plausibility | None
    network_s: float | None
    labels_s: float | None
    warnings: Annotated[int, Doc("number of findings that are warnings")]
    findings: Annotated[Sequence[Finding], Doc("findings of the check and about the output")]
    error: Annotated[Failure | None, Doc("why there is no result")]


class ComparedImage(TypedDict):
    """All results of one image."""

    image: Annotated[str, Doc("path")]
    truth: Annotated[bool, Doc("a true mask was given")]
    results: Annotated[Sequence[ComparedResult], Doc("the results, best first")]


class ComparedSetting(TypedDict):
    """One model with one setting over all images; failures count as 0 in the means."""

    model: str
    settings: Annotated[Mapping[str, str], Doc("values of the sweep")]
    images: Annotated[int, Doc("number of images with labels")]
    first: Annotated[int, Doc("number of images for which it ranks first")]
    mean_ap: Annotated[float | None, Doc("mean AP, if there is a truth")]
    judged: Annotated[float | None, Doc("F1 over the judged objects of all images")]
    guess: Annotated[float | None, Doc("mean predicted F1 less warnings, if there is no truth")]


class CompareDocument(TypedDict):
    """`bmz compare`."""

    schema: Literal["bmz.compare/1"]
    command: Annotated[str, Doc("command that repeats it")]
    versions: Mapping[str, str]
    models: Sequence[ComparedModel]
    images: Sequence[ComparedImage]
    over_images: Annotated[Sequence[ComparedSetting], Doc("each setting, the best first")]
