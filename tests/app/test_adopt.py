"""Checkpoints of other programs become packages that pass their own test; wrong files are told."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest
import tifffile
from ruyaml import YAML

import bmz
from bmz.base.arrays import AnyArray
from bmz.cli.main import status_of
from bmz.process.matching import match_labels

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated")
torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from bmz.predict.checkpoints import keras_layers, read_checkpoint  # noqa: E402
from bmz.predict.known_networks import StyledLayout, StyledUNet, filled  # noqa: E402

State = Mapping[str, Any]
SMALL = StyledLayout(2, (2, 4, 6), 3, 3)


def network(layout: StyledLayout = SMALL) -> StyledUNet:
    torch.manual_seed(0)
    return StyledUNet(layout).eval()


def checkpoint(path: Path, layout: StyledLayout = SMALL, **more: float) -> Path:
    state = network(layout).state_dict() | {name: torch.tensor([n]) for name, n in more.items()}
    torch.save(state, path)
    return path


def described(folder: Path) -> Any:
    return YAML(typ="safe").load((folder / "bioimageio.yaml").read_text(encoding="utf-8"))


def told(capsys: pytest.CaptureFixture[str]) -> str:
    words = capsys.readouterr()
    return words.out + words.err


@dataclass(frozen=True)
class Adopted:
    """What one call wrote and printed, and its exit status."""

    status: int
    folder: Path
    words: str
    content: Any


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Adopted:
    """Adopt a network with random weights, with every option that says whose it is."""
    folder = tmp_path_factory.mktemp("adopted")
    path = checkpoint(folder / "mine.pth", diam_mean=24.0, diam_labels=31.0)
    image = folder / "own.tif"
    pixels = np.random.default_rng(0).random((2, 90, 70), np.float32)
    tifffile.imwrite(image, pixels, metadata={"axes": "CYX"})
    words = ["--author", "Ada", "--license", "CC-BY-4.0", "--cite", "A., 2024|10.1000/x"]
    printed = StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        status = status_of(["adopt", str(path), "-o", str(folder), "--sample", str(image), *words])
    return Adopted(status, folder / "mine", printed.getvalue(), described(folder / "mine"))


def test_a_state_dict_of_cellpose_becomes_a_package_that_passes(adopted: Adopted) -> None:
    content = adopted.content

    assert adopted.status == 0
    assert adopted.words.splitlines()[-1] == f"{adopted.folder}: passed"
    assert content["config"]["bmz"]["object_diameter_px"] == 24
    assert content["outputs"][0]["postprocessing"][0]["id"] == "cellpose_flow_dynamics"
    assert set(content["weights"]) == {"onnx", "torchscript"}
    assert np.load(adopted.folder / "test_input.npy").shape == (1, 2, 88, 68)


def test_what_the_author_says_stands_in_the_description(adopted: Adopted) -> None:
    content = adopted.content

    assert [content["license"], content["authors"]] == ["CC-BY-4.0", [{"name": "Ada"}]]
    assert [entry["doi"] for entry in content["cite"]] == [
        "10.1038/s41592-020-01018-x",
        "10.1000/x",
    ]
    assert "note:" not in adopted.words.replace("note: no object was found", "")


def test_the_zip_holds_the_files_of_the_folder_and_is_a_package(adopted: Adopted) -> None:
    archive = adopted.folder.with_suffix(".zip")

    with zipfile.ZipFile(archive) as content:
        names = content.namelist()

    assert sorted(names) == sorted(path.name for path in adopted.folder.iterdir())
    assert bmz.load(archive).spec.ours["object_diameter_px"] == 24


def test_the_exported_networks_give_what_the_tensors_give(adopted: Adopted) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    x = torch.rand(2, 2, 36, 44)

    wanted = network()(x).detach().numpy()
    script = torch.jit.load(adopted.folder / "weights.pt")(x).numpy()
    session = onnxruntime.InferenceSession(adopted.folder / "weights.onnx")
    (onnx,) = session.run(None, {"image": x.numpy()})

    np.testing.assert_allclose(script, wanted, atol=1e-5)
    np.testing.assert_allclose(onnx, wanted, atol=1e-5)
    assert not any(b"known_networks.py" in p.read_bytes() for p in adopted.folder.iterdir())


def test_what_nobody_states_is_a_placeholder_that_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = status_of(["adopt", str(checkpoint(tmp_path / "mine")), "-o", str(tmp_path / "out")])

    words, content = told(capsys), described(tmp_path / "out" / "mine")
    assert status == 0
    assert content["authors"] == [{"name": "author to be stated"}]
    assert "license" not in content
    assert "object_diameter_px" not in content["config"]["bmz"]
    assert all(option in words for option in ("--author", "--license", "--diameter", "--sample"))


@pytest.mark.parametrize(
    ("layout", "words", "family", "maps"),
    [
        (StyledLayout(2, (1, 4, 6), 4, 3, mirrored=True), (), "omnipose", 4),
        (StyledLayout(2, (2, 4, 6), 3, 3, mirrored=True), ("--as", "omnipose"), "omnipose", 3),
        (StyledLayout(3, (1, 4, 6), 4, 3, mirrored=True), (), "omnipose", 4),
        (StyledLayout(2, (2, 4, 6), 3, 3), ("--as", "cellpose"), "cellpose", 1),
    ],
)
def test_cellpose_and_omnipose_are_told_apart_by_axes_maps_and_word(
    layout: StyledLayout,
    words: tuple[str, ...],
    family: str,
    maps: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = checkpoint(tmp_path / "mine.pth", layout)
    image = tmp_path / "own.tif"
    axes = "ZYX" if layout.axes == 3 else "YX"
    rng = np.random.default_rng(0)
    tifffile.imwrite(image, rng.random((48,) * layout.axes, np.float32), metadata={"axes": axes})
    call = ["adopt", str(path), "-o", str(tmp_path / "out"), "--sample", str(image), *words]

    status = status_of([*call, "--json"])

    (model,) = json.loads(capsys.readouterr().out)["models"]
    (output,) = described(tmp_path / "out" / "mine")["outputs"]
    assert (status, model["family"], model["test"]["status"]) == (0, family, "passed")
    assert len(output["axes"][1]["channel_names"]) == maps
    spec = bmz.load(tmp_path / "out" / "mine").spec
    x = np.load(tmp_path / "out" / "mine" / "test_input.npy")
    assert spec.space == axes.lower()
    assert x.shape[2:] == (48,) * layout.axes


def test_names_that_scellseg_and_parallel_training_give_are_understood(tmp_path: Path) -> None:
    renamed = {"output.0.": "tasker.base_bn.", "output.2.": "tasker.base_conv."}
    state = {}
    for name, tensor in network().state_dict().items():
        start = next((s for s in renamed if name.startswith(s)), "")
        state[f"module.{renamed.get(start, 'extractor.')}{name.removeprefix(start)}"] = tensor
    torch.save(state, tmp_path / "mine.pth")

    read = read_checkpoint(tmp_path / "mine.pth").network

    x = torch.rand(1, 2, 32, 32)
    assert not isinstance(read, Path)
    assert torch.equal(read(x), network()(x))


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return print, ("code of a checkpoint is run",)


def _text(path: Path) -> None:
    path.write_text("epoch,loss\n1,0.5\n", encoding="utf-8")


def _cut(path: Path) -> None:
    content = checkpoint(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _other(path: Path) -> None:
    torch.save(torch.nn.Linear(2, 3).state_dict(), path)


def _version_4(path: Path) -> None:
    torch.save({"W2": torch.zeros(2), "encoder.pos_embed": torch.zeros(2)}, path)


def _with_code(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": Evil()}, protocol=2))


def _lacking(path: Path) -> None:
    state = network().state_dict()
    del state["upsample.up.res_up_0.conv.conv_1.full.weight"]
    torch.save(state, path)


def _five_maps(path: Path) -> None:
    checkpoint(path, StyledLayout(2, (2, 4, 6), 6, 3))


def _script(path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Identity(), torch.zeros(1)), path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_text, "starts with b'epoch,lo'"),
        (lambda path: path.touch(), "it is empty"),
        (lambda _: None, "No such file"),
        (_cut, "truncated or damaged"),
        (_other, "has 2 tensors (weight, bias)"),
        (_version_4, "from Cellpose 4"),
        (_with_code, "contains more than tensors"),
        (_lacking, "it lacks upsample.up.res_up_0.conv.conv_1.full.weight"),
        (_five_maps, "2 spatial axes and 6 maps"),
        (_script, "without the attributes 'pixel_size'"),
        (lambda path: path.mkdir(), "config.json' cannot be read"),
    ],
)
def test_a_file_that_is_no_known_checkpoint_is_told_with_status_3(
    make: Callable[[Path], object],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "mine.pth"
    make(path)

    status = status_of(["adopt", str(path), "-o", str(tmp_path / "out")])

    text = told(capsys)
    assert status == 3
    assert words in text
    assert "mine.pth" in text
    assert "hint: " in text
    assert "is run" not in text
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--license", "free for all"), "adopt.description"),
        (("--cite", "A., 2024"), "adopt.description"),
        (("--sample", "flat.npy"), "adopt.sample"),
        (("-o", "taken"), "adopt.exists"),
    ],
)
def test_an_option_that_does_not_suit_is_wrong_usage_and_leaves_nothing(
    words: tuple[str, ...],
    code: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = checkpoint(tmp_path / "mine.pth")
    np.save(tmp_path / "flat.npy", np.zeros((3, 4), np.float32))
    (tmp_path / "taken" / "mine").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))

    status = status_of(["adopt", str(path), *words])

    assert status == 2
    assert f"[{code}]" in told(capsys)
    assert sorted(tmp_path.rglob("*")) == before


def test_one_checkpoint_that_fails_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = checkpoint(tmp_path / "good.pth"), tmp_path / "bad.pth"
    _text(bad)

    status = status_of(["adopt", str(bad), str(good), "-o", str(tmp_path / "out"), "--json"])

    models = json.loads(capsys.readouterr().out)["models"]
    assert status == 1
    assert [model["status"] for model in models] == ["failed", "adopted"]
    assert models[0]["error"]["code"] == "adopt.unreadable"
    assert models[1]["test"]["status"] == "passed"


def state_of_onnx(path: Path) -> dict[str, Any]:
    """Give the tensors of Cellpose in an ONNX file as a state dict.

    The exporter has merged normalisations into the convolutions before them; these stand here as
    ones that change nothing.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    values = {i.name: torch.tensor(numpy_helper.to_array(i)) for i in graph.initializer}
    copies = (node for node in graph.node if node.op_type == "Identity")
    values |= {node.output[0]: values[node.input[0]] for node in copies}
    state = {name.removeprefix("m."): value for name, value in values.items()}
    plain = StyledUNet(StyledLayout(2, (2, 32, 64, 128, 256), 3, 3)).eval()
    called: list[str] = []
    for name, module in plain.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda *_, name=name: called.append(name))
    plain(torch.zeros(1, 2, 64, 64))
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    for name, node in zip(called, nodes, strict=True):
        state |= {
            f"{name}.{p}": values[i]
            for p, i in zip(("weight", "bias"), node.input[1:], strict=True)
        }
    own = plain.state_dict()
    same = {"weight": (1 + 1e-5) ** 0.5, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    for name, value in own.items():
        if name not in state and (part := name.rpartition(".")[2]) in same:
            state[name] = torch.full_like(value, same[part])
    return {name: state[name] for name in own if name in state}


@pytest.mark.slow
def test_an_adopted_cellpose_gives_the_masks_of_cellpose(shared: Path, tmp_path: Path) -> None:
    state = state_of_onnx(shared / "models" / "cellpose-cyto" / "weights.onnx")
    assert filled(StyledUNet(StyledLayout(2, (2, 32, 64, 128, 256), 3, 3)), state)[1] == ""
    torch.save(state | {"diam_mean": torch.tensor([30.0])}, tmp_path / "cyto")
    wanted = tifffile.imread(f"{shared}/golden/cellpose-cyto__membranes_nuclei-d60.eval.labels.tif")
    image = shared / "data" / "neubias" / "xyc_8bit__membranes_nuclei.tif"

    assert status_of(["adopt", str(tmp_path / "cyto"), "-o", str(tmp_path / "out")]) == 0
    model = bmz.load(tmp_path / "out" / "cyto")
    labels = model.run(image, scale=0.5).labels

    assert match_labels(np.asarray(labels), wanted, 0.8).f1 >= 0.95


def star_folder(folder: Path, *, grid: int = 2, normed: bool = False, prefix: str = "") -> Path:
    """Write a folder as StarDist does, with random weights in the layout of Keras."""
    h5py = pytest.importorskip("h5py")
    config = {
        "n_dim": 2, "axes": "YXC", "n_channel_in": 1, "n_rays": 8, "grid": [grid, grid],
        "backbone": "unet", "unet_n_depth": 2, "unet_kernel_size": [3, 3], "unet_pool": [2, 2],
        "unet_n_filter_base": 4, "unet_n_conv_per_depth": 2, "unet_activation": "relu",
        "unet_last_activation": "relu", "unet_batch_norm": normed, "unet_prefix": prefix,
        "net_conv_after_unet": 6, "n_classes": None,
    }  # fmt: skip
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    rng = np.random.default_rng(0)

    def convolution(before: int, after: int, side: int = 3) -> list[AnyArray]:
        kernel = rng.normal(0, 0.3, (side, side, before, after)).astype(np.float32)
        return [kernel, rng.normal(0, 0.1, after).astype(np.float32)]

    layers: dict[str, list[AnyArray]] = {}
    unet = [
        ("down_level_0_no_0", 4 if grid > 1 else 1, 4), ("down_level_0_no_1", 4, 4),
        ("down_level_1_no_0", 4, 8), ("down_level_1_no_1", 8, 8),
        ("middle_0", 8, 16), ("middle_2", 16, 8),
        ("up_level_1_no_0", 16, 8), ("up_level_1_no_2", 8, 4),
        ("up_level_0_no_0", 8, 4), ("up_level_0_no_2", 4, 4),
    ]  # fmt: skip
    if grid > 1:
        # Keras goes on counting from one network of a process to the next
        layers |= {"conv2d_9": convolution(1, 4), "conv2d_10": convolution(4, 4)}
    for number, (name, before, after) in enumerate(unet):
        layers[f"{prefix}{name}"] = convolution(before, after)
        if normed:
            norm = [rng.uniform(0.5, 1.5, after).astype(np.float32) for _ in range(4)]
            layers["batch_normalization" + f"_{number}" * bool(number)] = norm
    layers |= {"features": convolution(4, 6), "prob": convolution(6, 1, 1)}
    layers |= {"dist": convolution(6, 8, 1), "max_0": []}
    parts = ("kernel:0", "bias:0", "mean:0", "variance:0")
    with h5py.File(folder / "weights_best.h5", "w") as file:
        # Keras lists them in another order than they are made in
        file.attrs["layer_names"] = sorted(layers)
        for name, arrays in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{p}" for p in parts[: len(arrays)]]
            for part, array in zip(parts, arrays, strict=False):
                group.create_dataset(f"{name}/{part}", data=array)
    return folder


@pytest.mark.parametrize(
    ("grid", "normed", "prefix"), [(2, False, ""), (1, True, "net_")], ids=["grid", "normed"]
)
def test_a_folder_of_stardist_becomes_the_network_that_keras_computes(
    grid: int, normed: bool, prefix: str, tmp_path: Path
) -> None:
    keras = pytest.importorskip("keras")
    folder = star_folder(tmp_path / "stars", grid=grid, normed=normed, prefix=prefix)
    layers = keras_layers(folder / "weights_best.h5")
    names = iter(sorted((n for n in layers if n.startswith("conv2d")), key=lambda n: int(n[7:])))
    norms = iter(range(99))
    x = np.random.default_rng(1).random((1, 32, 48, 1), np.float32)

    def block(at: Any, name: str, bend: str = "relu", *, norm: bool = False) -> Any:
        kernel, bias = layers[name]
        at = keras.ops.conv(at, kernel, padding="same") + bias
        if norm:
            number = next(norms)
            gamma, beta, mean, var = layers["batch_normalization" + f"_{number}" * bool(number)]
            at = (at - mean) / (var + 1e-3) ** 0.5 * gamma + beta
        return {"relu": keras.ops.relu, "sigmoid": keras.ops.sigmoid, "": lambda y: y}[bend](at)

    at: Any = x
    if grid > 1:
        at = keras.ops.max_pool(block(block(at, next(names)), next(names)), (2, 2))
    skips = []
    for level in (0, 1):
        for number in (0, 1):
            at = block(at, f"{prefix}down_level_{level}_no_{number}", norm=normed)
        skips.append(at)
        at = keras.ops.max_pool(at, (2, 2))
    for name in ("middle_0", "middle_2"):
        at = block(at, prefix + name, norm=normed)
    for level in (1, 0):
        at = keras.ops.repeat(keras.ops.repeat(at, 2, axis=1), 2, axis=2)
        at = keras.ops.concatenate([at, skips[level]], axis=-1)
        for number in (0, 2):
            at = block(at, f"{prefix}up_level_{level}_no_{number}", norm=normed)
    at = block(at, "features")
    wanted = np.concatenate([block(at, "prob", "sigmoid"), block(at, "dist", "")], axis=-1)

    read = read_checkpoint(folder).network
    assert not isinstance(read, Path)
    maps = read(torch.tensor(np.moveaxis(x, -1, 1))).numpy()

    np.testing.assert_allclose(np.moveaxis(maps, 1, -1), wanted, rtol=1e-4, atol=1e-4)


def test_a_folder_of_stardist_becomes_a_package_with_grid_and_thresholds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = star_folder(tmp_path / "stars")
    (folder / "thresholds.json").write_text('{"prob": 0.41, "nms": 0.3}', encoding="utf-8")

    status = status_of(["adopt", str(folder), "-o", str(tmp_path / "out"), "--json"])

    (model,) = json.loads(capsys.readouterr().out)["models"]
    content = described(tmp_path / "out" / "stars")
    spec = bmz.load(tmp_path / "out" / "stars").spec
    assert (status, model["family"], model["test"]["status"]) == (0, "stardist", "passed")
    assert content["config"]["stardist"]["thresholds"] == {"prob": 0.41, "nms": 0.3}
    assert [axis.scale for axis in spec.outputs[0].axes][2:] == [2, 2]
    assert [axis.halo > 0 for axis in spec.outputs[0].axes][2:] == [True, True]
    assert not any("thresholds" in note for note in model["notes"])


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _other_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"backbone": "vgg"}', encoding="utf-8")


def _no_json(folder: Path) -> None:
    (folder / "config.json").write_text("n_rays: 32", encoding="utf-8")


def _no_weights(folder: Path) -> None:
    (folder / "weights_best.h5").unlink()


def _cut_weights(folder: Path) -> None:
    path = folder / "weights_best.h5"
    path.write_bytes(path.read_bytes()[:3000])


def _deeper(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"unet_n_depth": 2', '"unet_n_depth": 3'))


def _wider(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"n_rays": 8', '"n_rays": 32'))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_no_config, "No such file"),
        (_other_config, "its backbone is 'vgg', but only unet and resnet are supported"),
        (_no_json, "it is not JSON"),
        (_no_weights, "it has no weights, such as weights_best.h5"),
        (_cut_weights, "no weights in the form that Keras writes"),
        (_deeper, "they lack the layer 'down_level_2_no_0'"),
        (_wider, "other shapes: layers.dist.conv.weight (8, 6, 1, 1), not (32, 6, 1, 1)"),
    ],
)
def test_a_folder_that_is_none_of_stardist_is_told_with_status_3(
    damage: Callable[[Path], object],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = star_folder(tmp_path / "stars")
    damage(folder)

    status = status_of(["adopt", str(folder), "-o", str(tmp_path / "out")])

    assert status == 3
    assert words in told(capsys)


EMBEDS = """
import torch

class Embeds(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.pixel_size = 0.5
        self.cells_and_nuclei = False
        self.first = torch.nn.Conv2d(1, 1, 1)

    def forward(self, x):
        return (x[:, :1] > 0.5).float()
"""
"""A stand-in for InstanSeg: its attributes, and what is bright as one label."""


def test_a_script_of_instanseg_becomes_a_package_with_its_pixel_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fluo.pt"
    (tmp_path / "embeds.py").write_text(EMBEDS, encoding="utf-8")
    embeds = run_path(str(tmp_path / "embeds.py"), run_name="embeds")["Embeds"]
    torch.jit.save(torch.jit.script(embeds()), path)
    image = tmp_path / "own.tif"
    pixels = np.zeros((64, 72), np.float32)
    pixels[10:30, 12:40] = 1
    tifffile.imwrite(image, pixels)
    call = ["adopt", str(path), "-o", str(tmp_path / "out"), "--sample", str(image), "--json"]

    status = status_of(call)

    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["error"] is None
    spec = bmz.load(tmp_path / "out" / "fluo").spec
    run = bmz.load(tmp_path / "out" / "fluo").run(image)
    assert (status, model["family"], model["test"]["status"]) == (0, "instanseg", "passed")
    assert [(axis.scale, axis.unit) for axis in spec.inputs[0].axes][2:] == [
        (0.5, "micrometer")
    ] * 2
    assert np.array_equal(np.asarray(run.labels) > 0, pixels > 0)
    assert (tmp_path / "out" / "fluo" / "weights.pt").read_bytes() == path.read_bytes()
