"""The Python API: load a model, check an image, run it; arrays with named axes in and out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, Unpack

from bmz.app.api.options import (
    ImageOptions,
    MaskLike,
    PixelSize,
    PromptsLike,
    RunOptions,
    Setting,
    images,
)
from bmz.app.api.result import Report, Result
from bmz.app.show import show_model
from bmz.base.axes import ChannelKey
from bmz.base.progress import Listener, nobody
from bmz.engine.further_images import refuse_unknown_inputs
from bmz.engine.image_header import ImageLike, check_given_image, given_image, given_masks
from bmz.engine.prompting import given_prompts
from bmz.engine.request import PrecisionOption, RunRequest, kinds_by_default
from bmz.engine.run_image import run_given_image
from bmz.engine.run_images import output_kinds, run_in_memory
from bmz.engine.setup import RunSetup, opened, prepare, with_options
from bmz.image.series import ALL
from bmz.predict.backend import Backend
from bmz.report.html import model_html
from bmz.spec.model import ModelSpec

if TYPE_CHECKING:
    import xarray as xr

    from bmz.app.api.lazy import LazyImage


class Model:
    """A model that is found, described and ready; its network is loaded when it is first run.

    Made by `load`; a context manager that lets go of the network when it ends. `listener`, which
    is told of tiles, may be replaced between two runs.
    """

    def __init__(self, setup: RunSetup, listener: Listener = nobody) -> None:
        self._setup = setup
        self.listener = listener
        self._backend: Backend | None = None

    @property
    def spec(self) -> ModelSpec:
        """What its description says."""
        return self._setup.model

    def __repr__(self) -> str:
        decided = self._setup.decided
        return f"<bmz.Model {self.spec.id}: {decided.weights.format} on {decided.device}>"

    def _repr_html_(self) -> str:
        return model_html(show_model(self._setup.request.model))

    def check(  # noqa: PLR0913  (each is a keyword with a default)
        self,
        image: ImageLike,
        *,
        axes: str | None = None,
        channels: Sequence[ChannelKey] | None = None,
        inputs: Mapping[str, ImageLike] | None = None,
        pixel_size: PixelSize | None = None,
        scale: float | Literal["auto"] | None = None,
        kind: str | None = None,
    ) -> Report:
        """Say whether an image fits the model: every finding at once, nothing is run.

        Parameters
        ----------
        image
            A path; an array with its axes in `axes`; or a DataArray whose dims are named
        axes, channels, inputs, pixel_size, scale, kind
            See `run`

        Raises
        ------
        BmzError
            The image cannot be read, or an option does not suit it.
        """
        options = ImageOptions(axes, channels, pixel_size, scale, kind, inputs=inputs)
        request = options.put_into(self._setup.request)
        refuse_unknown_inputs(self._setup.model, request.inputs)
        given = given_image(image, axes, self._ordered(inputs))
        report = check_given_image(self._setup.model, given, request, self._setup.sample)
        return Report(report.findings, report.kind)

    def run(  # noqa: PLR0913  (each is a keyword with a default)
        self,
        image: ImageLike,
        *,
        axes: str | None = None,
        channels: Sequence[ChannelKey] | None = None,
        inputs: Mapping[str, ImageLike] | None = None,
        pixel_size: PixelSize | None = None,
        scale: float | Literal["auto"] | None = None,
        kind: str | None = None,
        clip: float | None = None,
        invert: bool = False,
        settings: Mapping[str, Setting] | None = None,
        link: float | str | Mapping[str, float] | None = None,
        link_gap: Literal[0, 1] = 0,
        neighbours: str | None = None,
        mask: MaskLike | None = None,
        pair: MaskLike | None = None,
        parent: MaskLike | None = None,
        prompts: PromptsLike | None = None,
        force: bool = False,
    ) -> Result:
        """Predict, and make a label mask; everything stays in memory.

        Parameters
        ----------
        image
            A path, of a file that holds several images that of one of them (``cells.czi[2]``, see
            `images`); an array with its axes in `axes`; or a DataArray whose dims are named
            (t, c, z, y, x), with the pixel size as coordinates in um
        axes
            One letter for each axis, of ``tczyx``, slowest first; an array of two axes is ``yx``.
            ``z=12`` takes one plane of a stack, ``z=max`` the largest value of all
        channels
            Image channel for each channel of the model, its number from 0 or the name that the file
            or the DataArray gives it; -1 for zeros
        inputs
            For a model of several images, or one that takes another program's output: input of the
            model -> a path, ``"maps/{stem}_prob.tif"``, or an array, on the grid of `image`, which
            fills the inputs that are not named; ``FILE#1`` takes channel 1 of a file
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
        invert
            Turn the intensities of each channel round, so that bright becomes dark
        settings
            Parameters of the label recipe or of declared steps
        link
            Least intersection over union, above 0 and up to 1, from which labels of neighbouring
            planes (z), and then of neighbouring frames (t), are joined; or one by axis, such as
            ``{"z": 0.25}``; None to join nothing
        link_gap
            Planes or frames that a joined object may be missing in
        neighbours
            ``"contact"``, or a distance between centroids such as ``"20um"`` or ``"40px"``: the
            table tells how many objects touch each one or lie within it, and which is the nearest
        mask, pair, parent
            A label mask of the same image, that of another `Result`, an array or a path: labels are
            kept only within its objects; each of them has one object with its number, such as a
            cell for a nucleus; the table tells in which of them each object lies
        prompts
            What a network with prompts is asked for: ``"grid"``, ``"none"`` for the image alone,
            the path of a table, of GeoJSON or of ImageJ ROIs; columns such as ``{"x": [40],
            "y": [20]}``; or the objects of a label mask as in `mask`
        force
            Run despite findings of severity error

        Raises
        ------
        DoesNotFit
            There is a finding of severity error.
        BmzError
            The image cannot be read, an option does not suit it, or the network fails.
        """
        options = ImageOptions(
            axes, channels, pixel_size, scale, kind, link, link_gap, clip, invert, settings, force,
            inputs, mask, pair, parent, prompts, neighbours,
        )  # fmt: skip
        setup = with_options(self._setup, options.put_into(self._setup.request))
        given = given_image(image, axes, self._ordered(inputs))
        alone = given.info.images[0]
        masks = given_masks(options.masks(), alone)
        asked = given_prompts(options.asked, alone, setup.request.pixel_um)
        given = replace(given, masks=masks, prompts=asked)
        result = run_given_image(setup, given, self._opened, self.listener)
        return Result(Report(result.findings), result, output_kinds(setup))

    def run_lazily(
        self,
        image: LazyImage,
        folder: str | Path,
        *,
        memory_gb: float | None = None,
        overwrite: bool = False,
        **options: Unpack[RunOptions],
    ) -> xr.DataArray:
        """Label an array of Dask, which is never whole in memory; neither are its labels.

        The blocks of the array are computed one after the other into a file in `folder`, which is
        removed at the end; the file is run in parts where it would need too much memory.

        Parameters
        ----------
        image
            An array of Dask, or a DataArray that holds one, with named dims and coordinates as in
            `run`
        folder
            Gets the labels as OME-Zarr, the table of objects and the run record
        memory_gb
            An image that would need more is run in parts; None for half of what is free
        overwrite
            Files of these names may be replaced
        options
            Keywords of `run`

        Returns
        -------
        DataArray
            dims of ``tzyx``, an array of Dask; ``attrs`` as of `Result.labels`

        Raises
        ------
        NotLazy
            The array is in memory.
        BmzError
            See `run`; or files of these names are there.
        """
        from bmz.app.api.lazy import labelled_lazily  # here: it takes what bmz run takes

        request = replace(
            self._setup.request, folder=Path(folder), memory_gb=memory_gb, overwrite=overwrite
        )
        return labelled_lazily(request, image, ImageOptions(**options), self.listener)

    def run_each(
        self, path: str | Path, *, series: str = ALL, **options: Unpack[RunOptions]
    ) -> Iterator[Result]:
        """Run every image of a file or plate, one after the other, as they are asked for.

        While you look at a result, the next image has been checked and run already, and is being
        labelled; the one behind it is being read.

        Parameters
        ----------
        path
            A file that holds one image or several, a plate in OME-Zarr, or an address
        series
            The name or number of an image, two numbers such as ``"2-5"``, or ``"all"``
        options
            Keywords of `run`, for all of them

        Yields
        ------
        Result
            `Result.series` says which one it is; `images` lists the paths, for a loop that goes on
            where one of them fails

        Raises
        ------
        BmzError
            See `run`; or there is no such image.
        """
        return self._each(images(path, series=series), ImageOptions(**options))

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

    def _each(self, paths: Sequence[Path], options: ImageOptions) -> Iterator[Result]:
        setup = with_options(self._setup, options.put_into(self._setup.request))
        kinds = output_kinds(setup)
        for result in run_in_memory(setup, paths, self._opened, self.listener):
            yield Result(Report(result.findings), result, kinds)

    def _ordered(self, inputs: Mapping[str, ImageLike] | None) -> dict[str, ImageLike]:
        """Give further images in the order of the inputs."""
        known = [tensor.id for tensor in self._setup.model.inputs]
        return {name: inputs[name] for name in known if name in inputs} if inputs else {}

    def _opened(self) -> Backend:
        if self._backend is None:
            self._backend = opened(self._setup)
        return self._backend


def load(  # noqa: PLR0913  (each is a keyword with a default)
    model: str | Path,
    *,
    weights: str | None = None,
    device: str = "auto",
    precision: PrecisionOption = "auto",
    backend: str = "auto",
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
        ``"float32"``, ``"bfloat16"``, ``"float16"``; ``"auto"``: the fastest that gives the
        same labels
    backend
        What runs the network: ``"native"`` for the framework of the weights, ``"openvino"``;
        ``"auto"``: the fastest on this computer
    recipe
        Of the labels; ``"none"`` for the raw output alone; None by evidence
    settings
        Parameters of the recipe or of declared steps, for every image
    tile, batch
        Largest side of a tile (px), and tiles at once; None for what suits the device
    trust
        The model's own code may run, sandboxed; ``"unconfined"``: with all your rights
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
        backend=backend,
        save=kinds_by_default(recipe),
        trust="no" if trust is False else "unconfined" if trust == "unconfined" else "confined",
    )
    return Model(prepare(request, listener), listener)
