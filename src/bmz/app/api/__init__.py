"""The Python API: load a model, check an image, run it; arrays with named axes in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from bmz.app.api.options import ImageLike, ImageOptions, PixelSize, Setting, WordRefused, given
from bmz.app.api.result import Report, Result
from bmz.app.show import show_model
from bmz.base.link import Link
from bmz.base.progress import Listener, nobody
from bmz.check.fit import check_image
from bmz.engine.image_header import check_image_header
from bmz.engine.labelling import decide_labelling
from bmz.engine.memory_probe import with_fitting_tiles
from bmz.engine.request import PrecisionWord, RunRequest
from bmz.engine.run_image import image_result, whole_run
from bmz.engine.setup import (
    RunSetup,
    look_at,
    opened,
    planned_image,
    prepare,
    refuse_nothing_to_join,
)
from bmz.predict.backend import Backend
from bmz.report.html import model_html
from bmz.spec.model import ModelSpec
from bmz.write.outputs import default_kinds, saved_kinds


class Model:
    """A model that is found, described and ready; its network is loaded when it is first run.

    Made by `load`; a context manager that lets go of the network when it ends.
    """

    def __init__(self, setup: RunSetup, listener: Listener = nobody) -> None:
        self._job = setup
        self._listener = listener
        self._backend: Backend | None = None

    @property
    def spec(self) -> ModelSpec:
        """What its description says."""
        return self._job.model

    def __repr__(self) -> str:
        decided = self._job.decided
        return f"<bmz.Model {self.spec.id}: {decided.weights.format} on {decided.device}>"

    def _repr_html_(self) -> str:
        return model_html(show_model(self._job.request.model))

    def check(
        self,
        image: ImageLike,
        *,
        axes: str | None = None,
        channels: Sequence[int] | None = None,
        pixel_size: PixelSize | None = None,
        scale: float | Literal["auto"] | None = None,
        kind: str | None = None,
    ) -> Report:
        """Say whether an image fits the model: every finding at once, nothing is run.

        Parameters
        ----------
        image
            A path; an array with its axes in `axes`; or a DataArray whose dims are named
        axes, channels, pixel_size, scale, kind
            See `run`

        Raises
        ------
        BmzError
            The image cannot be read, or a word does not suit it.
        """
        setup = self._with(ImageOptions(axes, channels, pixel_size, scale, kind))
        there = given(image, axes)
        header = check_image_header(
            setup.model, there.info, setup.request, setup.sample, there.sample
        )
        return Report(check_image(header, there.sample).findings)

    def run(  # noqa: PLR0913  (each is a keyword with a default)
        self,
        image: ImageLike,
        *,
        axes: str | None = None,
        channels: Sequence[int] | None = None,
        pixel_size: PixelSize | None = None,
        scale: float | Literal["auto"] | None = None,
        kind: str | None = None,
        clip: float | None = None,
        settings: Mapping[str, Setting] | None = None,
        link: float | str | Mapping[str, float] | None = None,
        link_gap: Literal[0, 1] = 0,
        force: bool = False,
    ) -> Result:
        """Predict, and make a label mask; everything stays in memory.

        Parameters
        ----------
        image
            A path; an array with its axes in `axes`; or a DataArray whose dims are named
            (t, c, z, y, x), with the pixel size as coordinates in um
        axes
            One letter an axis of ``tczyx``, slowest first; an array of two axes is ``yx``
        channels
            Image channel for each channel of the model, from 0; -1 for zeros
        pixel_size
            Um for y and x, or um by axis, over what the image says
        scale
            Resize factor before the network, undone in the labels; ``"auto"`` finds it by
            pixel sizes or by the size of the objects
        kind
            What the image is, over what its pixels tell: a modality, and after a comma a
            structure, such as ``"phase"`` or ``"em,neurites"``
        clip
            Percentile above which intensities are cut, 50 to 100
        settings
            Parameters of the label recipe or of declared steps
        link
            Least intersection over union, above 0 and up to 1, from which labels of neighbouring
            planes (z), and then of neighbouring frames (t), are joined; or one by axis, such as
            ``{"z": 0.25}``; None to join nothing
        link_gap
            Planes or frames that a joined object may be missing in
        force
            Run despite findings of severity error

        Raises
        ------
        DoesNotFit
            There is a finding of severity error.
        BmzError
            The image cannot be read, a word does not suit, or the network fails.
        """
        words = ImageOptions(axes, channels, pixel_size, scale, kind, link, link_gap)
        setup = self._with(words, clip, settings, force=force)
        there = given(image, axes)
        header = check_image_header(
            setup.model, there.info, setup.request, setup.sample, there.sample
        )
        planned = planned_image(setup, there.info.path, header)
        looked = look_at(setup, planned, there.read)
        planned = replace(planned, looked=lambda: looked)
        backend = self._opened()
        planned = with_fitting_tiles(setup, planned, backend)
        opened = whole_run(
            setup, planned, backend, self._listener, keeps_raw=True, image_sha256=there.sha256
        )
        with opened as run:
            result = image_result(setup, planned, run, self._listener)
        return Result(Report(result.findings), result, setup)

    def close(self) -> None:
        """Let go of the network; the next run loads it again."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        why: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _opened(self) -> Backend:
        if self._backend is None:
            self._backend = opened(self._job)
        return self._backend

    def _with(
        self,
        words: ImageOptions,
        clip: float | None = None,
        settings: Mapping[str, Setting] | None = None,
        *,
        force: bool = False,
    ) -> RunSetup:
        """Give the job with what a call says."""
        if clip is not None and not 50 <= clip <= 100:  # noqa: PLR2004  (as --clip)
            raise WordRefused("clip", clip, "a percentile of 50 to 100, such as 99.99")
        setup = self._job
        told = {key: str(value) for key, value in (settings or {}).items()}
        request = replace(
            words.put_into(setup.request),
            clip=clip,
            settings={**setup.request.settings, **told},
            force=force,
        )
        labelling = setup.labelling
        if told:
            labelling = decide_labelling(
                setup.model, recipe=request.recipe, settings=request.settings
            )
        refuse_nothing_to_join(request, labelling)
        decided = replace(
            setup.decided,
            clip=clip,
            recipe=labelling.choice,
            parameters=labelling.told,
            link=Link(request.link, request.link_gap),
        )
        return replace(setup, request=request, labelling=labelling, decided=decided)


def load(  # noqa: PLR0913  (each is a keyword with a default)
    model: str | Path,
    *,
    weights: str | None = None,
    device: str = "auto",
    precision: PrecisionWord = "auto",
    recipe: str | None = None,
    settings: Mapping[str, Setting] | None = None,
    tile: int | None = None,
    batch: int | None = None,
    trust: bool | Literal["unconfined"] = False,
    listener: Listener = nobody,
) -> Model:
    """Find a model, download what is missing, and decide how it is run.

    Parameters
    ----------
    model
        A name of the zoo, a DOI, an address, ``starter/NAME``, or the path of a package
    weights
        A weights format, such as ``"onnx"``; None for the first that runs here
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``
    precision
        ``"float32"``, ``"bfloat16"``, ``"float16"``; ``"auto"``: on a GPU the fastest that
        gives the same labels
    recipe
        Of the labels; ``"none"`` for the raw output alone; None by evidence
    settings
        Parameters of the recipe or of declared steps, for every image
    tile, batch
        Largest side of a tile (px), and tiles at once; None for what suits the device
    trust
        The model's own code may run, shut in; ``"unconfined"``: with all your rights
    listener
        Is told of downloads and tiles

    Raises
    ------
    BmzError
        The model is not there, is invalid or not trusted, or nothing here runs its weights; the
        subclass and ``error.code`` say which, ``error.hint`` the next step.

    Examples
    --------
    >>> import bmz
    >>> model = bmz.load("starter/nuclei")
    >>> model.spec.space
    'yx'
    """
    request = RunRequest(
        model=str(model),
        images=(),
        folder=Path(),
        device=device,
        weights=weights,
        recipe=recipe,
        settings={key: str(value) for key, value in (settings or {}).items()},
        tile=tile,
        batch=batch,
        precision=precision,
        save=frozenset(saved_kinds() if recipe == "none" else default_kinds()),
        trust="no" if trust is False else "unconfined" if trust == "unconfined" else "confined",
    )
    return Model(prepare(request, listener), listener)
