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
from typing import Any

import numpy as np
import pytest
import tifffile
from ruyaml import YAML

import bmz
from bmz.cli.main import status_of
from bmz.process.matching import match_labels

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated")
torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from bmz.predict.checkpoints import read_checkpoint  # noqa: E402
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
    assert "note:" not in adopted.words.replace("note: no object is found", "")


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
        (_text, "begins with b'epoch,lo'"),
        (lambda path: path.touch(), "it is empty"),
        (lambda _: None, "No such file"),
        (_cut, "cut short or damaged"),
        (_other, "holds 2 tensors (weight, bias)"),
        (_version_4, "of Cellpose 4"),
        (_with_code, "holds more than tensors"),
        (_lacking, "it lacks upsample.up.res_up_0.conv.conv_1.full.weight"),
        (_five_maps, "2 spatial axes and 6 maps"),
        (_script, "without 'pixel_size'"),
        (lambda path: path.mkdir(), "folder"),
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
