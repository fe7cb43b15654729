"""``bmz show``: all that is known of a model before it is run."""

from __future__ import annotations

from bmz.app.load import load_model
from bmz.app.run import usable_formats
from bmz.base.errors import BmzError
from bmz.plan.recipe_choice import RecipeChoice, choose_recipe
from bmz.report.model_text import ModelView, WeightsView
from bmz.spec.model import ModelSpec, Weights


def show_model(word: str) -> ModelView:
    """Look at a model without running or hashing its weights.

    Raises
    ------
    CouldNotTell
        The model is not there, or its description is invalid.
    """
    model = load_model(word)
    usable = usable_formats()
    return ModelView(
        model=model,
        recipe=_recipe(model),
        weights=tuple(_weights(entry, usable.get(entry.format)) for entry in model.weights),
        code=_code(model),
    )


def _recipe(model: ModelSpec) -> RecipeChoice | BmzError:
    try:
        return choose_recipe(model)
    except BmzError as why:
        return why


def _weights(entry: Weights, install: str | None) -> WeightsView:
    path = entry.file.path
    size = path.stat().st_size if path.is_file() else None
    if install is None:
        state = "bmz does not run this format yet"
    elif size is None:
        state = "cannot run without its file"
    else:
        state = f"needs {install}" if install else "runs here"
    return WeightsView(entry.format, size, state)


def _code(model: ModelSpec) -> tuple[str, ...]:
    found = [
        f"weights {entry.format}: the model's own Python builds the network"
        for entry in model.weights
        if entry.format == "pytorch_state_dict"
    ]
    steps = [step for tensor in (*model.inputs, *model.outputs) for step in tensor.steps]
    found += [f"step custom: {step.kwargs['source']}" for step in steps if step.name == "custom"]
    return tuple(found)
