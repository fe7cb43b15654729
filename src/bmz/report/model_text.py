"""A model in words and as JSON: what it is, what goes in, what comes out, what it needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bmz.base.errors import BmzError
from bmz.plan.recipe_choice import RecipeChoice
from bmz.report.facts_text import facts_rows, facts_values
from bmz.report.steps_text import step_words
from bmz.report.text import document_text
from bmz.results.show import ModelView, WeightsView
from bmz.spec.facts import dims_of, task_of
from bmz.spec.model import AxisSpec, TensorSpec
from bmz.spec.pixels import model_pixel_um

if TYPE_CHECKING:
    from bmz.results.documents import ShowDocument, ShownRecipe, Tensor


Row = tuple[str, str]
"""A heading (empty to go on under the last one) and a text."""


def model_rows(view: ModelView) -> list[Row]:
    """Tell of a model, row by row."""
    model = view.model
    rows = [
        ("model", " ".join(f"{model.id} {view.version} - {model.name}".split())),
        ("what", " ".join(model.description.split())),
        ("task", ", ".join(word for word in (task_of(model), dims_of(model)) if word)),
    ]
    for tensor in model.inputs:
        rows += _tensor_rows("input", tensor)
    for tensor in model.outputs:
        rows += _tensor_rows("output", tensor)
    rows += [*facts_rows(model), *_recipe_rows(view.recipe)]
    rows += _headed("weights", (_weights_words(entry) for entry in view.weights))
    rows += _headed("runs code", iter(_code_words(view)))
    rows += [
        ("licence", model.license or "not stated"),
        *_headed("cite", (f"{c.text} {c.where}".strip() for c in model.cite)),
        ("tags", ", ".join(model.tags)),
        *_headed("defects", iter(view.defects)),
        ("tools", _tools_words(view)),
        ("files", str(model.folder)),
        ("identity", f"sha256 {model.sha256} (format {model.format_version})"),
    ]
    return [row for row in rows if row[1]]


def _code_words(view: ModelView) -> tuple[str, ...]:
    return (*view.code, *view.code_unknown) or ("no: weights and numbers only",)


def _headed(heading: str, texts: Iterator[str]) -> list[Row]:
    return [(heading if number == 0 else "", text) for number, text in enumerate(texts)]


def _tensor_rows(kind: str, tensor: TensorSpec) -> list[Row]:
    optional = ", optional" if tensor.optional else ""
    rows = [(kind, f"{tensor.id}: {tensor.letters}, {tensor.dtype}{optional}")]
    sizes = [_axis_words(axis) for axis in tensor.axes if axis.kind != "batch"]
    rows.append(("", "; ".join(sizes)))
    steps = [step for step in tensor.steps if step.name != "ensure_dtype"] or tensor.steps
    return rows + [("", f"- {step_words(step)}") for step in steps]


def _axis_words(axis: AxisSpec) -> str:
    names = f" ({', '.join(_shortened(axis.names))})" if axis.names else ""
    halo = f", halo {axis.halo}" if axis.halo else ""
    return f"{axis.letter} {axis.size}{names}{halo}"


def _shortened(names: tuple[str, ...]) -> tuple[str, ...]:
    most = 4
    return names if len(names) <= most else (*names[:2], "...", names[-1])


def _recipe_rows(recipe: RecipeChoice | BmzError) -> list[Row]:
    if isinstance(recipe, BmzError):
        return [("labels", recipe.message), ("", recipe.hint)]
    values = ", ".join(f"{key}={value}" for key, value in recipe.parameters.items())
    rows = [("labels", f"recipe {recipe.name}: {recipe.why}")]
    return [*rows, ("", values)] if values else rows


def _weights_words(entry: WeightsView) -> str:
    size = "size unknown" if entry.size_bytes is None else f"{entry.size_bytes / 1e6:.1f} MB"
    fetched = "" if entry.fetched else ", not fetched"
    return f"{entry.format}, {size}{fetched}: {entry.state}"


def _tools_words(view: ModelView) -> str:
    """Say which other tools passed; nothing for a package of which the zoo knows nothing."""
    if view.reports is None:
        return "the reports of other tools could not be had"
    if not view.reports:
        return "no other tool has reported on it" if view.version else ""
    words = {"passed": "passed by", "failed": "failed by", "not-applicable": "not for"}
    groups = (
        (told, [f"{one.tool} {one.version}" for one in view.reports if one.status == status])
        for status, told in words.items()
    )
    return "; ".join(f"{told} {', '.join(tools)}" for told, tools in groups if tools)


def model_json(view: ModelView) -> str:
    """Give all of it as one document."""
    model = view.model
    document: ShowDocument = {
        "schema": "bmz.show/1",
        "id": model.id,
        "name": model.name,
        "version": view.version,
        "task": task_of(model),
        "dims": dims_of(model),
        "description": model.description,
        "sha256": model.sha256,
        "format_version": model.format_version,
        "folder": str(model.folder),
        "license": model.license,
        "authors": model.authors,
        "cite": model.cite,
        "tags": model.tags,
        "inputs": [_tensor_values(tensor) for tensor in model.inputs],
        "outputs": [_tensor_values(tensor) for tensor in model.outputs],
        "pixel_um": model_pixel_um(model),
        "facts": facts_values(model),
        "recipe": _recipe_values(view.recipe),
        "weights": view.weights,
        "runs_code": view.code,
        "code_unknown": view.code_unknown,
        "remarks": model.remarks,
        "defects": view.defects,
        "reports": view.reports,
    }
    return document_text(document)


def _recipe_values(recipe: RecipeChoice | BmzError) -> ShownRecipe:
    if isinstance(recipe, BmzError):
        return {"name": None, "why": recipe.message, "code": recipe.code, "parameters": {}}
    return {
        "name": recipe.name,
        "why": recipe.why,
        "output": recipe.output,
        "parameters": recipe.parameters,
    }


def _tensor_values(tensor: TensorSpec) -> Tensor:
    return {
        "id": tensor.id,
        "axes": tensor.letters,
        "sizes": {axis.letter: str(axis.size) for axis in tensor.axes},
        "halo": {axis.letter: axis.halo for axis in tensor.axes if axis.halo},
        "channels": list(next((a.names for a in tensor.axes if a.letter == "c"), ())),
        "dtype": tensor.dtype,
        "range": tensor.value_range,
        "steps": [{"name": s.name, "kwargs": s.kwargs} for s in tensor.steps],
        "optional": tensor.optional,
    }
