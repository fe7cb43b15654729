"""Networks in the files of Keras: of version 2 and 3, on TensorFlow and PyTorch, without code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.installed import skip_without

from bmz.base.arrays import AnyArray
from bmz.predict import keras as backend_of_keras
from bmz.predict.backend import (
    CPU,
    Backend,
    DtypeLossy,
    LoadRequest,
    NetworkFailed,
    NoBackend,
    OutOfMemory,
    PrecisionUnsupported,
    TensorCountDiffers,
    WeightsUnreadable,
)
from bmz.predict.formats import open_backend
from bmz.predict.graph_code import ConfigRefused, NoArchitecture
from bmz.predict.keras import KerasBackend, keras_devices
from bmz.testing.backend import BackendContract

skip_without("keras")
h5py: Any = pytest.importorskip("h5py")

Names = tuple[str, ...]
Config = dict[str, Any]


@pytest.fixture(scope="module")
def keras() -> Any:
    return backend_of_keras._keras()


def format_of(path: Path) -> str:
    return "keras_v3" if path.suffix == ".keras" else "keras_hdf5"


def opened(path: Path, outputs: Names = ("map",), inputs: Names = ("raw",), **more: Any) -> Backend:
    return open_backend(format_of(path), LoadRequest(path, inputs, outputs, **more))


def saved(network: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        # Keras turns its variables into arrays in a way that NumPy 2 still allows
        warnings.filterwarnings("ignore", r"__array__ implementation doesn't accept a copy")
        alone = path.name.endswith(".weights.h5")
        network.save_weights(path) if alone else network.save(path)
    return path


def unet(keras: Any) -> Any:
    """Build each of the convolutions whose words Keras 3 changed, and a random layer."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    raw = keras.Input((None, None, 1), name="raw")
    fine = layers.Conv2D(3, 3, padding="same", activation="relu")(raw)
    coarse = layers.MaxPooling2D()(fine)
    coarse = layers.DepthwiseConv2D(3, padding="same")(coarse)
    coarse = layers.Dropout(0.5)(layers.BatchNormalization()(coarse))
    back = layers.Conv2DTranspose(3, 2, strides=2)(coarse)
    joined = layers.Concatenate()([layers.SeparableConv2D(3, 3, padding="same")(back), fine])
    return keras.Model(raw, layers.Conv2D(2, 1, activation="sigmoid", name="map")(joined))


def as_keras_2(path: Path, change: Callable[[Config], None] = lambda _: None) -> Path:
    """Word the configuration of a file as Keras 2 did: classes by name alone, more arguments."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            _word(layer)
        change(config)
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.15.0"
    return path


def _word(layer: Config) -> None:
    for key in ("module", "registered_name", "build_config"):
        layer.pop(key, None)
    config, name = layer["config"], layer["class_name"]
    if isinstance(config.get("dtype"), dict):
        config["dtype"] = "float32"
    if "batch_shape" in config:
        config["batch_input_shape"] = config.pop("batch_shape")
    if "Conv" in name:
        config["groups"] = 1
    if name.startswith(("Depthwise", "Separable")):
        config |= {"kernel_initializer": None, "kernel_regularizer": None}
        config |= {"kernel_constraint": None}
    if isinstance(config.get("axis"), int) and name == "BatchNormalization":
        config["axis"] = [3]
    nodes = layer.get("inbound_nodes", [])
    layer["inbound_nodes"] = [_sources(node) for node in nodes]


def _sources(node: Any) -> Any:
    if isinstance(node, list):
        return node
    tensors = node["args"][0]
    tensors = tensors if isinstance(tensors, list) else [tensors]
    return [[*tensor["config"]["keras_history"], {}] for tensor in tensors]


def images(channels: int = 1, seed: int = 0) -> AnyArray:
    return np.random.default_rng(seed).random((2, 8, 12, channels), np.float32)


@pytest.fixture(scope="module")
def kept(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Save one network in each format."""
    folder, network = tmp_path_factory.mktemp("keras"), unet(keras)
    names = ("network.keras", "network.h5", "old.h5")
    found = {name: saved(network, folder / name) for name in names}
    as_keras_2(found["old.h5"])
    return found


@pytest.mark.parametrize("name", ["network.keras", "network.h5", "old.h5"])
class TestKerasBackend(BackendContract):
    @pytest.fixture(autouse=True)
    def _weights(self, kept: dict[str, Path], name: str) -> None:
        self.path = kept[name]

    def backend(self) -> Backend:
        return opened(self.path)

    def inputs(self) -> list[AnyArray]:
        return [images()]


@pytest.mark.parametrize("name", ["network.keras", "network.h5", "old.h5"])
def test_each_format_gives_the_numbers_of_the_network(
    keras: Any, kept: dict[str, Path], name: str
) -> None:
    wanted = np.asarray(keras.ops.convert_to_numpy(unet(keras)(images(), training=False)))

    (found,) = opened(kept[name]).run([images()])

    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    assert found.std() > 0.01


def two_way(keras: Any) -> Any:
    a, b = (keras.Input((None, None, 1), name=name) for name in ("zeta", "alpha"))
    less = keras.layers.Subtract(name="less")([a, b])
    both = keras.layers.Concatenate(name="both")([a, b])
    return keras.Model([a, b], [less, both])


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize(
    ("inputs", "outputs", "by_name"),
    [(("alpha", "zeta"), ("both", "less"), True), (("p", "q"), ("x", "y"), False)],
    ids=["names", "order"],
)
def test_tensors_go_by_name_or_else_in_the_order_of_the_network(
    keras: Any, tmp_path: Path, suffix: str, inputs: Names, outputs: Names, *, by_name: bool
) -> None:
    path, a, b = saved(two_way(keras), tmp_path / f"n.{suffix}"), images(), images(seed=1)

    found = opened(path, outputs, inputs).run([b, a] if by_name else [a, b])

    less, both = reversed(found) if by_name else found
    np.testing.assert_allclose(less, a - b, atol=1e-6)
    np.testing.assert_array_equal(both[..., :1], a)


def test_outputs_whose_order_does_not_fit_go_by_their_channels(keras: Any, tmp_path: Path) -> None:
    path, pair = saved(two_way(keras), tmp_path / "n.keras"), [images(), images(seed=1)]
    axes = {"output_axes": ("byxc", "byxc"), "output_channels": (2, 1)}

    found = opened(path, ("x", "y"), ("p", "q"), **axes).run(pair)

    assert [array.shape[-1] for array in found] == [2, 1]


def test_a_sequence_of_the_first_keras_runs(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    network = keras.Sequential([keras.Input((8, 12, 1)), layers.Conv2DTranspose(2, 2, strides=2)])

    def list_of_layers(config: Config) -> None:
        first, layer = config["config"]["layers"]
        layer["config"]["batch_input_shape"] = first["config"]["batch_input_shape"]
        config["config"] = [layer]

    new = saved(network, tmp_path / "new.h5")
    old = as_keras_2(saved(network, tmp_path / "old.h5"), list_of_layers)

    np.testing.assert_array_equal(opened(old).run([images()])[0], opened(new).run([images()])[0])


def test_a_transposed_convolution_of_stacks_runs(keras: Any, tmp_path: Path) -> None:
    x = keras.Input((4, 4, 4, 1))
    network = keras.Model(x, keras.layers.Conv3DTranspose(2, 2, strides=2)(x))
    path = as_keras_2(saved(network, tmp_path / "n.h5"))

    (found,) = opened(path).run([np.ones((2, 4, 4, 4, 1), np.float32)])

    assert found.shape == (2, 8, 8, 8, 2)


def test_a_file_of_another_suffix_is_read_for_what_it_is(
    kept: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("network.keras", "network.h5"):
        (tmp_path / "weights.bin").write_bytes(kept[name].read_bytes())
        weights = LoadRequest(tmp_path / "weights.bin", ("raw",), ("map",))

        found = open_backend("keras_hdf5", weights).run([images()])

        np.testing.assert_array_equal(found[0], opened(kept[name]).run([images()])[0])


def raw_operations(path: Path) -> Path:
    """Put operations of TensorFlow, as Keras 2 kept them, between two layers of a file."""

    def op(name: str, function: str, node: Any, kind: str = "TFOpLambda") -> Config:
        config = {"name": name, "trainable": True, "dtype": "float32", "function": function}
        return {"class_name": kind, "config": config, "name": name, "inbound_nodes": [node]}

    every = [{"class_name": "__ellipsis__"}, {"start": None, "stop": 1, "step": None}]

    def change(config: Config) -> None:
        layers = config["config"]["layers"]
        layers[1:1] = [
            op("twice", "math.multiply", ["raw", 0, 0, {"y": 2.0, "name": None}]),
            op("mean", "math.reduce_mean", ["twice", 0, 0, {"axis": -1, "keepdims": True}]),
            op("sum", "__operators__.add", ["twice", 0, 0, {"y": ["mean", 0, 0], "name": None}]),
            op("less", "math.subtract", ["_CONSTANT_VALUE", -1, 9.0, {"y": ["sum", 0, 0]}]),
            op("both", "concat", [["less", 0, 0, {"axis": -1}], ["raw", 0, 0, {"axis": -1}]]),
            op("part", "__operators__.getitem", ["both", 0, 0, {"slice_spec": every}],
               "SlicingOpLambda"),
        ]  # fmt: skip
        layers[-1]["inbound_nodes"] = [[["part", 0, 0, {}]]]

    return as_keras_2(path, change)


def test_raw_operations_of_tensorflow_run(keras: Any, tmp_path: Path) -> None:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("keras is on another backend")
    x = keras.Input((None, None, 1), name="raw")
    network = keras.Model(x, keras.layers.Rescaling(3.0, name="map")(x))
    path = raw_operations(saved(network, tmp_path / "n.h5"))

    (found,) = opened(path).run([images()])

    np.testing.assert_allclose(found, 3 * (9 - 4 * images()), rtol=1e-6)


def test_raw_operations_without_tensorflow_are_told(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = keras.Input((None, None, 1), name="raw")
    network = keras.Model(x, keras.layers.Rescaling(3.0, name="map")(x))
    path = raw_operations(saved(network, tmp_path / "n.h5"))
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")

    with pytest.raises(NoBackend, match="calls TensorFlow directly") as raised:
        opened(path)

    assert raised.value.hint == "pip install 'bmz[tensorflow]'"


def test_a_lambda_is_refused_and_runs_where_it_is_trusted(keras: Any, tmp_path: Path) -> None:
    x = keras.Input((None, None, 1))
    network = keras.Model(x, keras.layers.Lambda(lambda y: y * 2)(x))
    for suffix in ("keras", "h5"):
        path = saved(network, tmp_path / f"n.{suffix}")

        with pytest.raises(ConfigRefused, match="Lambda") as raised:
            opened(path)
        (found,) = opened(path, trusted=True).run([images()])

        assert raised.value.code == "package.runs-code"
        np.testing.assert_array_equal(found, 2 * images())


def test_weights_alone_are_named_as_such(keras: Any, tmp_path: Path) -> None:
    path = saved(unet(keras), tmp_path / "n.weights.h5")

    with pytest.raises(NoArchitecture, match="this file contains weights without an architecture"):
        opened(path)


def test_other_counts_are_refused_at_opening(kept: dict[str, Path]) -> None:
    with pytest.raises(TensorCountDiffers, match="1 inputs, but its description names 2"):
        opened(kept["network.h5"], inputs=("a", "b"))
    with pytest.raises(TensorCountDiffers, match="1 outputs, but its description names 2"):
        opened(kept["network.h5"], ("p", "q"))


def test_another_number_of_axes_is_told_and_does_not_end_the_process(
    kept: dict[str, Path],
) -> None:
    with pytest.raises(NetworkFailed, match="'raw' has 4 axes"):
        opened(kept["network.h5"]).run([images()[0]])


def test_a_failure_within_is_told_in_one_line(kept: dict[str, Path]) -> None:
    with pytest.raises(NetworkFailed, match="shape") as raised:
        opened(kept["network.h5"]).run([images(3)])

    assert "\n" not in raised.value.message
    assert "Exception encountered" not in raised.value.message


def test_values_are_cast_without_loss_or_not_at_all(kept: dict[str, Path]) -> None:
    backend = opened(kept["network.keras"])

    assert backend.run([np.full((1, 4, 4, 1), 7, np.uint16)])[0].dtype == np.float32
    with pytest.raises(DtypeLossy):
        backend.run([np.full((1, 4, 4, 1), 2**24 + 1, np.int64)])


def test_out_of_memory_is_told_as_such(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = unet(keras)
    backend = KerasBackend(keras, network, LoadRequest(Path("none"), ("raw",), ("map",), CPU))

    def greedy(_: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(network, "predict_on_batch", greedy)

    with pytest.raises(OutOfMemory, match="float32 2x8x12x1"):
        backend.run([images()])


def test_a_closed_backend_does_not_run(kept: dict[str, Path]) -> None:
    backend = opened(kept["network.keras"])
    backend.close()

    with pytest.raises(NetworkFailed, match="closed"):
        backend.run([images()])


def test_another_precision_is_refused(kept: dict[str, Path]) -> None:
    with pytest.raises(PrecisionUnsupported, match="float16 on cpu"):
        opened(kept["network.keras"], precision="float16")


def test_a_layer_that_keras_does_not_know_is_named(kept: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "n.keras"
    with zipfile.ZipFile(kept["network.keras"]) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content.replace(b'"MaxPooling2D"', b'"MostPooling2D"'))

    with pytest.raises(WeightsUnreadable, match="MostPooling2D") as raised:
        opened(path)

    assert "\n" not in raised.value.message


def test_a_keras_without_its_parts_is_told_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", type(sys)("keras"))

    with pytest.raises(NoBackend, match="keras cannot be imported") as raised:
        keras_devices()

    assert raised.value.hint == "pip install 'bmz[keras]'"


def test_without_tensorflow_keras_computes_the_same_on_pytorch(
    kept: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    np.save(tmp_path / "x.npy", images())
    script = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from importlib import util; find = util.find_spec\n"
        "util.find_spec = lambda name, *a: None if name == 'tensorflow' else find(name, *a)\n"
        "import numpy as np; from pathlib import Path\n"
        "from bmz.predict.backend import LoadRequest\n"
        "from bmz.predict.formats import open_backend\n"
        "for path in sys.argv[2:]:\n"
        "    weights = LoadRequest(Path(path), ('raw',), ('map',), threads=1)\n"
        "    backend = open_backend('keras_hdf5', weights)\n"
        "    assert backend.name.endswith('on torch'), backend.name\n"
        "    np.save(path + '.npy', backend.run([np.load(sys.argv[1])])[0])\n"
    )
    copies = [tmp_path / path.name for path in kept.values()]
    for path in copies:
        path.write_bytes(kept[path.name].read_bytes())
    environment = {key: v for key, v in os.environ.items() if key != "KERAS_BACKEND"}

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(tmp_path / "x.npy"), *map(str, copies)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for path in copies:
        wanted = opened(kept[path.name]).run([images()])[0]
        np.testing.assert_allclose(np.load(f"{path}.npy"), wanted, rtol=0, atol=1e-5)
