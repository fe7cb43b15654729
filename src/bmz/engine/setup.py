"""Prepare what all images of a call share, and plan the run of one image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bmz.base.axes import SPACE, Link, Neighbourhood
from bmz.base.computer import free_memory
from bmz.base.errors import BmzError, CouldNotTell, WrongUsage
from bmz.base.progress import Listener, nobody
from bmz.base.values import dataclass
from bmz.check.axes import joining_findings, nothing_joined
from bmz.check.finding import CheckReport, refuse_errors
from bmz.check.fit import CheckedHeader, check_pixels, with_channels_seen
from bmz.check.fit_case import FitCase
from bmz.check.measured import PlaneMeasures
from bmz.engine.engines import ENGINES, Engine, LoadCase
from bmz.engine.further_images import (
    PlannedMask,
    prompts_beside,
    refuse_elsewhere,
    refuse_unknown_inputs,
    words_beside,
)
from bmz.engine.image_header import check_file_header, on_disk, read_spread
from bmz.engine.labelling import (
    DecoderElsewhere,
    Labelling,
    decide_labelling,
    network_way,
    with_decoder,
)
from bmz.engine.load import (
    Permit,
    fetch_code,
    fetch_tensors,
    fetch_weights,
    find_model,
    model_code,
    permit_for,
    refuse_code,
)
from bmz.engine.network_choice import NetworkChoice, decide_precision, is_measured
from bmz.engine.prompting import PlannedPrompts, refuse_prompts
from bmz.engine.relations import refuse_joined
from bmz.engine.request import GRID, RunRequest
from bmz.engine.stages import Stopwatch
from bmz.engine.test_tensors import sample_measures
from bmz.engine.three_planes import link_of_planes, refuse_no_stack
from bmz.image.formats import name_of
from bmz.image.given_names import remember_names
from bmz.image.info import ImageInfo
from bmz.image.pixels import Pixels
from bmz.image.prompt_files import Prompt
from bmz.image.region import read_image
from bmz.image.series import FieldMissing, PlateField
from bmz.plan.plan import Plan, RunChoices, make_plan
from bmz.plan.weights_choice import choose_weights
from bmz.predict.backend import Backend, Device
from bmz.predict.formats import resolve_device
from bmz.predict.frameworks import usable_formats
from bmz.results.images import ImageFailure
from bmz.spec.model import ModelSpec
from bmz.spec.package_files import ModelCode
from bmz.write.outputs import refuse_unusable
from bmz.zoo.settings import ZooSettings, settings_from_environment
from bmz.zoo.store import notes_folders

if TYPE_CHECKING:
    from bmz.results.image_documents import OwnCode


class CoreTakesOnePiece(CouldNotTell):
    """An image is too large for one run of the model, but bioimageio.core must run it whole."""

    def __init__(self, image: Path, tile: Mapping[str, int]) -> None:
        size = " x ".join(f"{axis} {px}" for axis, px in tile.items())
        super().__init__(
            f"'{name_of(image)}' is larger than the {size} px that the model takes at once",
            hint="leave out --engine core to run it in tiles, or crop it",
            code="engine.one-piece",
        )


@dataclass(frozen=True)
class RunSetup:
    """Model, options and decisions shared by all images of a call.

    Parameters
    ----------
    network : model, weights, device and labelling, from which to choose how to run the network
    """

    request: RunRequest
    model: ModelSpec
    labelling: Labelling
    device: Device
    permit: Permit
    own_code: ModelCode | None
    decided: RunChoices
    sample: Mapping[int, PlaneMeasures]
    network: NetworkChoice

    @property
    def engine(self) -> Engine:
        """The engine that runs the network."""
        return ENGINES[self.request.engine]

    @property
    def own_code_record(self) -> OwnCode | None:
        """Record of the model's own code and how it is run; None if there is no such code."""
        code = self.own_code
        return (
            None if code is None else {"what": code.what, "sha256": code.sha256, "run": self.permit}
        )


@dataclass(frozen=True)
class CheckedPixels:
    """The pixels of an image, and the result of checking them.

    Parameters
    ----------
    pixels : pixels as read, with axes of ``tczyx`` in that order
    took_s : stage -> duration, s
    """

    pixels: Pixels
    report: CheckReport
    took_s: Mapping[str, float]


@dataclass(frozen=True)
class PlannedImage:
    """An image whose header has been checked and whose run is planned.

    Parameters
    ----------
    further_sha256 : input -> hash of a further image that is not a file
    masks : masks to which its labels are related, see `bmz.engine.relations`
    prompts : the objects that the network is prompted for; None if the call names no file
    field : field of a plate; None for other images
    looked : returns its pixels, if they are read ahead
    sha256 : hash of its content, if known; None for the hash of its file
    """

    image: Path
    header: CheckedHeader
    plan: Plan
    further_sha256: Mapping[str, str] = field(default_factory=dict)
    masks: Mapping[str, PlannedMask] = field(default_factory=dict)
    prompts: PlannedPrompts | None = None
    field: PlateField | None = None
    looked: Callable[[], CheckedPixels] | None = None
    sha256: str | None = None

    @property
    def case(self) -> FitCase:
        """The model, the image and the options of the user."""
        return self.header.case

    def asked(self, prompts: PlannedPrompts) -> PlannedImage:
        """Return the image with prompts, and findings on those that are left out."""
        findings = prompts.findings(self.case.inputs[0].id)
        header = replace(self.header, report=self.header.report.with_more(findings))
        return replace(self, header=header, prompts=prompts)

    def prompts_at(self, at: Mapping[str, int], word: str | None) -> Sequence[Prompt] | str:
        """Return the prompts of a plane, or a keyword for them.

        Parameters
        ----------
        at : position of the plane along t and z
        word : keyword of the call, as in `bmz.engine.request.RunRequest.prompts`
        """
        sizes = self.case.image.sizes
        if self.prompts is None:
            return word or GRID
        return self.prompts.of_plane(at, (sizes["y"], sizes["x"]))


def plan_image(setup: RunSetup, image: Path, field: PlateField | None = None) -> PlannedImage:
    """Check the header of an image and plan its run.

    Raises
    ------
    DoesNotFit
        There is a finding of severity error, and ``--force`` is not given or does not help.
    BmzError
        There is no image, the file cannot be read, or it cannot be divided into tiles.
    """
    header = check_file_header(setup.model, image, setup.request, setup.sample)
    planned = planned_image(setup, image, with_channels_seen(header, read_spread), field)
    words = words_beside(image, setup.request.relations, setup.request.before)
    masks = {name: PlannedMask.of_file(on_disk(word)) for name, word in words.items()}
    refuse_elsewhere(masks, planned.case.image)
    prompts = prompts_beside(image, setup.request.prompts, setup.request.before)
    if prompts is not None:
        planned = planned.asked(PlannedPrompts.of_file(on_disk(prompts), planned.case.image))
    return replace(planned, masks=masks)


def planned_image(
    setup: RunSetup, image: Path, header: CheckedHeader, field: PlateField | None = None
) -> PlannedImage:
    """Plan the run of an image whose header has been checked; raises as `plan_image` does."""
    refuse_errors(image, header.report, force=setup.request.force)
    plan = make_plan(header.case, setup.decided)
    blocks = replace(plan.blocks, memory_bytes=memory_limit(setup.request))
    plan = replace(plan, blocks=blocks, three_planes=setup.labelling.three_planes)
    if plan.three_planes:
        refuse_no_stack(plan)
    if setup.request.neighbours is not None:
        near = Neighbourhood.of(setup.request.neighbours)
        axes = setup.model.space if "z" not in plan.joined else SPACE
        near.refuse_unknown_size(axes, header.case.image.pixel_um)
        plan = replace(plan, near=near)
    if setup.engine.whole_images and plan.tiling.count > 1:
        raise CoreTakesOnePiece(image, plan.tiling.tile)
    return PlannedImage(image, header, plan, field=field)


def planned_or_failed(
    setup: RunSetup, image: Path, field: PlateField | None = None
) -> PlannedImage | ImageFailure:
    """Check the header of an image and plan its run, or return the error."""
    if field is not None and not field.path.is_dir():
        return ImageFailure(image, FieldMissing(field))
    try:
        return plan_image(setup, image, field)
    except BmzError as error:
        return ImageFailure(image, error)


def memory_limit(request: RunRequest) -> int:
    """Return the memory use above which an image is run in parts, bytes."""
    if request.memory_gb is not None:
        return int(request.memory_gb * 1e9)
    return free_memory() // 2


def look(setup: RunSetup, planned: PlannedImage) -> CheckedPixels:
    """Read an image and check its pixels.

    Raises
    ------
    DoesNotFit
        There is a finding of severity error, and ``--force`` is not given or does not help.
    BmzError
        The pixels cannot be read.
    """
    return look_at(setup, planned, read_image)


def with_joining(report: CheckReport, setup: RunSetup, planned: PlannedImage) -> CheckReport:
    """Add to a report the axes along which the objects are not joined."""
    if not setup.labelling.numbers_objects:
        return report
    tensor, link = planned.case.inputs[0].id, setup.decided.link.ious
    unused = [nothing_joined(link, tensor)] if link and not planned.plan.joined else []
    return report.with_more([*joining_findings(planned.plan.apart, tensor), *unused])


def look_at(
    setup: RunSetup, planned: PlannedImage, read: Callable[[ImageInfo], Pixels]
) -> CheckedPixels:
    """Check the pixels of an image, read with `read`; raises as `look` does."""
    stopwatch = Stopwatch()
    with stopwatch.stage("read"):
        pixels = read(planned.case.image)
    with stopwatch.stage("check"):
        report = checked_pixels(setup, planned, pixels)
    return CheckedPixels(pixels, report, stopwatch.took_s)


def checked_pixels(setup: RunSetup, planned: PlannedImage, pixels: Pixels) -> CheckReport:
    """Check the pixels of an image, and report the axes along which its objects are not joined.

    Parameters
    ----------
    pixels : the image, with axes of ``tczyx``, or a sample of it with all channels

    Raises
    ------
    DoesNotFit
        There is a finding of severity error, and ``--force`` is not given or does not help.
    """
    report = check_pixels(planned.header, pixels)
    refuse_errors(planned.image, report, force=setup.request.force)
    return with_joining(report, setup, planned)


class NothingToSave(WrongUsage):
    """``--recipe none`` makes no labels, and no other output is requested."""

    def __init__(self) -> None:
        super().__init__(
            "--recipe none makes no label mask, so nothing would be written",
            hint="add --save raw to keep the output of the network",
            code="output.nothing",
        )


class NothingToRelate(WrongUsage):
    """Labels are to be related to a mask, but there are no labels."""

    def __init__(self, relation: str) -> None:
        super().__init__(
            f"--{relation} needs labels, and --recipe none makes none",
            hint=f"leave out --{relation}, or choose a --recipe",
            code="relation.nothing",
        )


class NothingToJoin(WrongUsage):
    """Labels are to be joined, but none represent objects."""

    def __init__(self) -> None:
        super().__init__(
            "--link joins the labels of objects, but this model and recipe make none",
            hint="leave out --link, or choose a --recipe that numbers objects",
            code="link.nothing",
        )


def prepare(request: RunRequest, listener: Listener = nobody, *, measure: bool = True) -> RunSetup:
    """Decide everything that does not depend on an image: model, recipe, weights, device.

    Parameters
    ----------
    request : the options of the call
    listener : is told when the model must be downloaded first
    measure : whether the network may be run to choose its precision

    Raises
    ------
    BmzError
        The model or an option of the call cannot be used.
    """
    settings = settings_from_environment()
    follow_names(request, settings)
    package, model = find_model(request.model, settings, listener=listener)
    refuse_code((*model.inputs, *model.outputs))
    refuse_unknown_inputs(model, request.inputs)
    model = with_decoder(model, recipe=request.recipe, prompts=request.prompts)
    labelling = decide_labelling(model, recipe=request.recipe, settings=request.settings)
    labelling = ENGINES[request.engine].labelling(labelling)
    refuse_contradictions(request, model, labelling)
    weights = choose_weights(model, usable_formats(), request.weights)
    backend = ENGINES[request.engine].backend(request.backend)
    device = resolve_device(request.device, weights.format, backend)
    fetch_code(package, model, weights, settings, listener)
    permit_for(model, weights, request.trust, settings)  # before much is downloaded
    fetch_weights(package, model, weights, settings, listener)
    permit = permit_for(model, weights, request.trust, settings)  # the files can be inspected now
    notes = notes_folders(package.manifest, model.sha256, settings)
    network = NetworkChoice(model, weights, device, labelling, notes, permit, backend)
    if is_measured(network):
        fetch_tensors(package, model, settings, listener)
    return RunSetup(
        request=request,
        model=model,
        labelling=labelling,
        device=device,
        permit=permit,
        own_code=model_code(weights),
        decided=_decided(request, network, listener, measure=measure),
        sample=sample_measures(package, model, settings),
        network=network,
    )


def refuse_contradictions(request: RunRequest, model: ModelSpec, labelling: Labelling) -> None:
    """Raise if the options need what this model and recipe do not provide.

    Raises
    ------
    BmzError
        Nothing would be written, or an option needs labels, prompts, joined labels or a kind of
        output that is not available.
    """
    if labelling.recipe is None and "raw" not in request.save:
        raise NothingToSave
    if labelling.recipe is None and request.relations:
        raise NothingToRelate(next(iter(request.relations)))
    refuse_joined(request.relations, request.link)
    refuse_prompts(model, labelling, request.prompts)
    refuse_nothing_to_join(request, labelling)
    refuse_unusable(request.tables, request.save if labelling.recipe is not None else ())
    if request.neighbours is not None:
        Neighbourhood.of(request.neighbours)


def follow_names(request: RunRequest, settings: ZooSettings) -> None:
    """Let this process read cached images of servers, and name images as the user does."""
    remember_names(request.names)
    cached = (settings.cache / "images").absolute()
    if request.names or any(cached in image.absolute().parents for image in request.images):
        from bmz.engine.remote_images import follow_addresses  # here: few images are remote

        follow_addresses(settings)


def with_options(setup: RunSetup, request: RunRequest) -> RunSetup:
    """Return the setup for a call with other options for its images than when its model was loaded.

    Parameters
    ----------
    request : options with the model, weights and device of the setup

    Raises
    ------
    NothingToJoin
        Labels that do not represent objects are to be joined.
    BmzError
        A setting belongs neither to the recipe nor to a declared step.
    """
    labelling = setup.labelling
    refuse_unknown_inputs(setup.model, request.inputs)
    decoded = with_decoder(setup.model, recipe=request.recipe, prompts=request.prompts)
    if decoded is not setup.model:
        why = "its network was loaded without it"
        raise DecoderElsewhere(setup.model, why, "bmz.load(MODEL, recipe='distances') loads both")
    refuse_joined(request.relations, request.link)
    refuse_prompts(setup.model, labelling, request.prompts)
    if request.settings != setup.request.settings:
        labelling = decide_labelling(setup.model, recipe=request.recipe, settings=request.settings)
    refuse_nothing_to_join(request, labelling)
    decided = replace(
        setup.decided,
        clip=request.clip,
        invert=request.invert,
        recipe=labelling.choice,
        parameters=labelling.shown_parameters,
        link=_link(request, labelling),
    )
    network = replace(setup.network, labelling=labelling)
    return replace(setup, request=request, labelling=labelling, decided=decided, network=network)


def refuse_nothing_to_join(request: RunRequest, labelling: Labelling) -> None:
    """Raise if labels that do not represent objects are to be joined.

    Raises
    ------
    NothingToJoin
    """
    if request.link and not labelling.numbers_objects:
        raise NothingToJoin


def _decided(
    request: RunRequest, network: NetworkChoice, listener: Listener, *, measure: bool
) -> RunChoices:
    return RunChoices(
        weights=network.weights,
        device=str(network.device),
        recipe=network.labelling.choice,
        parameters=network.labelling.shown_parameters,
        tile=request.tile_px,
        batch=request.batch,
        clip=request.clip,
        invert=request.invert,
        precision=decide_precision(request.precision, network, measure=measure, listener=listener),
        way=network_way(network.model, network.labelling.choice),
        link=_link(request, network.labelling),
        blocks=request.blocks,
    )


def _link(request: RunRequest, labelling: Labelling) -> Link:
    link = Link(request.link, request.link_gap)
    return link_of_planes(link) if labelling.three_planes else link


def opened(setup: RunSetup) -> Backend:
    """Load the network of a job; the caller closes it."""
    return setup.engine.opened(
        LoadCase(
            network=setup.network,
            precision=setup.decided.precision,
            threads=setup.request.threads,
        )
    )
