"""Sizes and grids that the description of a model requires."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil, lcm

from bmz.base.errors import CouldNotTell
from bmz.plan.tiling import AxisRule, OutputRule, largest_sides
from bmz.spec.model import AxisSpec, Fixed, LikeAxis, ModelSpec, Stepped, TensorSpec


class SizesUnclear(CouldNotTell):
    """The declared sizes of the tensors contradict each other."""

    def __init__(self, model: str, tensor: str, why: str) -> None:
        super().__init__(
            f"the sizes that '{model}' declares for '{tensor}' cannot be used: {why}",
            hint="the description of the model is at fault; tell its authors",
            code="package.sizes",
        )


def output_rules(model: ModelSpec) -> tuple[OutputRule, ...]:
    """Return how the pixels of each output are placed on those of the input.

    Raises
    ------
    SizesUnclear
        An output is larger than its input for no declared reason.
    """
    return tuple(_output_rule(model, tensor) for tensor in model.outputs)


def _output_rule(model: ModelSpec, tensor: TensorSpec) -> OutputRule:
    if tensor.per_object:
        # its y and x are pixels of an object's own box, not of the image
        return OutputRule(tensor.letters.upper().replace("B", "b"))
    spacing: dict[str, Fraction | int] = {}
    lost: dict[str, int] = {}
    for axis in tensor.axes:
        if axis.kind == "space" and axis.letter in model.space:
            spacing[axis.letter], lost[axis.letter] = _spacing_and_lost(model, tensor, axis)
    for letter, step in _declared_grid(tensor, spacing).items():
        spacing[letter] *= step
    return OutputRule(tensor.letters, spacing, lost)


def _declared_grid(tensor: TensorSpec, spatial: Iterable[str]) -> Mapping[str, int]:
    """Return the factor by which a declared step enlarges the network's output, along each axis.

    The axes of an output are those after its steps; StarDist labels are on the grid of the input,
    and the network's map is coarser by the argument ``grid``.
    """
    grids = [step.kwargs["grid"] for step in tensor.steps if "grid" in step.kwargs]
    letters = [letter for letter in tensor.letters if letter in set(spatial)]
    return dict(zip(letters, map(int, grids[0]), strict=True)) if grids else {}


def _spacing_and_lost(model: ModelSpec, tensor: TensorSpec, axis: AxisSpec) -> tuple[Fraction, int]:
    size = axis.size
    if isinstance(size, LikeAxis):
        referred = _axis_of(model, size.tensor, size.axis)
        spacing = _ratio(axis.scale, referred.scale)
        if any(size.tensor == output.id for output in model.outputs):
            other = model.output(size.tensor)
            before, lost = _spacing_and_lost(model, other, referred)
            spacing, cut = spacing * before, -size.offset * spacing * before / 2 + lost
        else:
            cut = -size.offset * spacing / 2
        return spacing, _whole_cut(model, tensor, cut)
    entry = _input_axis(model, axis.letter)
    if isinstance(size, Fixed) and isinstance(entry.size, Fixed):
        spacing = _ratio(axis.scale, entry.scale)
        return _of_fixed(model, tensor, spacing, (entry.size.size, size.size))
    return _ratio(axis.scale, entry.scale), 0


def _of_fixed(
    model: ModelSpec, tensor: TensorSpec, spacing: Fraction, sizes: tuple[int, int]
) -> tuple[Fraction, int]:
    input_px, output_px = sizes
    ratio = Fraction(input_px, output_px)
    if spacing == 1 and ratio != 1 and 1 in (ratio.numerator, ratio.denominator):
        return ratio, 0
    return spacing, _whole_cut(model, tensor, (input_px - output_px * spacing) / 2)


def _whole_cut(model: ModelSpec, tensor: TensorSpec, cut: Fraction | float) -> int:
    if cut < 0 or int(cut) != cut:
        raise SizesUnclear(model.id, tensor.id, f"it would lose {float(cut):g} px per side")
    return int(cut)


def _ratio(scale: float, other: float) -> Fraction:
    return Fraction(scale / other).limit_denominator(64)


def _axis_of(model: ModelSpec, tensor_id: str, letter: str) -> AxisSpec:
    for tensor in (*model.inputs, *model.outputs):
        axis = tensor.axis(letter) if tensor.id == tensor_id else None
        if axis is not None:
            return axis
    raise SizesUnclear(model.id, tensor_id, f"it has no axis {letter}")


def _input_axis(model: ModelSpec, letter: str) -> AxisSpec:
    axes = (tensor.axis(letter) for tensor in model.required_inputs)
    return next(axis for axis in axes if axis is not None)


def axis_rules(
    model: ModelSpec, *, side: int | Mapping[str, int] | None = None
) -> tuple[AxisRule, ...]:
    """Return what the network requires of each spatial axis, with the declared or a chosen halo.

    Parameters
    ----------
    side : the wanted tile side, px; a chosen halo depends on it
    """
    outputs = output_rules(model)
    rules = tuple(_axis_rule(model, outputs, letter) for letter in model.space)
    chosen = chosen_halos(rules, side=side)
    reach = _receptive_field(model)
    declared = any(axis.halo for tensor in model.outputs for axis in tensor.axes)
    if declared:
        return rules
    margins = {axis: reach if reach is not None else halo for axis, halo in chosen.items()}
    return tuple(replace(rule, halo=margins[rule.axis]) for rule in rules)


def chosen_halos(
    rules: Sequence[AxisRule], *, side: int | Mapping[str, int] | None = None
) -> dict[str, int]:
    """Choose halos (px of the input) for a network whose description declares none.

    An eighth of the tile, from 16 to 48 px. With 2 x 2 tiles of 256 px, three trained U-Nets
    (nuclei-broad, multi-tensor, cremi-membrane) differed from the whole image in the worst pixel by
    a probability of 0.43 with 16 px, 0.2 with 32 px, 0.008 with 48 px and 2e-5 with 64 px. Never
    more than a quarter of the tile, so that half of it is kept; less what the network loses anyway.

    Parameters
    ----------
    rules : one per spatial axis; their halos are ignored
    side : as for `plan_tiles`

    Returns
    -------
    dict
        The halo of each axis, a multiple of its grid.
    """
    sides = largest_sides([replace(rule, halo=0) for rule in rules], side)
    halos = {}
    for rule in rules:
        tile = max(sides[rule.axis], rule.least) if rule.step else rule.least
        halo = max(0, min(max(16, tile // 8), 48, tile // 4) - rule.lost)
        halos[rule.axis] = ceil(halo / rule.grid) * rule.grid
    return halos


def _receptive_field(model: ModelSpec) -> int | None:
    radius = model.receptive_field.get("radius_px")
    return ceil(radius) if isinstance(radius, int | float) else None


def _axis_rule(model: ModelSpec, outputs: tuple[OutputRule, ...], letter: str) -> AxisRule:
    entry = _resolved(model, _input_axis(model, letter))
    spacings = [Fraction(rule.spacing.get(letter, 1)) for rule in outputs]
    halos = [
        (tensor.axis(letter), rule.spacing.get(letter, 1))
        for tensor, rule in zip(model.outputs, outputs, strict=True)
    ]
    size = entry.size
    least = size.size if isinstance(size, Fixed) else getattr(size, "least", 1)
    return AxisRule(
        axis=letter,
        least=least,
        step=size.step if isinstance(size, Stepped) else 0 if isinstance(size, Fixed) else 1,
        halo=max((ceil(axis.halo * spacing) for axis, spacing in halos if axis), default=0),
        grid=lcm(*(spacing.numerator for spacing in spacings)),
        lost=max((rule.lost.get(letter, 0) for rule in outputs), default=0),
    )


def _resolved(model: ModelSpec, axis: AxisSpec) -> AxisSpec:
    if isinstance(axis.size, LikeAxis):
        return _resolved(model, _axis_of(model, axis.size.tensor, axis.size.axis))
    return axis
