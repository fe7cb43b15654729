"""Networks in SavedModels: zip or folder, old or new, outputs never by chance, no surprises."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.installed import skip_without

from bmz.base.arrays import AnyArray
from bmz.predict.backend import (
    CPU,
    Backend,
    Device,
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
from bmz.predict.graph_code import BundleTouchesHost
from bmz.predict.output_order import OutputsUnclear
from bmz.predict.tensorflow import TensorflowBackend, import_tensorflow, placed
from bmz.testing.backend import BackendContract, StaysContract

skip_without("tensorflow")

FORMAT = "tensorflow_saved_model_bundle"
Names = tuple[str, ...]


@pytest.fixture(scope="module")
def tf() -> Any:
    return import_tensorflow()


def saved(tf: Any, folder: Path, function: Any, **inputs: tuple[int | None, ...]) -> Path:
    """Save a function of named float32 tensors as a bundle with a variable."""
    module = tf.Module()
    module.two = tf.Variable(2.0)
    wanted = {name: tf.TensorSpec(shape, tf.float32) for name, shape in inputs.items()}
    call = tf.function(lambda **given: function(module.two, **given), autograph=False)
    concrete = call.get_concrete_function(**wanted)
    tf.saved_model.save(module, str(folder), signatures=concrete)
    return folder


@pytest.fixture(scope="module")
def blur(tf: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kernel = np.random.default_rng(0).random((3, 3, 1, 2), np.float32)

    def network(two: Any, raw: Any) -> Any:
        return {"mask": tf.nn.conv2d(raw * two, kernel, 1, "SAME")}

    return saved(tf, tmp_path_factory.mktemp("blur") / "b", network, raw=(None, None, None, 1))


@pytest.fixture(scope="module")
def pair(tf: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a bundle of inputs a, b and outputs of 1 and 2 channels, in no order of their names."""

    def network(two: Any, b: Any, a: Any) -> Any:
        less = a - b
        return {"zeta": less, "alpha": tf.concat([a, b], -1) * two}

    shape = (None, None, None, 1)
    return saved(tf, tmp_path_factory.mktemp("pair") / "b", network, b=shape, a=shape)


@pytest.fixture(scope="module")
def alike(tf: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def network(two: Any, raw: Any) -> Any:
        return {"zeta": raw, "alpha": raw * two}

    return saved(tf, tmp_path_factory.mktemp("alike") / "b", network, raw=(None, None, None, 1))


def opened(
    path: Path, outputs: Names = ("mask",), inputs: Names = ("raw",), **more: Any
) -> Backend:
    return open_backend(FORMAT, LoadRequest(path, inputs, outputs, **more))


def zipped(bundle: Path, target: Path, top: str = "") -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for path in bundle.rglob("*"):
            archive.write(path, f"{top}{path.relative_to(bundle)}")
    return target


def images(channels: int = 1, seed: int = 0) -> AnyArray:
    return np.random.default_rng(seed).random((2, 8, 10, channels), np.float32)


class TestTensorflowBackend(StaysContract):
    @pytest.fixture(autouse=True)
    def _weights(self, blur: Path) -> None:
        self.path = blur

    def backend(self) -> Backend:
        return opened(self.path)

    def inputs(self) -> list[AnyArray]:
        return [images()]


@pytest.mark.parametrize("top", ["", "model/", "a/b/"], ids=["flat", "folder", "deep"])
def test_a_zip_gives_what_its_folder_gives(blur: Path, tmp_path: Path, top: str) -> None:
    path = zipped(blur, tmp_path / "weights.zip", top)

    (found,) = opened(path).run([images()])

    np.testing.assert_array_equal(found, opened(blur).run([images()])[0])


def test_nothing_is_left_of_what_was_unpacked(
    blur: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, room = zipped(blur, tmp_path / "weights.zip"), tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(room))

    opened(path).run([images()])

    assert list(room.iterdir()) == []


def test_a_bundle_of_tensorflow_1_runs(tf: Any, tmp_path: Path) -> None:
    v1, x = tf.compat.v1, images()
    with tf.Graph().as_default(), v1.Session() as session:
        raw = v1.placeholder(tf.float32, (None, None, None, 1), name="image")
        mask = raw * v1.get_variable("two", initializer=2.0) + 1.0
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(tmp_path / "b"))
        signature = v1.saved_model.predict_signature_def({"input": raw}, {"output": mask})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()

    (found,) = opened(tmp_path / "b").run([x])

    np.testing.assert_allclose(found, 2 * x + 1, atol=1e-6)


def test_an_export_of_keras_3_keeps_the_order_of_its_outputs(tf: Any, tmp_path: Path) -> None:
    layers = tf.keras.layers
    x = tf.keras.Input((None, None, 1))
    outputs = [layers.Rescaling(factor, name=f"by{factor}")(x) for factor in (3, 2)]
    tf.keras.Model(x, outputs).export(str(tmp_path / "b"), verbose=False)

    third, second = opened(tmp_path / "b", ("map", "aux")).run([images()])

    np.testing.assert_allclose(third, 3 * images(), rtol=1e-6)
    np.testing.assert_allclose(second, 2 * images(), rtol=1e-6)


@pytest.mark.parametrize(("outputs", "first"), [(("zeta", "alpha"), 1), (("alpha", "zeta"), 2)])
def test_outputs_go_by_name_where_the_names_are_the_ids(
    pair: Path, outputs: Names, first: int
) -> None:
    found = opened(pair, outputs, ("a", "b")).run([images(), images(seed=1)])

    assert [array.shape[-1] for array in found] == [first, 3 - first]


@pytest.mark.parametrize("channels", [(1, 2), (2, 1), (None, 1)], ids=str)
def test_outputs_of_other_names_go_by_their_channels(
    pair: Path, channels: tuple[int | None, ...]
) -> None:
    more = {"output_axes": ("byxc", "byxc"), "output_channels": channels}

    found = opened(pair, ("p", "q"), ("a", "b"), **more).run([images(), images(seed=1)])

    assert found[1].shape[-1] == channels[1]


def test_outputs_that_nothing_tells_apart_are_refused_with_both_lists(alike: Path) -> None:
    axes: dict[str, Any] = {"output_axes": ("byxc", "byxc"), "output_channels": (1, 1)}

    with pytest.raises(
        OutputsUnclear, match=r"alpha, zeta, the description calls them p, q"
    ) as why:
        opened(alike, ("p", "q"), **axes)

    assert set(why.value.candidates) == {("alpha", "zeta"), ("zeta", "alpha")}
    assert why.value.code == "predict.outputs-unclear"


def test_an_assignment_that_is_known_is_used(alike: Path) -> None:
    first, second = opened(alike, ("p", "q"), output_names=("zeta", "alpha")).run([images()])

    np.testing.assert_array_equal(second, 2 * first)


def test_inputs_go_by_name_or_else_in_natural_order(tf: Any, pair: Path, tmp_path: Path) -> None:
    def network(_two: Any, input_10: Any, input_9: Any) -> Any:
        return {"less": input_9 - input_10}

    shape, (a, b) = (None, None, None, 1), (images(), images(seed=1))
    path = saved(tf, tmp_path / "b", network, input_10=shape, input_9=shape)

    by_name = opened(pair, ("zeta",), ("b", "a")).run([b, a])[0]
    in_order = opened(path, ("less",), ("first", "second")).run([a, b])[0]

    np.testing.assert_array_equal(by_name, a - b)
    np.testing.assert_array_equal(in_order, a - b)


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        (("raw", "more"), ("mask",), "1 inputs, but its description names 2"),
        (("raw",), ("mask", "q"), "1 outputs, but its description names 2"),
    ],
)
def test_other_counts_are_refused_at_opening(
    blur: Path, inputs: Names, outputs: Names, words: str
) -> None:
    with pytest.raises(TensorCountDiffers, match=words):
        opened(blur, outputs, inputs)


@pytest.mark.parametrize("shape", [(8, 10, 1), (2, 8, 10, 3), (1, 2, 8, 10, 1)], ids=str)
def test_a_wrong_shape_is_told_and_does_not_end_the_process(
    blur: Path, shape: tuple[int, ...]
) -> None:
    with pytest.raises(NetworkFailed, match=r"'raw' has the shape \(None, None, None, 1\)"):
        opened(blur).run([np.zeros(shape, np.float32)])


def test_a_failure_within_is_told_in_one_line(tf: Any, tmp_path: Path) -> None:
    def network(two: Any, raw: Any) -> Any:
        return {"mask": tf.reshape(raw, (3, 7)) * two}

    path = saved(tf, tmp_path / "b", network, raw=(None, None, None, 1))

    with pytest.raises(NetworkFailed, match=r"reshape is a tensor with 160 values") as raised:
        opened(path).run([images()])

    assert "\n" not in raised.value.message


def test_values_are_cast_without_loss_or_not_at_all(blur: Path) -> None:
    backend, whole = opened(blur), np.full((1, 4, 4, 1), 7, np.uint16)

    assert backend.run([whole])[0].dtype == np.float32
    with pytest.raises(DtypeLossy):
        backend.run([np.full((1, 4, 4, 1), 2**24 + 1, np.int64)])


def test_out_of_memory_is_told_as_such(tf: Any) -> None:
    class Greedy:
        structured_input_signature = ((), {"raw": tf.TensorSpec(None, tf.float32)})
        structured_outputs = {"mask": tf.TensorSpec(None, tf.float32)}  # noqa: RUF012

        def __call__(self, **_: Any) -> Any:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    loaded = type("Loaded", (), {"signatures": {"serving_default": Greedy()}})()
    backend = TensorflowBackend(tf, loaded, LoadRequest(Path("none"), ("raw",), ("mask",), CPU))

    with pytest.raises(OutOfMemory, match="float32 2x8x10x1"):
        backend.run([images()])


def test_a_closed_backend_does_not_run(blur: Path) -> None:
    backend = opened(blur)
    backend.close()

    with pytest.raises(NetworkFailed, match="closed"):
        backend.run([images()])


def test_another_precision_is_refused(blur: Path) -> None:
    with pytest.raises(PrecisionUnsupported, match="float16 on cpu"):
        opened(blur, precision="float16")


def test_signatures_without_a_default_are_named(tf: Any, tmp_path: Path) -> None:
    module = tf.Module()
    call = tf.function(lambda raw: {"mask": raw}, autograph=False)
    concrete = call.get_concrete_function(raw=tf.TensorSpec((None,), tf.float32))
    tf.saved_model.save(module, str(tmp_path / "b"), signatures={"one": concrete, "two": concrete})

    with pytest.raises(WeightsUnreadable, match=r"\(one, two\) is serving_default"):
        opened(tmp_path / "b")


def test_the_only_signature_is_taken_whatever_its_name(tf: Any, tmp_path: Path) -> None:
    call = tf.function(lambda raw: {"mask": raw}, autograph=False)
    concrete = call.get_concrete_function(raw=tf.TensorSpec((None,), tf.float32))
    tf.saved_model.save(tf.Module(), str(tmp_path / "b"), signatures={"segment": concrete})

    (found,) = opened(tmp_path / "b").run([np.arange(3, dtype=np.float32)])

    assert found.tolist() == [0, 1, 2]


@pytest.fixture
def writing(tf: Any, tmp_path: Path) -> tuple[Path, Path]:
    """Give a bundle that writes a file when it runs, and that file."""
    marker = tmp_path / "marker"

    def network(_two: Any, raw: Any) -> Any:
        with tf.control_dependencies([tf.io.write_file(str(marker), "it ran")]):
            return {"mask": tf.identity(raw)}

    return saved(tf, tmp_path / "b", network, raw=(None, None, None, 1)), marker


def test_a_graph_that_writes_files_is_refused_before_it_is_loaded(
    writing: tuple[Path, Path],
) -> None:
    path, marker = writing

    with pytest.raises(BundleTouchesHost, match="WriteFile") as raised:
        opened(path).run([images()])

    assert raised.value.code == "package.runs-code"
    assert not marker.exists()


def test_a_trusted_graph_does_what_it_does(writing: tuple[Path, Path]) -> None:
    path, marker = writing

    opened(path, trusted=True).run([images()])

    assert marker.read_text() == "it ran"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: shutil.rmtree(folder / "variables"), "variables"),
        (lambda folder: (folder / "saved_model.pb").write_bytes(b"no graph"), "protocol buffer"),
        (lambda folder: (folder / "saved_model.pb").unlink(), "0 files called saved_model.pb"),
        (lambda folder: (folder / "saved_model.cpb").touch(), "is next to"),
        (lambda folder: (folder / "x").symlink_to("/"), "is a link"),
    ],
    ids=["variables", "graph", "none", "other", "link"],
)
def test_a_damaged_bundle_is_named(blur: Path, tmp_path: Path, damage: Any, words: str) -> None:
    folder = shutil.copytree(blur, tmp_path / "copy")
    damage(folder)

    with pytest.raises(WeightsUnreadable, match=words) as raised:
        opened(folder)

    assert "\n" not in raised.value.message


@pytest.mark.parametrize(("device", "name"), [(CPU, "/CPU:0"), (Device("cuda", 1), "/GPU:1")])
def test_a_device_has_the_name_that_tensorflow_gives_it(device: Device, name: str) -> None:
    assert placed(device) == name


def test_a_tensorflow_without_its_parts_is_told_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", type(sys)("tensorflow"))

    with pytest.raises(NoBackend, match="cannot be imported"):
        import_tensorflow()


def test_nothing_is_printed_and_the_choice_of_gpus_stays_the_users(blur: Path) -> None:
    script = (
        "import os; from pathlib import Path; import numpy as np\n"
        "from bmz.predict.backend import LoadRequest\n"
        "from bmz.predict.formats import open_backend\n"
        f"weights = LoadRequest(Path({str(blur)!r}), ('raw',), ('mask',), threads=1)\n"
        f"backend = open_backend({FORMAT!r}, weights)\n"
        "backend.run([np.zeros((1, 4, 4, 1), np.float32)])\n"
        "import tensorflow as tf\n"
        "assert tf.config.threading.get_intra_op_parallelism_threads() == 1\n"
        "assert os.environ['CUDA_VISIBLE_DEVICES'] == '7'\n"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "7"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


openvino_too = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")


@openvino_too
class TestOpenvinoOfBundles(BackendContract):
    @pytest.fixture(autouse=True)
    def _weights(self, blur: Path) -> None:
        self.path = blur

    def backend(self) -> Backend:
        return opened(self.path, backend="openvino", threads=1)

    def inputs(self) -> list[AnyArray]:
        return [images()]


@openvino_too
@pytest.mark.parametrize(
    "names",
    [(("alpha", "zeta"), ("a", "b")), (("zeta",), ("b", "a")), (("one", "two"), ("p", "q"))],
    ids=["by name", "in another order", "by channels"],
)
def test_openvino_finds_the_tensors_that_tensorflow_finds(
    pair: Path, tmp_path: Path, names: tuple[Names, Names]
) -> None:
    path = zipped(pair, tmp_path / "weights.zip", "model/")
    shapes: dict[str, Any] = {"output_axes": ("byxc", "byxc"), "output_channels": (2, 1)}
    inputs = [images(), images(seed=1)]

    outputs = opened(path, *names, backend="openvino", **shapes).run(inputs)

    expected = opened(path, *names, **shapes).run(inputs)
    assert len(outputs) == len(names[0])
    for output, reference in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(output, reference, rtol=1e-5)


@openvino_too
def test_openvino_does_not_guess_which_output_is_which_either(alike: Path) -> None:
    with pytest.raises(OutputsUnclear, match="alpha, zeta"):
        opened(alike, ("one", "two"), backend="openvino")

    known = opened(alike, ("one", "two"), output_names=("zeta", "alpha"), backend="openvino")
    one, two = known.run([images()])
    np.testing.assert_allclose(two, 2 * one)


@openvino_too
def test_openvino_refuses_a_graph_that_writes_files(writing: tuple[Path, Path]) -> None:
    path, marker = writing

    with pytest.raises(BundleTouchesHost, match="WriteFile"):
        opened(path, backend="openvino")

    assert not marker.exists()


@openvino_too
def test_openvino_names_a_damaged_bundle(blur: Path, tmp_path: Path) -> None:
    copy = tmp_path / "b"
    shutil.copytree(blur, copy)
    (copy / "saved_model.pb").write_bytes(b"no graph")

    with pytest.raises(WeightsUnreadable, match="saved_model_bundle"):
        opened(copy, backend="openvino")


@openvino_too
def test_openvino_leaves_nothing_of_what_was_unpacked(
    blur: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, room = zipped(blur, tmp_path / "weights.zip"), tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(room))

    backend = opened(path, backend="openvino")

    assert list(room.iterdir()) == []
    assert backend.run([images()])[0].shape == (2, 8, 10, 2)
