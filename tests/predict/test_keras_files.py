"""A file of Keras that names code, or takes parts from elsewhere, is refused before loading."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmz.predict.backend import WeightsUnreadable
from bmz.predict.graph_code import (
    NoArchitecture,
    call_op,
    config_code,
    is_plain_op,
    keras_code,
    read_config,
    write_config,
)
from bmz.predict.keras import TranslationError, for_keras_3, raw_ops_in
from bmz.zoo.errors import ArchiveRefused

h5py: Any = pytest.importorskip("h5py")

Config = dict[str, Any]

CONV = {
    "module": "keras.layers",
    "class_name": "Conv2D",
    "registered_name": None,
    "config": {
        "name": "conv",
        "kernel_initializer": {"module": "keras.initializers", "class_name": "GlorotUniform"},
        "activation": {"module": "builtins", "class_name": "function", "config": "relu",
                       "registered_name": "function"},
        "dtype": {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}},
    },
}  # fmt: skip


def network(*layers: Config) -> Config:
    return {"module": "keras.src.models.functional", "class_name": "Functional",
            "config": {"name": "n", "layers": list(layers)}}  # fmt: skip


def hdf5(path: Path, config: object = None) -> Path:
    with h5py.File(path, "w") as file:
        file["model_weights/conv/kernel"] = np.ones((3, 3), np.float32)
        file.attrs["model_config"] = json.dumps(network(CONV) if config is None else config)
    return path


def zipped(path: Path, config: object, weights: bytes | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        if weights is not None:
            archive.writestr("model.weights.h5", weights)
    return path


def test_layers_of_keras_are_no_code(tmp_path: Path) -> None:
    assert keras_code(hdf5(tmp_path / "n.h5")) == ()
    assert keras_code(zipped(tmp_path / "n.keras", network(CONV))) == ()


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ({"class_name": "Lambda", "config": {}}, "Lambda"),
        ({"class_name": "__lambda__", "config": {"value": "4wE="}}, "__lambda__"),
        ({"module": "os", "class_name": "function", "config": "system"}, "os.function"),
        ({"module": "keras.utils", "class_name": "get_file"}, "get_file"),
        ({"module": "keras.config", "class_name": "function"}, "keras.config.function"),
        ({"module": "keras.src.saving.saving_api", "class_name": "A"}, "keras.src.saving"),
        ({"module": "keras.layers.", "class_name": "A"}, "keras.layers..A"),
        ({"module": "kerasevil", "class_name": "A"}, "kerasevil.A"),
        ({"module": ["os"], "class_name": "A"}, "['os'].A"),
        ({"module": "keras.layers", "class_name": "TorchModuleWrapper"}, "TorchModuleWrapper"),
        ({"module": "keras.layers", "class_name": "TFSMLayer"}, "TFSMLayer"),
        ({"module": "keras.layers", "class_name": "StringLookup"}, "StringLookup"),
        ({"class_name": "TFOpLambda", "config": {"function": "io.write_file"}}, "io.write_file"),
        ({"module": "builtins", "class_name": "function", "config": "load_model",
          "registered_name": "function"}, "load_model"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("deep", [False, True], ids=["layer", "argument"])
def test_what_names_code_is_named(tmp_path: Path, part: Config, named: str, *, deep: bool) -> None:
    layer = CONV | {"config": {"kernel_constraint": [part]}} if deep else part

    found = keras_code(zipped(tmp_path / "n.keras", network(CONV, layer)))

    assert any(named in word for word in found)
    assert keras_code(hdf5(tmp_path / "n.h5", network(layer))) == found


def test_a_deep_configuration_is_read_without_recursion() -> None:
    nested: Config = {"class_name": "Lambda"}
    for _ in range(5000):
        nested = {"config": nested}

    assert config_code(nested) == ("Lambda",)


def _external_link(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["model_weights/secret"] = h5py.ExternalLink("/etc/other.h5", "/")


def _external_values(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.create_dataset("secret", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def _virtual(path: Path) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "values", (4,))
    with h5py.File(path, "r+") as file:
        file.create_virtual_dataset("secret", layout)


def _swollen(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.create_dataset("large", (2**33,), "f4", chunks=(2**16,))


FAULTS = [
    (_external_link, "is in another file"),
    (_external_values, "from other files"),
    (_virtual, "from other files"),
    (_swollen, "would unpack to 34"),
]


@pytest.mark.parametrize(("add", "words"), FAULTS, ids=["link", "storage", "virtual", "bomb"])
@pytest.mark.parametrize("within", [False, True], ids=["h5", "keras"])
def test_hdf5_that_takes_more_than_it_holds_is_refused(
    tmp_path: Path, add: Any, words: str, *, within: bool
) -> None:
    path = hdf5(tmp_path / "n.h5")
    add(path)
    if within:
        path = zipped(tmp_path / "n.keras", network(CONV), path.read_bytes())

    with pytest.raises(WeightsUnreadable, match=words):
        read_config(path)


def test_groups_that_hold_each_other_are_read_once(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "n.h5")
    with h5py.File(path, "r+") as file:
        file["model_weights/again"] = file["model_weights"]
        file["model_weights/soft"] = h5py.SoftLink("/model_weights")

    assert read_config(path)["class_name"] == "Functional"


@pytest.mark.parametrize(
    ("config", "words"), [("[1]", "not a mapping"), ("{", "not JSON"), ("[" * 10**6, "not JSON")]
)
def test_a_configuration_that_is_none_is_named(tmp_path: Path, config: str, words: str) -> None:
    path = hdf5(tmp_path / "n.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = config

    with pytest.raises(WeightsUnreadable, match=words):
        read_config(path)


def test_weights_alone_run_nothing_and_are_named(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "n.h5")
    with h5py.File(path, "r+") as file:
        del file.attrs["model_config"]
    with zipfile.ZipFile(tmp_path / "n.keras", "w") as archive:
        archive.writestr("model.weights.h5", path.read_bytes())

    for alone in (path, tmp_path / "n.keras"):
        with pytest.raises(NoArchitecture) as raised:
            read_config(alone)
        assert raised.value.code == "weights.architecture"
        assert keras_code(alone) == ()


@pytest.mark.parametrize("content", [b"", b"no network", b"PK\x05\x06", None])
def test_what_is_no_file_of_keras_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "n.h5"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(WeightsUnreadable, match=r"n\.h5"):
        read_config(path)


def test_an_unsafe_zip_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "n.keras", network(CONV))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../out", "x")

    with pytest.raises(ArchiveRefused, match="leaves its folder"):
        read_config(path)


def test_a_member_that_is_in_a_zip_twice_is_refused(tmp_path: Path) -> None:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("konfig.json", "{}")
    (tmp_path / "n.keras").write_bytes(stream.getvalue().replace(b"konfig", b"config"))

    with pytest.raises(ArchiveRefused, match="twice"):
        read_config(tmp_path / "n.keras")


def test_a_configuration_of_keras_3_stays_as_it_is() -> None:
    config = network(CONV)

    assert for_keras_3(config) == config
    assert not raw_ops_in(config)


def test_arguments_that_keras_3_lacks_are_dropped_within_wrappers_and_networks() -> None:
    old = {"class_name": "Conv2DTranspose", "config": {"groups": 1, "filters": 2}}
    wrapped = {"class_name": "TimeDistributed", "config": {"name": "t", "layer": old}}

    found = for_keras_3(network(network(old), wrapped))

    inner, outer = found["config"]["layers"]
    assert inner["config"]["layers"][0]["config"] == {"filters": 2}
    assert outer["config"]["layer"]["config"] == {"filters": 2}
    assert old["config"] == {"groups": 1, "filters": 2}


def test_groups_of_a_plain_convolution_stay() -> None:
    plain = {"class_name": "Conv2D", "config": {"groups": 2}}

    assert for_keras_3(network(plain)) == network(plain)


def test_a_raw_operation_that_is_used_twice_is_named() -> None:
    node = ["raw", 0, 0, {}]
    layer = {"class_name": "TFOpLambda", "name": "relu", "inbound_nodes": [node, node]}

    with pytest.raises(TranslationError, match="'relu' is used 2 times"):
        for_keras_3(network(layer | {"config": {"name": "relu", "function": "nn.relu"}}))


@pytest.mark.parametrize(
    "name",
    ["io.write_file", "io.read_file", "py_function", "numpy_function", "raw_ops.WriteFile",
     "data.TFRecordDataset", "compat.v1.py_func", "load_op_library", "saved_model.load", "print",
     "nn.fixed_unigram_candidate_sampler", "__operators__.exec", "math.__loader__", "", None,
     "image.decode_image", "math.add.__globals__", "keras.utils.get_file", "nn.x.y"],
)  # fmt: skip
def test_functions_that_may_do_more_than_compute_are_not_plain(name: object) -> None:
    assert not is_plain_op(name)


class Library:
    class math:  # noqa: N801  (as in TensorFlow)
        @staticmethod
        def add(x: int, y: int) -> int:
            return x + y


@pytest.mark.parametrize(
    ("how", "inputs", "wanted"),
    [
        ({"function": "math.add", "first": 1, "named": ["y"]}, [1, 2], 3),
        ({"function": "math.add", "first": 0, "constant": 5, "named": ["y"]}, 2, 7),
        ({"function": "__operators__.add", "first": 1, "kwargs": {"y": 4}}, 3, 7),
    ],
    ids=["tensors", "constant", "value"],
)
def test_a_raw_operation_gets_its_arguments(how: Config, inputs: Any, wanted: int) -> None:
    call: Config = {"listed": False, "constant": None, "named": [], "kwargs": {}} | how

    assert call_op(Library, call, inputs) == wanted


def test_slices_are_python_s() -> None:
    spec = [{"class_name": "__ellipsis__"}, {"start": 1, "stop": None, "step": 2}, 0]
    call = {"function": "__operators__.getitem", "first": 1, "listed": False, "constant": None,
            "named": [], "kwargs": {"slice_spec": spec}}  # fmt: skip
    x = np.arange(24).reshape(2, 4, 3)

    np.testing.assert_array_equal(call_op(None, call, x), x[..., 1::2, 0])


@pytest.mark.parametrize("config", ["relu", None, [{"function": "math.add"}], 3])
def test_a_raw_operation_that_names_no_function_is_no_plain_one(config: object) -> None:
    assert config_code({"class_name": "TFOpLambda", "config": config}) == ("TFOpLambda None",)


def test_a_plain_raw_operation_is_no_code() -> None:
    assert config_code({"class_name": "TFOpLambda", "config": {"function": "math.add"}}) == ()


@pytest.mark.parametrize("value", [5, np.arange(3), h5py.Empty("f")], ids=["one", "three", "none"])
def test_a_configuration_that_is_no_text_is_named(tmp_path: Path, value: object) -> None:
    path = hdf5(tmp_path / "n.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = value

    with pytest.raises(WeightsUnreadable, match="its configuration is not JSON"):
        read_config(path)


def test_a_member_that_goes_on_beyond_the_end_of_a_zip_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "n.keras", {})
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\1\2")
    for sizes in (entry + 20, entry + 24):  # compressed, and not
        content[sizes : sizes + 4] = (5000).to_bytes(4, "little")
    path.write_bytes(content)

    with pytest.raises(ArchiveRefused, match="do not fit together"):
        read_config(path)


@pytest.mark.parametrize("kind", ["h5", "keras"])
def test_another_configuration_takes_the_place_of_the_one_in_a_file(
    tmp_path: Path, kind: str
) -> None:
    weights = hdf5(tmp_path / "n.h5")
    path = weights
    if kind == "keras":
        path = zipped(tmp_path / "n.keras", network(CONV), weights.read_bytes())

    write_config(path, network(CONV, CONV))

    assert read_config(path) == network(CONV, CONV)
    if kind == "keras":
        with zipfile.ZipFile(path) as archive:
            assert sorted(archive.namelist()) == ["config.json", "model.weights.h5"]
            assert archive.read("model.weights.h5") == weights.read_bytes()
