"""What keeps a plan from being made."""

from __future__ import annotations

from bmz.base.errors import AnswerIsNo, CouldNotTell, WrongUsage

RECIPES = (
    "stardist, flows, mesmer, contour, boundary, gasp, affinities, distance_watershed, components, "
    "argmax, masks, labels, none"
)
"""Names of the label recipes, for hints; ``bmz.process.recipes`` holds them."""


class RecipeUnclear(CouldNotTell):
    """Nothing in the description tells how its output becomes labels."""

    def __init__(self, model: str, why: str) -> None:
        super().__init__(
            f"cannot tell how the output of '{model}' becomes a label mask: {why}",
            hint=f"choose with --recipe: {RECIPES} (none: keep the raw output)",
            code="recipe.unclear",
        )


class RecipeMissing(CouldNotTell):
    """It is known what the output is, and no recipe makes labels of it."""

    def __init__(self, model: str, why: str) -> None:
        super().__init__(
            f"there is no label recipe for '{model}': {why}",
            hint="keep its output with --recipe none --save raw, or choose one with --recipe",
            code="recipe.missing",
        )


class OutputUnclear(CouldNotTell):
    """Several outputs could become the label mask."""

    def __init__(self, model: str, outputs: tuple[str, ...]) -> None:
        super().__init__(
            f"'{model}' has {len(outputs)} outputs ({', '.join(outputs)}): "
            "which one becomes the label mask?",
            hint=f"say it: --set output={outputs[0]}",
            code="recipe.output-unclear",
        )


class OutputUnknown(WrongUsage):
    """The model has no output of that name."""

    def __init__(self, model: str, wanted: str, outputs: tuple[str, ...]) -> None:
        super().__init__(
            f"'{model}' has no output '{wanted}'",
            hint=f"its outputs are: {', '.join(outputs)}",
            code="recipe.output-unknown",
        )


class MakesNoLabels(AnswerIsNo):
    """The model restores, translates or classifies images; `curated` when our facts say so."""

    def __init__(self, model: str, why: str, *, curated: bool = False) -> None:
        self.curated = curated
        super().__init__(
            f"'{model}' makes no label mask: {why}",
            hint="keep its output with --recipe none --save raw",
            code="task.no-labels",
        )


class WeightsUnusable(CouldNotTell):
    """No weights of the model can run here."""

    def __init__(self, model: str, why: str, *, hint: str) -> None:
        super().__init__(
            f"no weights of '{model}' can run: {why}", hint=hint, code="weights.no-backend"
        )


class ScaleUnknown(CouldNotTell):
    """``--scale auto`` has nothing to go by."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"--scale auto cannot tell the factor for '{model}': neither the pixel size nor the "
            "size of the objects is known of both image and model",
            hint="give --pixel-size for the image, or the factor itself: --scale 0.5",
            code="scale.unknown",
        )
