"""Open weights: the one way from a file to a backend."""

from __future__ import annotations

from bmz.predict.backend import Backend, Weights
from bmz.predict.core import CORE, open_core
from bmz.predict.formats import runnable


def open_backend(weights_format: str, weights: Weights) -> Backend:
    """Load weights into the framework of their format.

    Parameters
    ----------
    weights_format : as in model descriptions, such as ``onnx``; or `CORE`, which runs the whole
        pipeline of a model
    weights : the file, and what the description says of it

    Raises
    ------
    NoBackend
        The framework is absent; the hint is the line that installs it.
    WeightsUnreadable
        The file is absent, corrupt or not of the format.
    TensorCountDiffers
        The network has other inputs, or fewer outputs, than the description.
    """
    if weights_format == CORE:
        return open_core(weights)
    return runnable(weights_format).open(weights)
