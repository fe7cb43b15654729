"""Decide all of a run that does not hang on an image, and load the network."""

from __future__ import annotations

from bmz.base.errors import WrongUsage
from bmz.base.link import Link
from bmz.base.progress import Listener, nobody
from bmz.engine.engines import ENGINES, LoadCase
from bmz.engine.job import Job
from bmz.engine.labelling import Labelling, decide_labelling, network_way
from bmz.engine.load import fetch_code, fetch_tensors, fetch_weights, find_model, notes_folders
from bmz.engine.measure import sample_measures
from bmz.engine.model_check import refuse_code
from bmz.engine.model_code import model_code
from bmz.engine.precision import Network, decide_precision
from bmz.engine.request import RunRequest
from bmz.engine.trust import permit_for
from bmz.plan.plan import Decided
from bmz.plan.weights_choice import choose_weights
from bmz.predict.backend import Backend
from bmz.predict.devices import resolve_device
from bmz.predict.frameworks import usable_formats
from bmz.zoo.settings import settings_from_environment


class NothingToSave(WrongUsage):
    """``--recipe none`` makes no labels, and nothing else was asked for."""

    def __init__(self) -> None:
        super().__init__(
            "--recipe none makes no label mask, so nothing would be written",
            hint="add --save raw to keep the output of the network",
            code="output.nothing",
        )


class NothingToJoin(WrongUsage):
    """Labels shall be joined, and there are none that stand for objects."""

    def __init__(self) -> None:
        super().__init__(
            "--link joins the labels of objects, and this model and recipe give none",
            hint="leave out --link, or choose a --recipe that numbers objects",
            code="link.nothing",
        )


def prepare(request: RunRequest, listener: Listener = nobody, *, measure: bool = True) -> Job:
    """Decide all that does not hang on an image: model, recipe, weights, device.

    Parameters
    ----------
    request : the words of the call
    listener : is told when the model must be downloaded first
    measure : the network may be run for the choice of its precision

    Raises
    ------
    BmzError
        Whatever is wrong with the model or the words of the call.
    """
    settings = settings_from_environment()
    package, model = find_model(request.model, settings, listener=listener)
    refuse_code((*model.inputs, *model.outputs))
    labelling = decide_labelling(model, recipe=request.recipe, settings=request.settings)
    labelling = ENGINES[request.engine].labelling(labelling)
    if labelling.recipe is None and "raw" not in request.save:
        raise NothingToSave
    refuse_nothing_to_join(request, labelling)
    weights = choose_weights(model, usable_formats(), request.weights)
    device = resolve_device(request.device, weights.format)
    fetch_code(package, model, weights, settings, listener)
    permit_for(model, weights, request.trust, settings)  # before much is downloaded
    fetch_weights(package, model, weights, settings, listener)
    permit = permit_for(model, weights, request.trust, settings)  # now that they can be looked at
    if device.kind != "cpu":
        fetch_tensors(package, model, settings, listener)
    notes = notes_folders(package.manifest, model.sha256, settings)
    network = Network(model, weights, device, labelling, notes, permit)
    return Job(
        request=request,
        model=model,
        labelling=labelling,
        device=device,
        permit=permit,
        own_code=model_code(weights),
        decided=_decided(request, network, measure=measure),
        sample=sample_measures(package, model, settings),
    )


def refuse_nothing_to_join(request: RunRequest, labelling: Labelling) -> None:
    """Raise an error where labels shall be joined that stand for no objects.

    Raises
    ------
    NothingToJoin
    """
    if request.link and not labelling.numbers_objects:
        raise NothingToJoin


def _decided(request: RunRequest, network: Network, *, measure: bool) -> Decided:
    return Decided(
        weights=network.weights,
        device=str(network.device),
        recipe=network.labelling.choice,
        parameters=network.labelling.told,
        tile=ENGINES[request.engine].tile_px(request.tile),
        batch=request.batch,
        clip=request.clip,
        precision=decide_precision(request.precision, network, measure=measure),
        way=network_way(network.model, network.labelling.choice),
        link=Link(request.link, request.link_gap),
        blocks=request.blocks,
    )


def opened(job: Job) -> Backend:
    """Load the network of a job; it is to be closed."""
    decided = job.decided
    return job.engine.opened(
        LoadCase(
            model=job.model,
            weights=decided.weights,
            device=job.device,
            precision=decided.precision,
            permit=job.permit,
            threads=job.request.threads,
        )
    )
