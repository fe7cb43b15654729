"""``--set KEY=VALUE``: the output, an argument of a declared step, or a parameter of the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields, replace
from functools import partial
from importlib import import_module
from math import prod
from threading import Lock
from typing import TYPE_CHECKING, Any

from bmz.base.arrays import LeftToProcessor, MapThere, TensorPlace
from bmz.base.axes import Step
from bmz.base.errors import WrongUsage
from bmz.base.progress import Listener, Note, nobody
from bmz.base.values import dataclass
from bmz.engine.request import NONE
from bmz.plan.channel_names import RecipeChoice
from bmz.plan.plan import Plan
from bmz.plan.recipe_choice import LABEL_OPS, choose_recipe, decoder_recipe, network_family
from bmz.plan.tile_way import MIRRORED, TileWay
from bmz.predict.backend import Backend, OnTensors, StaysThere
from bmz.process.adapt import from_layout
from bmz.process.ops import LABEL_STEPS, work_on_tensors
from bmz.process.recipe import Finish, LabelFunction, Labelled, Recipe
from bmz.process.recipes import RECIPES
from bmz.spec.model import ModelSpec

if TYPE_CHECKING:
    from bmz.results.image_documents import DecodingRecord, RecipeRecord

OUTPUT = "output"
"""The key that names an output rather than a parameter."""


class RecipeUnknown(WrongUsage):
    """``--recipe`` does not name a recipe."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no recipe '{name}'",
            hint=f"the recipes are {', '.join(RECIPES)} and none",
            code="recipe.unknown",
        )


class SettingRefused(WrongUsage):
    """A value does not fit the argument of a declared step."""

    def __init__(self, step: str, key: str, default: object, text: str) -> None:
        super().__init__(
            f"--set {key}={text} does not fit the declared step {step}",
            hint=f"the description says {key}={default!r}; use a value of type "
            f"{type(default).__name__}",
            code="recipe.parameter",
        )


@dataclass(frozen=True)
class Labelling:
    """How one output becomes labels, with all options of the user applied.

    Parameters
    ----------
    choice : name of the chosen recipe, with the evidence
    recipe : the recipe; None for ``none``
    parameters : all parameters of the recipe
    map_steps : declared steps that compute the map
    label_steps : declared steps that turn the map into labels; empty if a recipe does it
    user_parameters : names of the parameters that the user set
    """

    choice: RecipeChoice
    recipe: Recipe | None
    parameters: Mapping[str, Any]
    map_steps: tuple[Step, ...]
    label_steps: tuple[Step, ...]
    user_parameters: frozenset[str] = frozenset()

    @property
    def decoder(self) -> Recipe | None:
        """The recipe that turns the map into labels, or that of the declared step that does."""
        op = next((step.name for step in self.label_steps if step.name in LABEL_OPS), None)
        return self.recipe if op is None else RECIPES[LABEL_OPS[op]]

    def at_factor(self, factor: float) -> Labelling:
        """Return the parameters for maps that were resized to the image.

        Parameters
        ----------
        factor : pixels of the image per pixel of the network's input
        """
        if self.recipe is None or self.decoder is None or self.decoder.rescale != "maps":
            return self
        grown = self.recipe.at_factor(self.parameters, self.user_parameters, factor)
        steps = tuple(_grown_step(step, factor) for step in self.label_steps)
        return replace(self, parameters=grown, label_steps=steps)

    @property
    def finish(self) -> Finish:
        """Finishing steps that apply to the labels of every recipe."""
        return Finish.of(self.parameters, self.recipe.own if self.recipe else ())

    @property
    def numbers_objects(self) -> bool:
        """Whether labels number objects rather than classes."""
        return self.recipe is not None and not self.recipe.gives_classes(self.parameters)

    @property
    def three_planes(self) -> bool:
        """Whether the planes of a stack are run along z, y and x."""
        return self.recipe is not None and self.recipe.three_planes(self.parameters)

    @property
    def prompted(self) -> bool:
        """Whether the network is prompted for one object at a time."""
        return self.recipe is not None and self.recipe.prompted

    @property
    def shown_parameters(self) -> Mapping[str, Any]:
        """The parameters to print; those of the common finish only if they are not the default."""
        if self.recipe is None:
            return {}
        usual = {p.name: p.default for p in self.recipe.every if p.name not in self.recipe.own}
        return {k: v for k, v in self.parameters.items() if k not in usual or v != usual[k]}

    def as_record(self, plan: Plan | None = None) -> RecipeRecord:
        """Return the labelling as plain values for the run record.

        Parameters
        ----------
        plan : plan of the image, whose scale affects some parameters; None for no image
        """
        factor = 1.0 if plan is None else 1 / plan.scale
        return {
            "name": self.choice.name,
            "why": self.choice.why,
            "output": self.choice.output,
            "parameters": dict(self.at_factor(factor).parameters),
            "declared": [str(step) for step in (*self.map_steps, *self.label_steps)],
        }


class DecoderElsewhere(WrongUsage):
    """The maps of an automatic decoder are requested, but it cannot be run."""

    def __init__(self, model: ModelSpec, why: str, hint: str) -> None:
        super().__init__(
            f"the automatic decoder of '{model.id}' cannot be run: {why}",
            hint=hint,
            code="recipe.decoder",
        )


def with_decoder(model: ModelSpec, *, recipe: str | None, prompts: str | None) -> ModelSpec:
    """Append the automatic decoder of a package to its network if a request needs its maps.

    A request needs them if it names the decoder's recipe, or has ``--prompts none``.

    Parameters
    ----------
    recipe, prompts : as in `bmz.engine.request.RunRequest`
    """
    if not model.has_decoder:
        return model
    chosen = None if recipe is None else RECIPES.get(recipe)
    alone = prompts == NONE and not (chosen is not None and chosen.prompted)
    return model.decoded() if alone or recipe == decoder_recipe(model).name else model


def decide_labelling(
    model: ModelSpec, *, recipe: str | None, settings: Mapping[str, str]
) -> Labelling:
    """Choose the output and the recipe, and apply every value of ``--set``.

    Raises
    ------
    RecipeUnknown, ParameterRefused, SettingRefused
        An option names nothing that exists, or its value does not fit.
    RecipeUnclear, OutputUnclear, OutputUnknown, MakesNoLabels
        Raised by ``bmz.plan.recipe_choice.choose_recipe``.
    """
    if recipe is not None and recipe != "none" and recipe not in RECIPES:
        raise RecipeUnknown(recipe)
    options = dict(settings)
    choice = choose_recipe(model, recipe=recipe, output=options.pop(OUTPUT, None))
    tensor = model.output(choice.output)
    maps, labels = parted_steps(tensor.steps)
    chosen = RECIPES.get(choice.name)
    if chosen is None or not chosen.of_labels:
        labels = ()
    if chosen is not None and chosen.prompted:
        maps = ()  # these steps are applied to the answer to each prompt
    maps, labels = (_with_words(steps, options, chosen) for steps in (maps, labels))
    parameters = chosen.parameters_from(choice.parameters, options) if chosen else {}
    return Labelling(choice, chosen, parameters, maps, labels, frozenset(settings))


@dataclass
class Decoding:
    """Where the labels of an image are computed: on the GPU that runs its network, if possible.

    Planes may be labelled in several threads.

    Parameters
    ----------
    there : tensor memory of that GPU; None without a GPU or without PyTorch to use it
    listener : is told once per reason why the CPU computes the labels instead
    """

    there: TensorPlace | None = None
    listener: Listener = nobody
    whys: list[str] = field(default_factory=list)
    """Reasons why the CPU computed labels, one clause each."""

    copied: list[str] = field(default_factory=list)
    """Reasons why maps were copied to host memory, one clause each."""

    planes: dict[str, int] = field(default_factory=dict)
    """Device -> number of planes, stacks or blocks labelled on it."""

    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    @classmethod
    def beside(cls, backend: Backend, listener: Listener = nobody) -> Decoding:
        """Return where to compute labels for the network of a backend."""
        library = backend.tensor_library() if isinstance(backend, OnTensors) else None
        there = None if library is None else TensorPlace(library, str(backend.device))
        return cls(there, listener)

    def stays(self, labelling: Labelling, backend: Backend, *, kept: bool, resized: bool) -> str:
        """Return a clause on why maps leave the network's device; empty if they stay there.

        The result is also empty without a GPU to keep them on.

        Parameters
        ----------
        kept : the maps are requested in addition to the labels
        resized : the image differs in size from the input of the network
        """
        if self.there is None:
            return ""
        recipe, steps = labelling.recipe, (*labelling.map_steps, *labelling.label_steps)
        if recipe is None or recipe.on_tensors is None:
            return f"the recipe '{labelling.choice.name}' works on arrays"
        reasons = {
            "they are requested as output": kept,
            "declared steps work on arrays": not work_on_tensors(steps),
            "they are resized to the image": resized,
            f"{backend.name} gives arrays": not isinstance(backend, StaysThere),
        }
        return next((why for why, holds in reasons.items() if holds), "")

    def note_copied(self, why: str, size: int = 0) -> None:
        """Record that maps of `size` bytes were copied to host memory, and why."""
        with self._lock:
            if why not in self.copied:
                self.copied.append(why)
        if self.there is not None:
            self.there.transfers.add(size)

    def map_there(self, mapped: Any, letters: str) -> MapThere | None:  # noqa: ANN401
        """Return a map that stayed on the GPU, whose parts can still be read; None for arrays."""
        if self.there is None or not isinstance(mapped, self.there.torch.Tensor):
            return None
        why = "objects are judged by their first channels"
        return MapThere(self.there, from_layout(mapped, letters)[0], partial(self.note_copied, why))

    def of(self, labelling: Labelling) -> Labelling:
        """Return a labelling that runs its recipe on the GPU if possible, with the same labels."""
        recipe = labelling.recipe
        if recipe is None or self.there is None:
            return labelling
        label = partial(self._label, self.there, recipe)
        return replace(labelling, recipe=replace(recipe, label=label))

    def _label(
        self,
        there: TensorPlace,
        recipe: Recipe,
        output: Any,  # noqa: ANN401  (an array or a tensor)
        *given: object,
        **more: object,
    ) -> Labelled:
        try:
            labelled = _labelled_there(there, recipe, output, *given, **more)
        except LeftToProcessor as left:
            why = left.why
        except there.torch.cuda.OutOfMemoryError:
            there.torch.cuda.empty_cache()
            why = f"{there.device} does not have enough memory for them"
        else:
            self._count(there.device)
            return labelled
        self._leave(why)
        self._count("cpu")
        if isinstance(output, there.torch.Tensor):
            output = there.get(output)
            self.note_copied(why)
        return recipe.label(output, *given, **more)

    def _leave(self, why: str) -> None:
        with self._lock:
            if why in self.whys:
                return
            self.whys.append(why)
        self.listener(Note(f"the CPU makes the labels: {why}"))

    def _count(self, device: str) -> None:
        with self._lock:
            self.planes[device] = self.planes.get(device, 0) + 1

    def as_record(self) -> DecodingRecord | None:
        """Return plain values for the run record; None if there was no GPU to choose."""
        if self.there is None:
            return None
        return {
            "planes": dict(self.planes),
            "left_to_processor": list(self.whys),
            "maps_copied": list(self.copied),
            "copied_bytes": self.there.transfers.copied_bytes,
        }


def _labelled_there(
    there: TensorPlace,
    recipe: Recipe,
    output: Any,  # noqa: ANN401
    *given: object,
    **more: object,
) -> Labelled:
    decoder = recipe.on_tensors
    if decoder is None:
        raise LeftToProcessor(f"the recipe '{recipe.name}' works on arrays")
    lack = there.lacks(decoder.entry_bytes * prod(output.shape[1:]))
    if lack:
        raise LeftToProcessor(lack)
    module, _, function = decoder.label.partition(":")
    label: LabelFunction = getattr(import_module(module), function)
    with there.torch.inference_mode():
        return label(there, output, *given, **more)


def network_way(model: ModelSpec, choice: RecipeChoice) -> TileWay:
    """Return how the reference implementation of the network's family treats image borders.

    This depends on the output the network was trained for, not on how the user processes it.
    """
    name, stated = network_family(model, choice)
    family = RECIPES.get(name)
    if family is None:
        return MIRRORED
    channels = model.output(choice.output).channels
    return family.tiles_for(channels, len(model.space), stated)


def parted_steps(steps: tuple[Step, ...]) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Split declared steps into those that compute a map and those that turn it into labels."""
    first = next((i for i, step in enumerate(steps) if step.name in LABEL_OPS), len(steps))
    return steps[:first], steps[first:]


def _with_words(
    steps: tuple[Step, ...], words: dict[str, str], recipe: Recipe | None
) -> tuple[Step, ...]:
    """Replace arguments of declared steps; the options used are removed from `words`."""
    of_recipe = {parameter.name for parameter in recipe.parameters} if recipe else set()
    result = []
    for step in steps:
        keys = [key for key in words if key in step.kwargs and key not in of_recipe]
        changed = {key: _read(step, key, words.pop(key)) for key in keys}
        result.append(Step(step.name, {**step.kwargs, **changed}) if changed else step)
    return tuple(result)


def _grown_step(step: Step, factor: float) -> Step:
    """Add to a declared step the scale-dependent parameters that its description omits."""
    if step.name not in LABEL_OPS:
        return step
    taken = {field.name for field in fields(LABEL_STEPS[step.name])} - set(step.kwargs)
    grown = {
        parameter.name: parameter.grown(parameter.default, factor)
        for parameter in RECIPES[LABEL_OPS[step.name]].parameters
        if parameter.grows and parameter.name in taken
    }
    return Step(step.name, {**step.kwargs, **grown})


def _read(step: Step, key: str, text: str) -> bool | int | float | str:
    old = step.kwargs[key]
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(old, int | float | str):
            return type(old)(text) if not isinstance(old, int) else _number(text)
    except (ValueError, KeyError) as why:
        raise SettingRefused(step.name, key, old, text) from why
    raise SettingRefused(step.name, key, old, text)


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value
