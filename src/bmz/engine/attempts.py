"""Run networks with the options that are chosen on the page of ``bmz open``."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from bmz.base.axes import ChannelKey
from bmz.base.errors import CouldNotTell
from bmz.base.progress import Listener, Stage, nobody
from bmz.base.values import dataclass
from bmz.check.fit import CheckedHeader
from bmz.check.values import model_diameter
from bmz.engine.file_trial import crop_of
from bmz.engine.image_header import check_file_header, check_image_header
from bmz.engine.image_view import ImageView, Window
from bmz.engine.kept_outputs import NetworkOutputs, of_model
from bmz.engine.request import RunRequest
from bmz.engine.setup import RunSetup, opened, planned_image, prepare, with_options
from bmz.plan.recipe_choice import LABEL_OPS
from bmz.predict.backend import Backend
from bmz.process.recipe import Parameter
from bmz.process.recipes import RECIPES

MOST_PX = 2**24
"""Largest plane that is run as a whole; of a larger one, only the part in view is run."""

REGION_PX = 2048
"""Largest side of that part, px."""

MOST_NETWORKS = 3
"""Number of networks that stay loaded."""


@dataclass(frozen=True)
class Choice:
    """The options that a user chooses before a network is run.

    Parameters
    ----------
    image : number of the image
    model : model as the user names it, optionally followed by its own options after colons, as
        `bmz.engine.kept_outputs.of_model` parses them
    channels : image channel for each model channel; None for the option of the call
    scale : factor or ``auto``, as for ``bmz run``; None for the option of the call
    invert : whether intensities are inverted; None for the option of the call
    at : position along t and z of the plane that is shown
    window : part of the image that is in view; if the image is large, only a part around its
        centre is run
    """

    image: int
    model: str
    channels: tuple[ChannelKey, ...] | None = None
    scale: Any = None
    invert: bool | None = None
    at: Mapping[str, int] = field(default_factory=dict)
    window: Window | None = None


@dataclass(frozen=True)
class Attempt:
    """The network outputs for a part of an image, from which masks are computed.

    Parameters
    ----------
    number : number that identifies the attempt
    outputs : outputs of the network
    box : axis -> position of the part in the image; empty for the whole image
    """

    number: int
    choice: Choice
    outputs: NetworkOutputs
    box: Mapping[str, slice]

    @property
    def corner(self) -> tuple[int, int]:
        """Position of the first pixel of the part, (y, x) px of the image."""
        return _start(self.box, "y"), _start(self.box, "x")

    @property
    def made_px(self) -> float | None:
        """Object diameter that the network expects, px of its input; None if unknown."""
        made = model_diameter(self.outputs.planned.case)
        return None if made is None else made.px


class NoAttempt(CouldNotTell):
    """The page requests an attempt that does not exist."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"there is no attempt {number}", hint="run the model again", code="open.attempt"
        )


class Networks:
    """Networks that stay loaded; only one runs at a time.

    Parameters
    ----------
    options : options of the call, which those of a `Choice` override
    """

    def __init__(self, options: RunRequest) -> None:
        self.options = options
        self._loaded: OrderedDict[tuple[str, str | None], tuple[RunSetup, Backend]] = OrderedDict()
        self._running = threading.Lock()

    def close(self) -> None:
        """Close all networks."""
        for _, backend in self._loaded.values():
            backend.close()

    def request(self, choice: Choice) -> RunRequest:
        """Return the options of ``bmz run`` for a choice.

        Raises
        ------
        ModelOptionRefused, SweepRefused
            An option after the model is not one that ``bmz run`` accepts.
        """
        own = of_model(choice.model, self.options)
        return replace(
            own,
            channels=own.channels if choice.channels is None else choice.channels,
            scale=own.scale if choice.scale is None else choice.scale,
            invert=own.invert if choice.invert is None else choice.invert,
        )

    def outputs(
        self, choice: Choice, view: ImageView, listener: Listener = nobody
    ) -> tuple[NetworkOutputs, dict[str, slice]]:
        """Run a network on an image, or on the part that is in view.

        Returns
        -------
        NetworkOutputs, dict
            the outputs; and axis -> position of the part in the image, empty for the whole image

        Raises
        ------
        BmzError
            The image does not fit, or the network cannot be obtained or fails.
        """
        with self._running:
            setup, backend = self._network(choice, listener)
            header = check_file_header(setup.model, view.place, setup.request, setup.sample)
            box = _box(view, choice, setup.model.space)
            outputs = _outputs(setup, header, view, backend, box, listener)
            return outputs.keeping(), box

    def _network(self, choice: Choice, listener: Listener) -> tuple[RunSetup, Backend]:
        request = self.request(choice)
        key = request.model, request.recipe
        if key not in self._loaded:
            listener(Stage(f"loading {request.model}"))
            setup = prepare(request, listener)
            self._loaded[key] = (setup, opened(setup))
            if len(self._loaded) > MOST_NETWORKS:
                _, (_, old) = self._loaded.popitem(last=False)
                old.close()
        self._loaded.move_to_end(key)
        setup, backend = self._loaded[key]
        return with_options(setup, request), backend


def _start(box: Mapping[str, slice], axis: str) -> int:
    return box[axis].start if axis in box else 0


def _box(view: ImageView, choice: Choice, space: str) -> dict[str, slice]:
    """Return the region to run: the plane that is shown, or a part of it if it is large."""
    sizes = view.info.sizes
    box = {
        axis: slice(choice.at.get(axis, 0), choice.at.get(axis, 0) + 1)
        for axis in sizes
        if axis in "tz" and axis not in space
    }
    height, width = view.sides
    if height * width <= MOST_PX or choice.window is None:
        return box
    window = choice.window.within(height, width)
    ends = {"y": (window.top, window.bottom), "x": (window.left, window.right)}
    for axis, (start, stop) in ends.items():
        side = min(REGION_PX, sizes[axis])
        first = min(max((start + stop - side) // 2, 0), sizes[axis] - side)
        box[axis] = slice(first, first + side)
    return box


def _outputs(
    setup: RunSetup,
    header: CheckedHeader,
    view: ImageView,
    backend: Backend,
    box: Mapping[str, slice],
    listener: Listener,
) -> NetworkOutputs:
    # keep the scale that was found for the whole image
    request = replace(setup.request, scale=header.case.scale)
    resized = with_options(setup, request)
    pixels = view.source.region(box)
    if not box:
        planned = planned_image(resized, view.place, header)
        return NetworkOutputs.of_pixels(resized, planned, backend, pixels, listener)
    crop = crop_of(view.source.info, pixels)
    of_crop = check_image_header(setup.model, crop.info, request, setup.sample, crop.sample)
    planned = planned_image(resized, view.place, of_crop)
    return NetworkOutputs.of_pixels(
        resized, planned, backend, crop.read(planned.case.image), listener
    )


def parameters_of(setup: RunSetup) -> Sequence[Mapping[str, Any]]:
    """Return the parameters of the recipe with their values, for the controls of a page.

    If a declared step computes the labels, the arguments that the description states come first.
    """
    recipe, values = setup.labelling.recipe, setup.labelling.parameters
    if recipe is None:
        return []
    every = {parameter.name: parameter for parameter in recipe.every}
    stated = [
        _as_control(parameter, step.kwargs[parameter.name], own=True)
        for step in setup.labelling.label_steps
        if step.name in LABEL_OPS
        for parameter in RECIPES[LABEL_OPS[step.name]].parameters
        if parameter.name in step.kwargs and parameter.name not in every
    ]
    own = [_as_control(p, values[name], own=name in recipe.own) for name, p in every.items()]
    return [*stated, *own]


def _as_control(parameter: Parameter, value: object, *, own: bool) -> Mapping[str, Any]:
    return {
        "name": parameter.name,
        "what": parameter.what,
        "value": value,
        "kind": type(parameter.default).__name__,
        "low": parameter.low,
        "high": parameter.high,
        "choices": parameter.choices,
        "own": own,
    }
