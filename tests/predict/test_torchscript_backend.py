"""Networks in TorchScript files: every kind of output, either memory layout, clear refusals."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.predict.backend import (
    CPU,
    Backend,
    LoadRequest,
    NetworkFailed,
    OutOfMemory,
    TensorCountDiffers,
    WeightsUnreadable,
)
from bmz.predict.formats import open_backend
from bmz.predict.torch_network import TorchBackend
from bmz.predict.torchscript import ScriptTouchesHost
from bmz.testing.backend import BackendContract, OverlapContract, StaysContract

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

Names = tuple[str, ...]
Outputs = dict[str, torch.Tensor]


class Blur(torch.nn.Module):
    """One convolution, a dropout that evaluation must switch off, and an in-place sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 2, 3, padding=1)
        self.drop = torch.nn.Dropout(0.9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.drop(self.conv(x.add_(1)))
        return y


class Nested(torch.nn.Module):
    def forward(
        self, x: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, list[torch.Tensor]]]:
        return x, (x + 1, [x + 2, x + 3])


class Named(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Outputs:
        return {"style": x + 1, "mask": x + 2}


class Viewing(torch.nn.Module):
    """Flatten by ``view``, which needs the layout that it was written for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        return y.view(x.shape[0], -1).view(y.shape)


class Half(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.bfloat16)


def saved(network: torch.nn.Module, folder: Path) -> Path:
    path = folder / "weights.pt"
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script: Any = torch.jit.script(network)
    script.save(str(path))
    return path


def opened(path: Path, outputs: Names = ("mask",)) -> Backend:
    return open_backend("torchscript", LoadRequest(path, ("raw",), tuple(outputs)))


def images(channels: int = 1) -> AnyArray:
    return np.random.default_rng(0).random((2, channels, 12, 16), np.float32)


class TestTorchBackend(OverlapContract, StaysContract):
    @pytest.fixture(autouse=True)
    def _weights(self, tmp_path: Path) -> None:
        self.path = saved(Blur(), tmp_path)

    def backend(self) -> Backend:
        return opened(self.path)

    def inputs(self) -> list[AnyArray]:
        return [images()]


def test_outputs_in_lists_and_tuples_are_taken_in_order(tmp_path: Path) -> None:
    x = images()

    found = opened(saved(Nested(), tmp_path), ("p", "q", "r")).run([x])

    assert [float((array - x).mean().round(3)) for array in found] == [0, 1, 2]


@pytest.mark.parametrize(("ids", "more"), [(("mask",), 2), (("mask", "style"), 2), (("p",), 1)])
def test_outputs_in_a_dictionary_go_by_name_or_else_in_order(
    tmp_path: Path, ids: Names, more: int
) -> None:
    x = images()

    found = opened(saved(Named(), tmp_path), ids).run([x])

    assert len(found) == len(ids)
    np.testing.assert_allclose(found[0], x + more)


def test_a_network_that_needs_its_own_layout_gets_it(tmp_path: Path) -> None:
    x = images(2)
    network = Viewing()
    path = saved(network, tmp_path)
    with torch.no_grad():
        wanted = network(torch.from_numpy(x.copy())).numpy()

    backend = opened(path)

    np.testing.assert_allclose(backend.run([x])[0], wanted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(backend.run([x])[0], wanted, rtol=0, atol=1e-6)


def test_a_3d_network_runs(tmp_path: Path) -> None:
    stack = images()[:, :, None].repeat(4, 2)

    (found,) = opened(saved(torch.nn.Conv3d(1, 2, 3, padding=1), tmp_path)).run([stack])

    assert found.shape == (2, 2, 4, 12, 16)


def test_bfloat16_comes_back_as_float32(tmp_path: Path) -> None:
    (found,) = opened(saved(Half(), tmp_path)).run([images()])

    assert found.dtype == np.float32


def test_fewer_outputs_than_the_description_names_are_refused(tmp_path: Path) -> None:
    backend = opened(saved(Half(), tmp_path), ("p", "q"))

    with pytest.raises(TensorCountDiffers, match="1 outputs, but its description names 2"):
        backend.run([images()])


def test_a_failure_is_told_in_one_line_with_the_shape(tmp_path: Path) -> None:
    backend = opened(saved(Blur(), tmp_path))

    with pytest.raises(NetworkFailed, match="on float32 2x3x12x16") as raised:
        backend.run([images(3)])

    assert "\n" not in raised.value.message


def test_an_allocation_that_fails_is_out_of_memory() -> None:
    class Greedy(torch.nn.Module):
        def forward(self, _x: torch.Tensor) -> torch.Tensor:
            return torch.empty(10**15)

    backend = TorchBackend(Greedy(), LoadRequest(Path("none"), ("raw",), ("mask",), CPU))

    with pytest.raises(OutOfMemory, match="float32 2x1x12x16"):
        backend.run([images()])


@pytest.mark.parametrize("content", [b"", b"not a network", None], ids=["empty", "text", "none"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.pt"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(WeightsUnreadable, match=r"weights\.pt") as raised:
        opened(path)

    assert raised.value.code == "package.weights-unreadable"
    assert "\n" not in raised.value.message


def test_a_closed_backend_does_not_run(tmp_path: Path) -> None:
    backend = opened(saved(Half(), tmp_path))
    backend.close()

    with pytest.raises(NetworkFailed, match="closed"):
        backend.run([images()])


def test_threads_are_those_asked_for(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    path = saved(Half(), tmp_path)

    try:
        open_backend("torchscript", LoadRequest(path, ("raw",), ("mask",), threads=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.gpu
def test_cuda_gives_the_numbers_of_the_cpu(tmp_path: Path) -> None:
    from bmz.predict.formats import resolve_device

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    path, device = saved(Blur(), tmp_path), resolve_device("auto", "torchscript")

    weights = LoadRequest(path, ("raw",), ("mask",), device)
    (found,) = open_backend("torchscript", weights).run([images()])

    np.testing.assert_allclose(found, opened(path).run([images()])[0], rtol=0, atol=1e-2)


openvino_too = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")


class Sum(torch.nn.Module):
    """Two inputs of which the file says neither sizes nor types."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + 2 * y, x - y


def by_openvino(path: Path, inputs: Names = ("raw",), outputs: Names = ("mask",)) -> Backend:
    axes = ("bcyx",) * len(inputs)
    request = LoadRequest(path, inputs, outputs, threads=1, backend="openvino", input_axes=axes)
    return open_backend("torchscript", request)


@openvino_too
class TestOpenvinoOfScripts(BackendContract):
    @pytest.fixture(autouse=True)
    def _weights(self, tmp_path: Path) -> None:
        self.path = saved(Blur(), tmp_path)

    def backend(self) -> Backend:
        return by_openvino(self.path)

    def inputs(self) -> list[AnyArray]:
        return [images()]


@openvino_too
def test_openvino_gives_what_pytorch_gives(tmp_path: Path) -> None:
    path = saved(Blur(), tmp_path)

    outputs, expected = by_openvino(path).run([images()]), opened(path).run([images()])

    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)


@openvino_too
def test_openvino_takes_inputs_in_their_order_though_the_file_says_nothing_of_them(
    tmp_path: Path,
) -> None:
    x, y = images(), images() + 1

    first, second = by_openvino(saved(Sum(), tmp_path), ("a", "b"), ("p", "q")).run([x, y])

    np.testing.assert_allclose(first, x + 2 * y, rtol=1e-6)
    np.testing.assert_allclose(second, x - y, rtol=1e-6)


@openvino_too
def test_openvino_reads_no_script_that_touches_the_host(tmp_path: Path) -> None:
    class Writing(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.save(x, "written")
            return x

    path = saved(Writing(), tmp_path)

    with pytest.raises(ScriptTouchesHost, match="save"):
        by_openvino(path)
