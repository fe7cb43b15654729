"""What a label recipe is: a function from network output to labels, and its parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from functools import cached_property
from typing import Annotated, Any, Literal, Protocol, get_type_hints

import numpy as np

from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray, LazyArray, TensorDecoder
from bmz.base.errors import WrongUsage
from bmz.base.values import dataclass
from bmz.plan.tile_way import MIRRORED, TileWay
from bmz.process.object_columns import SCORE, Columns

SHARES = (0.15, 0.3, 0.5, 0.7, 0.85)
"""Probability thresholds that are tried if a mask is unlikely to be good."""

Value = bool | int | float | str
"""What a parameter may hold."""


class ParameterRefused(WrongUsage):
    """A recipe has no such parameter, or the value is outside its range."""

    def __init__(self, recipe: str, key: str, why: str, known: str) -> None:
        super().__init__(
            f"recipe '{recipe}' cannot take --set {key}: {why}",
            hint=f"its parameters are: {known}",
            code="recipe.parameter",
        )


@dataclass(frozen=True)
class Knob:
    """What a field of the settings of a recipe means, as ``Annotated[float, Knob(...)]``.

    Parameters
    ----------
    what : one line with the unit
    low, high : the range, both ends allowed; None for open
    choices : the allowed values of a text; empty for any
    grows : the power of the resizing factor by which a value not set by the user grows when maps
        are resized to the image: 1 for a length on the network's grid, 2 for an area, 0 if
        independent of the grid. A negative value that grows means that the length or area is
        taken from the map, as a multiple of that for -1
    cures : values that are tried if a mask is unlikely to be good; empty for none
    """

    what: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    grows: int = 0
    cures: tuple[float, ...] = ()

    @property
    def limits(self) -> str:
        """The range in words, such as ``0 to 1`` or ``0 or more``."""
        if self.low is None:
            return "any" if self.high is None else f"{self.high:g} or less"
        return f"{self.low:g} or more" if self.high is None else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True, kw_only=True)
class Parameter(Knob):
    """One parameter of a recipe, as `parameters_of` takes it from a field of its settings.

    Parameters
    ----------
    name : as in ``--set name=value``
    default : its type is the type of the parameter
    """

    name: str
    default: Value

    def read(self, recipe: Recipe, text: str) -> Value:
        """Turn the text of ``--set`` into a value of the type of `default`, within the range.

        Raises
        ------
        ParameterRefused
            The value is not of that type, or out of range.
        """
        kind = type(self.default)
        try:
            value = _TRUTH[text.lower()] if kind is bool else kind(text)
        except (ValueError, KeyError) as why:
            reason = f"'{text}' is not {_KINDS[kind]}"
            raise ParameterRefused(recipe.name, self.name, reason, recipe.known()) from why
        return self.within_range(recipe, value)

    def grown(self, value: Value, factor: float) -> Value:
        """Return a value of the network's grid for a grid finer by `factor` along each axis.

        Zero means "none" and stays zero.
        """
        if not self.grows or isinstance(value, str) or value == 0:
            return value
        if value < 0:
            return value * factor**self.grows
        grown = max(value * factor**self.grows, self.low or 0)
        return max(round(grown), 1) if isinstance(self.default, int) else grown

    def of_kind(self, recipe: Recipe, value: Value) -> Value:
        """Return `value` if it has the type of `default`, or equals a number of that type."""
        kind = type(self.default)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if kind is float:
            fits = number
        elif kind is int:
            fits = number and float(value).is_integer()
        else:
            fits = isinstance(value, kind)
        if not fits:
            reason = f"'{value}' is not {_KINDS[kind]}"
            raise ParameterRefused(recipe.name, self.name, reason, recipe.known())
        return value

    def within_range(self, recipe: Recipe, value: Value) -> Value:
        """Return `value` if it is finite and lies between `low` and `high`."""
        if isinstance(value, float) and not math.isfinite(value):
            reason = f"{value} is not a finite number"
            raise ParameterRefused(recipe.name, self.name, reason, recipe.known())
        if not isinstance(value, str) and not (
            (self.low is None or value >= self.low) and (self.high is None or value <= self.high)
        ):
            reason = f"{value} is not {self.limits}"
            raise ParameterRefused(recipe.name, self.name, reason, recipe.known())
        if self.choices and value not in self.choices:
            reason = f"'{value}' is not one of {', '.join(self.choices)}"
            raise ParameterRefused(recipe.name, self.name, reason, recipe.known())
        return value


def parameters_of(settings: type[Any]) -> tuple[Parameter, ...]:
    """Return the parameters that the fields of a settings dataclass define, in their order.

    Parameters
    ----------
    settings : a dataclass; each field has a default, and a `Knob` in its annotation
    """
    hints = get_type_hints(settings, include_extras=True)
    return tuple(
        Parameter(**vars(knob), name=name, default=default)
        for name, default in vars(settings()).items()
        for knob in hints[name].__metadata__
    )


@dataclass(frozen=True)
class NoSettings:
    """The settings of a recipe without parameters."""


_KINDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}

_TRUTH = {"true": True, "yes": True, "1": True, "on": True,
          "false": False, "no": False, "0": False, "off": False}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """The position of an output within the map of the whole image.

    Parameters
    ----------
    origin : the first entry along (z,) y and x
    whole : the sizes of the whole map, entries
    """

    origin: tuple[int, ...]
    whole: tuple[int, ...]

    @classmethod
    def of_whole(cls, shape: tuple[int, ...]) -> Place:
        """Return the place of a map that covers the whole image."""
        return cls((0,) * len(shape), tuple(shape))


@dataclass(frozen=True)
class Labelled:
    """Labels of one plane or stack.

    Parameters
    ----------
    labels : ((z,) y, x) int32 or wider, 0 background, 1..n in raster order of first pixels
    columns : further properties of each object from the recipe, such as its score
    classes : labels are class numbers, not object numbers
    drawn : ((z,) y, x) float32, the map that a recipe assembled from the outputs of single objects
    """

    labels: LabelArray
    columns: Columns = field(default_factory=dict)
    classes: bool = False
    drawn: FloatArray | None = None

    @property
    def scores(self) -> FloatArray | None:
        """The score of label k at k - 1; None if the recipe has none."""
        return self.columns.get(SCORE)


LabelFunction = Callable[..., Labelled]
"""Turns one output into labels on the grid of the input: ``label(output, grid, settings)``.

The output is (c, (z,) y, x) after the declared postprocessing; `grid` is its spacing along each
spatial axis, px of the input; labels have the shape ``output.shape[1:] * grid``. See `Recipe`.
"""


class WholeMapFunction(Protocol):
    """Derives parameters from the whole map, so that all of its blocks are labelled alike."""

    def __call__(self, maps: LazyArray, parameters: Mapping[str, Value]) -> Mapping[str, Value]:
        """Return values for the parameters that are set to "take it from the map".

        Parameters
        ----------
        maps : (c, (z,) y, x), read in boxes
        parameters : complete
        """


Rescale = Literal["maps", "labels"]
"""What is resized to the image if the network received a resized one."""

LengthsFunction = Callable[[int, int, Mapping[str, Value]], tuple[bool, ...]]
"""Takes the number of channels, the number of spatial axes, and the parameters of a recipe."""


def no_lengths(channels: int, _axes: int, _parameters: Mapping[str, Value]) -> tuple[bool, ...]:
    """Return False for every channel: none holds lengths."""
    return (False,) * channels


@dataclass(frozen=True)
class OwnTiles:
    """The tiling of a second family of networks whose outputs a recipe also accepts.

    Parameters
    ----------
    family : its name
    holds : returns whether an output with these channels, spatial axes and stated parameters
        belongs to the family
    tiles : what the reference implementation of the family does
    """

    family: str
    holds: Callable[[int, int, Mapping[str, Value]], bool]
    tiles: TileWay


class OverlapFunction(Protocol):
    """Returns the minimum overlap of a block with its neighbours."""

    def __call__(
        self, maps: LazyArray, parameters: Mapping[str, Value], grid: Sequence[int], /
    ) -> int:
        """Return the minimum overlap, entries of the map.

        Parameters
        ----------
        maps : (c, (z,) y, x), read in boxes
        parameters : complete
        grid : spacing of the maps, px of the input
        """


def no_overlap(_maps: LazyArray, _parameters: Mapping[str, Value], _grid: Sequence[int]) -> int:
    """Return 0 as the minimum overlap: any overlap is enough."""
    return 0


class UnlabelledFunction(Protocol):
    """Marks entries that a recipe considers part of an object but has not labelled."""

    def __call__(
        self, maps: AnyArray, labels: AnyArray, parameters: Mapping[str, Value], /
    ) -> BoolArray:
        """Return a mask with the shape of `labels`.

        Parameters
        ----------
        maps : (c, (z,) y, x) of a block
        labels : ((z,) y, x) of the block, on the grid of the map
        parameters : complete
        """


def none_unlabelled(
    _maps: AnyArray, labels: AnyArray, _parameters: Mapping[str, Value]
) -> BoolArray:
    """Return an empty mask: every part of an object has a label."""
    return np.zeros(labels.shape, np.bool_)


@dataclass(frozen=True)
class InBlocks:
    """How a recipe labels a map block by block and obtains the objects of the whole map.

    Every block is labelled with an overlap, which grows until it contains each object that begins
    in the block and the objects that it touches. That suffices if an object depends on nothing
    further away; this class holds what else a recipe needs.

    Parameters
    ----------
    least_overlap : returns the minimum overlap of a block
    unlabelled : marks what may belong to an object that the end of a block has cut
    shares : names of parameters that are fractions of the size of the whole map
    refused : returns, for some parameters, a clause that says why blocks give other objects
    far_seeing : every object depends, through its neighbours, on all others, so that those of
        blocks may differ slightly, which the record states
    reach : minimum distance of an object from the end of a block with its overlap for it to be
        certain; for 0 and 1 it must not touch the end
    """

    least_overlap: OverlapFunction = no_overlap
    unlabelled: UnlabelledFunction = none_unlabelled
    shares: tuple[str, ...] = ()
    refused: Callable[[Mapping[str, Value]], str] = lambda _: ""
    far_seeing: bool = False
    reach: OverlapFunction = no_overlap


@dataclass(frozen=True)
class Finish:
    """The last step of every recipe: what is done to its labels."""

    min_size: Annotated[int, Knob("smallest object, px of the image", 0)] = 0
    max_size: Annotated[int, Knob("largest object, px of the image; 0: any", 0)] = 0
    fill_holes: Annotated[bool, Knob("fill the holes of objects")] = False
    remove_border: Annotated[bool, Knob("remove objects at the edge of the image along y or x")] = (
        False
    )
    smooth: Annotated[
        float, Knob("smooth outlines with a Gaussian of this standard deviation, px", 0)
    ] = 0.0

    @classmethod
    def of(cls, parameters: Mapping[str, Any], own: tuple[str, ...]) -> Finish:
        """Return the finish from these parameters, except those that are the recipe's `own`."""
        names = {parameter.name for parameter in FINISH} - set(own)
        return cls(**{name: parameters[name] for name in names if name in parameters})


FINISH: tuple[Parameter, ...] = parameters_of(Finish)
"""Parameters common to all recipes; a recipe's own parameter of the same name takes precedence."""


@dataclass(frozen=True)
class Recipe:
    """A named method that turns network output into a label mask.

    Parameters
    ----------
    name : as in ``--recipe name``
    what : one line on what it expects and does
    source : paper, specification section or reference implementation
    label : the function
    settings : the dataclass of its parameters, whose fields state name, default, meaning and range
    of_labels : it takes labels instead of maps: if the model declares steps that make labels,
        they are applied first
    gives_classes : returns, for some parameters, whether labels are class numbers instead of
        object numbers
    per_object : the output has one entry per object along its first axis, and is not a map of the
        image: `label` also takes `shape`, that of the image in px, and `others`, all outputs of
        the model by their ids
    prompted : the network is asked for one object after another, at the points of a grid
    three_planes : returns, for some parameters, whether a stack is run along z, y and x to keep
        the objects on which these agree
    of_whole_map : derives what `label` would take from a map; None for nothing
    in_blocks : how a large map is labelled block by block; None if only as a whole
    placed : labels depend on the position in the image: `label` also takes `place`, None for the
        whole
    tiles : what the reference implementation does at the border of the image and where tiles meet
    own_tiles : tiling for outputs of a second family of networks; None if `tiles` applies to all
    rescale : if the image was resized for the network, either ``maps`` are resized to the image
        before labels are made from them, or ``labels`` afterwards
    rescale_why : the reason for it, a sentence without its full stop
    lengths : returns for each channel whether it holds lengths in px, which scale with the map
    sparse : `label` reads whole channels and single entries, so a map is resized as it is read
    polygons : its objects have an outline of their own, `bmz.process.object_columns.OUTLINE`
    kept : ``module:class`` that labels one map repeatedly and keeps what stays the same
    on_tensors : makes the same labels with PyTorch on a GPU; None if that is impossible
    """

    name: str
    what: str
    source: str
    label: LabelFunction
    settings: type[Any] = NoSettings
    of_labels: bool = False
    gives_classes: Callable[[Mapping[str, Value]], bool] = lambda _: False
    per_object: bool = False
    prompted: bool = False
    three_planes: Callable[[Mapping[str, Value]], bool] = lambda _: False
    of_whole_map: WholeMapFunction | None = None
    in_blocks: InBlocks | None = None
    placed: bool = False
    tiles: TileWay = MIRRORED
    own_tiles: OwnTiles | None = None
    rescale: Rescale = "maps"
    rescale_why: str = "maps can be interpolated between pixels"
    lengths: LengthsFunction = no_lengths
    sparse: bool = False
    polygons: bool = False
    kept: str | None = None
    on_tensors: TensorDecoder | None = None

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its own parameters."""
        return parameters_of(self.settings)

    @property
    def own(self) -> tuple[str, ...]:
        """The names of its own parameters."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def every(self) -> tuple[Parameter, ...]:
        """Its own parameters, and those of the common finish."""
        return (*self.parameters, *(p for p in FINISH if p.name not in self.own))

    def tiles_for(self, channels: int | None, axes: int, stated: Mapping[str, Value]) -> TileWay:
        """Return what the reference implementation of the network does at borders and seams.

        Parameters
        ----------
        channels, axes : number of channels of the output, None if unknown, and of spatial axes
        stated : parameters that the model states
        """
        own = self.own_tiles
        if own is None or channels is None or not own.holds(channels, axes, stated):
            return self.tiles
        return own.tiles

    def known(self) -> str:
        """Return the parameters with their defaults, for a hint."""
        return ", ".join(f"{p.name} ({str(p.default).lower() or 'none'})" for p in self.every)

    def apply(
        self,
        output: AnyArray,
        grid: tuple[int, ...],
        parameters: Mapping[str, Value],
        **more: object,
    ) -> Labelled:
        """Label an output with the recipe's own `parameters`, without the finish.

        See `per_object` and `placed` for what else `label` takes.
        """
        settings = self.settings(**{name: parameters[name] for name in self.own})
        return self.label(output, grid, settings, **more)

    def at_factor(
        self, parameters: Mapping[str, Value], asked: Collection[str], factor: float
    ) -> dict[str, Value]:
        """Return the parameters for maps that were resized.

        Parameters
        ----------
        parameters : complete
        asked : names of those set by the user, which already refer to the grid of the image
        factor : px of the image per px of the network's grid
        """
        own = {p.name: p for p in self.parameters}

        def on_image(name: str, value: Value) -> Value:
            by_map = isinstance(value, int | float) and value < 0
            grows = name in own and (by_map or name not in asked)
            return own[name].grown(value, factor) if grows else value

        return {name: on_image(name, value) for name, value in parameters.items()}

    def parameters_from(
        self, given: Mapping[str, Value], words: Mapping[str, str]
    ) -> dict[str, Value]:
        """Merge defaults, values from the model (`given`) and the overriding `words` of ``--set``.

        Raises
        ------
        ParameterRefused
            A word names no parameter, or a value is of the wrong type or out of range.
        """
        known = {p.name: p for p in self.every}
        for key in (*given, *words):
            if key not in known:
                raise ParameterRefused(self.name, key, "there is no such parameter", self.known())
        values = {p.name: p.default for p in self.every}
        values |= {
            key: known[key].within_range(self, known[key].of_kind(self, value))
            for key, value in given.items()
        }
        return values | {key: known[key].read(self, text) for key, text in words.items()}
