"""The table of findings: all that is known of a code, whatever image and model it is found on.

The codes never change their meaning. The severity of a finding, the verdict, what ``--force`` may
override, the score of ``bmz fit`` and the page of findings in the reference are made from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from bmz.base.errors import WrongUsage
from bmz.base.values import dataclass

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class FindingCode:
    """What there is to know of one code.

    Parameters
    ----------
    severity : of its findings: ``error`` the result would be wrong or cannot be computed;
        ``warning`` look before you trust; ``note`` it is adapted, or unknown
    cause : why the finding comes up
    cure : what to do
    example : a line as bmz prints it, or the words that cure it
    milder : the severity in the milder case that the cause tells of; None where there is none
    adapted : a note of this code tells of something that ``bmz run`` changes; other notes tell of
        what is unknown
    forceable : ``--force`` runs the image despite the error; otherwise there is nothing that could
        be computed, or only the user can say what
    only_for_labels : it counts only where a label mask is wished for
    cured_by : the option of ``bmz run`` that may cure it; empty where none does
    is_need : it tells what a model needs to run here, which counts against no image
    factor : what the finding leaves of the score of ``bmz fit``, from 0 to 1; None for that of its
        severity
    """

    severity: Severity
    cause: str
    cure: str
    example: str
    milder: Severity | None = None
    adapted: bool = False
    forceable: bool = True
    only_for_labels: bool = False
    cured_by: Literal["", "--channels", "--scale", "--trust"] = ""
    is_need: bool = False
    factor: float | None = None


class CodeUnknown(WrongUsage):
    """There is no finding of that code."""

    def __init__(self, code: str) -> None:
        near = [known for known in CODES if known.split(".")[0] == code.split(".", maxsplit=1)[0]]
        super().__init__(
            f"there is no finding with the code '{code}'",
            hint=f"codes are: {', '.join(near or CODES)}",
            code="check.code-unknown",
        )


def explain(code: str) -> FindingCode:
    """Give what is known of a code.

    Raises
    ------
    CodeUnknown
        There is no such code; the hint names those of the same group, or all.
    """
    if code not in CODES:
        raise CodeUnknown(code)
    return CODES[code]


def _adapted(cause: str, cure: str, example: str) -> FindingCode:
    return FindingCode("note", cause, cure, example, adapted=True, factor=1.0)


CODES: Mapping[str, FindingCode] = {
    "axes.ambiguous": FindingCode(
        "error",
        "The file does not say what an axis is: three planes may be colours, depth or time.",
        "Name the axes, slowest first, with letters of tczyx.",
        "bmz check MODEL stack.npy --axes zyx",
        forceable=False,
        factor=0.05,
    ),
    "axes.missing": FindingCode(
        "error",
        "The model works on stacks, the image is a single plane.",
        "Take a 2-D model, or an image with z; if an axis is named wrongly, say --axes.",
        "the model works on zyx, but the image has no axis z",
        forceable=False,
        factor=0.1,
    ),
    "axes.extra": FindingCode(
        "note",
        "The image has time or z that the model does not take.",
        "Nothing: each plane is segmented on its own. Objects are joined only with --link. For "
        "one plane say --axes z=12, for the largest value of all --axes z=max.",
        "the model has no z axis: each of the 45 planes is segmented on its own",
        adapted=True,
        factor=0.9,
    ),
    "file.caution": FindingCode(
        "warning",
        "The file contradicts itself, or lacks a part of the image, and what is there is taken.",
        "Compare the size of the image with what you expect, or export it again.",
        "its OME-XML counts more planes than the 1 in the file: it is left aside",
        factor=1.0,
    ),
    "file.remark": FindingCode(
        "note",
        "Something is to be known of how the file stores the image.",
        "Nothing, unless it surprises you.",
        "white is stored as 0: intensities are inverted",
        factor=1.0,
    ),
    "objects.not-joined": FindingCode(
        "warning",
        "The model works on planes, the image is a stack: each plane is labelled separately, so "
        "that an object of several planes has a label, and counts, in each of them.",
        "Join the labels of neighbouring planes by their overlap with --link, or take a 3-D model.",
        "--link 0.25",
    ),
    "objects.not-tracked": FindingCode(
        "warning",
        "Each frame of a time series is labelled separately, so that an object of several frames "
        "has a label, and counts, in each of them.",
        "Follow objects from frame to frame by their overlap with --link.",
        "--link 0.25",
    ),
    "objects.nothing-to-join": FindingCode(
        "note",
        "--link was given, but the image does not have several planes or frames that the model "
        "labels one by one: it is a single plane, or a stack that the model takes as a whole.",
        "Nothing: the labels stay as they are.",
        "there is nothing to join over z and t",
    ),
    "axes.order": _adapted(
        "Image and model have the same axes in another order.",
        "Nothing: they are reordered by their names.",
        "the axes are reordered from yxc to cyx",
    ),
    "channel.count": FindingCode(
        "error",
        "Image and model have different numbers of channels.",
        "Say which channel of the image goes where, from 0; none fills with zeros.",
        "bmz check MODEL cells.tif --channels 1,0",
        forceable=False,
        cured_by="--channels",
    ),
    "channel.order": FindingCode(
        "warning",
        "The name of a channel tells another structure than the model is known to be made for, or "
        "two channels without a name show, each, what the model expects of the other one. Or, "
        "as a note, the channels have exactly the model's names in another order, and are taken by "
        "these names.",
        "Give the order of the hint, or look whether this is the right channel; where channels are "
        "taken by name, nothing, or --channels with another order.",
        "bmz check MODEL cells.tif --channels 1,0",
        milder="note",
        adapted=True,
    ),
    "channel.rgb": FindingCode(
        "error",
        "An RGB image for a model of stains, or stains for a model of photographs.",
        "If one colour holds the stain, name it; else take a model for this kind of image.",
        "bmz check MODEL photo.png --channels 2",
        forceable=False,
        factor=0.2,
        cured_by="--channels",
    ),
    "channel.grey": _adapted(
        "A grey image was stored as red, green and blue, which are equal, and the model takes one "
        "channel.",
        "Nothing: one of them is taken.",
        "red, green and blue are equal: the image is taken as grey",
    ),
    "channel.filled": _adapted(
        "The image has fewer channels than the model, which is trained for empty ones.",
        "Nothing: they are taken in their order; --channels gives another one.",
        "the model takes 3 channels, and is trained for fewer: the last 2 are zeros",
    ),
    "input.grid": FindingCode(
        "error",
        "A further image of the model, that of --input, does not lie on the grid of the first: it "
        "has other sizes along t, z, y or x. Or, as a warning, it states another pixel size.",
        "Give the one that was made of the same image, or resize it to the size of the first.",
        "'a_prob.tif' of input 'prob' has y 256, and the image has y 512",
        milder="warning",
        forceable=False,
        factor=0.05,
    ),
    "channel.empty": FindingCode(
        "warning",
        "Every pixel of a channel has the same value.",
        "Look whether this is the right file, series and channel.",
        "every pixel of channel 1 is 0",
    ),
    "dtype.cast": _adapted(
        "The model takes another dtype, which holds every value of the image.",
        "Nothing: the cast changes no value.",
        "converted from uint16 to float32 without loss",
    ),
    "dtype.narrowed": FindingCode(
        "warning",
        "The model's dtype cannot hold the values: they are rounded and cut to its range.",
        "Scale the intensities to that range yourself, once for the whole experiment.",
        "uint16 becomes uint8: values are rounded and cut to its range",
    ),
    "range.nonfinite": FindingCode(
        "error",
        "Some pixels are NaN or infinite; the network spreads them to all pixels it sees.",
        "Fill them or crop them away.",
        "12 of 65536 pixels are NaN or infinite",
    ),
    "range.outlier": FindingCode(
        "warning",
        "A few hot pixels lie far above all others; a stretch to the brightest is spoiled by them.",
        "Cut the intensities at a percentile.",
        "bmz run MODEL cells.tif -o out --clip 99.99",
    ),
    "range.saturated": FindingCode(
        "warning",
        "Bright objects are cut off at the top value: touching ones look like one.",
        "A shorter exposure; what is cut off cannot be brought back.",
        "bright parts of channel 0 are cut off at 4095",
    ),
    "range.inverted": FindingCode(
        "warning",
        "Structures are dark here and bright in the model's own sample, or the reverse.",
        "`bmz run --invert`, or a model for this kind of image.",
        "structures are dark here and bright in the model's own sample",
        factor=0.6,
    ),
    "range.flat": FindingCode(
        "warning",
        "Fewer than 8 grey levels lie between the percentiles 1 and 99.9.",
        "A longer exposure, or the image before it was scaled down; an empty field stays empty.",
        "channel 0 has almost no contrast: a range of 3 grey levels",
    ),
    "range.unit": FindingCode(
        "warning",
        "The pixels lie in 0 to 1, the model declares a wider range.",
        "Give the raw image, or multiply it.",
        "the pixels lie in 0 to 1, the model takes a wider range",
    ),
    "range.outside": FindingCode(
        "warning",
        "Pixels lie outside the range that the model declares.",
        "Bring the intensities into the range, or look twice at the result.",
        "pixels lie outside the declared range of the model",
    ),
    "scale.far": FindingCode(
        "error",
        "A pixel of the image is at least twice as long or short as one of the model.",
        "Let the image be resized with the factor of the hint, or --scale auto.",
        "bmz run MODEL cells.tif -o out --scale 4",
        factor=0.4,  # --scale cures it
        cured_by="--scale",
    ),
    "scale.off": FindingCode(
        "warning",
        "The pixel sizes differ by 1.25 x or more.",
        "Look at the overlay; resize with --scale auto if objects are missed or split.",
        "a pixel of the image is 1.4 x as long as one of the model",
        factor=0.9,
        cured_by="--scale",
    ),
    "scale.unknown": FindingCode(
        "note",
        "The image, the model or both state no pixel size.",
        "Compare the size of the objects in pixels with what the model was made for.",
        "no pixel size is known, neither of the model nor of the image",
        factor=1.0,
    ),
    "scale.implausible": FindingCode(
        "error",
        "The number cannot be a pixel size: a screen's 72 dpi, zero, below 0, above 50 um, or "
        "100 x the model's, as when nm are taken for um. It is a warning where the model does not "
        "need it, as mask and table carry it on. Above 20 um, which neither slide scanners (0.25 "
        "to 10 um) nor mesoscopes reach, it is one where the image would be more than 15 mm long, "
        "as no field of a microscope is, or where a pixel of the camera behind the file's "
        "objective would be longer than 100 um.",
        "Give the true one.",
        "bmz check MODEL cells.tif --pixel-size 0.5um",
        milder="warning",
    ),
    "scale.anisotropy": FindingCode(
        "warning",
        "A voxel is 2 x or more deeper or flatter for its width than one of the model, or a pixel "
        "1.25 x or more higher or lower.",
        "Resample the image along that axis first: --scale changes all axes alike.",
        "a voxel of the image is 4 x as deep as wide, of the model 1 x",
    ),
    "object.size": FindingCode(
        "warning",
        "Objects are far larger or smaller, in pixels, than those that the model was made for. It "
        "is a note where only the model's own sample tells what it is made for, which shows but "
        "one size, and the objects are less than 3 x smaller or 4 x larger, or their size is not "
        "clear.",
        "Let the image be resized with the factor of the hint, or --scale auto.",
        "bmz run MODEL cells.tif -o out --scale auto",
        milder="note",
        factor=0.6,
        cured_by="--scale",
    ),
    "size.below-least": FindingCode(
        "note",
        "The image is smaller than the network takes.",
        "Nothing: it is padded, and the result is cropped back.",
        "the model needs at least 256 px: padded from 200 to 256 px",
        adapted=True,
        factor=0.95,
    ),
    "size.off-step": FindingCode(
        "note",
        "The network takes sizes in steps, and this is not one of them.",
        "Nothing: the image is padded to the next one, or tiled.",
        "the model needs multiples of 16 px: padded from 100 to 112 px",
        adapted=True,
    ),
    "size.fixed": FindingCode(
        "note",
        "The network takes one size only, and the image is larger.",
        "Nothing: it is run in overlapping tiles of that size.",
        "1024 px are run in tiles of 512 px",
        adapted=True,
    ),
    "content.modality": FindingCode(
        "error",
        "The picture shows another kind of microscopy than the model is made for: a network gives "
        "a mask for any picture, and of such a one it means nothing. As a warning, the pixels "
        "could be run; as an error, the channels are of another kind, too, such as the colours of "
        "a stained section for a model of fluorescence.",
        "Take a model that is made for such images; the hint names some, and bmz fit ranks all. If "
        "the picture is of the right kind, say so with --kind.",
        "bmz check MODEL cells.tif --kind fluorescence,nuclei",
        milder="warning",
        factor=0.2,
    ),
    "content.structure": FindingCode(
        "warning",
        "The kind of microscopy is right, but the picture clearly shows another structure than the "
        "model is made for, such as filaments in place of nuclei.",
        "Give the channel of the hint where it names one; else take a model for such structures. "
        "If the picture shows the right ones, say so with --kind.",
        "bmz check MODEL cells.tif --channels 1",
        factor=0.4,
    ),
    "content.not-microscopy": FindingCode(
        "warning",
        "The picture looks like a photograph, a drawing, a plot or a screen, and not like an image "
        "of a microscope.",
        "Look whether this is the right file. If it is an image of a microscope, say of which kind "
        "with --kind.",
        "bmz check MODEL cells.tif --kind brightfield",
        factor=0.1,
    ),
    "sample.unlike": FindingCode(
        "warning",
        "The picture is far from the sample that comes with the model, in texture, contrast and "
        "sizes. It is a note where it is not that far, and where the picture shows what the model "
        "is stated to be made for: one sample does not tell all that a model can do.",
        "Compare the picture with the sample; let bmz fit rank other models.",
        "bmz fit cells.tif",
        milder="note",
        factor=0.8,
    ),
    "prompts.outside": FindingCode(
        "warning",
        "Prompts lie beyond the image: they may be those of another image, or in another unit.",
        "Give points and boxes in pixels of the whole image, or in um in columns such as x_um.",
        "5 of 40 prompts lie beyond the image, and are left out",
    ),
    "trial.doubtful": FindingCode(
        "warning",
        "The mask, on crops of the image or on all of it, may be wrong in part: those of slightly "
        "changed copies differ, or objects are faint, odd or unclear in the map of the network. "
        "The F1 that is predicted is that with a careful person, at an IoU of 0.5.",
        "Look at the picture of the worst crop; try another scale, channel or model.",
        "bmz check MODEL cells.tif --try --pictures trial",
        factor=0.8,
    ),
    "trial.wrong": FindingCode(
        "warning",
        "The mask, on crops of the image or on all of it, is likely wrong. On sources that were "
        "not learnt from, 9 of 10 masks of an F1 below 0.5 were found so, and 8 in 100 above 0.75.",
        "Look at the picture of the worst crop; try another scale, channel or model.",
        "bmz check MODEL cells.tif --try --pictures trial",
        factor=0.4,
    ),
    "output.nonfinite": FindingCode(
        "warning",
        "The network, or a declared step before or after it, gives NaN or infinity for some "
        "pixels, so that the result is worth nothing there; where it does so for all of them, the "
        "run of the image fails with this code. Of an image that is run in parts, single pixels "
        "are looked for after the network and the steps that follow it.",
        "Try --precision float32, another --device or other --weights; if it stays, tell the "
        "authors of the model.",
        "output 'map' of the network is NaN or infinite in every pixel",
    ),
    "output.no-objects": FindingCode(
        "warning",
        "The label mask is empty: the field is, or the model sees nothing in this kind of image.",
        "Look at the image. If there are objects, try --scale auto, other --channels, or a model "
        "that bmz fit names.",
        "no objects were found",
    ),
    "task.no-labels": FindingCode(
        "note",
        "The model restores, translates or classifies images: it makes no label mask.",
        "Keep its output: --recipe none --save raw.",
        "'model' makes no label mask: its task is denoising",
        only_for_labels=True,
        factor=0.6,
    ),
    "package.missing-file": FindingCode(
        "error",
        "A file that the description names is not in the package.",
        "Get the whole package again.",
        "the package has no file 'weights.onnx' (onnx weights)",
        factor=0.2,
    ),
    "package.hash-differs": FindingCode(
        "error",
        "A file has another sha256 than the description states: it is damaged or was changed.",
        "Get the package again.",
        "'weights.onnx' is not the file described",
        factor=0.2,
    ),
    "package.unknown-op": FindingCode(
        "error",
        "The description has a step that this bmz does not know.",
        "Update bmz; else take a model without it.",
        "the step 'vesicle_tracing' is not known to this bmz",
        is_need=True,
    ),
    "package.runs-code": FindingCode(
        "error",
        "Loading the model runs code of its own, which you have not allowed, or a declared step "
        "is such code.",
        "Read the code that the message names. Allow it for one run with --trust, or for good with "
        "bmz trust add; it runs in a sandbox. A declared step that is code is never run.",
        "'net' runs its own code, which is not allowed yet: UNet of net.py builds the network",
        factor=0.9,  # the user may allow it
        cured_by="--trust",
        is_need=True,
    ),
    "weights.no-backend": FindingCode(
        "error",
        "No weights of the model can run here.",
        "Install the framework of the hint.",
        "pip install 'bmz[torch]'",
        factor=0.6,  # the image may fit all the same
        is_need=True,
    ),
    "contract.model": FindingCode(
        "error",
        "The model is another one than that of the contract: its manifest has another sha256.",
        "Use the old model, or check the new one and make the contract again with --lock.",
        "the model is another one",
    ),
    "contract.image": FindingCode(
        "error",
        "Axes, dtype, number of channels or pixel size are not those of the contract.",
        "Look at how the image was taken or exported.",
        "the image has dtype uint8, the contract says uint16",
    ),
    "contract.kind": FindingCode(
        "error",
        "The picture shows another kind of microscopy, or another structure, than the images of "
        "the contract.",
        "Look whether this is the right file and channel.",
        "the image shows electron microscopy (97 %), the contract says fluorescence",
    ),
    "contract.intensity": FindingCode(
        "error",
        "The signal is weaker or stronger than the contract allows.",
        "Look at exposure, stain and lamp.",
        "the signal (percentile 99.9) is 31, the contract allows 80 to 255",
    ),
    "contract.objects": FindingCode(
        "error",
        "The model finds fewer or more objects than the contract allows.",
        "Look at the overlay of bmz run: has the sample changed, or the result?",
        "the number of objects is 12, the contract allows 97 to 162",
    ),
    "contract.size": FindingCode(
        "error",
        "The objects are smaller or larger than the contract allows.",
        "Look at the magnification, and at the overlay of bmz run.",
        "the median diameter of objects (px) is 8.1, the contract allows 13 to 21",
    ),
}
