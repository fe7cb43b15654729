"""The table of findings: everything about a code that does not depend on the image and the model.

The codes never change their meaning. The severity of a finding, the verdict, what ``--force`` may
override, the score of ``bmz fit`` and the reference page of findings are derived from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from bmz.base.errors import WrongUsage
from bmz.base.values import dataclass

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class FindingCode:
    """The properties of one code.

    Parameters
    ----------
    severity : severity of its findings: ``error`` the result would be wrong or cannot be computed;
        ``warning`` check the result before trusting it; ``note`` it is adapted, or unknown
    cause : why the finding occurs
    cure : what to do
    example : a line as printed by bmz, or the options that resolve the finding
    milder : severity in the milder case that the cause describes; None if there is none
    adapted : whether a note with this code is about something that ``bmz run`` adapts; other notes
        are about something unknown
    forceable : whether ``--force`` runs the image despite the error; if not, nothing could be
        computed, or only the user can say what
    only_for_labels : whether the finding counts only if a label mask is requested
    cured_by : option of ``bmz run`` that may resolve the finding; empty if there is none
    is_need : whether it states what a model needs to run here, which counts against no image
    factor : factor by which the finding reduces the score of ``bmz fit``, from 0 to 1; None for
        that of its severity
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
    """There is no finding with this code."""

    def __init__(self, code: str) -> None:
        near = [known for known in CODES if known.split(".")[0] == code.split(".", maxsplit=1)[0]]
        super().__init__(
            f"there is no finding with the code '{code}'",
            hint=f"the codes are: {', '.join(near or CODES)}",
            code="check.code-unknown",
        )


def explain(code: str) -> FindingCode:
    """Return the properties of a code.

    Raises
    ------
    CodeUnknown
        There is no such code; the hint lists the codes of the same group, or all codes.
    """
    if code not in CODES:
        raise CodeUnknown(code)
    return CODES[code]


def _adapted(cause: str, cure: str, example: str) -> FindingCode:
    return FindingCode("note", cause, cure, example, adapted=True, factor=1.0)


CODES: Mapping[str, FindingCode] = {
    "axes.ambiguous": FindingCode(
        "error",
        "The file does not say what an axis means: three planes may be colours, depth or time.",
        "Name the axes, slowest first, with letters from tczyx.",
        "bmz check MODEL stack.npy --axes zyx",
        forceable=False,
        factor=0.05,
    ),
    "axes.missing": FindingCode(
        "error",
        "The model works on stacks, but the image is a single plane.",
        "Use a 2-D model, or an image with z; if an axis is named wrongly, correct it with --axes.",
        "the model works on zyx, but the image has no z axis",
        forceable=False,
        factor=0.1,
    ),
    "axes.extra": FindingCode(
        "note",
        "The image has a t or z axis that the model does not have.",
        "Nothing: each plane is segmented on its own. Objects are joined only with --link. For a "
        "single plane, give --axes z=12; for the maximum projection, --axes z=max.",
        "the model has no z axis: each of the 45 planes is segmented on its own",
        adapted=True,
        factor=0.9,
    ),
    "file.caution": FindingCode(
        "warning",
        "The file contradicts itself or lacks a part of the image; bmz uses what is there.",
        "Compare the size of the image with what you expect, or export it again.",
        "its OME-XML lists more planes than the 1 in the file, and is ignored",
        factor=1.0,
    ),
    "file.remark": FindingCode(
        "note",
        "There is something to know about how the file stores the image.",
        "Nothing, unless it is unexpected.",
        "white is stored as 0: intensities are inverted",
        factor=1.0,
    ),
    "objects.not-joined": FindingCode(
        "warning",
        "The model works on planes, but the image is a stack: each plane is labelled separately, "
        "so an object that spans several planes has a label, and is counted, in each of them.",
        "Join the labels of neighbouring planes by overlap with --link, or use a 3-D model.",
        "--link 0.25",
    ),
    "objects.not-tracked": FindingCode(
        "warning",
        "Each frame of a time series is labelled separately, so an object that is present in "
        "several frames has a label, and is counted, in each of them.",
        "Follow objects from frame to frame by overlap with --link.",
        "--link 0.25",
    ),
    "objects.nothing-to-join": FindingCode(
        "note",
        "--link was given, but the image does not have several planes or frames that the model "
        "labels separately: it is a single plane, or a stack that the model takes as a whole.",
        "Nothing: the labels stay as they are.",
        "there is nothing to join over z and t",
    ),
    "axes.order": _adapted(
        "The image and the model have the same axes in a different order.",
        "Nothing: the axes are reordered by name.",
        "the axes are reordered from yxc to cyx",
    ),
    "channel.count": FindingCode(
        "error",
        "The image and the model have different numbers of channels.",
        "Say which image channel goes to which model channel, from 0; none means zeros.",
        "bmz check MODEL cells.tif --channels 1,0",
        forceable=False,
        cured_by="--channels",
    ),
    "channel.order": FindingCode(
        "warning",
        "The name of a channel indicates a structure other than the one that the model is made "
        "for, or two unnamed channels each show what the model expects in the other. As a note: "
        "they have exactly the model's names in another order, and are matched by name.",
        "Give the order in the hint, or check that this is the right channel. If matched by "
        "name: nothing, or --channels with another order.",
        "bmz check MODEL cells.tif --channels 1,0",
        milder="note",
        adapted=True,
    ),
    "channel.rgb": FindingCode(
        "error",
        "An RGB image for a model of stains, or stains for a model of RGB images.",
        "If one colour contains the stain, name it; else use a model for this kind of image.",
        "bmz check MODEL photo.png --channels 2",
        forceable=False,
        factor=0.2,
        cured_by="--channels",
    ),
    "channel.grey": _adapted(
        "A grey image is stored as equal red, green and blue, and the model takes one channel.",
        "Nothing: one of the channels is used.",
        "red, green and blue are equal: the image is treated as grey",
    ),
    "channel.filled": _adapted(
        "The image has fewer channels than the model, which is trained for empty channels.",
        "Nothing: the channels are taken in order; --channels sets another order.",
        "the model takes 3 channels, and is also trained for fewer: the last 2 are zeros",
    ),
    "input.grid": FindingCode(
        "error",
        "A further input image (--input) is not on the same grid as the first: it has different "
        "sizes along t, z, y or x. As a warning: it states a different pixel size.",
        "Give the file that was made from the same image, or resize it to the size of the first.",
        "'a_prob.tif' for input 'prob' has y 256, but the image has y 512",
        milder="warning",
        forceable=False,
        factor=0.05,
    ),
    "channel.empty": FindingCode(
        "warning",
        "Every pixel of a channel has the same value.",
        "Check that this is the right file, series and channel.",
        "every pixel of channel 1 is 0",
    ),
    "dtype.cast": _adapted(
        "The model takes another dtype, which can hold every value of the image.",
        "Nothing: the conversion changes no value.",
        "converted from uint16 to float32 without loss",
    ),
    "dtype.narrowed": FindingCode(
        "warning",
        "The model's dtype cannot hold the values: they are rounded and clipped to its range.",
        "Scale the intensities to that range yourself, once for the whole experiment.",
        "uint16 becomes uint8: values are rounded and clipped to its range",
    ),
    "range.nonfinite": FindingCode(
        "error",
        "Some pixels are NaN or infinite; the network spreads them to all pixels within its reach.",
        "Fill them in, or crop them away.",
        "12 of 65536 pixels are NaN or infinite",
    ),
    "range.outlier": FindingCode(
        "warning",
        "A few hot pixels are far above all others; they spoil a scaling to the brightest.",
        "Clip the intensities at a percentile.",
        "bmz run MODEL cells.tif -o out --clip 99.99",
    ),
    "range.saturated": FindingCode(
        "warning",
        "Bright objects are saturated: touching objects look like one.",
        "Use a shorter exposure; saturated values cannot be recovered.",
        "bright parts of channel 0 are saturated at 4095",
    ),
    "range.inverted": FindingCode(
        "warning",
        "Structures are dark in the image and bright in the model's own sample, or the reverse.",
        "Use `bmz run --invert`, or a model for this kind of image.",
        "structures are dark here and bright in the model's own sample",
        factor=0.6,
    ),
    "range.flat": FindingCode(
        "warning",
        "There are fewer than 8 grey levels between percentiles 1 and 99.9.",
        "A longer exposure, or the image before its range was reduced; an empty field stays empty.",
        "channel 0 has almost no contrast: a range of 3 grey levels",
    ),
    "range.unit": FindingCode(
        "warning",
        "The pixels are between 0 and 1, but the model declares a wider range.",
        "Use the raw image, or multiply the values.",
        "the pixels are between 0 and 1, but the model expects a wider range",
    ),
    "range.outside": FindingCode(
        "warning",
        "Some pixels are outside the range that the model declares.",
        "Scale the intensities to the range, or inspect the result carefully.",
        "some pixels are outside the range that the model declares",
    ),
    "scale.far": FindingCode(
        "error",
        "A pixel of the image is at least twice as long, or half as long, as a pixel of the model.",
        "Resize the image by the factor in the hint, or with --scale auto.",
        "bmz run MODEL cells.tif -o out --scale 4",
        factor=0.4,  # --scale cures it
        cured_by="--scale",
    ),
    "scale.off": FindingCode(
        "warning",
        "The pixel sizes differ by a factor of 1.25 or more.",
        "Look at the overlay; resize with --scale auto if objects are missed or split.",
        "a pixel of the image is 1.4 x as long as a pixel of the model",
        factor=0.9,
        cured_by="--scale",
    ),
    "scale.unknown": FindingCode(
        "note",
        "The image, the model, or both do not state a pixel size.",
        "Compare the size of the objects in pixels with what the model was made for.",
        "neither the pixel size of the model nor that of the image is known",
        factor=1.0,
    ),
    "scale.implausible": FindingCode(
        "error",
        "The value cannot be a pixel size: a screen's 72 dpi, zero, below 0, above 50 um, or 100 "
        "x the model's, as when nm are mistaken for um. It is a warning if the model does not "
        "need the pixel size, because the mask and the table still carry it. It is also a "
        "warning above 20 um, which neither slide scanners (0.25 to 10 um) nor mesoscopes reach, "
        "if the image would be more than 15 mm long, unlike any field of a microscope, or if a "
        "camera pixel behind the file's objective would be longer than 100 um.",
        "Give the true pixel size.",
        "bmz check MODEL cells.tif --pixel-size 0.5um",
        milder="warning",
    ),
    "scale.anisotropy": FindingCode(
        "warning",
        "The depth of a voxel relative to its width differs from the model's by a factor of 2 or "
        "more, or the height of a pixel relative to its width by 1.25 or more.",
        "Resample the image along that axis first: --scale changes all axes equally.",
        "a voxel of the image is 4 x as deep as wide, one of the model 1 x",
    ),
    "object.size": FindingCode(
        "warning",
        "Objects are far larger or smaller, in pixels, than those that the model was made for. "
        "It is a note if only the model's own sample, which shows just one size, says what it is "
        "made for, and the objects are less than 3 x smaller or 4 x larger, or their size is "
        "unclear.",
        "Resize the image by the factor in the hint, or with --scale auto.",
        "bmz run MODEL cells.tif -o out --scale auto",
        milder="note",
        factor=0.6,
        cured_by="--scale",
    ),
    "size.below-least": FindingCode(
        "note",
        "The image is smaller than the smallest size that the network takes.",
        "Nothing: it is padded, and the result is cropped back.",
        "the model needs at least 256 px: padded from 200 to 256 px",
        adapted=True,
        factor=0.95,
    ),
    "size.off-step": FindingCode(
        "note",
        "The network takes sizes in steps, and the size of the image is not one of them.",
        "Nothing: the image is padded to the next size, or tiled.",
        "the model needs multiples of 16 px: padded from 100 to 112 px",
        adapted=True,
    ),
    "size.fixed": FindingCode(
        "note",
        "The network takes a single size, and the image is larger.",
        "Nothing: the image is run in overlapping tiles of that size.",
        "1024 px are run in tiles of 512 px",
        adapted=True,
    ),
    "content.modality": FindingCode(
        "error",
        "The image shows a kind of microscopy that the model is not made for: a network returns "
        "a mask for any image, but here the mask means nothing. As a warning, the pixels could "
        "be run; as an error, the channels are also of another kind, such as the colours of a "
        "stained section for a model of fluorescence.",
        "Use a model that is made for such images; the hint names some, and bmz fit ranks all. "
        "If the image is of the right kind, say so with --kind.",
        "bmz check MODEL cells.tif --kind fluorescence,nuclei",
        milder="warning",
        factor=0.2,
    ),
    "content.structure": FindingCode(
        "warning",
        "The kind of microscopy is right, but the image clearly shows a structure that the model "
        "is not made for, such as filaments instead of nuclei.",
        "If the hint names a channel, use it; else use a model for such structures. If the image "
        "shows the right structures, say so with --kind.",
        "bmz check MODEL cells.tif --channels 1",
        factor=0.4,
    ),
    "content.not-microscopy": FindingCode(
        "warning",
        "The image looks like a photograph, a drawing, a plot or a screenshot, not like a "
        "microscopy image.",
        "Check that this is the right file. If it is microscopy, state its kind with --kind.",
        "bmz check MODEL cells.tif --kind brightfield",
        factor=0.1,
    ),
    "sample.unlike": FindingCode(
        "warning",
        "The image is far from the sample that comes with the model, in texture, contrast and "
        "sizes. It is a note if the distance is moderate, and if the image shows what the model "
        "is stated to be made for: one sample does not show everything that a model can do.",
        "Compare the image with the sample; rank other models with bmz fit.",
        "bmz fit cells.tif",
        milder="note",
        factor=0.8,
    ),
    "prompts.outside": FindingCode(
        "warning",
        "Some prompts are outside the image: they may belong to another image, or be in another "
        "unit.",
        "Give points and boxes in pixels of the whole image, or in um in columns such as x_um.",
        "5 of 40 prompts are outside the image and are left out",
    ),
    "trial.doubtful": FindingCode(
        "warning",
        "The mask, on crops of the image or on all of it, may be partly wrong: masks of slightly "
        "changed copies differ, or objects are faint, odd or unclear in the map of the network. "
        "The predicted F1 is the agreement with a careful annotator at an IoU of 0.5.",
        "Look at the picture of the worst crop; try another scale, channel or model.",
        "bmz check MODEL cells.tif --try --pictures trial",
        factor=0.8,
    ),
    "trial.wrong": FindingCode(
        "warning",
        "The mask, on crops of the image or on all of it, is likely wrong. On sources not used "
        "for training, 9 of 10 masks with an F1 below 0.5 were found this way, and 8 of 100 with "
        "an F1 above 0.75.",
        "Look at the picture of the worst crop; try another scale, channel or model.",
        "bmz check MODEL cells.tif --try --pictures trial",
        factor=0.4,
    ),
    "output.nonfinite": FindingCode(
        "warning",
        "The network, or a declared step before or after it, returns NaN or infinity for some "
        "pixels, so the result is worthless there; if it does so for all pixels, the run of the "
        "image fails with this code. In an image that is run in parts, single pixels are checked "
        "after the network and the steps that follow it.",
        "Try --precision float32, another --device or other --weights; if that does not help, "
        "tell the authors of the model.",
        "output 'map' of the network is NaN or infinite in every pixel",
    ),
    "output.no-objects": FindingCode(
        "warning",
        "The label mask is empty: the field contains no objects, or the model recognises none in "
        "this kind of image.",
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
        "Download the whole package again.",
        "the package has no file 'weights.onnx' (onnx weights)",
        factor=0.2,
    ),
    "package.hash-differs": FindingCode(
        "error",
        "The sha256 of a file differs from the one in the description: the file is damaged or "
        "was changed.",
        "Download the package again.",
        "'weights.onnx' is not the file described",
        factor=0.2,
    ),
    "package.unknown-op": FindingCode(
        "error",
        "The description has a step that this version of bmz does not know.",
        "Update bmz, or use a model without this step.",
        "the step 'vesicle_tracing' is unknown to this version of bmz",
        is_need=True,
    ),
    "package.runs-code": FindingCode(
        "error",
        "Loading the model runs its own code, which you have not allowed, or a declared step is "
        "such code.",
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
        "Install the framework named in the hint.",
        "pip install 'bmz[torch]'",
        factor=0.6,  # the image may fit all the same
        is_need=True,
    ),
    "contract.model": FindingCode(
        "error",
        "The model is not the one in the contract: the sha256 of its manifest differs.",
        "Use the old model, or check the new model and write the contract again with --lock.",
        "the model is not the one in the contract",
    ),
    "contract.image": FindingCode(
        "error",
        "The axes, dtype, number of channels or pixel size differ from the contract.",
        "Check how the image was acquired or exported.",
        "the image has dtype uint8, the contract says uint16",
    ),
    "contract.kind": FindingCode(
        "error",
        "The image shows a kind of microscopy or a structure that differs from the contract.",
        "Check that this is the right file and channel.",
        "the image shows electron microscopy (97 %), the contract says fluorescence",
    ),
    "contract.intensity": FindingCode(
        "error",
        "The signal is weaker or stronger than the contract allows.",
        "Check exposure, stain and lamp.",
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
