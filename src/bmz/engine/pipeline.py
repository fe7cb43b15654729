"""Run the declared pipeline of one plane or stack, in the declared order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray, LazyArray, MapThere
from bmz.base.axes import IMAGE_AXES, SPACE, Step
from bmz.base.errors import CouldNotTell, not_none
from bmz.base.progress import Listener, nobody
from bmz.base.values import dataclass
from bmz.engine.known_tensors import KnownTensors
from bmz.engine.labelling import Decoding, Labelling
from bmz.engine.output_check import OutputWatch, StageCounts
from bmz.engine.request import GRID
from bmz.engine.stages import Stopwatch
from bmz.image.pixels import Pixels
from bmz.image.prompt_files import Prompt
from bmz.plan.plan import Plan
from bmz.predict.backend import Backend
from bmz.predict.cutting import Tensor
from bmz.predict.tiles import Attempts, Tiles, in_memory, uncounted
from bmz.process.adapt import (
    ResizedMaps,
    cast_within_range,
    from_layout,
    grid_of,
    resize_image,
    resize_labels,
    seen_channels,
    to_layout,
)
from bmz.process.compiled import NOTE
from bmz.process.object_columns import Columns
from bmz.process.ops import apply_steps, not_seen
from bmz.process.ops_scaling import Reference
from bmz.process.recipe import Labelled
from bmz.process.relabel import finish_labels
from bmz.spec.model import ModelSpec, TensorSpec


def all_stepped(
    model: ModelSpec,
    tensors: KnownTensors,
    steps_of: Callable[[TensorSpec], Sequence[Step]] = lambda tensor: tensor.steps,
) -> list[AnyArray]:
    """Apply declared steps to every output, in the order of the description.

    Parameters
    ----------
    steps_of : returns the steps to apply to an output; all by default

    Raises
    ------
    BmzError
        A step does not fit its tensor.
    """
    return [tensors.stepped(tensor.id, steps_of(tensor))[0] for tensor in model.outputs]


def referred_inputs(model: ModelSpec) -> frozenset[str]:
    """Return the ids of the inputs to which a step after the network refers.

    Only these must be kept until the network has run.
    """
    steps = (step for tensor in model.outputs for step in tensor.steps)
    named = {str(step.kwargs.get("reference_tensor")) for step in steps}
    return frozenset(tensor.id for tensor in model.inputs if tensor.id in named)


class OutputIsNoMap(CouldNotTell):
    """An output has an axis of objects, but a map of the image is needed."""

    def __init__(self, output: str, letters: str) -> None:
        super().__init__(
            f"output '{output}' has the axes {letters}: one entry per object, not a map of the "
            "image that could be kept or labelled",
            hint="draw its objects with --recipe masks, or choose another output with --set "
            "output=ID",
            code="recipe.no-map",
        )


@dataclass(frozen=True)
class PlaneContext:
    """Context in which every plane of an image is run."""

    model: ModelSpec
    plan: Plan
    labelling: Labelling
    backend: Backend
    stopwatch: Stopwatch
    listener: Listener = nobody
    steps_done: bool = False
    """Whether the engine that runs the network also applies the declared steps."""

    counted: StageCounts = field(default_factory=StageCounts)
    """Pixels after the network and each declared step, over all planes run in this context."""

    computed: Callable[[float], None] = uncounted
    """Is called with the seconds for which the device of the network computed."""

    decoding: Decoding = field(default_factory=Decoding)
    """Where labels are computed."""

    keeps_raw: bool = True
    """Whether the maps of the network are requested."""

    prompts: Sequence[Prompt] | str = GRID
    """The prompts of the plane, or a keyword for them."""

    @property
    def watch(self) -> OutputWatch:
        """The watch that looks for pixels that are not numbers."""
        return OutputWatch(self.plan, self.counted)


@dataclass(frozen=True)
class PlaneResult:
    """Output of the model for one plane or stack.

    Parameters
    ----------
    raw : (c, (z,) y, x) float32, the map after the declared steps, on the network's grid; None if
        it was not requested and stayed on the device of the network
    plan : the plan of the plane, with the tiles and the batch that fitted in memory
    labels : ((z,) y, x) on the grid of the image; None without a recipe
    columns : values that the recipe computes for each label
    classes : whether labels number classes, the same in every plane, rather than objects
    there : the map, if it stayed on the device of the network
    """

    raw: FloatArray | None
    plan: Plan
    labels: AnyArray | None = None
    columns: Columns = field(default_factory=dict)
    classes: bool = False
    there: MapThere | None = None


def planes_of(pixels: Pixels, plan: Plan, space: str) -> list[AnyArray]:
    """Return the planes or stacks that the model is run on, (c, (z,) y, x) each.

    Parameters
    ----------
    pixels : pixels as read, with axes of ``tczyx`` in that order
    space : axes of the model, ``yx`` or ``zyx``
    """
    ordered = pixels.with_channel_axis().transposed((*plan.loop, "c", *space)).array
    return [ordered[position] for position in np.ndindex(*plan.loop.values())]


def network_outputs(plane: AnyArray, work: PlaneContext) -> tuple[KnownTensors, Plan]:
    """Prepare one plane or stack and run the network, without computing labels.

    Returns
    -------
    KnownTensors, Plan
        the outputs, with those inputs to which a step after the network refers, and the plan
        with the tiles and the batch that fitted in memory

    Raises
    ------
    OutputNotFinite
        No pixel of any plane is a number.
    """
    model = work.model
    with work.stopwatch.stage("prepare"):
        taken = taken_inputs(plane, model, work.plan)
        tensors = network_inputs(taken, model, work.watch, steps=not work.steps_done)
        referred = {name: taken[name] for name in referred_inputs(model) if name in taken}
        del taken
    if work.labelling.prompted:
        # here: few models are prompted
        from bmz.engine.asking import prompted_outputs
        from bmz.engine.prompting import PromptedNetwork

        network = PromptedNetwork(model, work.backend)
        with work.stopwatch.stage("network"):
            asked = prompted_outputs(tensors[0], network, work)
        return KnownTensors(referred, asked), work.plan
    with work.stopwatch.stage("network"):
        outputs, left = list[AnyArray](), ""
        resized = plane.shape[1:] != tuple(work.plan.shape.values())
        kept = work.keeps_raw or work.steps_done
        why = work.decoding.stays(work.labelling, work.backend, kept=kept, resized=resized)
        there = None if why else work.decoding.there
        attempts = Attempts(work.plan, model, work.listener)
        for attempt in attempts:
            with attempt as plan:
                # see `bmz.predict.core`
                rules = [*plan.outputs] * (2 if work.steps_done else 1)
                tiles = Tiles(
                    work.backend, tensors, plan.tiling, rules, plan.batch, work.listener,
                    work.computed, there,
                )  # fmt: skip
                outputs, batch, left = in_memory(tiles)
                attempts.succeed(batch)
        if why or left:
            size = 0 if there else sum(array.nbytes for array in outputs)
            work.decoding.note_copied(why or left, size)
        outputs = _watched(outputs, work)
    return KnownTensors.of(model, referred, outputs), attempts.plan


def _watched(outputs: Sequence[AnyArray], work: PlaneContext) -> list[AnyArray]:
    """Watch the network output that becomes labels, and return the outputs of the model."""
    own = len(work.model.outputs)
    output = work.labelling.choice.output
    position = [tensor.id for tensor in work.model.outputs].index(output)
    # an engine that applied the steps adds arrays that mark non-finite pixels of the network
    output_array = outputs[own + position if len(outputs) > own else position]
    work.watch.network(output, output_array, work.model.outputs[position].letters)
    return list(outputs[:own])


def taken_inputs(plane: AnyArray, model: ModelSpec, plan: Plan) -> dict[str, Reference]:
    """Choose channels, clip, resize and cast for each input, without applying declared steps.

    Parameters
    ----------
    plane : (c, (z,) y, x), as read

    Returns
    -------
    dict
        id -> input in the layout of its tensor, and the letters of its dimensions
    """
    inputs = model.required_inputs
    taken = {}
    for tensor, channels in zip(inputs, plan.channels, strict=True):
        pixels = seen_channels(plane, channels, plan.clip, invert=plan.invert)
        if plan.scale != 1:
            pixels = resize_image(pixels, tuple(plan.shape.values()))
        laid = to_layout(pixels, "c" + model.space, tensor.letters)
        taken[tensor.id] = (cast_within_range(laid, tensor.dtype), tensor.letters)
    return taken


def network_inputs(
    sources: Mapping[str, Reference],
    model: ModelSpec,
    watch: OutputWatch | None = None,
    *,
    steps: bool = True,
) -> list[Tensor]:
    """Apply the declared preprocessing of each input.

    Parameters
    ----------
    sources : inputs from `taken_inputs`; optional inputs may be missing
    watch : inspects the result of each step
    steps : whether the declared steps are applied here rather than by the engine

    Returns
    -------
    list of Tensor
        each input in the layout of its tensor, with its axes
    """
    inputs = [tensor for tensor in model.inputs if tensor.id in sources]
    if not steps:
        return [Tensor(*sources[tensor.id]) for tensor in inputs]
    tensors = []
    for tensor in inputs:
        look = not_seen if watch is None else watch.steps("input", tensor.id, tensor.letters)
        source = sources[tensor.id]
        tensors.append(Tensor(*apply_steps(tensor.steps, *source, references=sources, look=look)))
    return tensors


def finished_plane(
    tensors: KnownTensors, shape: tuple[int, ...], work: PlaneContext
) -> PlaneResult:
    """Apply the declared steps after the network, and compute the labels.

    Parameters
    ----------
    tensors : outputs of the network for one plane or stack, and the inputs that steps refer to
    shape : its spatial sizes
    work : model, plan and recipe
    """
    with work.stopwatch.stage("labels"), NOTE.heard_by(work.listener):
        return _finished(tensors, shape, replace(work, labelling=work.decoding.of(work.labelling)))


def _finished(known: KnownTensors, shape: tuple[int, ...], work: PlaneContext) -> PlaneResult:
    mapped, letters = map_of(known, work.model, work.labelling, work.watch)
    if work.labelling.recipe is None:
        return PlaneResult(_as_raw(mapped, letters), work.plan)
    network = tuple(work.plan.shape.values())
    decoder = work.labelling.decoder
    if shape != network and decoder is not None and decoder.rescale == "maps":
        grown = work.labelling.at_factor(1 / work.plan.scale)
        labelled = label_resized_map((mapped, letters), network, shape, grown, known)
    else:
        labelled = label_map(mapped, letters, work.plan.shape, work.labelling, known)
        cropped = labelled.labels[tuple(slice(size) for size in network)]
        labelled = replace(labelled, labels=resize_labels(cropped, shape))
    raw, there = None, work.decoding.map_there(mapped, letters)
    if there is None:
        raw = _as_raw(mapped, letters) if labelled.drawn is None else labelled.drawn[None]
    done = finish_labels(labelled, work.labelling.finish)
    return PlaneResult(raw, work.plan, done.labels, done.columns, done.classes, there)


def _as_raw(mapped: AnyArray, letters: str) -> FloatArray:
    raw: FloatArray = from_layout(np.asarray(mapped, dtype=np.float32), letters)[0]
    return raw


def map_of(
    tensors: KnownTensors, model: ModelSpec, labelling: Labelling, watch: OutputWatch | None = None
) -> tuple[AnyArray, str]:
    """Apply the declared steps that compute the map to the output that becomes labels.

    Parameters
    ----------
    tensors : outputs of the network, and the inputs that steps refer to
    watch : inspects the result of each step

    Returns
    -------
    ndarray, str
        the map and its axes

    Raises
    ------
    OutputIsNoMap
        The output has an axis of objects, but the recipe needs a map.
    """
    output, recipe = labelling.choice.output, labelling.recipe
    tensor = model.output(output)
    if tensor.per_object and not (recipe is not None and recipe.per_object):
        raise OutputIsNoMap(tensor.id, tensor.letters)
    look = not_seen if watch is None else watch.steps("output", output, tensor.letters)
    return tensors.stepped(output, labelling.map_steps, look)


def labels_of(
    tensors: KnownTensors, model: ModelSpec, labelling: Labelling, shape: Mapping[str, int]
) -> Labelled:
    """Turn the outputs of one run into labels, on the grid of the network.

    Parameters
    ----------
    tensors : outputs of the network, and the inputs that steps refer to
    labelling : labelling with a recipe
    shape : spatial sizes of the input of the network

    Raises
    ------
    OutputIsNoMap
        The output has an axis of objects, but the recipe needs a map.
    BmzError
        A step or the recipe does not accept the output.
    """
    mapped, letters = map_of(tensors, model, labelling)
    return label_map(mapped, letters, shape, labelling, tensors)


def label_map(
    mapped: AnyArray,
    letters: str,
    shape: Mapping[str, int],
    labelling: Labelling,
    tensors: KnownTensors,
) -> Labelled:
    """Turn the map of one image into labels, on the grid of the network.

    Parameters
    ----------
    mapped, letters : map computed by the declared steps from the output of the network, and its
        axes
    shape : spatial sizes of the input of the network
    labelling : labelling with a recipe
    tensors : all tensors, for steps that refer to one and for recipes of single objects
    """
    recipe = not_none(labelling.recipe)
    if recipe.per_object:
        size = tuple(shape.values())
        # masks of the whole image may lie along the channel axis of a map
        items = from_layout(mapped, letters)[0] if set(letters) <= {"b", *IMAGE_AXES} else mapped
        others = tensors.output_arrays
        return recipe.apply(items, (), labelling.parameters, shape=size, others=others)
    steps, references = labelling.label_steps, tensors.references

    def declared() -> AnyArray:
        done, _ = apply_steps(steps, mapped, letters, references=references)
        laid: AnyArray = from_layout(done, letters)[0]
        return laid

    maps = tensors.once("map", (mapped, steps), declared)
    grid = grid_of(maps.shape[1:], shape)
    return recipe.apply(maps, grid, labelling.parameters)


def label_resized_map(
    mapped: tuple[AnyArray, str],
    network: tuple[int, ...],
    image: tuple[int, ...],
    labelling: Labelling,
    tensors: KnownTensors,
) -> Labelled:
    """Resample the map of a resized image to the image, and turn it into labels there.

    Parameters
    ----------
    mapped : map computed by the declared steps, and its axes
    network, image : spatial sizes of the resized image and of the image, px
    labelling : labelling with a recipe for maps, and its parameters for the grid of the image
    tensors : all tensors, for steps that refer to one

    Returns
    -------
    Labelled
        labels of the shape of the image
    """
    maps, letters = mapped
    laid: AnyArray = tensors.once("map", (maps,), lambda: from_layout(maps, letters)[0])
    resized = resized_maps(laid, network, image, labelling)
    recipe = not_none(labelling.recipe)
    if labelling.label_steps:
        tensor = to_layout(np.asarray(resized), _image_axes(letters), letters)
        declared, _ = apply_steps(
            labelling.label_steps, tensor, letters, references=tensors.references
        )
        labels, _ = from_layout(declared, letters)
        sizes = dict(zip(_image_axes(letters)[1:], image, strict=True))
        labelled = recipe.apply(labels, grid_of(labels.shape[1:], sizes), labelling.parameters)
    else:
        whole: Any = tensors.once(
            "resized",
            (laid, network, image, resized.grid, resized.lengths),
            lambda: resized if recipe.sparse else np.asarray(resized),
        )
        labelled = recipe.apply(whole, resized.grid, labelling.parameters)
    return replace(labelled, labels=labelled.labels[tuple(slice(size) for size in image)])


def resized_maps(
    maps: LazyArray, network: tuple[int, ...], image: tuple[int, ...], labelling: Labelling
) -> ResizedMaps:
    """Return a view of the map (c, (z,) y, x) of a resized image on the grid of the image.

    Parameters
    ----------
    network, image : spatial sizes of the resized image and of the image, px
    """
    decoder = not_none(labelling.decoder)
    axes = dict(zip("zyx"[-len(network) :], network, strict=True))
    own = decoder.parameters_from({}, {}) if labelling.label_steps else labelling.parameters
    lengths = decoder.lengths(maps.shape[0], len(network), own)
    return ResizedMaps(maps, network, image, grid_of(maps.shape[1:], axes), lengths)


def _image_axes(letters: str) -> str:
    return "c" + "".join(axis for axis in SPACE if axis in letters)
