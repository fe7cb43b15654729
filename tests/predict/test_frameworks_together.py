"""One process may hold PyTorch, TensorFlow and onnxruntime, imported in any order."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.installed import skip_without

torch: Any = pytest.importorskip("torch")
onnx: Any = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
skip_without("tensorflow")

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from bmz.predict.backend import LoadRequest
from bmz.predict.formats import open_backend

folder = Path(sys.argv[1])
files = {"onnx": "w.onnx", "torchscript": "w.pt", "tensorflow_saved_model_bundle": "bundle",
         "keras_hdf5": "w.h5"}
x = np.load(folder / "x.npy")
opened = []
for name in sys.argv[2:]:
    weights = LoadRequest(folder / files[name], ("raw",), ("map",), threads=1)
    opened.append(open_backend(name, weights))
    for backend in opened:  # the earlier ones still compute once a later one is there
        channels_last = backend.name.startswith(("tensorflow", "keras"))
        (found,) = backend.run([x.transpose(0, 2, 3, 1) if channels_last else x])
        found = found.transpose(0, 3, 1, 2) if channels_last else found
        assert np.abs(found - np.load(folder / "y.npy")).max() < 1e-4, backend.name
"""
ORDERS = [
    ("onnx", "torchscript", "tensorflow_saved_model_bundle"),
    ("torchscript", "tensorflow_saved_model_bundle", "onnx"),
    ("tensorflow_saved_model_bundle", "onnx", "torchscript"),
    ("keras_hdf5", "torchscript", "onnx", "tensorflow_saved_model_bundle"),
]
"""Each is first once and last once."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save one convolution for each framework, with an input and its output."""
    from bmz.predict import keras as backend_of_keras
    from bmz.predict.tensorflow import import_tensorflow

    folder, rng = tmp_path_factory.mktemp("together"), np.random.default_rng(0)
    kernel, x = rng.random((4, 1, 3, 3), np.float32), rng.random((1, 1, 64, 64), np.float32)
    network = torch.nn.Conv2d(1, 4, 3, padding=1, bias=False)
    network.weight.data = torch.from_numpy(kernel)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit
        torch.jit.script(network).save(str(folder / "w.pt"))
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", network(torch.from_numpy(x)).detach().numpy())
    _save_onnx(folder / "w.onnx", kernel)

    tf, last = import_tensorflow(), kernel.transpose(2, 3, 1, 0)
    call = tf.function(lambda raw: {"map": tf.nn.conv2d(raw, last, 1, "SAME")}, autograph=False)
    concrete = call.get_concrete_function(raw=tf.TensorSpec((None, None, None, 1), tf.float32))
    tf.saved_model.save(tf.Module(), str(folder / "bundle"), signatures=concrete)

    keras = backend_of_keras._keras()
    layer = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)
    model = keras.Sequential([keras.Input((None, None, 1)), layer])
    layer.set_weights([last])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"__array__ implementation doesn't accept a copy")
        model.save(folder / "w.h5")
    return folder


def _save_onnx(path: Path, kernel: np.ndarray[Any, Any]) -> None:
    free = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["b", None, "y", "x"])
        for name in ("raw", "map")
    ]
    node = onnx.helper.make_node("Conv", ["raw", "kernel"], ["map"], pads=[1, 1, 1, 1])
    weights = [onnx.numpy_helper.from_array(kernel, "kernel")]
    graph = onnx.helper.make_graph([node], "blur", free[:1], free[1:], weights)
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "-".join(name[:5] for name in order))
def test_each_computes_the_same_beside_the_others(folder: Path, order: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(folder), *order],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
