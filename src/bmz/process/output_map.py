"""What a label recipe asks of the output it is given, and the errors when it is not so."""

from __future__ import annotations

from bmz.base.arrays import AnyArray
from bmz.base.errors import CouldNotTell


class DimensionsNotDone(CouldNotTell):
    """A recipe works on planes, and the output is none (or has more axes)."""

    def __init__(self, recipe: str, shape: tuple[int, ...]) -> None:
        super().__init__(
            f"recipe '{recipe}' makes labels of planes: it wants an output with axes c, y, x, "
            f"and got {len(shape)} axes of {shape}",
            hint="keep the map with --save raw, or choose another recipe with --recipe",
            code="recipe.dimensions",
        )


class ChannelsDiffer(CouldNotTell):
    """The output has another number of channels than the recipe reads."""

    def __init__(self, recipe: str, wanted: str, found: int) -> None:
        super().__init__(
            f"recipe '{recipe}' wants {wanted}, and the output has {found} channels",
            hint="choose the recipe that belongs to the model with --recipe",
            code="recipe.channels",
        )


def require_plane(recipe: str, output: AnyArray) -> None:
    """Refuse an output that is not (c, y, x).

    Raises
    ------
    DimensionsNotDone
        It has fewer or more axes, such as (c, z, y, x).
    """
    if output.ndim != len("cyx"):
        raise DimensionsNotDone(recipe, output.shape)
