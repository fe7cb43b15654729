"""The label recipes ``components``, ``argmax``, ``masks``, ``labels``: objects shown as such."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np

from bmz.base import ndimage
from bmz.base.arrays import AnyArray, FloatArray, LabelArray, TensorDecoder
from bmz.base.errors import AnswerIsNo, CouldNotTell
from bmz.base.values import dataclass
from bmz.process.object_classes import class_names
from bmz.process.object_columns import CLASS, NO_COLUMNS, Columns, scored
from bmz.process.recipe import SHARES, InBlocks, Knob, Labelled, NoSettings, Recipe, Value
from bmz.process.relabel import ChannelsDiffer, in_raster_order, on_input_grid, one_map

FEWEST_CLASSES = 2


@dataclass(frozen=True)
class ArgmaxSettings:
    """The parameters of the recipe."""

    background: Annotated[int, Knob("channel of the background, counted from 0; -1: none", -1)] = 0
    instances: Annotated[bool, Knob("number the objects; false: the label is the class")] = True
    diagonal: Annotated[bool, Knob("treat pixels that touch at a corner as connected")] = True
    classes: Annotated[
        str, Knob("names of the classes, one per channel; empty: numbers if there are several")
    ] = ""

    def class_words(self, channels: int) -> tuple[str, ...]:
        """Return what the class of each channel is called, the background left out.

        There is none where all objects are of one class that nobody named.

        Raises
        ------
        ChannelsDiffer
            There are other names than channels.
        """
        names = class_names(self.classes)
        if names and len(names) != channels:
            raise ChannelsDiffer("argmax", f"{len(names)} classes, one per channel", channels)
        kept = [n for n in range(channels) if n != self.background]
        if not names and len(kept) < FEWEST_CLASSES:
            return ()
        return tuple(names[n] if names else str(n) for n in kept)


def label_classes(output: AnyArray, grid: tuple[int, ...], settings: ArgmaxSettings) -> Labelled:
    """Label each connected region of a class, or label each pixel with its class.

    Logits, probabilities and votes give the same; of equal values the first channel wins.

    Parameters
    ----------
    output : (c, (z,) y, x), one map per class
    grid : spacing of the map, px of the input
    settings : the parameters

    Returns
    -------
    Labelled
        of ``output.shape[1:] * grid``, with the class of each object. Without `instances` a label
        is a class:
        1 for the first channel that is not the background, and so on, whichever are met; then
        the numbers may have gaps and stand in no raster order, as the number is the meaning.

    Raises
    ------
    ChannelsDiffer
        There are fewer than two channels, no channel of the background, or other names.
    """
    from skimage.measure import label  # here: it takes long to import

    classes = _classes(output, settings.background)
    if not settings.instances:
        return Labelled(on_input_grid(classes, grid), classes=True)
    regions = label(classes, background=0, connectivity=classes.ndim if settings.diagonal else 1)
    words = settings.class_words(len(output))
    return in_raster_order(on_input_grid(regions, grid), classes_of(regions, classes, words))


def classes_of(regions: AnyArray, classes: AnyArray, words: tuple[str, ...]) -> Columns:
    """Return the class of each region, whose pixels are all of one class.

    Parameters
    ----------
    regions : ((z,) y, x), 0 background, 1 to n
    classes : of the same shape, 0 background, 1 for the first of `words`
    words : what the classes are called; empty if that is not told
    """
    if not words:
        return NO_COLUMNS
    own = np.zeros(int(regions.max(initial=0)) + 1, np.intp)
    own[regions.reshape(-1)] = classes.reshape(-1)
    return {CLASS: np.array(words, np.str_)[own[1:] - 1]}


def _classes(output: AnyArray, background: int) -> LabelArray:
    """Return 0 for the background and 1, 2, ... for the other channels in their order."""
    number = class_numbers(len(output), background)
    classes: LabelArray = number[np.argmax(output, axis=0)]
    return classes


def class_numbers(channels: int, background: int) -> LabelArray:
    """Return the class that each channel stands for, (channels,) int32; 0 for the background.

    Raises
    ------
    ChannelsDiffer
        There are fewer than two channels, or there is no channel of the background.
    """
    if channels < FEWEST_CLASSES:
        raise ChannelsDiffer("argmax", "at least two channels, one per class", channels)
    if background >= channels:
        channel = f"channel {background}, counted from 0, as background"
        raise ChannelsDiffer("argmax", channel, channels)
    number = np.arange(1, channels + 1, dtype=np.int32)
    if background >= 0:
        number[background:] -= 1
        number[background] = 0
    return number


def _gives_classes(parameters: Mapping[str, Value]) -> bool:
    return not parameters["instances"]


def _refuse_classes(parameters: Mapping[str, Value]) -> str:
    why = "labels that are classes cannot be numbered in blocks"
    return why if _gives_classes(parameters) else ""


ARGMAX = Recipe(
    name="argmax",
    what="one map per class: each pixel takes the best class, and connected pixels form an object",
    source="multi-class semantic segmentation; skimage.measure.label for the objects",
    label=label_classes,
    in_blocks=InBlocks(refused=_refuse_classes),
    settings=ArgmaxSettings,
    on_tensors=TensorDecoder("bmz.process.region_tensors:label_classes_there", 64),
    gives_classes=_gives_classes,
)
"""The recipe of semantic segmentation."""


@dataclass(frozen=True)
class ComponentSettings:
    """The parameters of the recipe."""

    threshold: Annotated[
        float, Knob("foreground is above this value, in the unit of the map", cures=SHARES)
    ] = 0.5
    channel: Annotated[int, Knob("channel of the foreground, counted from 0", 0)] = 0
    diagonal: Annotated[bool, Knob("treat pixels that touch at a corner as connected")] = True


def label_components(
    output: AnyArray, grid: tuple[int, ...], settings: ComponentSettings
) -> Labelled:
    """Label each connected region above a threshold.

    Parameters
    ----------
    output : (c, (z,) y, x), a foreground map or mask
    grid : spacing of the map, px of the input
    settings : the parameters

    Returns
    -------
    Labelled
        of ``output.shape[1:] * grid``, without scores

    Raises
    ------
    ChannelsDiffer
        The output has no such channel.
    """
    from skimage.measure import label  # here: it takes long to import

    above = one_map("components", output, settings.channel) > settings.threshold
    regions = label(above, connectivity=above.ndim if settings.diagonal else 1)
    return in_raster_order(on_input_grid(regions, grid))


COMPONENTS = Recipe(
    name="components",
    what="one foreground map: the connected regions above a threshold; touching objects merge",
    source="connected component labelling, skimage.measure.label",
    label=label_components,
    in_blocks=InBlocks(),
    settings=ComponentSettings,
    on_tensors=TensorDecoder("bmz.process.region_tensors:label_components_there", 48),
)
"""The recipe of foreground maps and masks."""


class NotLabels(AnswerIsNo):
    """A map that should hold the numbers of objects holds something else."""

    def __init__(self, content: object) -> None:
        super().__init__(
            f"recipe 'labels' expects whole numbers from 0, but the output contains {content}",
            hint="the output is a map, not labels: choose another --recipe",
            code="recipe.not-labels",
        )


def take_labels(output: AnyArray, grid: tuple[int, ...], _settings: NoSettings) -> Labelled:
    """Set the numbers of a label image in raster order.

    Parameters
    ----------
    output : (1, (z,) y, x) of any dtype, whole numbers, 0 for background
    grid : spacing of the labels, px of the input
    _settings : none; taken so that recipes are called alike

    Returns
    -------
    Labelled
        of ``output.shape[1:] * grid``, without scores

    Raises
    ------
    ChannelsDiffer
        There are several channels.
    NotLabels
        A value is not a whole number, below 0 or not finite.
    """
    if len(output) != 1:
        raise ChannelsDiffer("labels", "one channel, the labels", len(output))
    whole = output[0].astype(np.uint8) if output.dtype == np.bool_ else output[0]
    if whole.dtype.kind not in "iu":
        whole = _as_whole(whole)
    if whole.size and whole.min() < 0:
        raise NotLabels(whole.min())
    return in_raster_order(on_input_grid(whole, grid))


def _as_whole(values: AnyArray) -> AnyArray:
    odd = ~np.isfinite(values) | (values != np.rint(values))
    if odd.any():
        raise NotLabels(values[odd][0])
    return values.astype(np.int64)


LABELS = Recipe(
    name="labels",
    what="the output is already labels; they are numbered 1 to n",
    source="the model description",
    label=take_labels,
    of_labels=True,
    rescale="labels",
    rescale_why="there is no value between two labels",
)
"""The recipe of outputs that need none."""


Box = tuple[slice, slice]

CORNERS = 4
"""Of a box: lowest x, lowest y, highest x, highest y, in px."""


class ObjectsDiffer(CouldNotTell):
    """The outputs for single objects do not belong together."""

    def __init__(self, what: str, expected: str, actual: object) -> None:
        super().__init__(
            f"recipe 'masks' expects {what} {expected}, but found {actual}",
            hint="choose the outputs with --set output=ID, --set boxes=ID and --set scores=ID",
            code="recipe.objects",
        )


@dataclass(frozen=True)
class MaskSettings:
    """The parameters of the recipe."""

    boxes: Annotated[str, Knob("id of the output with the boxes; empty: masks of the image")] = ""
    scores: Annotated[str, Knob("id of the output with the scores; empty: none")] = ""
    score_threshold: Annotated[float, Knob("an object needs a higher score", 0, 1)] = 0.5
    mask_threshold: Annotated[float, Knob("an object is where its mask is above", 0, 1)] = 0.5


def label_masks(
    output: AnyArray,
    _grid: tuple[int, ...],
    settings: MaskSettings,
    *,
    shape: tuple[int, ...],
    others: Mapping[str, AnyArray],
) -> Labelled:
    """Paint the masks of objects, those with the better score on top.

    Parameters
    ----------
    output : (n, ..., y, x), mask probability of each object, of the image or of the object's box
    settings : the parameters; without `scores` all objects count alike
    shape : height and width of the image, px
    others : all outputs by their ids: the boxes are (n, 4), lowest x, lowest y, highest x,
        highest y in px, and the scores (n,)

    Returns
    -------
    Labelled
        of `shape`, with the score of each object; `drawn` is the largest mask at every pixel

    Raises
    ------
    ObjectsDiffer
        An output does not exist, or has another number of objects, or masks without boxes have
        another size than the image.
    """
    masks = output.reshape(len(output), *output.shape[-2:]) if output.size else np.zeros((0, 1, 1))
    boxes = _named(others, settings.boxes, "boxes", len(masks))
    scores = _named(others, settings.scores, "scores", len(masks))
    ranks = np.ones(len(masks), np.float32) if scores is None else scores.reshape(len(masks))
    labels, drawn = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    # the best is painted last; of equals the first
    for nth in np.argsort(ranks[::-1], kind="stable"):
        k = len(masks) - 1 - int(nth)
        if ranks[k] <= settings.score_threshold and scores is not None:
            continue
        place, values = _placed(masks[k], None if boxes is None else boxes[k], shape)
        labels[place][values > settings.mask_threshold] = k + 1
        drawn[place] = np.maximum(drawn[place], values)
    labelled = in_raster_order(labels, scored(ranks))
    return Labelled(labelled.labels, {} if scores is None else labelled.columns, drawn=drawn)


def _named(others: Mapping[str, AnyArray], name: str, what: str, objects: int) -> AnyArray | None:
    if not name:
        return None
    if name not in others:
        raise ObjectsDiffer(what, f"in an output '{name}'", f"the outputs {', '.join(others)}")
    values = others[name]
    if len(values) != objects or (what == "boxes" and values.size != objects * CORNERS):
        raise ObjectsDiffer(what, f"of {objects} objects", f"the shape {values.shape}")
    return values


def _placed(
    mask: FloatArray, box: AnyArray | None, shape: tuple[int, ...]
) -> tuple[Box, FloatArray]:
    """Return the part of the image that a mask covers, and its values there.

    The values of a box's mask lie evenly in it, and are interpolated at the middle of each pixel
    (Detectron2, ``paste_masks_in_image``).
    """
    if box is None:
        if mask.shape != shape:
            raise ObjectsDiffer("masks without boxes", f"of {shape} px", f"{mask.shape}")
        return (slice(None), slice(None)), np.asarray(mask, np.float32)
    low_x, low_y, high_x, high_y = (float(v) for v in box.reshape(-1))
    sides = []
    for low, high, size, entries in (
        (low_y, high_y, shape[0], mask.shape[0]),
        (low_x, high_x, shape[1], mask.shape[1]),
    ):
        first, stop = max(int(np.floor(low)), 0), min(int(np.ceil(high)), size)
        pixels = np.arange(first, max(stop, first))
        sides.append((pixels, (pixels + 0.5 - low) / max(high - low, 1e-6) * entries - 0.5))
    (rows, y), (columns, x) = sides
    at = np.meshgrid(y, x, indexing="ij")
    values = ndimage.map_coordinates(
        np.asarray(mask, np.float32), at, order=1, mode="grid-constant"
    )
    place = (slice(*_ends(rows)), slice(*_ends(columns)))
    return place, values


def _ends(pixels: AnyArray) -> tuple[int, int]:
    return (int(pixels[0]), int(pixels[-1]) + 1) if len(pixels) else (0, 0)


MASKS = Recipe(
    name="masks",
    what="one mask and one score per object, in its box or in the image: better ones on top",
    source="He et al. 2017 (Mask R-CNN), doi 10.1109/ICCV.2017.322; Detectron2",
    label=label_masks,
    per_object=True,
    rescale="labels",
    rescale_why="boxes are in pixels of the network's input",
    settings=MaskSettings,
)
"""The recipe of models that give objects one by one."""
