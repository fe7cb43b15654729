"""Choose the output that is turned into labels, and the recipe, by evidence and curated facts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bmz.base.errors import AnswerIsNo, BmzError, CouldNotTell, WrongUsage
from bmz.base.values import dataclass
from bmz.plan.channel_names import (
    RecipeChoice,
    class_list,
    label_output,
    named_families,
    named_maps,
)
from bmz.spec.facts import Fact, LabelWay, facts_of
from bmz.spec.model import MAPS, ModelSpec, TensorSpec

RECIPES = (
    "stardist, flows, mesmer, contour, boundary, gasp, multicut, affinities, hover, panoptic, "
    "distances, spots, distance_watershed, components, argmax, masks, prompts, labels, none"
)
"""Names of the label recipes, for hints; ``bmz.process.recipes`` holds them."""


class RecipeUnclear(CouldNotTell):
    """Nothing in the description states how its output is turned into labels."""

    def __init__(self, model: str, why: str) -> None:
        super().__init__(
            f"cannot determine how to turn the output of '{model}' into a label mask: {why}",
            hint=f"choose with --recipe: {RECIPES} (none: keep the raw output)",
            code="recipe.unclear",
        )


class RecipeMissing(CouldNotTell):
    """The kind of output is known, but no recipe makes labels from it."""

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
            f"'{model}' has {len(outputs)} outputs ({', '.join(outputs)}): it is unclear which "
            "one becomes the label mask",
            hint=f"choose one: --set output={outputs[0]}",
            code="recipe.output-unclear",
        )


class OutputUnknown(WrongUsage):
    """The model has no output with that name."""

    def __init__(self, model: str, output: str, outputs: tuple[str, ...]) -> None:
        super().__init__(
            f"'{model}' has no output '{output}'",
            hint=f"its outputs are: {', '.join(outputs)}",
            code="recipe.output-unknown",
        )


class MakesNoLabels(AnswerIsNo):
    """The model restores, translates or classifies images; `curated` if our facts say so."""

    def __init__(self, model: str, why: str, *, curated: bool = False) -> None:
        self.curated = curated
        super().__init__(
            f"'{model}' makes no label mask: {why}",
            hint="keep its output with --recipe none --save raw",
            code="task.no-labels",
        )


@dataclass(frozen=True)
class Curated:
    """The curated method that turns a model's output into labels.

    Parameters
    ----------
    way : a recipe, or the reason why there is none
    source : source of the fact
    maps : number of channels that the output had when the fact was recorded; None if unknown
    segments : whether the model is for segmentation
    """

    way: LabelWay
    source: str
    maps: int | None
    segments: bool

    def fits(self, tensor: TensorSpec) -> bool:
        """Return whether the fact still applies: the author may have changed the output since."""
        if self.way.output and self.way.output != tensor.id:
            return False
        return self.maps is None or tensor.channels is None or self.maps == tensor.channels

    def refusal(self, model: ModelSpec) -> BmzError | None:
        """Return the error that states why there is no recipe; None if there may be one."""
        if self.way.name or not any(self.fits(tensor) for tensor in model.outputs):
            return None
        why = f"{self.way.reason}; {self.source}"
        if self.segments:
            return RecipeMissing(model.id, why)
        return MakesNoLabels(model.id, why, curated=True)


def curated_way(model: ModelSpec) -> Curated | None:
    """Return the curated method of a model from the table of facts; None if it has no entry."""
    facts = facts_of(model.alias) if model.alias else None
    if facts is None or facts.recipe is None:
        return None
    meaning = facts.output_channels
    maps = len(meaning.value) if meaning is not None else None
    return Curated(facts.recipe.value, facts.recipe.source, maps, segments=_name_parts(facts.task))


def _name_parts(task: Fact[str] | None) -> bool:
    return task is None or "segmentation" in task.value


LABEL_OPS: Mapping[str, str] = {
    "stardist_postprocessing": "stardist",
    "cellpose_flow_dynamics": "flows",
    "microsam_watershed": "distances",
}
"""Declared ops that return labels, each with the recipe that implements it."""

SAME_MAPS: Mapping[str, str] = {"multicut": "gasp"}
"""Recipes that no evidence selects, each with the recipe whose maps and parameters it takes."""

BIAPY = {"F", "B", "M", "C", "T", "P", "D", "Db", "Dn", "Dc"}
"""Letters of a representation of BiaPy that the recipe `contour` reads."""

GOLDEN_SPIRAL = "Rays_GoldenSpiral"

NO_LABEL_TASKS = (
    "image-restoration",
    "denoising",
    "super-resolution",
    "image-to-image",
    "in-silico-labeling",
    "classification",
    "image-classification",
    "semantic-unmixing",
)
"""Tags of models whose output is not a segmentation."""


def choose_recipe(
    model: ModelSpec, *, recipe: str | None = None, output: str | None = None
) -> RecipeChoice:
    """Choose the output that becomes the label mask, and its recipe.

    Parameters
    ----------
    model : the model
    recipe, output : the user's choice, which overrides any evidence

    Raises
    ------
    OutputUnclear, OutputUnknown
        There are several outputs and none is chosen, or the chosen one does not exist.
    RecipeUnclear
        There is no evidence of how the output is turned into labels.
    RecipeMissing
        The kind of output is known, but there is no recipe for it.
    MakesNoLabels
        The curated facts or the tags name another task.
    """
    curated = curated_way(model)
    if recipe is None and curated is not None and not declares_recipe(model):
        refusal = curated.refusal(model)
        if refusal is not None:
            raise refusal
    tensor = _output(model, output, curated)
    evidence = _by_evidence(model, tensor, curated)
    if recipe is not None:
        same = evidence is not None and evidence.name in (recipe, SAME_MAPS.get(recipe))
        stated = evidence if evidence is not None and same else RecipeChoice(recipe, "", tensor.id)
        why = "chosen with --recipe"
        if model.decoder is not None:
            why += f", on the maps of its automatic decoder, {model.decoder.file.path.name}"
        return RecipeChoice(recipe, why, tensor.id, stated.parameters, stated.stated_by)
    if evidence is not None:
        return evidence
    task = next((tag for tag in model.tags if tag.lower() in NO_LABEL_TASKS), None)
    if task is not None:
        raise MakesNoLabels(model.id, f"its task is {task}")
    shown = f"output '{tensor.id}' has axes {tensor.letters} and {_channel_words(tensor)}"
    raise RecipeUnclear(
        model.id, f"{shown}, and no op, config or channel name gives more information"
    )


def network_family(model: ModelSpec, choice: RecipeChoice) -> tuple[str, Mapping[str, Any]]:
    """Return the recipe for the network's trained output, however it is used.

    Returns
    -------
    name : recipe of a declared step, else by other evidence, else the chosen recipe
    parameters : parameters that the model states
    """
    declared = (step.name for tensor in model.outputs for step in tensor.steps)
    op = next((name for name in declared if name in LABEL_OPS), None)
    if op is not None:
        return LABEL_OPS[op], {}
    tensor = model.output(choice.output)
    family = _by_evidence(model, tensor, curated_way(model)) or choice
    return family.name, family.parameters


def _channel_words(tensor: TensorSpec) -> str:
    count = "any number of" if tensor.channels is None else tensor.channels
    return f"{count} channel{'s' * (count != 1)}"


def _output(model: ModelSpec, output_id: str | None, curated: Curated | None) -> TensorSpec:
    ids = tuple(tensor.id for tensor in model.outputs)
    if output_id is not None and output_id not in ids:
        raise OutputUnknown(model.id, output_id, ids)
    known = curated.way.output if curated is not None else None
    chosen = output_id or (known if known in ids else None)
    if chosen is not None:
        return model.outputs[ids.index(chosen)]
    if len(ids) == 1:
        return model.outputs[0]
    if model.prompts is not None:
        return model.output(model.prompts.masks)
    raise OutputUnclear(model.id, ids)


def _by_evidence(
    model: ModelSpec, tensor: TensorSpec, curated: Curated | None
) -> RecipeChoice | None:
    def known(_model: ModelSpec, tensor: TensorSpec) -> RecipeChoice | None:
        return _curated(tensor, curated)

    rules = (*_DECLARED, known, *_TOLD)
    return next((choice for rule in rules if (choice := rule(model, tensor))), None)


def declares_recipe(model: ModelSpec) -> bool:
    """Return whether the description itself states how an output becomes labels."""
    return any(rule(model, tensor) for tensor in model.outputs for rule in _DECLARED)


def _curated(tensor: TensorSpec, curated: Curated | None) -> RecipeChoice | None:
    if curated is None or not curated.way.name or not curated.fits(tensor):
        return None
    note = f"; note: {curated.way.note}" if curated.way.note else ""
    why = f"curated facts; {curated.source}{note}"
    return RecipeChoice(curated.way.name, why, tensor.id, curated.way.parameters, "fact")


def decoder_recipe(model: ModelSpec) -> RecipeChoice:
    """Choose the recipe for the maps of an automatic decoder.

    Raises
    ------
    ValueError
        The package has no decoder, or no recipe takes its maps.
    """
    decoded = model.decoded() if model.decoder is None else model
    choice = _decoded(decoded, decoded.outputs[0])
    if choice is None:
        raise ValueError(f"no recipe takes the maps of the decoder of '{model.id}'")
    return choice


def _decoded(model: ModelSpec, tensor: TensorSpec) -> RecipeChoice | None:
    named = None if model.decoder is None else named_families(model, tensor)
    if model.decoder is None or named is None:
        return None
    file, (*most, last) = model.decoder.file.path.name, MAPS
    why = f"its automatic decoder, {file}, returns {', '.join(most)} and {last}"
    return replace(named, why=why)


def _declared_op(_model: ModelSpec, tensor: TensorSpec) -> RecipeChoice | None:
    for step in tensor.steps:
        if step.name in LABEL_OPS:
            why = f"the description declares {step.name}, which returns labels"
            return RecipeChoice("labels", why, tensor.id)
    return None


def _own_config(model: ModelSpec, tensor: TensorSpec) -> RecipeChoice | None:
    # written by `bmz`: {name, parameters, output}, as docs/reference/recipes.md says
    config = model.ours.get("recipe")
    if config is None:
        return None
    name, values = (
        (config.get("name"), config.get("parameters")) if isinstance(config, Mapping) else ("", {})
    )
    if not (isinstance(name, str) and name and isinstance(values or {}, Mapping)):
        raise RecipeUnclear(
            model.id, f"config.bmz.recipe is {config!r}, without a name and parameters"
        )
    if config.get("output", tensor.id) != tensor.id:
        return None
    return RecipeChoice(name, "config.bmz.recipe names it", tensor.id, dict(values or {}))


def _stardist_config(model: ModelSpec, tensor: TensorSpec) -> RecipeChoice | None:
    stardist = model.config.get("stardist")
    if not isinstance(stardist, Mapping):
        return None
    thresholds = stardist.get("thresholds")
    if not isinstance(thresholds, Mapping) or not {"prob", "nms"} <= set(thresholds):
        return None
    why = "config.stardist contains the thresholds of a StarDist network"
    values: dict[str, float | str] = {
        "prob_threshold": float(thresholds["prob"]),
        "nms_threshold": float(thresholds["nms"]),
    }
    classes = _star_classes(stardist, tensor)
    if classes:
        values["classes"] = classes
        why += " with classes"
    grid = _network_grid(stardist, tensor)
    if grid:
        values["network_grid"] = grid
        why += f"; its border is in cells of the network's grid, of {grid} px each"
    if tensor.space == "zyx":
        rays = (stardist.get("config") or {}).get("rays_json") or {}
        name = rays.get("name", GOLDEN_SPIRAL)
        if name != GOLDEN_SPIRAL:
            raise RecipeMissing(model.id, f"its rays are {name}, but only {GOLDEN_SPIRAL} is known")
        anisotropy = (rays.get("kwargs") or {}).get("anisotropy") or (1, 1, 1)
        values["anisotropy"] = ",".join(f"{float(along):g}" for along in anisotropy)
    return RecipeChoice("stardist", why, tensor.id, values)


def _star_classes(stardist: Mapping[str, Any], tensor: TensorSpec) -> str:
    # stardist 0.9.1, models/base.py: the probabilities of n_classes + 1 classes come last
    config = stardist.get("config")
    count = config.get("n_classes") if isinstance(config, Mapping) else None
    if not isinstance(count, int) or count < 1:
        return ""
    axis = tensor.axis("c")
    named = axis.names[-count - 1 :] if axis else ()
    return class_list(named or ("background", *map(str, range(1, count + 1))))


def _network_grid(stardist: Mapping[str, Any], tensor: TensorSpec) -> str:
    config = stardist.get("config")
    grid = config.get("grid") if isinstance(config, Mapping) else None
    if not isinstance(grid, Sequence) or len(grid) != len(tensor.space):
        return ""
    if not all(isinstance(step, int) and step >= 1 for step in grid):
        return ""
    return ",".join(map(str, grid))


def _mutex_config(model: ModelSpec, tensor: TensorSpec) -> RecipeChoice | None:
    mutex = model.config.get("mws")
    offsets = mutex.get("offsets") if isinstance(mutex, Mapping) else None
    if not isinstance(offsets, Sequence) or len(offsets) != tensor.channels:
        return None
    why = "config.mws contains the offsets of affinities, as torch-em writes them"
    text = ";".join(",".join(str(int(step)) for step in offset) for offset in offsets)
    # torch-em trains on 1 for separate pixels: torch_em/transform/label.py, AffinityTransform
    return RecipeChoice("affinities", why, tensor.id, {"offsets": text, "one_is_apart": True})


def _prompted(model: ModelSpec, tensor: TensorSpec) -> RecipeChoice | None:
    if model.prompts is None or tensor.id != model.prompts.masks:
        return None
    why = "the network returns masks of single objects, with a score for each"
    if model.prompts.asks:
        why = "the network takes prompts and returns the mask of the object at each"
    return RecipeChoice("prompts", why, tensor.id, {"scores": model.prompts.scores})


def _biapy(model: ModelSpec, tensor: TensorSpec) -> RecipeChoice | None:
    tags = {tag.lower() for tag in model.tags}
    if not {"biapy", "instance-segmentation"} <= tags:
        return None
    said = re.search(r"representation:\s*([A-Z][a-z]?(?:\s*\+\s*[A-Z][a-z]?)*)", model.description)
    # biapy 3.7.1, biapy/models/__init__.py: meaning of the tags without `representation:`
    default = "F+C+M" if {"cyst", "3d", "fluorescence"} <= tags else "F+C"
    channels = re.sub(r"\s", "", said[1]) if said else default
    if len(channels.split("+")) != tensor.channels or not set(channels.split("+")) <= BIAPY:
        return None
    why = f"a BiaPy model, whose maps are {channels}"
    if not said and channels == "F+C":
        # biapy/data/pre_processing.py: until 3.6.3 the contour was removed from F
        why += "; F is taken as whole cells, as BiaPy has trained it since 3.6.4"
        why += " (if trained with an older version, --set ring=1)"
    return RecipeChoice("contour", why, tensor.id, {"channels": channels})


def _segments(model: ModelSpec) -> bool:
    return any("segmentation" in tag.lower() for tag in model.tags)


def _foreground(model: ModelSpec, tensor: TensorSpec) -> RecipeChoice | None:
    if tensor.channels != 1:
        return None
    steps = [step.name for step in tensor.steps]
    if "binarize" in steps:
        why = "the description declares binarize: the output is a mask"
        return RecipeChoice("components", why, tensor.id)
    if not _segments(model):
        return None
    if "sigmoid" in steps or tensor.value_range == (0, 1):
        why = "one probability map of a segmentation model"
        return RecipeChoice("components", why, tensor.id)
    return None


def _classes(model: ModelSpec, tensor: TensorSpec) -> RecipeChoice | None:
    several = (tensor.channels or 0) > 1
    semantic = any(tag.lower() == "semantic-segmentation" for tag in model.tags)
    softmax = any(step.name == "softmax" for step in tensor.steps)
    if several and (softmax or semantic) and _segments(model):
        why = f"{tensor.channels} class maps of a model for semantic segmentation"
        axis = tensor.axis("c")
        names = {"classes": class_list(axis.names)} if axis and axis.names else {}
        return RecipeChoice("argmax", why, tensor.id, names)
    return None


_Rule = Callable[[ModelSpec, TensorSpec], RecipeChoice | None]

_DECLARED: tuple[_Rule, ...] = (
    _decoded,
    _declared_op,
    _own_config,
    _stardist_config,
    _mutex_config,
)
"""What the description itself declares; it takes precedence over the curated facts."""

_TOLD: tuple[_Rule, ...] = (
    _prompted,
    label_output,
    named_families,
    named_maps,
    _biapy,
    _foreground,
    _classes,
)
"""What names and tags indicate; the curated facts take precedence over it."""
