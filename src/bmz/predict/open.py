"""Open weights: the one way from a file to a backend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bmz.predict.backend import CPU, Backend, Device, Weights
from bmz.predict.formats import runnable


def open_backend(
    weights_format: str,
    path: Path,
    *,
    input_ids: Sequence[str],
    output_ids: Sequence[str],
    device: Device = CPU,
    threads: int | None = None,
) -> Backend:
    """Load the weights at `path` into the framework of their format.

    Parameters
    ----------
    weights_format : as in model descriptions, such as ``onnx``
    path : the file of weights
    input_ids, output_ids : the tensors of the description, in its order
    device : from `resolve_device`
    threads : on a CPU, how many at most; None for as many as the process may use

    Raises
    ------
    NoBackend
        The framework is absent; the hint is the line that installs it.
    WeightsUnreadable
        The file is absent, corrupt or not of the format.
    TensorCountDiffers
        The network has other inputs, or fewer outputs, than the description.
    """
    weights = Weights(path, tuple(input_ids), tuple(output_ids), device, threads)
    return runnable(weights_format).open(weights)
