"""Packages whose files misbehave: manifests, archives, tensors and weights made to harm.

Payloads only try to leave a marker file or to bring a planted secret into a message.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tests.redteam.zips import VARIANTS, written

from bmz.testing.package import Description, description, sha256_of, write_package


class Marks:
    """What, unpickled, makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


Change = Callable[[Description], None]


def package(folder: Path, change: Change | None = None) -> Path:
    """Write a package that works, with one thing changed."""
    write_package(folder / "net", description(halo=4), change=change)
    return folder / "net"


def with_manifest(folder: Path, text: str | bytes) -> Path:
    """Write a package that works, with another manifest."""
    net = package(folder)
    content = text if isinstance(text, bytes) else text.encode()
    (net / "bioimageio.yaml").write_bytes(content)
    return net


def weights_at(source: str) -> Callable[[Path], Path]:
    """Let the weights lie at another path."""

    def build(folder: Path) -> Path:
        return package(folder, lambda content: content["weights"]["onnx"].update(source=source))

    return build


def state_dict(folder: Path, weights: bytes, architecture: dict[str, Any]) -> Path:
    """Write a package with a state dict."""

    def change(content: Description) -> None:
        net = folder / "net"
        (net / "weights.pt").write_bytes(weights)
        (net / "net.py").write_text("import torch\n\nNet = torch.nn.Identity\n")
        entry = {
            "source": "weights.pt",
            "sha256": sha256_of(net / "weights.pt"),
            "pytorch_version": "2.6",
            "architecture": architecture,
        }
        content["weights"] = {"pytorch_state_dict": entry}

    return package(folder, change)


def pickled_weights(folder: Path) -> Path:
    return state_dict(
        folder, pickle.dumps(Marks(folder / "marker")), {"source": "net.py", "callable": "Net"}
    )


def pickled_module(folder: Path) -> Path:
    import torch

    stream = io.BytesIO()
    torch.save({"a": Marks(folder / "marker")}, stream)
    return state_dict(folder, stream.getvalue(), {"source": "net.py", "callable": "Net"})


def calls(module: str, name: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        marker = str(folder / "marker")
        kwargs = {"args": ["/bin/touch", marker], "command": f"touch {marker}", "source": marker}
        taken = {"check_call": "args", "system": "command", "exec": "source"}[name]
        wanted = {"import_from": module, "callable": name, "kwargs": {taken: kwargs[taken]}}
        return state_dict(folder, b"none", wanted)

    return build


def module_in_the_folder(folder: Path) -> Path:
    code = f"import os\nos.mkdir({str(folder / 'marker')!r})\nNet = dict\n"
    (folder / "sly_module.py").write_text(code)
    net = state_dict(folder, b"none", {"import_from": "sly_module", "callable": "Net"})
    (net / "sly_module.py").write_text(code)
    return net


def custom_step(folder: Path) -> Path:
    def change(content: Description) -> None:
        (folder / "net" / "step.py").write_text(
            f"import os\nos.mkdir({str(folder / 'marker')!r})\n"
        )
        step = {
            "id": "custom", "callable": "step", "source": "step.py", "kwargs": {},
            "sha256": sha256_of(folder / "net" / "step.py"),
        }  # fmt: skip
        content["outputs"][0]["postprocessing"] = [step]

    return package(folder, change)


def link_out(folder: Path) -> Path:
    net = package(folder)
    (net / "weights.onnx").replace(folder / "outside.onnx")
    (net / "weights.onnx").symlink_to(folder / "outside.onnx")
    return net


def folder_link_out(folder: Path) -> Path:
    net = package(folder, lambda c: c["weights"]["onnx"].update(source="sub/weights.onnx"))
    (folder / "elsewhere").mkdir()
    (net / "weights.onnx").replace(folder / "elsewhere" / "weights.onnx")
    (net / "sub").symlink_to(folder / "elsewhere")
    return net


def secret_as_weights(folder: Path) -> Path:
    net = package(folder, lambda c: c["weights"]["onnx"].pop("sha256"))
    (net / "weights.onnx").unlink()
    (net / "weights.onnx").symlink_to(folder / "secret")
    return net


def pipe_as_weights(folder: Path) -> Path:
    net = package(folder)
    (net / "weights.onnx").unlink()
    os.mkfifo(net / "weights.onnx")
    return net


def folder_as_weights(folder: Path) -> Path:
    net = package(folder)
    (net / "weights.onnx").unlink()
    (net / "weights.onnx").mkdir()
    return net


def zipped(folder: Path, write: Callable[[zipfile.ZipFile], None]) -> Path:
    net = package(folder)
    with zipfile.ZipFile(folder / "net.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in net.iterdir():
            archive.write(path, path.name)
        write(archive)
    return folder / "net.zip"


def zip_member(name: str) -> Callable[[Path], Path]:
    return lambda folder: zipped(folder, lambda archive: archive.writestr(name, "x"))


def zip_link(folder: Path) -> Path:
    def write(archive: zipfile.ZipFile) -> None:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc")

    return zipped(folder, write)


def zip_bomb(folder: Path) -> Path:
    return zipped(folder, lambda archive: archive.writestr("zeros.bin", bytes(2**28 + 2**20)))


def zip_of_many(folder: Path) -> Path:
    def write(archive: zipfile.ZipFile) -> None:
        for number in range(10_001):
            archive.writestr(f"{number}", b"")

    return zipped(folder, write)


def zip_cut_short(folder: Path) -> Path:
    path = zipped(folder, lambda _: None)
    path.write_bytes(path.read_bytes()[:-30])
    return path


def yaml_bomb(folder: Path) -> Path:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    return with_manifest(
        folder, "\n".join([*lines, "format_version: 0.5.4", "type: model", "name: *a8"])
    )


def yaml_deep(folder: Path) -> Path:
    return with_manifest(folder, "name: " + "[" * 5000 + "]" * 5000)


def yaml_tag(folder: Path) -> Path:
    return with_manifest(folder, f"name: !!python/object/apply:os.mkdir ['{folder / 'marker'}']\n")


def npy_of_objects(which: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        def change(content: Description) -> None:
            file = content[which][0]["test_tensor"]
            path = folder / "net" / file["source"]
            np.save(path, np.array([Marks(folder / "marker")], object), allow_pickle=True)
            file["sha256"] = sha256_of(path)

        return package(folder, change)

    return build


def npy_header(text: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        def change(content: Description) -> None:
            file = content["inputs"][0]["test_tensor"]
            path = folder / "net" / file["source"]
            head = text.replace("MARKER", str(folder / "marker")).encode().ljust(118) + b"\n"
            path.write_bytes(
                b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + b"\0" * 64
            )
            file["sha256"] = sha256_of(path)

        return package(folder, change)

    return build


def onnx_outside(location: str) -> Callable[[Path], Path]:
    """Let a tensor of the network lie in a file outside the package."""

    def build(folder: Path) -> Path:
        def change(content: Description) -> None:
            write_external(folder / "net" / "weights.onnx", location.replace("FOLDER", str(folder)))
            content["weights"]["onnx"]["sha256"] = sha256_of(folder / "net" / "weights.onnx")

        (folder / "outside.bin").write_bytes(np.full(4, 7, np.float32).tobytes())
        return package(folder, change)

    return build


def write_external(path: Path, location: str) -> None:
    from onnx import StringStringEntryProto, TensorProto, helper, save_model

    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.append(StringStringEntryProto(key="location", value=location))
    value = helper.make_tensor_value_info
    inputs = [value("in0", TensorProto.FLOAT, [None, 1, None, None])]
    outputs = [value("out0", TensorProto.FLOAT, [None, 1, None, None])]
    nodes = [
        helper.make_node("ReduceMax", ["w"], ["m"], keepdims=0),
        helper.make_node("Add", ["in0", "m"], ["out0"]),
    ]
    graph = helper.make_graph(nodes, "outside", inputs, outputs, [tensor])
    opset = [helper.make_opsetid("", 17)]
    save_model(helper.make_model(graph, opset_imports=opset, ir_version=9), str(path))


def onnx_content(content: bytes) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        def change(described: Description) -> None:
            (folder / "net" / "weights.onnx").write_bytes(content)
            sha256 = sha256_of(folder / "net" / "weights.onnx")
            described["weights"]["onnx"]["sha256"] = sha256

        return package(folder, change)

    return build


def onnx_of_another_domain(folder: Path) -> Path:
    from onnx import TensorProto, helper, save_model

    def change(content: Description) -> None:
        value = helper.make_tensor_value_info
        free = [None] * 4
        node = helper.make_node("Run", ["in0"], ["out0"], domain="com.example.shell")
        tensors = [[value(name, TensorProto.FLOAT, free)] for name in ("in0", "out0")]
        graph = helper.make_graph([node], "g", tensors[0], tensors[1])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example.shell", 1)]
        path = folder / "net" / "weights.onnx"
        save_model(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))
        content["weights"]["onnx"]["sha256"] = sha256_of(path)

    return package(folder, change)


def torchscript(folder: Path, network: Any) -> Path:
    import torch

    def change(content: Description) -> None:
        path = folder / "net" / "weights.pt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the format is what is wanted here
            torch.jit.script(network).save(str(path))
        (folder / "net" / "weights.onnx").unlink()
        entry = {"source": "weights.pt", "sha256": sha256_of(path), "pytorch_version": "2.6"}
        content["weights"] = {"torchscript": entry}

    return package(folder, change)


def torchscript_reads(folder: Path) -> Path:
    import torch

    class Reads(torch.nn.Module):
        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image + torch.from_file(self.path, size=4, dtype=torch.uint8).sum()

    return torchscript(folder, Reads(str(folder / "secret")))


def torchscript_saves(folder: Path) -> Path:
    import torch

    class Saves(torch.nn.Module):
        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            torch.save(image, self.path)
            return image

    return torchscript(folder, Saves(str(folder / "marker")))


def torchscript_of_two(variant: str) -> Callable[[Path], Path]:
    """Let one file hold a network that writes a file, and a harmless one."""

    def build(folder: Path) -> Path:
        net = torchscript_saves(folder)
        path, manifest = net / "weights.pt", net / "bioimageio.yaml"
        before = sha256_of(path)
        with zipfile.ZipFile(path) as archive:
            evil = {member.filename: archive.read(member) for member in archive.infolist()}
        good = {name: text.replace(b"torch.save", b"torch.relu") for name, text in evil.items()}
        path.write_bytes(VARIANTS[variant](written(good), written(evil, pad=4096)))
        manifest.write_text(manifest.read_text().replace(before, sha256_of(path)))
        return net

    return build


def pickle_as_torchscript(folder: Path) -> Path:
    def change(content: Description) -> None:
        path = folder / "net" / "weights.pt"
        path.write_bytes(pickle.dumps(Marks(folder / "marker")))
        entry = {"source": "weights.pt", "sha256": sha256_of(path), "pytorch_version": "2.6"}
        content["weights"] = {"torchscript": entry}

    return package(folder, change)


def weights_of(folder: Path, name: str, source: str, **words: str) -> Path:
    """Write a package whose only weights are a file that lies in its folder already."""

    def change(content: Description) -> None:
        file = folder / "net" / source
        (folder / source).replace(file)
        content["weights"] = {name: {"source": source, "sha256": sha256_of(file), **words}}

    return package(folder, change)


def saved_model(folder: Path, deed: str, member: str = "") -> Path:
    """Write a SavedModel whose graph does something beside computing, or a bundle that is sly."""
    import tensorflow as tf

    marker, secret = str(folder / "marker"), str(folder / "secret")
    deeds: dict[str, Callable[[], Any]] = {
        "nothing": lambda: 0.0,
        "writes": lambda: tf.io.write_file(marker, "x"),
        "reads": lambda: tf.strings.length(tf.io.read_file(secret)),
        "calls Python": lambda: tf.py_function(Path(marker).mkdir, [], []),
    }

    def network(image: Any) -> dict[str, Any]:
        done = deeds[deed]()
        with tf.control_dependencies([done] if isinstance(done, tf.Operation) else []):
            return {"map": tf.identity(image)}

    net = tf.Module()
    taken = tf.TensorSpec([None, 1, None, None], tf.float32, name="image")
    net.call = tf.function(network, input_signature=[taken])
    tf.saved_model.save(net, str(folder / "bundle"), signatures=net.call)
    with zipfile.ZipFile(folder / "bundle.zip", "w") as archive:
        for path in sorted((folder / "bundle").rglob("*")):
            archive.write(path, path.relative_to(folder / "bundle").as_posix())
        if member:
            archive.writestr(member, "x")
    version = {"tensorflow_version": "2.18"}
    return weights_of(folder, "tensorflow_saved_model_bundle", "bundle.zip", **version)


def keras_lambda(folder: Path, name: str, source: str) -> Path:
    """Write a Keras file with a layer that is Python code."""
    import keras

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old format is what is wanted here
        layer = keras.layers.Lambda(lambda x: x * 2)
        keras.Sequential([keras.Input((1, 64, 64)), layer]).save(folder / source)
    version = {"keras_version": "3.12", "backend": ["tensorflow", "2.18"]}
    words = {"tensorflow_version": "2.18"} if name == "keras_hdf5" else version
    return weights_of(folder, name, source, **words)


def sizes(**axis: Any) -> Callable[[Path], Path]:
    """Give the spatial axes of the input other sizes, after the test tensors were made."""

    def change(content: Description) -> None:
        for one in content["inputs"][0]["axes"]:
            if one["type"] == "space":
                one.update(axis)

    return lambda folder: package(folder, change)


def named(key: str, value: Any) -> Callable[[Path], Path]:
    return lambda folder: package(folder, lambda content: content.update({key: value}))


ESCAPES = "\x1b]0;owned\x07\x1b[2Jnet<script>alert(1)</script>"

REFUSED: dict[str, tuple[Callable[[Path], Path], set[str]]] = {
    "weights are a pickle that acts": (pickled_weights, {"package.runs-code"}),
    "weights are a saved object that acts": (pickled_module, {"package.runs-code"}),
    "the manifest calls a program": (calls("subprocess", "check_call"), {"package.runs-code"}),
    "the manifest calls a shell": (calls("os", "system"), {"package.runs-code"}),
    "the manifest calls exec": (calls("builtins", "exec"), {"package.runs-code"}),
    "the manifest imports a file beside it": (module_in_the_folder, {"package.runs-code"}),
    "a step is code": (custom_step, {"package.runs-code"}),
    "weights at an absolute path": (weights_at("/etc/hostname"), {"package.path"}),
    "weights above the folder": (weights_at("../secret"), {"package.path"}),
    "weights above by backslashes": (weights_at("..\\secret"), {"package.path"}),
    "weights at a file address": (weights_at("file:///etc/hostname"), {"package.path"}),
    "weights with a NUL in the name": (weights_at("a\0b"), {"package.invalid"}),
    "weights with a name without end": (weights_at("a" * 5000), {"package.invalid"}),
    "weights are a link out": (link_out, {"package.path"}),
    "weights behind a link to a folder": (folder_link_out, {"package.path"}),
    "weights are a link to a secret": (secret_as_weights, {"package.path"}),
    "weights are a pipe": (pipe_as_weights, {"package.missing-file"}),
    "weights are a folder": (folder_as_weights, {"package.missing-file"}),
    "a zip with a member above it": (zip_member("../marker"), {"model.archive-refused"}),
    "a zip with an absolute member": (zip_member("/bmz-marker"), {"model.archive-refused"}),
    "a zip with a link": (zip_link, {"model.archive-refused"}),
    "a zip that swells": (zip_bomb, {"model.archive-refused"}),
    "a zip of very many files": (zip_of_many, {"model.archive-refused"}),
    "a zip that is cut short": (zip_cut_short, {"model.not-a-package"}),
    "a manifest that swells by aliases": (yaml_bomb, {"package.invalid"}),
    "a manifest nested without end": (yaml_deep, {"package.invalid"}),
    "a manifest with a tag that acts": (yaml_tag, {"package.invalid"}),
    "a manifest that is not text": (
        lambda f: with_manifest(f, b"\xff\xfe\0\0"), {"package.invalid"},
    ),
    "a manifest with a key twice": (
        lambda f: with_manifest(f, "type: model\ntype: dataset\n"), {"package.invalid"},
    ),
    "external data at an absolute path": (
        onnx_outside("FOLDER/outside.bin"), {"package.weights-unreadable", "package.path"},
    ),
    "external data above the folder": (
        onnx_outside("../outside.bin"), {"package.weights-unreadable", "package.path"},
    ),
    "a network of an unknown domain": (onnx_of_another_domain, {"package.weights-unreadable"}),
    "a network that is noise": (onnx_content(os.urandom(5000)), {"package.weights-unreadable"}),
    "a network that is empty": (onnx_content(b""), {"package.weights-unreadable"}),
    "TorchScript that reads a file": (torchscript_reads, {"package.runs-code"}),
    "TorchScript that writes a file": (torchscript_saves, {"package.runs-code"}),
    **{
        f"TorchScript of two networks: {variant}": (
            torchscript_of_two(variant),
            {"model.archive-refused", "package.runs-code", "package.weights-unreadable"},
        )
        for variant in VARIANTS
    },
    "TorchScript that is a pickle": (
        pickle_as_torchscript, {"package.weights-unreadable", "package.runs-code"},
    ),
    "a SavedModel that writes a file": (lambda f: saved_model(f, "writes"), {"package.runs-code"}),
    "a SavedModel that reads a file": (lambda f: saved_model(f, "reads"), {"package.runs-code"}),
    "a SavedModel that calls Python": (
        lambda f: saved_model(f, "calls Python"), {"package.runs-code"},
    ),
    "a SavedModel with a member above it": (
        lambda f: saved_model(f, "nothing", "../marker"), {"model.archive-refused"},
    ),
    "a Lambda layer in HDF5": (
        lambda f: keras_lambda(f, "keras_hdf5", "net.h5"), {"package.runs-code"},
    ),
    "a Lambda layer in Keras 3": (
        lambda f: keras_lambda(f, "keras_v3", "net.keras"), {"package.runs-code"},
    ),
    "a size of nothing": (sizes(size=0), {"package.invalid"}),
    "a size below nothing": (sizes(size=-64), {"package.invalid"}),
    "a step of nothing": (sizes(size={"min": 64, "step": 0}), {"package.invalid"}),
    "a size without end": (sizes(size=10**12), {"memory.full", "predict.out-of-memory"}),
}  # fmt: skip
"""Name -> how it is built, and the codes of which one must be told by ``bmz run``."""

HARMLESS: dict[str, Callable[[Path], Path]] = {
    "a test input that is a pickle": npy_of_objects("inputs"),
    "a test output that is a pickle": npy_of_objects("outputs"),
    "a test input with a shape without end": npy_header(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1000000, 100000000), }"
    ),
    "a test input whose header is code": npy_header("__import__('os').mkdir('MARKER') or {}"),
    "a name that steers the terminal": named("name", ESCAPES),
    "a description that steers the terminal": named("description", ESCAPES),
    "authors that steer the terminal": named("authors", [{"name": ESCAPES}]),
    "tags that steer the terminal": named("tags", ["instance-segmentation", ESCAPES]),
}
"""Packages that may run, for what is wrong with them is not used: it must do no harm."""
