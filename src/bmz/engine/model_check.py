"""What of a model itself, whatever the image, keeps it from a label mask here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bmz.base.errors import BmzError
from bmz.check.finding import Evidence, Finding
from bmz.engine.load import Permit, permit_for
from bmz.plan.recipe_choice import MakesNoLabels, choose_recipe
from bmz.plan.weights_choice import choose_weights
from bmz.predict.frameworks import usable_formats
from bmz.process.ops import OPS
from bmz.process.ops_values import RunsCode, UnknownOp
from bmz.spec.model import ModelSpec, TensorSpec
from bmz.spec.package_files import verified
from bmz.zoo.settings import ZooSettings


def model_findings(
    model: ModelSpec,
    settings: ZooSettings,
    *,
    fetched: bool,
    wanted: str | None = None,
    trust: Permit = "no",
    usable: Mapping[str, str] | None = None,
) -> Iterator[Finding]:
    """Yield what of the model itself keeps any image from a label mask.

    Parameters
    ----------
    settings : of the zoo, with the list of trusted code
    fetched : its files come from the zoo: they are not looked at, but verified when they come
    wanted : a weights format; None for the one that would be chosen
    trust : the user's word on the model's own code
    usable : of `usable_formats`, where several models are asked about
    """
    try:
        choose_recipe(model)
    except MakesNoLabels as why:
        known: Evidence = "curated" if why.curated else "declared"
        yield Finding.of_error(why, "model", known)
    except BmzError:
        pass  # which recipe is asked for by `bmz run`; it says nothing of the fit
    try:
        refuse_code((*model.inputs, *model.outputs))
        weights = choose_weights(model, usable_formats() if usable is None else usable, wanted)
        for file in () if fetched else (weights.file, *weights.beside):
            verified(file, f"{weights.format} weights", model.folder)
        permit_for(model, weights, trust, settings)
    except BmzError as why:
        yield Finding.of_error(why, "model")


def refuse_code(tensors: Iterable[TensorSpec]) -> None:
    """Refuse steps that are the model's own code, or not known here, before anything is loaded.

    Raises
    ------
    RunsCode
        There is a ``custom`` step.
    UnknownOp
        There is a step that a newer bioimageio.spec knows, and this bmz does not.
    """
    for step in (step for tensor in tensors for step in tensor.steps):
        if step.name == "custom":
            raise RunsCode(step)
        if step.name not in OPS:
            raise UnknownOp(step, OPS)
