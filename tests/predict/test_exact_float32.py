"""On a GPU float32 is float32: no framework may round it to the 10 bits of TF32 unasked."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bmz.predict import onnx, tensorflow, torch_network
from bmz.predict.backend import CPU, Device, LoadRequest
from bmz.predict.formats import open_backend
from bmz.predict.torchscript import round_nothing_in

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

GPU = Device("cuda", 1)
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


def traced(folder: Path) -> Any:
    """Trace a network whose layers lie in each other, and load it from its file."""
    torch.manual_seed(0)
    inner = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.ConvTranspose2d(3, 1, 2))
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), inner).eval()
    script = torch.jit.trace(network, torch.zeros(1, 1, 16, 16))  # type: ignore[no-untyped-call]
    script.save(folder / "weights.pt")
    return torch.jit.load(folder / "weights.pt")  # type: ignore[no-untyped-call]


def kept_settings(network: Any) -> list[bool]:
    graph = network.inlined_graph
    convolutions = graph.findAllNodes("aten::_convolution", recurse=True)
    return [list(node.inputs())[-1].node().i("value") == 1 for node in convolutions]


def test_convolutions_of_a_trace_ask_for_float32(tmp_path: Path) -> None:
    network, x = traced(tmp_path), torch.rand(1, 1, 16, 16)

    before = kept_settings(traced(tmp_path))
    round_nothing_in(network)

    assert before == [True] * 3
    assert kept_settings(network) == [False] * 3
    assert torch.equal(network(x), traced(tmp_path)(x))


def test_a_script_asks_the_settings_of_the_process_and_stays_as_it_is() -> None:
    network = torch.jit.script(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3)).eval())
    x = torch.rand(1, 1, 8, 8)

    round_nothing_in(network)

    assert "aten::_convolution" not in str(network.inlined_graph)
    assert network(x).shape == (1, 2, 6, 6)


@pytest.mark.parametrize(("device", "rounds"), [(GPU, False), (CPU, True)])
def test_pytorch_is_told_for_a_gpu_alone(device: Device, rounds: bool) -> None:
    cudnn, matmul = SimpleNamespace(allow_tf32=True), SimpleNamespace(allow_tf32=True)
    module: Any = SimpleNamespace(
        backends=SimpleNamespace(cudnn=cudnn, cuda=SimpleNamespace(matmul=matmul))
    )

    torch_network.round_nothing(module, device)

    assert (cudnn.allow_tf32, matmul.allow_tf32) == (rounds, rounds)


@pytest.mark.parametrize(("device", "told"), [(GPU, [False]), (CPU, [])])
def test_tensorflow_is_told_for_a_gpu_alone(device: Device, told: list[bool]) -> None:
    heard: list[bool] = []
    experimental = SimpleNamespace(
        enable_tensor_float_32_execution=lambda *, enabled: heard.append(enabled)
    )
    module: Any = SimpleNamespace(config=SimpleNamespace(experimental=experimental))

    tensorflow.round_nothing(module, device)

    assert heard == told


def test_onnx_runtime_is_told_with_the_number_of_the_gpu() -> None:
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    module = ModuleType("onnxruntime")
    vars(module)["get_available_providers"] = lambda: names

    (first, last) = onnx._providers(module, GPU)

    assert first == ("CUDAExecutionProvider", {"device_id": 1, "use_tf32": "0"})
    assert last == "CPUExecutionProvider"


@pytest.mark.gpu
def test_a_trace_on_cuda_gives_the_numbers_of_the_cpu(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    torch.manual_seed(0)
    x = torch.from_numpy(np.random.default_rng(0).random((1, 64, 128, 128), np.float32))
    network = torch.nn.Conv2d(64, 64, 3).eval()
    script = torch.jit.trace(network, x)  # type: ignore[no-untyped-call]
    script.save(tmp_path / "weights.pt")
    weights = LoadRequest(tmp_path / "weights.pt", ("raw",), ("mask",), Device("cuda"))

    (found,) = open_backend("torchscript", weights).run([x.numpy()])

    np.testing.assert_allclose(found, network(x).detach().numpy(), rtol=0, atol=1e-5)
