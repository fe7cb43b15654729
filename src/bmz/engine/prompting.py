"""Run networks with prompts: encode the image of a tile once, then prompt for objects."""

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
"""Number of prompts per run of the network, and so of masks of a tile held in memory."""


STRIP_PX = 1024
"""Number of rows of a mask that are read at a time."""


class NoPrompts(CouldNotTell):
    """The network does not accept the requested kind of prompts."""

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
    """All prompts lie outside the image."""

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
    """Return the kinds of prompts that a network accepts."""
    if tensors is None:
        return []
    ways = {"points": tensors.points, "boxes": tensors.boxes, "masks": tensors.shapes}
    return [way for way, tensor in ways.items() if tensor]


PLURALS = {"point": "points", "box": "boxes", "mask": "masks"}
"""Kind of prompt in the singular -> in the plural."""


def refuse_prompts(model: ModelSpec, labelling: Labelling, word: str | None) -> None:
    """Raise if the network does not accept the prompts of the call.

    Parameters
    ----------
    word : prompts of the call, as in `bmz.engine.request.RunRequest.prompts`

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
    """The objects that a network is prompted for in an image.

    Parameters
    ----------
    place : the file that contains the prompts
    prompts : prompts of a table or of ROIs inside the image
    mask : mask whose objects are the prompts; None if `prompts` are used
    outside : number of prompts outside the image, which are left out
    sha256 : hash of prompts that are not a file
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
        """Select the prompts inside an image.

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
        """Read a table, GeoJSON or ROIs, or plan to read a label mask.

        Raises
        ------
        NoPromptInside
            All prompts lie outside the image.
        BmzError
            The file cannot be read, or a mask has no labels or a different grid.
        """
        if path.suffix.lower() in PROMPT_FILES and not path.is_dir():
            return cls.of_prompts(path, read_prompts(path, image.pixel_um), image)
        if not is_there(split_series(path)[0]):
            raise PromptsNotFound(path)
        return cls.of_mask(PlannedMask.of_file(path), image)

    @classmethod
    def of_mask(cls, mask: PlannedMask, image: ImageInfo) -> PlannedPrompts:
        """Use the objects of a label mask on the grid of an image as prompts.

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
        at : position of the plane along t and z
        shape : height and width of the image, px

        Raises
        ------
        MaskWithoutLabels
            The mask has values that cannot be labels.
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
        """Return a finding if prompts are left out.

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
        """Return the entry of the run record that identifies the prompts."""
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
    """Return the prompts passed by a Python caller; None without a file, a mask or a table.

    Parameters
    ----------
    prompts : a keyword, a path, a label mask, or the columns of a table
    pixel_um : pixel size stated by the caller, which overrides that of the image, um

    Raises
    ------
    BmzError
        As in `PlannedPrompts`.
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
    """A network with prompts, run on one tile after another.

    Parameters
    ----------
    model : a model that accepts prompts
    backend : its network, opened with all inputs of the model
    """

    model: ModelSpec
    backend: Backend

    @property
    def tensors(self) -> PromptTensors:
        """The tensors that receive prompts and return masks.

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
        """Prompt for objects of a tile, in batches; the tile is encoded once.

        Parameters
        ----------
        tile : image of the tile, with the axes of its input
        prompts : prompts, in px of the image; None to let the network find the objects
        place : position of the tile, in px of the image

        Yields
        ------
        prompts, (n, y, x) and (n,) arrays
            prompts of the batch; mask and score of each object, the best of several answers
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
    """Return the number of points of a prompt, and whether it has a box and a mask."""
    return len(prompt.points), prompt.box is not None, prompt.mask is not None


def batches_of(prompts: Sequence[Prompt]) -> Iterator[Sequence[Prompt]]:
    """Iterate over batches of prompts of the same kind."""
    for _, alike in groupby(sorted(prompts, key=kind_of), key=kind_of):
        some = list(alike)
        for first in range(0, len(some), AT_ONCE):
            yield some[first : first + AT_ONCE]


def _side(tensor: TensorSpec) -> int:
    """Return the side of the square in which a mask is drawn, px."""
    sizes = [int(str(axis.size)) for axis in tensor.axes if axis.letter in "yx"]
    return max(sizes)
