"""Types of the JSON documents about images and their results, with the meaning of each field.

`bmz.results.model_documents` describes how these types are used.
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

    title: Annotated[str, Doc("the kind in words, where one is more likely than not")]
    families: Annotated[Mapping[str, float], Doc("family of modalities -> probability")]
    structures: Annotated[Mapping[str, float], Doc("structure -> probability")]


class KindCount(TypedDict):
    """How many images of one kind there are."""

    kind: Annotated[str, Doc("the kind in words; `unknown` where none is more likely than not")]
    images: Annotated[int, Doc("number of images")]


class CropRecord(TypedDict):
    """A part of an image on which the model was tried."""

    box: Annotated[Mapping[str, Sequence[int]], Doc("axis -> start and end, px")]
    objects: Annotated[int, Doc("number of objects found")]
    f1: Annotated[float, Doc("predicted F1 at IoU 0.5")]


class CureRecord(TypedDict):
    """Options with which the mask is likely to be better."""

    options: Annotated[str, Doc("options of `bmz run`, as typed")]
    f1: Annotated[float, Doc("predicted F1 at IoU 0.5 with these options")]
    word: Annotated[str, Doc("`likely good`, `look closely` or `likely wrong`")]


class TrialRecord(QualityRecord):
    """How the model did on crops of an image, predicted without ground truth, over all crops."""

    crops: Annotated[Sequence[CropRecord], Doc("the crops, lowest prediction first")]
    picture: Annotated[str | None, Doc("path of a picture of the first crop")]
    cure: Annotated[
        CureRecord | None,
        Doc("options that may improve the mask; null if none were sought or found"),
    ]


class CheckedImage(TypedDict):
    """An image, checked against a model."""

    image: Annotated[str, Doc("path")]
    series: Annotated[int | None, Doc("number of the image in a file with several; else null")]
    step: Annotated[
        str | None, Doc("step of a chain whose model it was checked against; else null")
    ]
    verdict: Annotated[
        str | None, Doc("`fits`, `adapts` or `mismatch`; null if it could not be determined")
    ]
    warnings: Annotated[int, Doc("number of warnings; an image that fits may have some")]
    findings: Annotated[Sequence[Finding], Doc("all findings of the check")]
    kind: Annotated[
        ShownKind | None,
        Doc("the kind as stated, else as recognised; null if the pixels were not read"),
    ]
    error: Annotated[Failure | None, Doc("why there is no verdict")]
    trial: Annotated[TrialRecord | None, Doc("result of `--try`; null if the model was not tried")]


class CheckDocument(TypedDict):
    """`bmz check`."""

    schema: Literal["bmz.check/1"]
    model: Annotated[str, Doc("the model, or the file of a chain")]
    model_sha256: Annotated[str, Doc("sha256 of the manifest, or of the file of the chain")]
    stated_kind: Annotated[str | None, Doc("--kind")]
    kinds: Annotated[
        Sequence[KindCount], Doc("kinds of the images whose pixels were read, most frequent first")
    ]
    images: Annotated[Sequence[CheckedImage], Doc("in the order of the call")]


class ImageFitRecord(TypedDict):
    """A model against one image."""

    image: Annotated[str, Doc("path")]
    verdict: Annotated[str, Doc("`fits`, `adapts` or `mismatch`")]
    score: Annotated[float, Doc("0 to 1")]
    family: Annotated[float, Doc("probability that the image belongs to a family of the model")]
    structure: Annotated[float, Doc("probability that it shows a structure of the model")]
    channels: Annotated[
        Sequence[int] | None, Doc("image channel for each model channel; -1 for zeros")
    ]
    axes: Annotated[
        str | None, Doc("`--axes` that makes the image a stack of one plane, or takes one plane")
    ]
    scale: Annotated[float | None, Doc("factor that `--scale auto` finds")]


class RankedModel(TypedDict):
    """A model, by how well images fit it; for several images, the values of the worst."""

    rank: Annotated[int, Doc("rank, from 1")]
    id: Annotated[str, Doc("the name to give to other commands")]
    version: Annotated[str, Doc("version in the zoo")]
    title: Annotated[str, Doc("the model's own name")]
    status: Annotated[str, Doc("`ok`, `broken` or `invalid`")]
    made_for: Annotated[MadeForRecord, Doc("the kind of image that the model is made for")]
    verdict: Annotated[str | None, Doc("`fits`, `adapts` or `mismatch`")]
    made_for_another: Annotated[
        bool, Doc("a mismatch because the model is made for another kind of image")
    ]
    warnings: Annotated[int, Doc("number of warnings of the check")]
    score: Annotated[float, Doc("0 to 1")]
    reasons: Annotated[Sequence[str], Doc("what lowered the score, in words")]
    channels: Annotated[
        Sequence[int] | None, Doc("image channel for each model channel; -1 for zeros")
    ]
    axes: Annotated[
        str | None, Doc("`--axes` that makes the image a stack of one plane, or takes one plane")
    ]
    scale: Annotated[float | None, Doc("factor that `--scale auto` finds")]
    image: Annotated[str | None, Doc("the image that fits worst")]
    images: Annotated[Sequence[ImageFitRecord], Doc("each image, in the order of the call")]
    task: str | None
    only_restores: Annotated[bool, Doc("the model makes no label mask")]
    runs_here: Annotated[bool, Doc("nothing must be allowed or installed first")]
    needs: Annotated[Sequence[Finding], Doc("what must be allowed or installed first")]
    download_bytes: Annotated[int | None, Doc("bytes still to download; null if unknown")]
    weights_here: Annotated[Sequence[str], Doc("weights formats whose framework is installed")]
    labels: Annotated[str | None, Doc("the label recipe")]
    sample_compared: Annotated[bool, Doc("the model's own sample was in the cache to compare with")]
    reports: Annotated[ReportCounts, Doc("reports of other tools")]
    findings: Annotated[
        Sequence[Finding], Doc("findings of the check, with these channels and this scale")
    ]
    trials: Annotated[Sequence[TrialRecord], Doc("`--try`: the trial of each image that was tried")]
    agreement: Annotated[
        float | None, Doc("`--try`: mean F1 with the masks of the other models that were tried")
    ]
    predicted: Annotated[
        QualityRecord | None,
        Doc("`--try`: quality of its masks, compared with those of the other models"),
    ]
    untried: Annotated[Failure | None, Doc("why the model could not be tried")]


class ImageKindRecord(TypedDict):
    """What a channel, or a colour image, shows, as probabilities."""

    families: Annotated[Mapping[str, float], Doc("how the image was made, as probabilities")]
    structures: Annotated[Mapping[str, float], Doc("what the image shows, as probabilities")]


class SeenRecord(TypedDict):
    """What an image was found to show."""

    image: Annotated[str, Doc("path")]
    family: Annotated[
        str | None, Doc("how the image was made, if one family is more likely than not")
    ]
    kind: Annotated[
        ImageKindRecord | None, Doc("what all channels show together; null if they are flat")
    ]
    by_channel: Annotated[Mapping[str, ImageKindRecord], Doc("channel -> what it shows")]


class FitDocument(Listing):
    """`bmz fit`."""

    schema: Literal["bmz.fit/1"]
    image: Annotated[str, Doc("path of the first image")]
    images: Annotated[Sequence[SeenRecord], Doc("what each image shows")]
    none_made_for_this: Annotated[bool, Doc("no model is made for all of the images")]
    models: Annotated[Sequence[RankedModel], Doc("the models, best first")]
    left_out: Annotated[Mapping[str, str], Doc("model -> why it is not ranked")]
    failed: Annotated[Sequence[FailedImage], Doc("images that could not be read")]


class RecipeRecord(TypedDict):
    """How a map was turned into labels."""

    name: Annotated[str, Doc("name of the label recipe")]
    why: Annotated[str, Doc("the evidence for the recipe")]
    output: Annotated[str, Doc("output of the network that is turned into labels")]
    parameters: Annotated[Mapping[str, Any], Doc("parameters of the recipe")]
    declared: Annotated[NotRequired[Sequence[str]], Doc("declared steps after the network")]


class PlannedImage(TypedDict):
    """What would be done with an image."""

    image: Annotated[str, Doc("path")]
    plan: Annotated[PlanRecord, Doc("what would be done")]
    bytes_in_one_piece: Annotated[int, Doc("approximate memory that the image would need")]
    in_parts: Annotated[bool, Doc("the image is read, labelled and written in parts")]
    estimate: Annotated[
        Estimate | None, Doc("time and memory, estimated from a trial of two tiles")
    ]
    prompts: Annotated[
        int | None,
        Doc("number of prompts for the network; null if there are none, or if it is unknown"),
    ]
    prompts_later: Annotated[
        bool, Doc("the prompts are objects of a mask that is still to be made")
    ]
    recipe: Annotated[RecipeRecord, Doc("the label recipe")]
    findings: Annotated[Sequence[Finding], Doc("findings from the header of the image")]


class PlanDocument(TypedDict):
    """`bmz run --plan`."""

    schema: Literal["bmz.plan/1"]
    model: str
    plans: Sequence[PlannedImage]
    failed: Sequence[FailedImage]


class WeightsFile(TypedDict):
    """A file of weights."""

    format: Annotated[str, Doc("weights format, as in the description")]
    file: Annotated[str, Doc("name of the file")]
    sha256: Annotated[str | None, Doc("sha256 that the description states")]


class RequestRecord(TypedDict):
    """The options of a call that determine its result."""

    model: Annotated[str, Doc("the model, as named in the call")]
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
    """An image that filled a further input of the model."""

    image: Annotated[str, Doc("path")]
    sha256: Annotated[str, Doc("as `image_sha256`")]
    axes: Annotated[str, Doc("one letter per axis")]
    shape: Annotated[Sequence[int], Doc("as stored")]
    dtype: Annotated[str, Doc("as stored")]
    first_channel: Annotated[int, Doc("the number of its first channel in `plan.channels`")]


class MaskRecord(TypedDict):
    """A label mask that the labels were combined with."""

    image: Annotated[str, Doc("path")]
    sha256: Annotated[str, Doc("as `image_sha256`")]


class PromptsRecord(MaskRecord):
    """A file of prompts for a network."""

    outside: Annotated[int, Doc("number of prompts outside the image, which were left out")]


class OwnCode(TypedDict):
    """Code of a model that was run."""

    what: Annotated[str, Doc("which code of the model was run")]
    sha256: Annotated[str, Doc("sha256 of the code")]
    run: Annotated[str, Doc("how it was run: `confined` or `unconfined`")]


class StreamedRecord(TypedDict):
    """How an image was run in parts."""

    block_px: Annotated[int | None, Doc("side of the blocks in which labels were made")]
    overlap_px: Annotated[int | None, Doc("the widest overlap that was needed")]
    note: Annotated[str | None, Doc("where objects may differ from those of a run in one piece")]


class RunFacts(TypedDict):
    """What is known of a run before its result."""

    schema: Literal["bmz.run/1"]
    model: Annotated[str, Doc("the model, as named in the call")]
    model_name: Annotated[str, Doc("the model's own name")]
    model_sha256: Annotated[str, Doc("sha256 of the manifest")]
    weights: Annotated[WeightsFile, Doc("the weights that were run")]
    image: Annotated[str, Doc("path")]
    image_sha256: Annotated[
        str,
        Doc(
            "sha256 of the file; for a folder, of the list of its files, or of its metadata on a "
            "server"
        ),
    ]
    image_axes: Annotated[str, Doc("one letter per axis")]
    image_shape: Annotated[Sequence[int], Doc("as stored")]
    image_dtype: Annotated[str, Doc("as stored")]
    image_series: Annotated[int, Doc("number of the image in the file")]
    image_series_name: Annotated[str, Doc("name of the image in the file; empty if it has none")]
    image_series_count: Annotated[int, Doc("number of images in the file")]
    image_remarks: Annotated[Sequence[str], Doc("further remarks about the file")]
    plan: Annotated[PlanRecord, Doc("what was done")]
    recipe: Annotated[RecipeRecord, Doc("the label recipe")]
    objects_in: Annotated[
        Mapping[str, int],
        Doc("number of positions along t and z at which objects were counted separately"),
    ]
    joined_over: Annotated[
        Mapping[str, int], Doc("number of positions along t and z over which labels were joined")
    ]
    device: Annotated[str, Doc("the device, as in the plan")]
    versions: Annotated[Mapping[str, str], Doc("versions of bmz, Python and the libraries")]
    findings: Annotated[Sequence[Finding], Doc("findings of the check")]


class DoubtedObject(TypedDict):
    """An object that is more likely wrong than right."""

    label: Annotated[int, Doc("number of the object in the label mask")]
    confidence: Annotated[float, Doc("probability that its IoU with a true object is above 0.5")]


class DecodingRecord(TypedDict):
    """Where labels were made, for a network on a GPU."""

    planes: Annotated[
        Mapping[str, int],
        Doc("device -> number of planes, stacks or blocks that were labelled on it"),
    ]
    left_to_processor: Annotated[Sequence[str], Doc("why the CPU made labels, if it did")]
    maps_copied: Annotated[
        Sequence[str], Doc("why maps were copied from the GPU, if they were (labels always are)")
    ]
    copied_bytes: Annotated[int, Doc("size of the labels and maps that were copied from the GPU")]


class WayRecord(TypedDict, total=False):
    """Fields that only some runs have."""

    labels_made: Annotated[
        DecodingRecord, Doc("where labels were made; only if a GPU ran the network")
    ]
    quality: Annotated[
        QualityRecord,
        Doc("quality of the mask, predicted without ground truth; the lowest of all planes"),
    ]
    doubted: Annotated[
        Sequence[DoubtedObject],
        Doc("the objects that are least likely to be true, the worst first, at most 20"),
    ]
    seam_score: Annotated[
        float | None,
        Doc("number of object edges on tile borders, relative to that half a tile away"),
    ]
    streamed: Annotated[StreamedRecord, Doc("how the image was run in parts, if it was")]


class RanRecord(RunFacts, WayRecord):
    """What is known of a run before its outputs are written."""

    inputs: Annotated[
        Mapping[str, FurtherRecord], Doc("input of the model -> the further image that filled it")
    ]
    relations: Annotated[
        Mapping[str, MaskRecord],
        Doc("`mask`, `pair` or `parent` -> the label mask with this role"),
    ]
    prompts: Annotated[Mapping[str, PromptsRecord], Doc("`file` -> the file of prompts")]
    request: Annotated[RequestRecord, Doc("the options of the call that determine the result")]
    own_code: Annotated[OwnCode | None, Doc("the model's own code that was run, if any")]
    backend: Annotated[str, Doc("framework and version")]
    device_busy: Annotated[
        float | None,
        Doc(
            "share of the time, from loading the network to making the labels of this image, in "
            "which its device computed; null if several workers ran the tiles"
        ),
    ]


class RunRecord(RanRecord):
    """`bmz run` on one image, and the run record `NAME.run.json`."""

    files: Annotated[Mapping[str, str], Doc("kind -> path relative to the record")]
    objects: Annotated[int | None, Doc("number of objects; null without labels")]
    timings_s: Annotated[
        Mapping[str, float], Doc("seconds spent in each stage; stages may overlap in a batch")
    ]


class RunsDocument(TypedDict):
    """`bmz run` on several images."""

    schema: Literal["bmz.runs/1"]
    runs: Annotated[Sequence[RunRecord], Doc("run records of the finished images")]
    device_busy: Annotated[
        float | None,
        Doc(
            "share of the time since the network was loaded in which its device computed; null "
            "if no network ran in this process"
        ),
    ]
    failed: Sequence[FailedImage]


class ChainStepRecord(TypedDict):
    """A step of a chain on an image."""

    name: Annotated[str, Doc("name of the step and of its folder")]
    record: Annotated[str, Doc("path of its run record, relative to this record")]
    run: Annotated[RunRecord, Doc("its run record")]


class ChainedRecord(TypedDict):
    """What the steps of a chain made from an image."""

    image: Annotated[str, Doc("path")]
    steps: Annotated[Sequence[ChainStepRecord], Doc("the steps, in their order")]
    table: Annotated[
        str | None,
        Doc("path relative to this record: table of the objects that share a number, one row each"),
    ]


class ChainDocument(TypedDict):
    """`bmz run` with a chain, and the record `NAME.chain.json` of one image."""

    schema: Literal["bmz.chain/1"]
    images: Annotated[Sequence[ChainedRecord], Doc("the finished images")]
    failed: Sequence[FailedImage]


class PlannedStep(TypedDict):
    """What a step of a chain would do."""

    name: Annotated[str, Doc("name of the step")]
    relations: Annotated[
        Mapping[str, str], Doc("`mask`, `pair` or `parent` -> `from:` the step whose mask it takes")
    ]
    plan: Annotated[PlanDocument, Doc("plan for its model on the images")]


class ChainPlanDocument(TypedDict):
    """`bmz run --plan` with a chain."""

    schema: Literal["bmz.chain-plan/1"]
    steps: Annotated[Sequence[PlannedStep], Doc("the steps, in their order")]
