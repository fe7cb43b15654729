"""A network that is asked for objects: one pass for the image of a tile, then prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import Box
from bmz.base.errors import AnswerIsNo, CouldNotTell, not_none
from bmz.base.files import is_there
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
from bmz.predict.backend import Backend
from bmz.process.ops import apply_steps
from bmz.process.prompts import (
    mask_logits,
    prompts_of_labels,
)
from bmz.spec.model import ModelSpec, PromptTensors, TensorSpec

if TYPE_CHECKING:
    from bmz.engine.labelling import Labelling
    from bmz.results.image_documents import PromptsRecord

AT_ONCE = 32
"""Prompts that are answered in one run: so many masks of a tile are in memory."""


STRIP_PX = 1024
"""Rows of a mask that are read together."""


class NoPrompts(CouldNotTell):
    """Objects shall be asked for in a way that the network does not know."""

    def __init__(self, model: ModelSpec, what: str = "points") -> None:
        known = ways_of(model.prompts)
        hint = (
            f"it takes {', '.join(known)}: see --set ask_with" if known else "leave out --prompts"
        )
        super().__init__(
            f"the prompts are {what}, but '{model.id}' takes no {what}",
            hint=hint,
            code="recipe.no-prompts",
        )


class NoPromptInside(AnswerIsNo):
    """All prompts lie beyond the image."""

    def __init__(self, place: Path, image: ImageInfo, count: int) -> None:
        sizes = ", ".join(f"{axis} {n}" for axis, n in image.sizes.items() if axis != "c")
        super().__init__(
            f"none of the {count} prompts in '{place}' is inside '{name_of(image.place)}', which "
            f"has {sizes}",
            hint="prompts are in pixels of the whole image, or in um in columns such as x_um; do "
            "these belong to another image?",
            code="prompts.none-inside",
        )


def ways_of(tensors: PromptTensors | None) -> list[str]:
    """Name the kinds of prompts that a network takes."""
    if tensors is None:
        return []
    ways = {"points": tensors.points, "boxes": tensors.boxes, "masks": tensors.shapes}
    return [way for way, tensor in ways.items() if tensor]


PLURALS = {"point": "points", "box": "boxes", "mask": "masks"}
"""The ways to ask for one object, and for several."""


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
    if asked and not (labelling.prompted and ways_of(model.prompts)):
        raise NoPrompts(model, "prompts")
    if word == GRID and "points" not in ways_of(model.prompts):
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
        """Return the prompts in a plane.

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
        height, width = shape
        with self.mask.opened() as source:
            mask = OtherMask(source)
            tops = range(0, height, STRIP_PX)
            strips = ((slice(top, min(top + STRIP_PX, height)), slice(0, width)) for top in tops)
            return list(prompts_of_labels(mask.part(at, "yx", strip) for strip in strips))

    def findings(self, tensor: str) -> list[Finding]:
        """Tell of prompts that are left out.

        Parameters
        ----------
        tensor : id of the input that the image fills
        """
        if not self.outside:
            return []
        count = self.outside + len(self.prompts)
        message = f"{self.outside} of {count} prompts are outside the image and are left out"
        return [Finding.of(
            "prompts.outside", tensor, message, wanted="prompts inside the image",
            found=f"{self.outside} outside it", hint="check that they are in pixels of this image",
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
    """Look at the prompts that a caller from Python gives; None if they name no file.

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
        """Return the tensors of prompts, all of the same kind."""
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


def kind_of(prompt: Prompt) -> tuple[int, bool, bool]:
    """Return how many points a prompt has, and whether it is a box and a mask."""
    return len(prompt.points), prompt.box is not None, prompt.mask is not None


def batches_of(prompts: Sequence[Prompt]) -> Iterator[Sequence[Prompt]]:
    """Return prompts of the same kind, some at a time."""
    for _, alike in groupby(sorted(prompts, key=kind_of), key=kind_of):
        some = list(alike)
        for first in range(0, len(some), AT_ONCE):
            yield some[first : first + AT_ONCE]


def _side(tensor: TensorSpec) -> int:
    """Return the side of the square that a mask is drawn in, px."""
    sizes = [int(str(axis.size)) for axis in tensor.axes if axis.letter in "yx"]
    return max(sizes)
