"""A network that is asked for objects: one pass for the image of a tile, then prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise, product, starmap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import Box
from bmz.base.errors import AnswerIsNo, CouldNotTell, not_none
from bmz.base.files import is_there
from bmz.base.progress import Progress
from bmz.base.values import dataclass
from bmz.check.finding import Finding
from bmz.engine.further_images import PlannedMask, path_beside, refuse_elsewhere
from bmz.engine.image_header import ImageLike, given_masks, on_disk, with_pixel_size
from bmz.engine.relations import OtherMask
from bmz.engine.request import GRID, NONE
from bmz.image.formats import name_of, split_series
from bmz.image.given_names import given_name
from bmz.image.info import ImageInfo
from bmz.image.prompt_files import (
    PROMPT_FILES,
    Prompt,
    PromptsNotFound,
    PromptsUnreadable,
    prompts_of_columns,
    read_prompts,
    with_names,
)
from bmz.image.series import content_sha256
from bmz.plan.tiling import Tiling
from bmz.predict.backend import Backend
from bmz.predict.cutting import Tensor
from bmz.process.ops import apply_steps
from bmz.process.ops_scaling import Reference
from bmz.process.prompts import (
    ObjectMasks,
    PromptSettings,
    asked_as,
    grid_points,
    kept_masks,
    mask_logits,
    prompts_of_labels,
    resized_prompt,
)
from bmz.spec.model import ModelSpec, PromptTensors, TensorSpec

if TYPE_CHECKING:
    from bmz.engine.labelling import Labelling
    from bmz.engine.pipeline import PlaneContext
    from bmz.results.image_documents import PromptsRecord

AT_ONCE = 32
"""Prompts that are answered in one run: so many masks of a tile are in memory."""


class NoPrompts(CouldNotTell):
    """Objects shall be asked for in a way that the network does not know."""

    def __init__(self, model: ModelSpec, what: str = "points") -> None:
        known = _ways(model.prompts)
        hint = (
            f"it takes {', '.join(known)}: see --set ask_with" if known else "leave out --prompts"
        )
        super().__init__(
            f"objects are to be asked for by {what}, and '{model.id}' takes no {what}",
            hint=hint,
            code="recipe.no-prompts",
        )


class NoPromptInside(AnswerIsNo):
    """All prompts lie beyond the image."""

    def __init__(self, place: Path, image: ImageInfo, count: int) -> None:
        sizes = ", ".join(f"{axis} {n}" for axis, n in image.sizes.items() if axis != "c")
        super().__init__(
            f"none of the {count} prompts of '{place}' lies in '{name_of(image.place)}', which "
            f"has {sizes}",
            hint="prompts are in pixels of the whole image, or in um in columns such as x_um; are "
            "they those of another image?",
            code="prompts.none-inside",
        )


def _ways(tensors: PromptTensors | None) -> list[str]:
    """Name the kinds of prompts that a network takes."""
    if tensors is None:
        return []
    ways = {"points": tensors.points, "boxes": tensors.boxes, "masks": tensors.shapes}
    return [way for way, tensor in ways.items() if tensor]


_PLURALS = {"point": "points", "box": "boxes", "mask": "masks"}


def refuse_prompts(model: ModelSpec, labelling: Labelling, word: str | None) -> None:
    """See that a network can be asked as the call says.

    Parameters
    ----------
    word : see `bmz.engine.request.RunRequest.prompts`

    Raises
    ------
    NoPrompts
    """
    asked = word not in {None, NONE}
    if labelling.prompted and model.prompts is None:
        raise NoPrompts(model)
    if asked and not (labelling.prompted and _ways(model.prompts)):
        raise NoPrompts(model, "prompts")
    if word == GRID and "points" not in _ways(model.prompts):
        raise NoPrompts(model)


@dataclass(frozen=True)
class PlannedPrompts:
    """The objects that a network is asked for in an image.

    Parameters
    ----------
    place : the file that names them
    prompts : of a table or of ROIs, those that lie in the image
    mask : whose objects they are; None where `prompts` are those
    outside : how many lie beyond the image, and are left out
    sha256 : of what is not a file
    """

    place: Path
    prompts: tuple[Prompt, ...] = ()
    mask: PlannedMask | None = None
    outside: int = 0
    sha256: str | None = None

    @classmethod
    def of_prompts(
        cls, place: Path, prompts: Sequence[Prompt], image: ImageInfo, sha256: str | None = None
    ) -> PlannedPrompts:
        """Take those that lie in an image.

        Raises
        ------
        NoPromptInside
        """
        inside = tuple(prompt for prompt in prompts if prompt.lies_within(image.sizes))
        if not inside:
            raise NoPromptInside(place, image, len(prompts))
        return cls(place, inside, outside=len(prompts) - len(inside), sha256=sha256)

    @classmethod
    def of_file(cls, path: Path, image: ImageInfo) -> PlannedPrompts:
        """Read a table, GeoJSON or ROIs, or look at a label mask.

        Raises
        ------
        NoPromptInside
            All of them lie beyond the image.
        BmzError
            The file cannot be read; or a mask holds no labels, or lies on another grid.
        """
        if path.suffix.lower() in PROMPT_FILES and not path.is_dir():
            return cls.of_prompts(path, read_prompts(path, image.pixel_um), image)
        if not is_there(split_series(path)[0]):
            raise PromptsNotFound(path)
        return cls.of_mask(PlannedMask.of_file(path), image)

    @classmethod
    def of_mask(cls, mask: PlannedMask, image: ImageInfo) -> PlannedPrompts:
        """Take the objects of a label mask on the grid of an image.

        Raises
        ------
        MaskElsewhere
        """
        refuse_elsewhere({"prompts": mask}, image)
        return cls(mask.info.place, mask=mask)

    def of_plane(self, at: Mapping[str, int], shape: Sequence[int]) -> list[Prompt]:
        """Give the prompts in a plane.

        Parameters
        ----------
        at : its position along t and z
        shape : height and width of the image, px

        Raises
        ------
        MaskWithoutLabels
            It has numbers that no label can have.
        """
        if self.mask is None:
            return [prompt for prompt in self.prompts if prompt.lies_at(at)]
        with self.mask.opened() as source:
            whole = tuple(slice(0, size) for size in shape)
            return list(prompts_of_labels(OtherMask(source).part(at, "yx", whole)))

    def findings(self, tensor: str) -> list[Finding]:
        """Tell of prompts that are left out.

        Parameters
        ----------
        tensor : id of the input that the image fills
        """
        if not self.outside:
            return []
        count = self.outside + len(self.prompts)
        message = f"{self.outside} of {count} prompts lie beyond the image, and are left out"
        return [Finding.of(
            "prompts.outside", tensor, message, wanted="prompts in the image",
            found=f"{self.outside} beyond it", hint="look whether they are in pixels of this image",
            evidence="measured",
        )]  # fmt: skip

    def record(self) -> dict[str, PromptsRecord]:
        """Say for the record which file it is."""
        if self.mask is not None:
            return {"file": {**self.mask.record(), "outside": 0}}
        sha256 = self.sha256 or content_sha256(self.place)
        image = given_name(self.place)
        return {"file": {"image": image, "sha256": sha256, "outside": self.outside}}


def given_prompts(
    prompts: ImageLike | Mapping[str, Sequence[float | None]] | None,
    image: ImageInfo,
    pixel_um: Mapping[str, float],
) -> PlannedPrompts | None:
    """Look at the prompts that a caller from Python gives; None where they name no file.

    Parameters
    ----------
    prompts : a word, a path, a label mask, or the columns of a table
    pixel_um : that the caller states, over that of the image

    Raises
    ------
    BmzError
        See `PlannedPrompts`.
    """
    if prompts is None or (isinstance(prompts, str) and prompts in {GRID, NONE}):
        return None
    image = with_pixel_size(image, pixel_um)
    if isinstance(prompts, str | Path):
        return PlannedPrompts.of_file(on_disk(path_beside(image.place, str(prompts))), image)
    if not isinstance(prompts, Mapping):
        (mask,) = given_masks({"prompts": prompts}, image).values()
        return PlannedPrompts.of_mask(mask, image)
    place, names = Path("prompts"), [str(name) for name in prompts]
    if len({len(column) for column in prompts.values()}) > 1:
        raise PromptsUnreadable(place, "its columns have different lengths")
    rows = [dict(zip(names, row, strict=True)) for row in zip(*prompts.values(), strict=True)]
    asked = with_names(prompts_of_columns(place, names, rows, image.pixel_um))
    sha256 = hashlib.sha256(json.dumps(rows, default=str).encode()).hexdigest()
    return PlannedPrompts.of_prompts(place, asked, image, sha256)


@dataclass(frozen=True)
class PromptedNetwork:
    """A network with prompts, for one tile after the other.

    Parameters
    ----------
    model : takes prompts
    backend : opened with all inputs of the model
    """

    model: ModelSpec
    backend: Backend

    @property
    def tensors(self) -> PromptTensors:
        """The tensors by which it is asked.

        Raises
        ------
        NoPrompts
        """
        if self.model.prompts is None:
            raise NoPrompts(self.model)
        return self.model.prompts

    def masks(
        self, tile: AnyArray, prompts: Sequence[Prompt] | None, place: Box
    ) -> Iterator[tuple[Sequence[Prompt] | None, AnyArray, AnyArray]]:
        """Ask for objects of a tile, some at a time; the tile is encoded once.

        Parameters
        ----------
        tile : the image, with the axes of its input
        prompts : px of the image; None to have the network find the objects
        place : of the tile, px of the image

        Yields
        ------
        prompts, (n, y, x) and (n,) arrays
            what was asked; mask and score of each object, of several answers the best one
        """
        tensors = self.tensors
        known = {self.model.required_inputs[0].id: tile}
        for some in [None] if prompts is None else batches_of(prompts):
            outputs = self._outputs({**known, **({} if some is None else self._asked(some, place))})
            if tensors.embeddings:
                known[tensors.embeddings] = outputs[tensors.embeddings]
            masks = self._by_object(tensors.masks, outputs)
            masks = masks.reshape(len(masks), -1, *masks.shape[-2:])
            scores = self._by_object(tensors.scores, outputs).reshape(masks.shape[:2])
            best = scores.argmax(axis=1) if scores.size else np.zeros(len(scores), np.intp)
            numbers = np.arange(len(masks))
            yield some, masks[numbers, best], scores[numbers, best]

    def _by_object(self, output: str, outputs: Mapping[str, AnyArray]) -> AnyArray:
        axes = self.model.output(output).axes
        objects = next(place for place, axis in enumerate(axes) if axis.kind == "index")
        return np.moveaxis(outputs[output], objects, 0)

    def _asked(self, prompts: Sequence[Prompt], place: Box) -> dict[str, AnyArray]:
        """Give the tensors of prompts, all of the same kind."""
        tensors, asked = self.tensors, dict[str, AnyArray]()
        low = np.array([side.start for side in place])
        most = np.array([side.stop for side in place]) - low - 1
        points = np.stack([prompt.points for prompt in prompts])
        if points.size:
            within = np.clip(np.floor(points - low + 0.5), 0, most)
            asked[tensors.points] = within[None, ..., ::-1]  # as x and y
            asked[tensors.labels] = np.ones((1, *points.shape[:2]))
        if prompts[0].box is not None:
            corners = np.stack([not_none(prompt.box) for prompt in prompts]).reshape(-1, 2, 2)
            within = np.clip(np.floor(corners - low + 0.5), 0, most)
            asked[tensors.boxes] = within[None, ..., ::-1].reshape(1, -1, 4)
        if prompts[0].mask is not None:
            side = _side(next(t for t in self.model.inputs if t.id == tensors.shapes))
            drawn = [mask_logits(prompt, place, side) for prompt in prompts]
            asked[tensors.shapes] = np.stack(drawn)[None, :, None]
        return asked

    def _outputs(self, given: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        inputs = [
            np.ascontiguousarray(given.get(tensor.id, np.zeros(0)), np.dtype(tensor.dtype))
            for tensor in self.model.inputs
        ]
        answers = zip(self.model.outputs, self.backend.run(inputs), strict=True)
        return {t.id: apply_steps(t.steps, array, t.letters)[0] for t, array in answers}


def _kind(prompt: Prompt) -> tuple[int, bool, bool]:
    return len(prompt.points), prompt.box is not None, prompt.mask is not None


def batches_of(prompts: Sequence[Prompt]) -> Iterator[Sequence[Prompt]]:
    """Give prompts of the same kind, some at a time."""
    for _, alike in groupby(sorted(prompts, key=_kind), key=_kind):
        some = list(alike)
        for first in range(0, len(some), AT_ONCE):
            yield some[first : first + AT_ONCE]


def _side(tensor: TensorSpec) -> int:
    """Give the side of the square that a mask is drawn in, px."""
    sizes = [int(str(axis.size)) for axis in tensor.axes if axis.letter in "yx"]
    return max(sizes)


def prompted_outputs(
    image: Tensor, network: PromptedNetwork, work: PlaneContext
) -> dict[str, Reference]:
    """Ask a network for all objects of an image, tile by tile.

    Parameters
    ----------
    image : (b, c, y, x) with the axes of the input, prepared
    work : with the prompts of the plane, px of the image

    Returns
    -------
    dict
        the masks under the output of the labelling, their scores, and where they lie, as the
        recipe ``prompts`` takes them

    Raises
    ------
    NoPrompts
    """
    labelling, recipe = work.labelling, not_none(work.labelling.recipe)
    settings = recipe.settings(**{name: labelling.parameters[name] for name in recipe.own})
    shape = tuple(image.array.shape[image.axes.index(axis)] for axis in "yx")
    prompts = _prompts(network, settings, shape, work)
    named = not isinstance(work.prompts, str)
    if prompts is None or named:
        settings = settings.for_prompts(labelling.user_parameters)
    centres = np.array([p.centre for p in prompts or ()]).reshape(-1, 2)
    centres = np.clip(centres, 0, np.array(shape) - 1)
    objects: list[ObjectMasks] = []
    asked = 0
    for core, tile in tiles_of(shape, work.plan.tiling):
        starts, ends = np.array([(side.start, side.stop) for side in core]).T
        own = np.flatnonzero(((centres >= starts - 0.5) & (centres < ends - 0.5)).all(axis=1))
        some = None if prompts is None else [prompts[number] for number in own.tolist()]
        sides = dict(zip("yx", tile, strict=True))
        part = image.array[tuple(sides.get(axis, slice(None)) for axis in image.axes)]
        for answered, masks, scores in network.masks(part, some, tile):
            names = [prompt.name for prompt in answered or ()] if named else None
            objects.append(kept_masks(masks, scores, tile, settings, names))
            asked += len(scores)
            work.listener(Progress("prompts", asked, max(asked, len(centres))))
    joined = ObjectMasks.joined(objects, named=named)
    masks, beside = joined.as_outputs()
    outputs = {labelling.choice.output: masks, settings.scores: joined.scores, **beside}
    return {name: (array, "i" * array.ndim) for name, array in outputs.items()}


def _prompts(
    network: PromptedNetwork, settings: PromptSettings, shape: Sequence[int], work: PlaneContext
) -> Sequence[Prompt] | None:
    """Give the prompts as they lie on what the network sees; None to ask with the image alone.

    Raises
    ------
    NoPrompts
        It takes none of their kind.
    """
    ways = _ways(network.tensors)
    if isinstance(work.prompts, str):
        if "points" not in ways or work.prompts == NONE:
            return None
        points = grid_points((shape[0], shape[1]), settings.spacing).astype(np.float64)
        return [Prompt(point[None]) for point in points]
    prompts = []
    for given in work.prompts:
        known = [way for way, plural in _PLURALS.items() if plural in ways]
        usual = given.way if given.way in known else known[0]
        how = usual if settings.ask_with == "auto" else settings.ask_with
        prompt = asked_as(given, how, settings.margin)
        for way, needed in zip(_PLURALS.values(), _kind(prompt), strict=True):
            if needed and way not in ways:
                raise NoPrompts(network.model, way)
        prompts.append(resized_prompt(prompt, [work.plan.scale] * 2))
    return prompts


def tiles_of(shape: Sequence[int], tiling: Tiling) -> Iterator[tuple[Box, Box]]:
    """Give for each tile the part of the image that is its own, and what it sees.

    Tiles that would reach beyond the image lie at its end instead.
    """
    spans = []
    for axis, size in zip("yx", shape, strict=True):
        along = next(one for one in tiling.axes if one.axis == axis)
        side = min(along.tile, size)
        starts = [min(max(start, 0), size - side) for start in along.starts]
        seen = [slice(start, start + side) for start in starts]
        spans.append(list(zip(starmap(slice, pairwise(along.cuts)), seen, strict=True)))
    for rows, columns in product(*spans):
        yield (rows[0], columns[0]), (rows[1], columns[1])
