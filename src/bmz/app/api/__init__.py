"""The Python API: load a model, check an image, run it; arrays with named axes in and out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, Unpack

from bmz.app.api.options import (
    ChannelsLike,
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
    """A model that is ready to run; its network is loaded on the first run.

    Created by `load`; a context manager that releases the network at the end. `listener`, which is
    notified of tiles, may be replaced between runs.
    """

    def __init__(self, setup: RunSetup, listener: Listener = nobody) -> None:
        self._setup = setup
        self.listener = listener
        self._backend: Backend | None = None

    @property
    def spec(self) -> ModelSpec:
        """The content of the model description."""
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
        channels: ChannelsLike | None = None,
        inputs: Mapping[str, ImageLike] | None = None,
        pixel_size: PixelSize | None = None,
        scale: float | Literal["auto"] | None = None,
        kind: str | None = None,
    ) -> Report:
        """Check whether an image fits the model: report every finding at once, without running it.

        Parameters
        ----------
        image
            A path; an array whose axes are given in `axes`; or a DataArray with named dims
        axes, channels, inputs, pixel_size, scale, kind
            See `run`

        Raises
        ------
        BmzError
            The image cannot be read, or an option does not fit it.
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
        channels: ChannelsLike | None = None,
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
        """Predict, and make a label mask, entirely in memory.

        Parameters
        ----------
        image
            A path (for one image of a file with several: ``cells.czi[2]``, see `images`); an array
            whose axes are given in `axes`; or a DataArray with named dims (t, c, z, y, x) and the
            pixel size as coordinates in um
        axes
            One letter per axis, from ``tczyx``, slowest first; an array with two axes is ``yx``.
            ``z=12`` takes one plane of a stack, ``z=max`` the maximum projection
        channels
            Image channel for each model channel: its number from 0, or its name in the file or the
            DataArray; -1 for zeros
        inputs
            For a model with several inputs, or one that takes another program's output: input of
            the model -> a path, such as ``"maps/{stem}_prob.tif"``, or an array on the grid of
            `image`; `image` fills the other inputs; ``FILE#1`` takes channel 1 of a file
        pixel_size
            Pixel size in um for y and x, or by axis; overrides that of the image
        scale
            Factor by which the image is resized for the network, undone in the labels; ``"auto"``
            determines it from the pixel sizes or from the size of the objects
        kind
            What the image shows, overriding what its pixels suggest: a modality, optionally
            followed by a comma and a structure, such as ``"phase"`` or ``"em,neurites"``
        clip
            Percentile above which intensities are clipped, 50 to 100
        invert
            Invert the intensities of each channel, so that bright becomes dark
        settings
            Parameters of the label recipe or of declared steps
        link
            Minimum intersection over union, above 0 and at most 1, at which labels of neighbouring
            planes (z), and then of neighbouring frames (t), are joined; or one value per axis, such
            as ``{"z": 0.25}``; None to join nothing
        link_gap
            Number of planes or frames in which a joined object may be missing
        neighbours
            ``"contact"``, or a distance between centroids such as ``"20um"`` or ``"40px"``: the
            table then states how many objects touch each object or are within that distance, and
            which is the nearest
        mask, pair, parent
            A label mask of the same image, from another `Result`, an array or a path. `mask` keeps
            labels only within its objects; `pair` makes one object per object of the mask, with the
            same number, such as a cell for each nucleus; `parent` adds to the table which of them
            contains each object
        prompts
            Prompts for a network that takes them: ``"grid"``; ``"none"`` for the image alone; the
            path of a table, GeoJSON or ImageJ ROIs; columns such as ``{"x": [40], "y": [20]}``; or
            the objects of a label mask, as in `mask`
        force
            Run despite findings of severity error

        Raises
        ------
        DoesNotFit
            There is a finding of severity error.
        BmzError
            The image cannot be read, an option does not fit it, or the network fails.
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
        """Label a Dask array, without ever holding it or its labels in memory as a whole.

        The blocks of the array are computed one after another into a file in `folder`, which is
        removed at the end; the file is run in parts if it would need too much memory.

        Parameters
        ----------
        image
            A Dask array, or a DataArray of one, with named dims and coordinates as in `run`
        folder
            Folder for the labels as OME-Zarr, the table of objects and the run record
        memory_gb
            Memory limit; an image that would need more is run in parts; None for half of the free
            memory
        overwrite
            Whether existing files with these names may be replaced
        options
            Keyword arguments of `run`

        Returns
        -------
        DataArray
            dims from ``tzyx``, a Dask array; ``attrs`` as in `Result.labels`

        Raises
        ------
        NotLazy
            The array is in memory.
        BmzError
            See `run`; or files with these names already exist.
        """
        from bmz.app.api.lazy import labelled_lazily  # here: it takes what bmz run takes

        request = replace(
            self._setup.request, folder=Path(folder), memory_gb=memory_gb, overwrite=overwrite
        )
        return labelled_lazily(request, image, ImageOptions(**options), self.listener)

    def run_each(
        self, path: str | Path, *, series: str = ALL, **options: Unpack[RunOptions]
    ) -> Iterator[Result]:
        """Run every image of a file or plate, one after another, as the results are consumed.

        While you look at a result, the next image is already checked and run, and is being
        labelled, and the image after that is being read.

        Parameters
        ----------
        path
            A file with one or several images, an OME-Zarr plate, or an address
        series
            The name or number of an image, a range such as ``"2-5"``, or ``"all"``
        options
            Keyword arguments of `run`, for all of them

        Yields
        ------
        Result
            `Result.series` identifies the image; use `images` to list the paths for a loop that
            continues after a failure

        Raises
        ------
        BmzError
            See `run`; or there is no such image.
        """
        return self._each(images(path, series=series), ImageOptions(**options))

    def close(self) -> None:
        """Release the network; the next run loads it again."""
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
        """Return further images in the order of the inputs."""
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
    """Find a model, download what is missing, and decide how to run it.

    Parameters
    ----------
    model
        The name of a model in the zoo, a DOI, an address, ``starter/NAME``, or the path of a
        package
    weights
        A weights format, such as ``"onnx"``; None for the first that runs here
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``
    precision
        ``"float32"``, ``"bfloat16"`` or ``"float16"``; ``"auto"`` chooses the fastest that gives
        the same labels
    backend
        What runs the network: ``"native"`` for the framework of the weights, or ``"openvino"``;
        ``"auto"`` chooses the fastest on this computer
    recipe
        The label recipe; ``"none"`` for the raw output only; None to choose by evidence
    settings
        Parameters of the recipe or of declared steps, for every image
    tile, batch
        Largest side of a tile (px), and number of tiles at once; None to suit the device
    trust
        Whether the model's own code may run, in a sandbox; ``"unconfined"``: with all your
        permissions
    listener
        Notified of downloads and tiles

    Raises
    ------
    BmzError
        The model does not exist, is invalid or not trusted, or nothing here runs its weights; the
        subclass and ``error.code`` say which, and ``error.hint`` gives the next step.

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
