"""Run a network with prompts on the tiles of a plane, in memory or in parts."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from functools import cached_property
from itertools import pairwise, product, starmap
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, LazyArray
from bmz.base.axes import Box, boxes
from bmz.base.errors import not_none
from bmz.base.files import whole_file
from bmz.base.progress import Listener, Progress, nobody
from bmz.base.values import dataclass
from bmz.engine.prompting import PLURALS, NoPrompts, PromptedNetwork, kind_of, ways_of
from bmz.engine.request import NONE
from bmz.image.prompt_files import Prompt
from bmz.plan.plan import Plan
from bmz.plan.tiling import Tiling
from bmz.predict.cutting import Tensor
from bmz.process.blocks import Found, WritableArray
from bmz.process.ops_scaling import Reference
from bmz.process.prompts import (
    ObjectMasks,
    PromptSettings,
    asked_as,
    grid_points,
    kept_masks,
    painted,
    resized_prompt,
)

if TYPE_CHECKING:
    from bmz.engine.labelling import Labelling
    from bmz.engine.pipeline import PlaneContext

_PIXELS, _ABOUT = ".bits", ".npz"


@dataclass(frozen=True)
class Asking:
    """The prompts of a plane, for which a network is run tile by tile.

    Parameters
    ----------
    labelling : labelling by a recipe that takes the masks of single objects
    plan : plan with the tiles, and the factor by which prompts are resized
    prompts : prompts in px of the image, or the option given instead, ``grid`` or ``none``
    """

    network: PromptedNetwork
    labelling: Labelling
    plan: Plan
    prompts: Sequence[Prompt] | str
    listener: Listener = nobody

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what the network sees, px."""
        return self.plan.shape["y"], self.plan.shape["x"]

    @property
    def named(self) -> bool:
        """Whether the user or a mask gave the prompts."""
        return not isinstance(self.prompts, str)

    @cached_property
    def settings(self) -> PromptSettings:
        """The parameters of the recipe, which are milder for prompts that were given."""
        recipe, values = not_none(self.labelling.recipe), self.labelling.parameters
        settings: PromptSettings = recipe.settings(**{name: values[name] for name in recipe.own})
        mild = self.named or self._placed is None
        return settings.for_prompts(self.labelling.user_parameters) if mild else settings

    @cached_property
    def _placed(self) -> Sequence[Prompt] | None:
        """The prompts at the scale of the network; None to ask with the image alone.

        Raises
        ------
        NoPrompts
            The network takes no prompts of this kind.
        """
        ways, values = ways_of(self.network.tensors), self.labelling.parameters
        if isinstance(self.prompts, str):
            if "points" not in ways or self.prompts == NONE:
                return None
            points = grid_points(self.shape, int(values["spacing"])).astype(np.float64)
            return [Prompt(point[None]) for point in points]
        known = [way for way, plural in PLURALS.items() if plural in ways]
        prompts = []
        for given in self.prompts:
            usual = given.way if given.way in known else known[0]
            how = usual if values["ask_with"] == "auto" else values["ask_with"]
            prompt = asked_as(given, how, values["margin"])
            for way, needed in zip(PLURALS.values(), kind_of(prompt), strict=True):
                if needed and way not in ways:
                    raise NoPrompts(self.network.model, way)
            prompts.append(resized_prompt(prompt, [self.plan.scale] * 2))
        return prompts

    def answers(
        self, part: Callable[[Box], AnyArray], known: Container[int] = ()
    ) -> Iterator[tuple[int, ObjectMasks]]:
        """Run the network on each tile, and yield its number and the objects found in it.

        Parameters
        ----------
        part : returns a prepared part of the image along y and x, with the axes of the input
        known : numbers of the tiles that are skipped

        Raises
        ------
        NoPrompts
        """
        prompts, settings = self._placed, self.settings
        centres = np.array([p.centre for p in prompts or ()]).reshape(-1, 2)
        centres = np.clip(centres, 0, np.array(self.shape) - 1)
        asked = 0
        for number, (core, tile) in enumerate(tiles_of(self.shape, self.plan.tiling)):
            starts, ends = np.array([(side.start, side.stop) for side in core]).T
            own = np.flatnonzero(((centres >= starts - 0.5) & (centres < ends - 0.5)).all(axis=1))
            some = None if prompts is None else [prompts[place] for place in own.tolist()]
            if number in known:
                asked += len(some or ())
                continue
            objects: list[ObjectMasks] = []
            if some is None or some:
                for answered, masks, scores in self.network.masks(part(tile), some, tile):
                    names = [prompt.name for prompt in answered or ()] if self.named else None
                    objects.append(kept_masks(masks, scores, tile, settings, names))
                    asked += len(scores)
                    self.listener(Progress("prompts", asked, max(asked, len(centres))))
            yield number, ObjectMasks.joined(objects, named=self.named)


def prompted_outputs(
    image: Tensor, network: PromptedNetwork, work: PlaneContext
) -> dict[str, Reference]:
    """Ask a network for all objects of an image.

    Parameters
    ----------
    image : (b, c, y, x), with the axes of the input, prepared
    work : context with the prompts of the plane, px of the image

    Returns
    -------
    dict
        The masks, under the name of the output of the labelling, with their scores and positions,
        as the recipe ``prompts`` takes them.

    Raises
    ------
    NoPrompts
    """

    def part(tile: Box) -> AnyArray:
        sides = dict(zip("yx", tile, strict=True))
        return image.array[tuple(sides.get(axis, slice(None)) for axis in image.axes)]

    asking = Asking(network, work.labelling, work.plan, work.prompts, work.listener)
    objects = [found for _, found in asking.answers(part)]
    joined = ObjectMasks.joined(objects, named=asking.named)
    masks, beside = joined.as_outputs()
    scores = {work.labelling.choice.output: masks, asking.settings.scores: joined.scores}
    return {name: (array, "i" * array.ndim) for name, array in {**scores, **beside}.items()}


def tiles_of(shape: Sequence[int], tiling: Tiling) -> Iterator[tuple[Box, Box]]:
    """Return the core of each tile, and the part of the image that the network is given.

    Tiles that would extend beyond the image are moved back inside.
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


@dataclass(frozen=True)
class MasksOfTiles:
    """The masks found in the tiles of a plane, stored on disk.

    Parameters
    ----------
    folder : folder with two files for each tile: properties of its masks, and their pixels
    """

    folder: Path

    def known(self) -> set[int]:
        """Return the numbers of the tiles that are stored."""
        return {int(path.name.partition(".")[0]) for path in self.folder.glob(f"*{_ABOUT}")}

    def keep(self, number: int, objects: ObjectMasks) -> None:
        """Write the masks of a tile, which counts as stored once both of its files exist."""
        with whole_file(self._file(number, _PIXELS)) as temporary, temporary.open("wb") as file:
            for mask in objects.masks:
                file.write(np.packbits(mask).tobytes())
        names = {} if objects.names is None else {"names": objects.names}
        about = {"scores": objects.scores, "corners": objects.corners, "tiles": objects.tiles}
        with whole_file(self._file(number, _ABOUT)) as temporary:
            np.savez(temporary, **about, **names)  # type: ignore[arg-type]  # stubs mix up keywords

    def objects(self, *, named: bool) -> ObjectMasks:
        """Return all masks; each is read when it is accessed.

        Parameters
        ----------
        named : whether their prompts have names
        """
        parts, places = [], list[tuple[Path, int, tuple[int, int]]]()
        for number in sorted(self.known()):
            with np.load(self._file(number, _ABOUT), allow_pickle=False) as about:
                arrays = {name: about[name] for name in about}
            sizes = arrays["corners"][:, 2:] - arrays["corners"][:, :2]
            start, file = 0, self._file(number, _PIXELS)
            for high, wide in sizes.tolist():
                places.append((file, start, (high, wide)))
                start += -(-high * wide // 8)  # whole bytes
            parts.append(ObjectMasks([], **{"names": None, **arrays}))
        joined = ObjectMasks.joined(parts, named=named)
        return ObjectMasks(
            StoredMasks(places), joined.scores, joined.corners, joined.tiles, joined.names
        )

    def _file(self, number: int, ending: str) -> Path:
        return self.folder / f"{number:06d}{ending}"


class StoredMasks(Sequence[BoolArray]):
    """Masks on disk, one bit per pixel.

    Parameters
    ----------
    places : file, first byte, height and width of each mask
    """

    def __init__(self, places: Sequence[tuple[Path, int, tuple[int, int]]]) -> None:
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> BoolArray:  # type: ignore[override]  # no slices
        file, start, shape = self._places[number]
        pixels = prod(shape)
        packed = np.fromfile(file, np.uint8, -(-pixels // 8), offset=start)
        return np.unpackbits(packed, count=pixels).reshape(shape).astype(np.bool_)


@dataclass(frozen=True)
class PaintedPlane:
    """A plane with its objects painted.

    Parameters
    ----------
    objects : the objects in the order of their numbers, with the largest extent of any
    drawn : (1, y, x) float32, the score at every pixel, on disk
    """

    objects: Found
    drawn: AnyArray


def painted_in_parts(
    asking: Asking, folder: Path, labels: WritableArray, side_px: int
) -> PaintedPlane:
    """Paint the masks that were found, and write the labels block by block.

    Parameters
    ----------
    asking : the prompts whose masks are in the folder
    folder : folder of `MasksOfTiles`
    labels : (y, x), all 0; changed to the numbers of the objects in the order of their scores
    side_px : side length of a block
    """
    masks = MasksOfTiles(folder).objects(named=asking.named)
    numbers = _mapped(folder / "numbers.npy", asking.shape, np.int32)
    drawn = _mapped(folder / "drawn.npy", asking.shape, np.float32)
    columns, extents = painted(masks, asking.settings, numbers, drawn)
    first = np.full(len(extents), np.iinfo(np.int64).max)
    for box in boxes(asking.shape, (side_px, side_px)):
        part = np.asarray(numbers[box])
        labels[box] = part.astype(np.uint32)
        _look_for_first(first, part, box, asking.shape[1])
    widest = int((extents[:, 2:] - extents[:, :2]).max(initial=0))
    return PaintedPlane(Found([first], [columns], widest), drawn[None])


def _look_for_first(first: NDArray[np.int64], part: AnyArray, box: Box, width: int) -> None:
    numbers, at = np.unique(part, return_index=True)
    inside = numbers > 0
    y, x = np.unravel_index(at[inside], part.shape)
    flat = (y + box[0].start) * width + x + box[1].start
    np.minimum.at(first, numbers[inside] - 1, flat)


def _mapped(file: Path, shape: tuple[int, ...], dtype: type) -> AnyArray:
    return np.lib.format.open_memmap(file, "w+", np.dtype(dtype), shape)


def ask_in_parts(asking: Asking, image: LazyArray, letters: str, folder: Path) -> None:
    """Ask for all objects of an image that is read in parts; stored tiles are skipped.

    Parameters
    ----------
    image : prepared image, indexed with one slice per axis
    letters : letters of its axes
    folder : folder of `MasksOfTiles`
    """
    masks = MasksOfTiles(folder)

    def part(tile: Box) -> AnyArray:
        sides = dict(zip("yx", tile, strict=True))
        sizes = dict(zip(letters, image.shape, strict=True))
        box = tuple(sides.get(axis, slice(0, sizes[axis])) for axis in letters)
        return np.asarray(image[box])

    for number, objects in asking.answers(part, masks.known()):
        masks.keep(number, objects)
