"""The zoo's reference runtime as a backend; the only module that imports bioimageio.core.

It takes inputs before the declared preprocessing and returns outputs after the declared
postprocessing, followed by masks of the pixels for which the network returned no finite number,
which a step may hide. It changes global settings, so it is opened in a process of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.predict.backend import (
    Device,
    LoadRequest,
    NetworkFailed,
    NoBackend,
    WeightsUnreadable,
    checked_count,
    shapes_of,
)
from bmz.predict.onnx_files import refuse_outside
from bmz.zoo.archive import damage_told, opened_zip

if TYPE_CHECKING:
    from bioimageio.core import PredictionPipeline
    from bioimageio.spec.model.v0_5 import ModelDescr
    from xarray import DataArray

CORE = "bioimageio.core"
"""Name under which ``bmz.predict.formats.open_backend`` opens this runtime."""

INSTALL = "pip install 'bmz[reference]'"


def open_core(weights: LoadRequest) -> CoreBackend:
    """Load a model with bioimageio.core.

    Parameters
    ----------
    weights : with the manifest and the weights format to run; core never chooses the format
        itself, since it would prefer the one that runs code

    Raises
    ------
    NoBackend
        bioimageio.core is absent, or cannot run the format.
    WeightsUnreadable
        It does not load the model.
    ArchiveRefused
        Programs would read different content from a TorchScript file.
    """
    try:
        from bioimageio.core import create_prediction_pipeline
        from bioimageio.spec import load_model_description
    except ImportError as why:
        raise NoBackend(CORE, f"it cannot be imported ({why})", INSTALL) from why
    if weights.manifest is None:
        raise ValueError("bioimageio.core needs a manifest, and none was given")
    weights_format: Any = weights.weights_format
    _be_quiet()
    _refuse_others_reading(weights)
    devices = ["CPUExecutionProvider"] if weights_format == "onnx" else ["cpu"]
    try:
        # format 0.5 for every model: one kind of axes
        description = load_model_description(
            weights.manifest, perform_io_checks=False, format_version="latest"
        )
        pipeline = create_prediction_pipeline(
            description, weights_format=weights_format, devices=devices
        )
    except Exception as why:  # its errors share no other base
        raise WeightsUnreadable(weights.path, CORE, _last_line(why)) from why
    return CoreBackend(pipeline, description, weights)


def _refuse_others_reading(weights: LoadRequest) -> None:
    """Raise an error if core, which reads the file itself, could read what was not checked."""
    if weights.weights_format == "onnx":
        refuse_outside(weights.path)
    if weights.weights_format == "torchscript":
        try:
            with damage_told(), opened_zip(weights.path):
                pass
        except (OSError, BadZipFile) as why:
            raise WeightsUnreadable(weights.path, CORE, str(why)) from why


def _be_quiet() -> None:
    import warnings

    from loguru import logger

    logger.remove()
    warnings.simplefilter("ignore")


class CoreBackend:
    """One pipeline of bioimageio.core; see ``bmz.predict.backend.Backend``.

    Parameters
    ----------
    pipeline : a ``PredictionPipeline``
    description : a ``ModelDescr`` of format 0.5
    weights : the request that it was opened with
    """

    def __init__(
        self, pipeline: PredictionPipeline, description: ModelDescr, weights: LoadRequest
    ) -> None:
        from importlib.metadata import version

        self.name = f"bioimageio.core {version('bioimageio.core')} ({weights.weights_format})"
        self.device: Device = weights.device
        self._pipeline: PredictionPipeline | None = pipeline
        self._ids = weights.output_ids
        self._dims = {
            str(tensor.id): tuple(str(axis.id) for axis in tensor.axes)
            for tensor in description.inputs
            if str(tensor.id) in weights.input_ids
        }
        self._output_dims = {
            str(tensor.id): tuple(str(axis.id) for axis in tensor.axes)
            for tensor in description.outputs
        }
        self._inputs = weights.input_ids

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Predict one sample, including the declared preprocessing and postprocessing.

        Returns
        -------
        list
            The outputs, then one float16 array of the same shape per output. It is NaN where any
            channel of the network's output is NaN or infinite before the declared postprocessing,
            and 0 elsewhere.
        """
        from bioimageio.core import Sample, Tensor
        from xarray import DataArray

        checked_count("inputs", expected=len(self._inputs), actual=len(inputs))
        if self._pipeline is None:
            raise NetworkFailed(self.name, shapes_of(inputs), "the backend is closed")
        members: dict[Any, Tensor] = {
            name: Tensor.from_xarray(DataArray(array.copy(), dims=self._dims[name]))
            for name, array in zip(self._inputs, inputs, strict=True)
        }
        try:
            sample = Sample(members=members, stat={}, id="sample")
            # as core's own tests do: the caller decides about padding
            predicted: Any = self._pipeline.predict_sample_without_blocking(
                sample,
                skip_postprocessing=True,
                skip_input_padding=True,
                skip_output_cropping=True,
            )
            odd = [_nonfinite(predicted.members[name].data) for name in self._ids]
            self._pipeline.apply_postprocessing(predicted)
            outputs = [self._laid_out(name, predicted.members[name].data) for name in self._ids]
            masks = [
                _as_nan(pixels, self._output_dims[name], array.shape)
                for name, pixels, array in zip(self._ids, odd, outputs, strict=True)
            ]
        except Exception as why:  # its errors share no other base
            raise NetworkFailed(self.name, shapes_of(inputs), _last_line(why)) from why
        return [np.ascontiguousarray(array) for array in (*outputs, *masks)]

    def _laid_out(self, name: str, array: DataArray) -> AnyArray:
        """Return the array with its axes in declared order, which some steps of core change."""
        declared = self._output_dims[name]
        same = set(declared) == set(array.dims)
        laid: AnyArray = (array.transpose(*declared) if same else array).to_numpy()
        return laid

    def close(self) -> None:
        """Release the pipeline."""
        self._pipeline = None


_CHANNEL = "channel"


def _nonfinite(array: DataArray) -> DataArray:
    """Return a mask of the pixels that have a channel that is NaN or infinite."""
    odd = array.copy(data=~np.isfinite(array.to_numpy()))
    return odd.any(_CHANNEL) if _CHANNEL in odd.dims else odd


def _as_nan(pixels: DataArray, dims: Sequence[str], shape: Sequence[int]) -> AnyArray:
    """Return an array of the shape of the final output: NaN where `pixels` is set, 0 elsewhere.

    Parameters
    ----------
    pixels : mask returned by `_nonfinite`
    dims, shape : axes and shape of the final output, whose grid a step may have made finer
    """
    grid = dict(zip(dims, shape, strict=True))
    for axis in set(map(str, pixels.dims)) & set(grid):
        nearest = np.arange(grid[axis]) * pixels.sizes[axis] // grid[axis]
        pixels = pixels.isel({axis: nearest})
    laid = pixels.expand_dims([axis for axis in dims if axis not in pixels.dims]).transpose(*dims)
    return np.broadcast_to(np.where(laid, np.nan, 0).astype(np.float16), tuple(shape))


def _last_line(why: Exception) -> str:
    return str(why).strip().rpartition("\n")[2] or type(why).__name__
