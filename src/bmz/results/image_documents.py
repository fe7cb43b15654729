"""The JSON documents about images and their results, as types with the meaning of each field.

See `bmz.results.model_documents`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired

from typing_extensions import Doc, TypedDict  # pydantic asks for it below Python 3.12

from bmz.check.finding import Finding
from bmz.plan.plan import Estimate
from bmz.plan.tile_way import PlanRecord
from bmz.process.quality import QualityRecord
from bmz.results.model_documents import Failure, Listing, MadeForRecord, ReportCounts


class FailedImage(Failure):
    """An image without a result."""

    image: Annotated[str, Doc("path")]


class ShownKind(TypedDict):
    """What an image shows."""

    title: Annotated[str, Doc("in words, as far as it is more likely than not")]
    families: Annotated[Mapping[str, float], Doc("family of modalities -> probability")]
    structures: Annotated[Mapping[str, float], Doc("structure -> probability")]


class KindCount(TypedDict):
    """How many images of one kind there are."""

    kind: Annotated[str, Doc("in words; `unknown` where none is more likely than not")]
    images: Annotated[int, Doc("how many")]


class CropRecord(TypedDict):
    """A part of an image on which the model was tried."""

    box: Annotated[Mapping[str, Sequence[int]], Doc("axis -> where it begins and ends, px")]
    objects: Annotated[int, Doc("how many were found there")]
    f1: Annotated[float, Doc("predicted F1 at IoU 0.5")]


class CureRecord(TypedDict):
    """Options with which the mask is likely to be better."""

    options: Annotated[str, Doc("of `bmz run`, as they are typed")]
    f1: Annotated[float, Doc("predicted F1 at IoU 0.5 with them")]
    word: Annotated[str, Doc("`likely good`, `look closely` or `likely wrong`")]


class TrialRecord(QualityRecord):
    """How the model did on crops of an image, predicted without ground truth, over all crops."""

    crops: Annotated[Sequence[CropRecord], Doc("the one with the lowest prediction first")]
    picture: Annotated[str | None, Doc("path of a picture of the first crop")]
    cure: Annotated[CureRecord | None, Doc("null where none was looked for, or found")]


class CheckedImage(TypedDict):
    """An image, held against a model."""

    image: Annotated[str, Doc("path")]
    series: Annotated[int | None, Doc("where the file holds several")]
    step: Annotated[str | None, Doc("of a chain, against whose model it was held; else null")]
    verdict: Annotated[
        str | None, Doc("`fits`, `adapts` or `mismatch`; null when it could not be told")
    ]
    warnings: Annotated[int, Doc("how many; with any, an image that fits does so with warnings")]
    findings: Annotated[Sequence[Finding], Doc("all of them")]
    kind: Annotated[
        ShownKind | None, Doc("as stated, else as seen; null where the pixels were not looked at")
    ]
    error: Annotated[Failure | None, Doc("why it could not be told")]
    trial: Annotated[TrialRecord | None, Doc("`--try`; null where the model was not tried")]


class CheckDocument(TypedDict):
    """`bmz check`."""

    schema: Literal["bmz.check/1"]
    model: Annotated[str, Doc("or the file of a chain")]
    model_sha256: Annotated[str, Doc("of the manifest, or of that file")]
    stated_kind: Annotated[str | None, Doc("--kind")]
    kinds: Annotated[Sequence[KindCount], Doc("of the images that were looked at, commonest first")]
    images: Annotated[Sequence[CheckedImage], Doc("in the order of the call")]


class ImageFitRecord(TypedDict):
    """A model against one image."""

    image: Annotated[str, Doc("path")]
    verdict: Annotated[str, Doc("`fits`, `adapts` or `mismatch`")]
    score: Annotated[float, Doc("0 to 1")]
    family: Annotated[float, Doc("how probable it is that the image is of a family of the model")]
    structure: Annotated[float, Doc("how probable it is that it shows a structure of the model")]
    channels: Annotated[Sequence[int] | None, Doc("of the image for each of the model, or -1")]
    axes: Annotated[
        str | None, Doc("`--axes` that makes it a stack of one plane, or takes a plane of it")
    ]
    scale: Annotated[float | None, Doc("that `--scale auto` finds")]


class RankedModel(TypedDict):
    """A model, by how well images fit it; of several images what is said of the worst."""

    rank: Annotated[int, Doc("from 1")]
    id: Annotated[str, Doc("the name to give to other commands")]
    version: Annotated[str, Doc("in the zoo")]
    title: Annotated[str, Doc("its own name")]
    status: Annotated[str, Doc("`ok`, `broken` or `invalid`")]
    made_for: Annotated[MadeForRecord, Doc("the kind of image that it is made for")]
    verdict: Annotated[str | None, Doc("`fits`, `adapts` or `mismatch`")]
    made_for_another: Annotated[bool, Doc("a mismatch, since it is made for another kind of image")]
    warnings: Annotated[int, Doc("how many the check gives")]
    score: Annotated[float, Doc("0 to 1")]
    reasons: Annotated[Sequence[str], Doc("what took points away, in words")]
    channels: Annotated[Sequence[int] | None, Doc("of the image for each of the model, or -1")]
    axes: Annotated[
        str | None, Doc("`--axes` that makes it a stack of one plane, or takes a plane of it")
    ]
    scale: Annotated[float | None, Doc("that `--scale auto` finds")]
    image: Annotated[str | None, Doc("that fits worst")]
    images: Annotated[Sequence[ImageFitRecord], Doc("each, in the order of the call")]
    task: str | None
    only_restores: Annotated[bool, Doc("it makes no label mask")]
    runs_here: Annotated[bool, Doc("nothing must be allowed or installed first")]
    needs: Annotated[Sequence[Finding], Doc("what must be allowed or installed first")]
    download_bytes: Annotated[int | None, Doc("still to be downloaded; null where not known")]
    weights_here: Annotated[Sequence[str], Doc("formats whose framework is installed")]
    labels: Annotated[str | None, Doc("the label recipe")]
    sample_compared: Annotated[bool, Doc("the model's own sample was here to compare with")]
    reports: Annotated[ReportCounts, Doc("of other tools")]
    findings: Annotated[Sequence[Finding], Doc("of the check, with these channels and this scale")]
    trials: Annotated[Sequence[TrialRecord], Doc("`--try`: of each image that was tried")]
    agreement: Annotated[
        float | None, Doc("`--try`: mean F1 with the masks of the other models that were tried")
    ]
    predicted: Annotated[
        QualityRecord | None, Doc("`--try`: of its masks, beside those of the other models")
    ]
    untried: Annotated[Failure | None, Doc("why it could not be tried")]


class ImageKindRecord(TypedDict):
    """What a channel, or a colour image, shows: probabilities."""

    families: Annotated[Mapping[str, float], Doc("how it was made")]
    structures: Annotated[Mapping[str, float], Doc("what it shows")]


class SeenRecord(TypedDict):
    """What was seen in an image."""

    image: Annotated[str, Doc("path")]
    family: Annotated[str | None, Doc("how it was made, where one family is more likely than not")]
    kind: Annotated[ImageKindRecord | None, Doc("of all channels; null where they are flat")]
    by_channel: Annotated[Mapping[str, ImageKindRecord], Doc("channel -> what it shows")]


class FitDocument(Listing):
    """`bmz fit`."""

    schema: Literal["bmz.fit/1"]
    image: Annotated[str, Doc("path of the first")]
    images: Annotated[Sequence[SeenRecord], Doc("what was seen in each")]
    none_made_for_this: Annotated[bool, Doc("no model is made for all of the images")]
    models: Annotated[Sequence[RankedModel], Doc("the best first")]
    left_out: Annotated[Mapping[str, str], Doc("model -> why it is not ranked")]
    failed: Annotated[Sequence[FailedImage], Doc("images that could not be read")]


class RecipeRecord(TypedDict):
    """How a map became labels."""

    name: Annotated[str, Doc("of the label recipe")]
    why: Annotated[str, Doc("the evidence")]
    output: Annotated[str, Doc("of the network that becomes labels")]
    parameters: Annotated[Mapping[str, Any], Doc("of the recipe")]
    declared: Annotated[NotRequired[Sequence[str]], Doc("declared steps after the network")]


class PlannedImage(TypedDict):
    """What would be done with an image."""

    image: Annotated[str, Doc("path")]
    plan: Annotated[PlanRecord, Doc("what would be done")]
    bytes_in_one_piece: Annotated[int, Doc("about what the image would need")]
    in_parts: Annotated[bool, Doc("it is read, labelled and written in parts")]
    estimate: Annotated[Estimate | None, Doc("by a trial of two tiles")]
    prompts: Annotated[int | None, Doc("that the network is asked; null where not, or not known")]
    prompts_later: Annotated[bool, Doc("they are objects of a mask that is still to be made")]
    recipe: Annotated[RecipeRecord, Doc("of the labels")]
    findings: Annotated[Sequence[Finding], Doc("of the header")]


class PlanDocument(TypedDict):
    """`bmz run --plan`."""

    schema: Literal["bmz.plan/1"]
    model: str
    plans: Sequence[PlannedImage]
    failed: Sequence[FailedImage]


class WeightsFile(TypedDict):
    """A file of weights."""

    format: Annotated[str, Doc("of the description")]
    file: Annotated[str, Doc("its name")]
    sha256: Annotated[str | None, Doc("as the description states it")]


class RequestRecord(TypedDict):
    """The options of a call that decide its result."""

    model: Annotated[str, Doc("as the call names it")]
    axes: Annotated[str | None, Doc("--axes")]
    channels: Annotated[Sequence[int | str] | None, Doc("--channels, -1 for zeros")]
    inputs: Annotated[Mapping[str, str], Doc("--input: input of the model -> file or pattern")]
    relations: Annotated[
        Mapping[str, str],
        Doc("--mask, --pair, --parent -> file or pattern, or `from:` a step of a chain"),
    ]
    prompts: Annotated[str | None, Doc("--prompts: word, file or pattern, or `from:` a step")]
    pixel_um: Annotated[Mapping[str, float], Doc("--pixel-size")]
    scale: Annotated[Any, Doc("--scale")]
    kind: Annotated[str | None, Doc("--kind")]
    clip: Annotated[float | None, Doc("--clip")]
    invert: Annotated[bool, Doc("--invert")]
    recipe: Annotated[str | None, Doc("--recipe")]
    settings: Annotated[Mapping[str, str], Doc("--set")]
    link: Annotated[Mapping[str, float], Doc("--link: least IoU by axis")]
    link_gap: Annotated[int, Doc("--link-gap")]
    neighbours: Annotated[str | None, Doc("--neighbours")]
    tile: Annotated[int | None, Doc("--tile")]
    save: Annotated[Sequence[str], Doc("--save")]
    tables: Annotated[Sequence[str], Doc("--table")]
    overlay: Annotated[Literal["plain", "numbers"], Doc("--overlay")]
    labels_format: Annotated[Literal["tiff", "zarr"], Doc("--format")]
    into_image: Annotated[str | None, Doc("--into-image")]
    engine: Annotated[Literal["bmz", "core"], Doc("--engine")]
    force: Annotated[bool, Doc("--force")]


class FurtherRecord(TypedDict):
    """An image that filled an input of the model beside the first."""

    image: Annotated[str, Doc("path")]
    sha256: Annotated[str, Doc("as `image_sha256`")]
    axes: Annotated[str, Doc("one letter per axis")]
    shape: Annotated[Sequence[int], Doc("as stored")]
    dtype: Annotated[str, Doc("as stored")]
    first_channel: Annotated[int, Doc("the number of its first channel in `plan.channels`")]


class MaskRecord(TypedDict):
    """A label mask with which the labels were brought together."""

    image: Annotated[str, Doc("path")]
    sha256: Annotated[str, Doc("as `image_sha256`")]


class PromptsRecord(MaskRecord):
    """A file that names the objects that a network was asked for."""

    outside: Annotated[int, Doc("how many prompts lie beyond the image, and were left out")]


class OwnCode(TypedDict):
    """Code of a model that was run."""

    what: Annotated[str, Doc("which code of the model")]
    sha256: Annotated[str, Doc("of the code")]
    run: Annotated[str, Doc("`confined` or `unconfined`")]


class StreamedRecord(TypedDict):
    """How an image was run in parts."""

    block_px: Annotated[int | None, Doc("side of the blocks in which labels were made")]
    overlap_px: Annotated[int | None, Doc("the widest overlap that was needed")]
    note: Annotated[str | None, Doc("where objects may differ from those of one piece")]


class RunFacts(TypedDict):
    """What is known of a run before its result."""

    schema: Literal["bmz.run/1"]
    model: Annotated[str, Doc("the name by which it was asked for")]
    model_name: Annotated[str, Doc("its own name")]
    model_sha256: Annotated[str, Doc("of the manifest")]
    weights: Annotated[WeightsFile, Doc("that were run")]
    image: Annotated[str, Doc("path")]
    image_sha256: Annotated[
        str,
        Doc("of the file; of a folder, of the list of its files, or of its metadata on a server"),
    ]
    image_axes: Annotated[str, Doc("one letter per axis")]
    image_shape: Annotated[Sequence[int], Doc("as stored")]
    image_dtype: Annotated[str, Doc("as stored")]
    image_series: Annotated[int, Doc("which image of the file")]
    image_series_name: Annotated[str, Doc("what the file calls it; empty for nothing")]
    image_series_count: Annotated[int, Doc("how many images the file holds")]
    image_remarks: Annotated[Sequence[str], Doc("what else one should know of the file")]
    plan: Annotated[PlanRecord, Doc("what was done")]
    recipe: Annotated[RecipeRecord, Doc("of the labels")]
    objects_in: Annotated[
        Mapping[str, int],
        Doc("positions along t and z, at each of which an object was counted again"),
    ]
    joined_over: Annotated[
        Mapping[str, int], Doc("positions along t and z over which labels were joined")
    ]
    device: Annotated[str, Doc("the same as in the plan")]
    versions: Annotated[Mapping[str, str], Doc("of bmz, Python and the libraries")]
    findings: Annotated[Sequence[Finding], Doc("of the check")]


class DoubtedObject(TypedDict):
    """An object that is more likely wrong than right."""

    label: Annotated[int, Doc("its number in the label mask")]
    confidence: Annotated[float, Doc("how likely it has an IoU above 0.5 with a true object")]


class DecodingRecord(TypedDict):
    """Where labels were made, for a network on a GPU."""

    planes: Annotated[
        Mapping[str, int], Doc("device -> how many planes, stacks or blocks were labelled on it")
    ]
    left_to_processor: Annotated[Sequence[str], Doc("why the processor made labels, if it did")]
    maps_copied: Annotated[
        Sequence[str], Doc("why maps were copied from the GPU, if they were: labels always are")
    ]
    copied_bytes: Annotated[int, Doc("bytes of labels and maps that were copied from the GPU")]


class WayRecord(TypedDict, total=False):
    """What is said of some runs alone."""

    labels_made: Annotated[DecodingRecord, Doc("where a GPU ran the network")]
    quality: Annotated[
        QualityRecord, Doc("of the mask, as predicted without ground truth; of planes the lowest")
    ]
    doubted: Annotated[
        Sequence[DoubtedObject],
        Doc("the objects that are least likely to be true, the worst first, 20 at most"),
    ]
    seam_score: Annotated[
        float | None, Doc("object edges on tile lines over those half a tile away")
    ]
    streamed: Annotated[StreamedRecord, Doc("where the image was run in parts")]


class RanRecord(RunFacts, WayRecord):
    """What is known of a run before its outputs are written."""

    inputs: Annotated[
        Mapping[str, FurtherRecord], Doc("input of the model -> the further image that filled it")
    ]
    relations: Annotated[
        Mapping[str, MaskRecord],
        Doc("`mask`, `pair` or `parent` -> the label mask that was that to the labels"),
    ]
    prompts: Annotated[
        Mapping[str, PromptsRecord], Doc("`file` -> what names the objects that were asked for")
    ]
    request: Annotated[RequestRecord, Doc("the options of the call that decide the result")]
    own_code: Annotated[OwnCode | None, Doc("of the model that was run")]
    backend: Annotated[str, Doc("framework and version")]
    device_busy: Annotated[
        float | None,
        Doc(
            "share of the time since the network was loaded in which its device computed, until "
            "the labels of this image were made; null where several workers ran its tiles"
        ),
    ]


class RunRecord(RanRecord):
    """`bmz run` of one image, and the run record `NAME.run.json`."""

    files: Annotated[Mapping[str, str], Doc("kind -> path beside the record")]
    objects: Annotated[int | None, Doc("how many; null without labels")]
    timings_s: Annotated[
        Mapping[str, float], Doc("seconds of each stage; stages may overlap in a batch")
    ]


class RunsDocument(TypedDict):
    """`bmz run` of several images."""

    schema: Literal["bmz.runs/1"]
    runs: Annotated[Sequence[RunRecord], Doc("of images that are done")]
    device_busy: Annotated[
        float | None,
        Doc(
            "share of the time since the network was loaded in which its device computed; null "
            "where no network ran in this process"
        ),
    ]
    failed: Sequence[FailedImage]


class ChainStepRecord(TypedDict):
    """A step of a chain on an image."""

    name: Annotated[str, Doc("of the step, and of its folder")]
    record: Annotated[str, Doc("path of its run record, beside this record")]
    run: Annotated[RunRecord, Doc("its run record")]


class ChainedRecord(TypedDict):
    """What the steps of a chain made of an image."""

    image: Annotated[str, Doc("path")]
    steps: Annotated[Sequence[ChainStepRecord], Doc("in their order")]
    table: Annotated[
        str | None,
        Doc("beside this record: objects that belong together by their numbers, one row each"),
    ]


class ChainDocument(TypedDict):
    """`bmz run` of a chain, and the record `NAME.chain.json` of one image."""

    schema: Literal["bmz.chain/1"]
    images: Annotated[Sequence[ChainedRecord], Doc("that are done")]
    failed: Sequence[FailedImage]


class PlannedStep(TypedDict):
    """What a step of a chain would do."""

    name: Annotated[str, Doc("of the step")]
    relations: Annotated[
        Mapping[str, str], Doc("`mask`, `pair` or `parent` -> `from:` the step whose mask it takes")
    ]
    plan: Annotated[PlanDocument, Doc("of its model on the images")]


class ChainPlanDocument(TypedDict):
    """`bmz run --plan` of a chain."""

    schema: Literal["bmz.chain-plan/1"]
    steps: Annotated[Sequence[PlannedStep], Doc("in their order")]
