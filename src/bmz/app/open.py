"""``bmz open``: try models and settings on an image; outputs of networks are kept."""

from __future__ import annotations

import shlex
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from bmz.app.check import check
from bmz.app.fit import fit
from bmz.app.run import run
from bmz.base.arrays import AnyArray
from bmz.base.errors import not_none
from bmz.base.progress import Listener, nobody
from bmz.base.values import dataclass
from bmz.engine.attempts import Attempt, Choice, Networks, NoAttempt
from bmz.engine.corrections import corrected, write_corrected
from bmz.engine.fit_image import FitRequest
from bmz.engine.image_view import ImageView, Window
from bmz.engine.kept_outputs import MadeLabels, Setting, command_of, of_model
from bmz.engine.request import RunRequest
from bmz.image.given_names import given_name
from bmz.image.pixels import Pixels
from bmz.process.edits import Edit
from bmz.results.compare import SettingResult
from bmz.results.fit import Ranking
from bmz.results.images import CheckSummary, RunSummary
from bmz.zoo.settings import settings_from_environment

MOST_ATTEMPTS = 4
"""Number of attempts whose network outputs are kept; others are computed again."""


@dataclass(frozen=True)
class OpenRequest:
    """The options of one call of ``bmz open``.

    Parameters
    ----------
    images : files, each of which is an image
    models : offered first; each may have options of its own, see `bmz.engine.kept_outputs.of_model`
    options : the other options, as for ``bmz run``; results are saved in its folder
    """

    images: tuple[Path, ...]
    models: tuple[str, ...]
    options: RunRequest


class Workbench:
    """Images on view, loaded networks, and the outputs of these.

    Several threads may use it. One network runs at a time; masks can be made meanwhile.

    Parameters
    ----------
    request : the options of the call

    Raises
    ------
    ModelOptionRefused, SweepRefused
        An option behind a model is not one that ``bmz run`` would take.
    """

    def __init__(self, request: OpenRequest) -> None:
        self.request = request
        for model in request.models:
            of_model(model, request.options)  # or refuse it now
        self._stack = ExitStack()
        self._views: dict[int, ImageView] = {}
        self._networks = Networks(request.options)
        self._attempts: OrderedDict[int, Attempt] = OrderedDict()
        self._masks: dict[int, tuple[MadeLabels, Pixels]] = {}
        self._numbers = count(1)
        self._labeller = self._stack.enter_context(ThreadPoolExecutor(1, "labels"))
        self._opening, self._labelling, self._saving = (threading.Lock() for _ in range(3))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all images and networks."""
        self._networks.close()
        self._stack.close()

    def view(self, image: int) -> ImageView:
        """Return an image; its file is opened on first use.

        Raises
        ------
        BmzError
            The image cannot be read.
        """
        with self._opening:
            if image not in self._views:
                place = self.request.images[image]
                self._views[image] = ImageView(place, self.request.options, self._stack)
            return self._views[image]

    def check(self, choice: Choice, listener: Listener = nobody) -> CheckSummary:
        """Check whether an image fits a model; see `bmz.app.check.check`."""
        request = self._networks.request(choice)
        return check(replace(request, images=(self.request.images[choice.image],)), listener)

    def fit(self, image: int, listener: Listener = nobody) -> Ranking:
        """Rank the models of the zoo for an image; see `bmz.app.fit.fit`."""
        options = self.request.options
        asked = FitRequest(
            (self.request.images[image],), axes=options.axes, channels=options.channels,
            pixel_um=options.pixel_um, kind=options.kind, trust=options.trust,
        )  # fmt: skip
        return fit(asked, settings_from_environment(), listener)

    def attempt(self, choice: Choice, listener: Listener = nobody) -> Attempt:
        """Run a network on an image, or on the part of it that is in view.

        Raises
        ------
        BmzError
            The image does not fit, or the network is not available or fails.
        """
        view = self.view(choice.image)
        outputs, box = self._networks.outputs(choice, view, listener)
        attempt = Attempt(next(self._numbers), choice, outputs, box)
        with self._labelling:
            self._attempts[attempt.number] = attempt
            if len(self._attempts) > MOST_ATTEMPTS:
                dropped, _ = self._attempts.popitem(last=False)
                self._masks.pop(dropped, None)
        return attempt

    def relabel(self, number: int, setting: Setting, edits: Sequence[Edit] = ()) -> int:
        """Make the labels of an attempt with other parameters of its recipe, and correct them.

        Parameters
        ----------
        edits : corrections, a layer of their own: measurements are those of the model's mask

        Returns
        -------
        int
            number of objects after the corrections

        Raises
        ------
        NoAttempt
            The output of its network is no longer kept.
        EditRefused
            A correction has no effect at its position.
        BmzError
            The recipe does not take a value, or there are no labels.
        """
        # in one thread, because each thread of a request would keep memory of its own
        return self._labeller.submit(self._relabelled, number, setting, edits).result()

    def _relabelled(self, number: int, setting: Setting, edits: Sequence[Edit]) -> int:
        with self._labelling:
            attempt = self.attempt_of(number)
            self._attempts.move_to_end(number)
            for other in self._attempts.values():
                if other is not attempt:  # sliders of one at a time move
                    other.outputs.forget()
            made = attempt.outputs.relabelled(setting)
            labels = not_none(made.result.labels)
            shown = corrected(labels, edits, attempt.box) if edits else labels
            self._masks[number] = (made, shown)
        return len(np.unique(shown.array)) - 1 if edits else made.result.objects or 0

    def objects(self, number: int) -> SettingResult:
        """Measure the objects of the latest mask of an attempt.

        Raises
        ------
        NoAttempt
            It does not exist, or is no longer kept.
        """
        made, _ = self._mask_of(number)
        return made.with_table()

    def attempt_of(self, number: int) -> Attempt:
        """Return an attempt by its number.

        Raises
        ------
        NoAttempt
            It does not exist, or is no longer kept.
        """
        if number not in self._attempts:
            raise NoAttempt(number)
        return self._attempts[number]

    def _mask_of(self, number: int) -> tuple[MadeLabels, Pixels]:
        if number not in self._masks:
            raise NoAttempt(number)
        return self._masks[number]

    def mask(self, number: int, at: Mapping[str, int], window: Window) -> tuple[AnyArray, Window]:
        """Return a part of the latest mask of an attempt.

        Parameters
        ----------
        at : position along t and z
        window : px of the image

        Returns
        -------
        ndarray, Window
            (y, x) uint16 or uint32, sampled at the step of the window; and its window in the image
        """
        attempt = self.attempt_of(number)
        _, labels = self._mask_of(number)
        place = {
            axis: min(
                max(at.get(axis, 0) - (attempt.box[axis].start if axis in attempt.box else 0), 0),
                labels.sizes[axis] - 1,
            )
            for axis in labels.axes
            if axis in "tz"
        }
        plane = labels.part(place).transposed("yx").array
        top, left = attempt.corner
        moved = Window(
            window.top - top, window.left - left, window.bottom - top, window.right - left,
            window.step,
        ).within(*plane.shape)  # fmt: skip
        part = plane[moved.top : moved.bottom : moved.step, moved.left : moved.right : moved.step]
        few = int(plane.max(initial=0)) <= np.iinfo(np.uint16).max
        there = Window(
            moved.top + top, moved.left + left, moved.bottom + top, moved.right + left, moved.step
        )
        return part.astype(np.uint16 if few else np.uint32), there

    def command(self, number: int, setting: Setting) -> str:
        """Return the ``bmz run`` command that makes the masks of an attempt for all images."""
        attempt = self.attempt_of(number)
        first, *others = self.request.images
        command = command_of(self._networks.request(attempt.choice), first, setting)
        return shlex.join([*shlex.split(command), *map(given_name, others)])

    def save(
        self,
        number: int,
        setting: Setting,
        edits: Sequence[Edit] = (),
        listener: Listener = nobody,
    ) -> RunSummary:
        """Run the model with these settings on all whole images, and write what ``run`` writes.

        Corrections of the image on view are written as well: the label mask into the folder
        ``corrected``, under the same name, and a list of the corrections as JSON.
        """
        with self._saving:  # two at a time would write the same files
            return self._saved(self.attempt_of(number).choice, setting, edits, listener)

    def _saved(
        self, choice: Choice, setting: Setting, edits: Sequence[Edit], listener: Listener
    ) -> RunSummary:
        request = self._networks.request(choice)
        asked = replace(
            request,
            images=self.request.images,
            settings={**request.settings, **setting},
            overwrite=True,
        )
        summary = run(asked, listener)
        image = self.request.images[choice.image]
        for done in summary.done:
            if edits and done.image == image:
                write_corrected(done.files["labels"], edits)
        return summary


def objects_of(result: SettingResult, corner: tuple[int, int]) -> dict[str, list[Any]]:
    """Return the table of objects as lists: heading -> value of each object.

    Parameters
    ----------
    corner : start of the part that was run, (y, x) px of the image
    """
    shifts = {f"centroid_{axis}_px": shift for axis, shift in zip("yx", corner, strict=True)}
    return {
        name: (np.asarray(column) + shifts[name] if name in shifts else np.asarray(column)).tolist()
        for name, column in result.table.items()
    }
