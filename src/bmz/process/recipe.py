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
"""Thresholds of a probability that are tried where a mask is not likely to be good."""

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
    choices : the words that a text may be; empty for any
    grows : with which power of the factor a value that nobody asked for grows, where maps are
        resized to the image: 1 for a length of the network's grid, 2 for an area; 0 for what is
        the same on every grid. A value below 0 that grows stands for what the map tells, so many
        times as long or large as with -1
    cures : values that are tried where a mask is not likely to be good; empty for none
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
    default : also tells the type
    """

    name: str
    default: Value

    def read(self, recipe: Recipe, text: str) -> Value:
        """Turn the text of ``--set`` into a value of the type of `default`, within the range.

        Raises
        ------
        ParameterRefused
            Not of that type, or out of range.
        """
        kind = type(self.default)
        try:
            value = _TRUTH[text.lower()] if kind is bool else kind(text)
        except (ValueError, KeyError) as why:
            reason = f"'{text}' is not {_KINDS[kind]}"
            raise ParameterRefused(recipe.name, self.name, reason, recipe.known()) from why
        return self.within_range(recipe, value)

    def grown(self, value: Value, factor: float) -> Value:
        """Give a value of the network's grid on a grid of so many times the pixels along an axis.

        Zero stands for "none", and stays.
        """
        if not self.grows or isinstance(value, str) or value == 0:
            return value
        if value < 0:
            return value * factor**self.grows
        grown = max(value * factor**self.grows, self.low or 0)
        return max(round(grown), 1) if isinstance(self.default, int) else grown

    def of_kind(self, recipe: Recipe, value: Value) -> Value:
        """Give `value` back when it is of the type of `default`, or a number that equals one."""
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
        """Give `value` back when it is finite and lies between `low` and `high`."""
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
    """Give the parameters that the fields of a settings dataclass state, in their order.

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
    """Where an output lies in the map of the whole image.

    Parameters
    ----------
    origin : the first entry along (z,) y and x
    whole : the sizes of the whole map, entries
    """

    origin: tuple[int, ...]
    whole: tuple[int, ...]

    @classmethod
    def of_whole(cls, shape: tuple[int, ...]) -> Place:
        """Give the place of a map that is the whole."""
        return cls((0,) * len(shape), tuple(shape))


@dataclass(frozen=True)
class Labelled:
    """Labels of one plane or stack.

    Parameters
    ----------
    labels : ((z,) y, x) int32 or wider, 0 background, 1..n in raster order of first pixels
    columns : what the recipe tells of each object beside its pixels, such as its score
    classes : a label is the number of a class and not of an object
    drawn : ((z,) y, x) float32, the map that a recipe made of the outputs of single objects
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
spatial axis, px of the input; labels are of ``output.shape[1:] * grid``. `Recipe` says what else.
"""


class WholeMapFunction(Protocol):
    """Takes parameters from the whole map, so that every block of it is labelled alike."""

    def __call__(self, maps: LazyArray, parameters: Mapping[str, Value]) -> Mapping[str, Value]:
        """Give values for the parameters that stand for "take it from the map".

        Parameters
        ----------
        maps : (c, (z,) y, x), read in boxes
        parameters : complete
        """


Rescale = Literal["maps", "labels"]
"""What is resized to the image, where the network saw a resized one."""

LengthsFunction = Callable[[int, int, Mapping[str, Value]], tuple[bool, ...]]
"""Takes the number of channels, that of spatial axes, and the parameters of a recipe."""


def no_lengths(channels: int, _axes: int, _parameters: Mapping[str, Value]) -> tuple[bool, ...]:
    """Say that no channel holds lengths."""
    return (False,) * channels


@dataclass(frozen=True)
class OwnTiles:
    """What the reference of a second family of networks does, whose outputs a recipe takes, too.

    Parameters
    ----------
    family : its name
    holds : says for channels, spatial axes and stated parameters whether an output is of it
    tiles : what its reference does
    """

    family: str
    holds: Callable[[int, int, Mapping[str, Value]], bool]
    tiles: TileWay


class OverlapFunction(Protocol):
    """Says how far a block must at least see beyond its edge."""

    def __call__(
        self, maps: LazyArray, parameters: Mapping[str, Value], grid: Sequence[int], /
    ) -> int:
        """Give it in entries of the map.

        Parameters
        ----------
        maps : (c, (z,) y, x), read in boxes
        parameters : complete
        grid : spacing of the maps, px of the input
        """


def no_overlap(_maps: LazyArray, _parameters: Mapping[str, Value], _grid: Sequence[int]) -> int:
    """Say that any overlap is enough."""
    return 0


class UnlabelledFunction(Protocol):
    """Marks what a recipe holds for a part of an object, and has still given no label."""

    def __call__(
        self, maps: AnyArray, labels: AnyArray, parameters: Mapping[str, Value], /
    ) -> BoolArray:
        """Give a mask of the shape of `labels`.

        Parameters
        ----------
        maps : (c, (z,) y, x) of a block
        labels : ((z,) y, x) of the block, on the grid of the map
        parameters : complete
        """


def none_unlabelled(
    _maps: AnyArray, labels: AnyArray, _parameters: Mapping[str, Value]
) -> BoolArray:
    """Say that all that belongs to an object has a label."""
    return np.zeros(labels.shape, np.bool_)


@dataclass(frozen=True)
class InBlocks:
    """How a recipe labels a map block by block with the objects of the whole map.

    Every block is labelled with an overlap, which grows until it holds each object that begins in
    the block and those that this one touches. That suffices where an object depends on nothing
    beyond; what else a recipe needs is said here.

    Parameters
    ----------
    least_overlap : how far a block must see at least
    unlabelled : what may belong to an object that the end of a block has cut
    shares : names of parameters that are shares of the size of the whole map
    refused : says for some parameters why blocks give other objects, a clause without its end
    far_seeing : every object hangs, through its neighbours, on all others, so that those of
        blocks may differ a little; the record says so
    reach : how far from the end of what a block sees an object must lie to be sure; of 0 and 1 it
        must not touch the end
    """

    least_overlap: OverlapFunction = no_overlap
    unlabelled: UnlabelledFunction = none_unlabelled
    shares: tuple[str, ...] = ()
    refused: Callable[[Mapping[str, Value]], str] = lambda _: ""
    far_seeing: bool = False
    reach: OverlapFunction = no_overlap


@dataclass(frozen=True)
class Finish:
    """What is done to the labels of every recipe at last."""

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
        """Take the parameters of the finish, except those that the recipe took as its `own`."""
        names = {parameter.name for parameter in FINISH} - set(own)
        return cls(**{name: parameters[name] for name in names if name in parameters})


FINISH: tuple[Parameter, ...] = parameters_of(Finish)
"""What every recipe takes beside its own; a recipe that has one of these names means its own."""


@dataclass(frozen=True)
class Recipe:
    """A named way from network output to label mask.

    Parameters
    ----------
    name : as in ``--recipe name``
    what : one line: what it expects and does
    source : paper, specification section or reference implementation
    label : the function
    settings : the dataclass of its parameters, whose fields state name, default, meaning and range
    of_labels : it takes labels, and not maps: where the model declares steps that make labels,
        they are done before
    gives_classes : says for some parameters that a label is the number of a class, and not that
        of an object
    per_object : the output has one entry per object, along its first axis, and is not a map of the
        image: `label` also takes `shape`, that of the image in px, and `others`, all outputs of
        the model by their ids
    prompted : the network is asked for one object after the other, with the points of a grid
    three_planes : says for some parameters that a stack is run along z, y and x, and its objects
        are those on which these agree
    of_whole_map : what `label` would take from a map; None for nothing
    in_blocks : how a large map is labelled block by block; None if only as a whole
    placed : labels depend on where in the image a pixel lies: `label` also takes `place`, None for
        the whole
    tiles : what the reference does with the image at its border, and where tiles meet
    own_tiles : the same for outputs that a second family of networks gives; None where `tiles`
        holds for all
    rescale : where the image was resized for the network: ``maps`` are resized to the image
        before labels are made of them, or ``labels`` are, after they were made
    rescale_why : the reason for it, a sentence without its end
    lengths : says for each channel of a map whether it holds lengths in px, which grow with it
    sparse : `label` reads whole channels and single entries, so a map is resized as it is read
    polygons : its objects have an outline of their own, `bmz.process.object_columns.OUTLINE`
    kept : ``module:class`` of what labels one map again and again, and keeps what stays the same
    on_tensors : how PyTorch makes the same labels on a GPU; None where it cannot
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
        """Say what the reference of the network does at borders and seams.

        Parameters
        ----------
        channels, axes : of the output, None if it is not known how many; spatial axes
        stated : parameters that the model states
        """
        own = self.own_tiles
        if own is None or channels is None or not own.holds(channels, axes, stated):
            return self.tiles
        return own.tiles

    def known(self) -> str:
        """List the parameters with their defaults, for a hint."""
        return ", ".join(f"{p.name} ({str(p.default).lower() or 'none'})" for p in self.every)

    def apply(
        self,
        output: AnyArray,
        grid: tuple[int, ...],
        parameters: Mapping[str, Value],
        **more: object,
    ) -> Labelled:
        """Label an output with its own of the `parameters`; the finish is not done here.

        What else `label` takes is said at `per_object` and `placed`.
        """
        settings = self.settings(**{name: parameters[name] for name in self.own})
        return self.label(output, grid, settings, **more)

    def at_factor(
        self, parameters: Mapping[str, Value], asked: Collection[str], factor: float
    ) -> dict[str, Value]:
        """Give the parameters for maps that were resized.

        Parameters
        ----------
        parameters : complete
        asked : names of those that the user gave, which mean the grid of the image already
        factor : px of the image for one of the network's grid
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
        """Join defaults, what the model gives (`given`), and `words` of ``--set``, which win.

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
