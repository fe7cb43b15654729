"""``bmz show``: all that is known of a model before it is run."""

from __future__ import annotations

from bmz.base.errors import BmzError
from bmz.base.progress import Listener, nobody
from bmz.engine.cards import Published, published
from bmz.engine.load import code_unknown, find_model, model_code, weights_files
from bmz.plan.channel_names import RecipeChoice
from bmz.plan.recipe_choice import choose_recipe
from bmz.plan.recipe_settings import settings_of
from bmz.predict.frameworks import frameworks_here, usable_formats
from bmz.report.model_text import code_words
from bmz.results.models import ModelView, WeightsView
from bmz.spec.facts import defects_of, needed_packages
from bmz.spec.model import ModelSpec, Weights
from bmz.zoo.package import Package
from bmz.zoo.settings import ZooSettings, settings_from_environment


def show_model(
    source: str, settings: ZooSettings | None = None, listener: Listener = nobody
) -> ModelView:
    """Look at a model without running, fetching or hashing its weights.

    Raises
    ------
    CouldNotTell
        The model does not exist, or its description is invalid.
    """
    settings = settings or settings_from_environment()
    package, model = find_model(source, settings, listener=listener)
    names = tuple(file.name for entry in model.weights for file in weights_files(model, entry))
    publication = published(package, model.sha256, names, settings)
    usable = usable_formats()
    recipe = _recipe(model)
    return ModelView(
        model=model,
        recipe=recipe,
        weights=tuple(_weights(model, w, usable.get(w.format), publication) for w in model.weights),
        code=_code(model),
        code_unknown=tuple(
            f"weights {w.format}: {why}" for w in model.weights if (why := code_unknown(w))
        ),
        version=package.remote.version if package.remote else "",
        defects=_defects(package, model),
        reports=publication.reports,
        packages=needed_packages(model),
        settings=() if isinstance(recipe, BmzError) else settings_of(recipe),
    )


def _recipe(model: ModelSpec) -> RecipeChoice | BmzError:
    try:
        return choose_recipe(model)
    except BmzError as why:
        return why


def _weights(
    model: ModelSpec, entry: Weights, install: str | None, publication: Published
) -> WeightsView:
    path = entry.file.path
    fetched = path.is_file()
    name = path.relative_to(model.folder).as_posix()
    size = path.stat().st_size if fetched else publication.sizes.get(name)
    if install is None:
        state = "bmz does not run this format yet"
    else:
        state = f"needs {install}" if install else "runs here"
    backends = frameworks_here(entry.format) if install == "" else ()
    return WeightsView(entry.format, size, fetched, state, backends)


def _code(model: ModelSpec) -> tuple[str, ...]:
    codes = [(entry, model_code(entry)) for entry in model.weights]
    descriptions = [f"weights {entry.format}: {code_words(code)}" for entry, code in codes if code]
    steps = [step for tensor in (*model.inputs, *model.outputs) for step in tensor.steps]
    descriptions += [
        f"step custom: {step.kwargs['source']}" for step in steps if step.name == "custom"
    ]
    return tuple(descriptions)


def _defects(package: Package, model: ModelSpec) -> tuple[str, ...]:
    known = defects_of(model.id.partition("/")[0]) if package.remote else ()
    return (*known, *(text for text in model.remarks if text.startswith("repaired: ")))
