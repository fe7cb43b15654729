"""Write the trained network as ONNX and as TorchScript, without the paths of this machine."""

import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from network import NucleiNet
from pictures import Image

OPSET = 17
LARGEST_DIFFERENCE = 1e-4
OTHER_SHAPES = ((2, 1, 272, 320), (1, 1, 48, 16))
DYNAMIC = {"input": {0: "b", 2: "y", 3: "x"}, "output": {0: "b", 2: "y_half", 3: "x_half"}}


class FormatsDisagreeError(Exception):
    """A weight file gives other numbers than the network."""


def write_onnx(network: NucleiNet, path: Path, example: torch.Tensor) -> None:
    """Write one ONNX file with free batch, height and width."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (example,),
            path,
            # The newer exporter writes file names of this machine into the file.
            dynamo=False,
            opset_version=OPSET,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes=DYNAMIC,
        )


def write_torchscript(network: NucleiNet, path: Path, example: torch.Tensor) -> None:
    """Write a traced and frozen TorchScript file."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.freeze(torch.jit.trace(network, example))
        torch.jit.save(without_source_names(traced), path)


def without_source_names(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Leave out the debug tables, which name the source files of the machine that traced it."""
    full, short = io.BytesIO(), io.BytesIO()
    torch.jit.save(module, full)
    with zipfile.ZipFile(full) as source, zipfile.ZipFile(short, "w") as kept:
        for entry in source.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                kept.writestr(entry.filename, source.read(entry))
    short.seek(0)
    return torch.jit.load(short)


def onnx_output(path: Path, x: Image) -> Image:
    """Give the output of the ONNX file."""
    return onnxruntime.InferenceSession(path).run(None, {"input": x})[0]


@torch.no_grad()
def torchscript_output(path: Path, x: Image) -> Image:
    """Give the output of the TorchScript file."""
    return torch.jit.load(path).eval()(torch.from_numpy(x)).numpy()


@torch.no_grad()
def largest_difference(network: NucleiNet, onnx: Path, torchscript: Path, x: Image) -> float:
    """Give the largest difference of both files from the network, on `x` and at other sizes.

    Raises
    ------
    FormatsDisagreeError
        The difference is above 1e-4.
    """
    rng = np.random.default_rng(0)
    inputs = [x, *(rng.random(shape, np.float32) for shape in OTHER_SHAPES)]
    wanted = [network(torch.from_numpy(x)).numpy() for x in inputs]
    pairs = [
        (read(file, x), w)
        for file, read in ((onnx, onnx_output), (torchscript, torchscript_output))
        for x, w in zip(inputs, wanted, strict=True)
    ]
    difference = max(float(np.abs(got - w).max()) for got, w in pairs)
    if difference > LARGEST_DIFFERENCE:
        raise FormatsDisagreeError(f"difference {difference:.2e}, allowed {LARGEST_DIFFERENCE:.0e}")
    return difference
