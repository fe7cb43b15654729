"""What the torch backend does on CUDA: its order of copies on a stand-in, its numbers on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.plan.tiling import AxisRule, OutputRule, plan_tiles
from bmz.predict import torch_network
from bmz.predict.backend import (
    CPU,
    Device,
    LoadRequest,
    OutOfMemory,
    Precision,
    PrecisionUnsupported,
)
from bmz.predict.cutting import Tensor
from bmz.predict.tiles import TileTooLarge, predict_tiled, run_tiles
from bmz.predict.torch_network import TorchBackend, ready_torch, torch_precisions

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

GPU = Device("cuda")


class Blur(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        return y


def images(count: int = 2) -> AnyArray:
    return np.random.default_rng(0).random((count, 1, 12, 16), np.float32)


def weights(device: Device = CPU, precision: Precision = "float32") -> LoadRequest:
    return LoadRequest(Path("none"), ("raw",), ("mask",), device, precision=precision)


class HostOnly:
    """PyTorch where CUDA is the host itself: pinned memory is plain, and events are noted."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        heard = self.heard

        class Event:
            def __init__(self, *, enable_timing: bool) -> None:
                assert enable_timing

            def record(self, _stream: object) -> None:
                heard.append("record")
                self.place_ms = 1000 * heard.count("record")

            def elapsed_time(self, later: Event) -> float:
                assert "wait" in heard, "a time that is not over is no time"
                return later.place_ms - self.place_ms

            def synchronize(self) -> None:
                heard.append("wait")

        self.cuda = SimpleNamespace(
            Event=Event,
            current_stream=lambda _index: None,
            empty_cache=lambda: heard.append("empty cache"),
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def empty(self, *size: Any, pin_memory: bool = False, **words: Any) -> torch.Tensor:
        self.heard.append("pinned" if pin_memory else "pageable")
        return torch.empty(*size, **words)

    def autocast(self, _kind: str, *words: Any, **more: Any) -> Any:
        return torch.autocast("cpu", *words, **more)


class HereAsCuda(Device):
    """A device of kind ``cuda`` that tensors are moved to without a move."""

    def __str__(self) -> str:
        return "cpu"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> HostOnly:
    found = HostOnly()
    monkeypatch.setattr(torch_network, "import_torch", lambda: found)
    return found


def test_arrays_travel_by_pinned_memory_and_are_read_when_they_have_arrived(
    host: HostOnly,
) -> None:
    backend = TorchBackend(Blur().eval(), weights(HereAsCuda("cuda")))
    odd = np.flip(images().astype(">f4"), -1)

    ticket = backend.submit([odd])
    started = list(host.heard)
    (found,) = backend.collect(ticket)

    assert started == ["record", "pinned", "record", "pinned", "record"]
    assert host.heard[5:] == ["wait"]
    assert backend.computed_s(ticket) == 1  # by the clock of the device, without the way back
    with torch.inference_mode():
        wanted = Blur().eval()(torch.from_numpy(odd.astype(np.float32))).numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def test_outputs_that_stay_are_waited_for_and_not_copied(host: HostOnly) -> None:
    backend = TorchBackend(Blur().eval(), weights(HereAsCuda("cuda")))

    ticket = backend.submit_there([images()])
    started = list(host.heard)
    (found,) = backend.collect_there(ticket)

    assert started == ["record", "pinned", "record"]  # pinned memory is of the input alone
    assert host.heard[3:] == ["wait"]
    assert backend.computed_s(ticket) == 1
    assert isinstance(found, torch.Tensor)
    assert found.shape == (2, 2, 12, 16)


def test_a_processor_computes_for_as_long_as_it_is_waited_for() -> None:
    now = [0.0]

    class Slow(Blur):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            now[0] += 2
            return super().forward(x)

    backend = TorchBackend(Slow().eval(), weights())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bmz.predict.torch_network.time.perf_counter", lambda: now[0])
        ticket = backend.submit([images()])
        backend.collect(ticket)

    assert backend.computed_s(ticket) == 2


def test_out_of_memory_empties_the_cache_of_the_device(host: HostOnly) -> None:
    class Greedy(torch.nn.Module):
        def forward(self, _x: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    backend = TorchBackend(Greedy(), weights(HereAsCuda("cuda")))

    with pytest.raises(OutOfMemory):
        backend.run([images()])

    assert host.heard[-1] == "empty cache"


@pytest.mark.parametrize("emulated", [True, False])
def test_bfloat16_is_offered_where_the_gpu_itself_has_it(
    monkeypatch: pytest.MonkeyPatch, *, emulated: bool
) -> None:
    class Nothing:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    def supported(*, including_emulation: bool) -> bool:
        return including_emulation or not emulated

    there = SimpleNamespace(device=lambda _: Nothing(), is_bf16_supported=supported)
    monkeypatch.setattr(torch_network, "import_torch", lambda: SimpleNamespace(cuda=there))

    offered = torch_precisions(GPU)

    assert ("bfloat16" in offered) is not emulated
    if emulated:
        with pytest.raises(PrecisionUnsupported, match="bfloat16 on cuda:0"):
            ready_torch(weights(GPU, "bfloat16"))


@pytest.mark.parametrize(("precision", "off"), [("bfloat16", 2e-2), ("float16", 2e-3)])
def test_lower_precision_gives_float32_that_is_nearly_the_same(
    precision: Precision, off: float
) -> None:
    whole, half = (TorchBackend(Blur().eval(), weights(CPU, p)) for p in ("float32", precision))

    (wanted,), (found,) = whole.run([images()]), half.run([images()])

    assert found.dtype == np.float32
    assert 0 < np.abs(found - wanted).max() < off


def test_weights_of_one_channel_are_laid_out_channels_last_too() -> None:
    network = Blur().eval()

    TorchBackend(network, weights())

    assert network.conv.weight.shape == (2, 1, 3, 3)
    assert network.conv.weight.stride() == (9, 1, 3, 1)


def test_a_3d_network_takes_lower_precision_too() -> None:
    backend = TorchBackend(torch.nn.Conv3d(1, 2, 3).eval(), weights(CPU, "bfloat16"))

    (found,) = backend.run([images()[:, :, None].repeat(4, 2)])

    assert found.shape == (2, 2, 2, 10, 14)
    assert found.dtype == np.float32


def test_tiles_overlap_in_time_and_give_the_whole_image() -> None:
    image = np.random.default_rng(0).random((1, 1, 64, 80), np.float32)
    rules = [AxisRule(axis, 16, 16, halo=2) for axis in "yx"]
    tiling = plan_tiles({"y": 64, "x": 80}, rules, side=32)
    backend = TorchBackend(Blur().eval(), weights())

    (found,) = predict_tiled(
        backend, [Tensor(image, "bcyx")], tiling, [OutputRule("bcyx")], batch=3
    )

    np.testing.assert_allclose(found, backend.run([image])[0], rtol=0, atol=1e-5)


@pytest.fixture
def cuda() -> Iterator[Device]:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    torch.cuda.empty_cache()
    yield GPU
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.gpu
def test_float32_on_cuda_is_true_float32(cuda: Device) -> None:
    ready_torch(weights(cuda))
    x = np.random.default_rng(0).random((1, 64, 128, 128), np.float32)
    torch.manual_seed(0)
    network = torch.nn.Conv2d(64, 64, 3).eval()
    (wanted,) = TorchBackend(network, weights()).run([x])

    (found,) = TorchBackend(network.to("cuda"), weights(cuda)).run([x])

    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_two_runs_under_way_on_cuda_keep_their_outputs(cuda: Device, precision: Precision) -> None:
    if precision not in torch_precisions(cuda):
        pytest.skip(f"this GPU has no {precision}")
    backend = TorchBackend(Blur().eval().to("cuda"), weights(cuda, precision))
    inputs = [images() + i for i in range(4)]

    tickets = [backend.submit([x]) for x in inputs]
    found = [backend.collect(ticket)[0] for ticket in tickets]

    for x, y in zip(inputs, found, strict=True):
        np.testing.assert_array_equal(y, backend.run([x])[0])


@pytest.mark.gpu
def test_a_gpu_that_is_too_small_gets_fewer_tiles_at_once_and_then_says_so(cuda: Device) -> None:
    class Wide(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.repeat(1, 256, 1, 1).sum(1, keepdim=True)

    image = np.zeros((1, 1, 512, 4096), np.float32)
    rules = [AxisRule(axis, 512, 0) for axis in "yx"]
    tiling = plan_tiles({"y": 512, "x": 4096}, rules)
    total = torch.cuda.get_device_properties(0).total_memory
    inputs, outputs = [Tensor(image, "bcyx")], [OutputRule("bcyx")]

    with closing(TorchBackend(Wide(), weights(cuda))) as backend:
        torch.cuda.set_per_process_memory_fraction((2.5 * 2**28 + 2**26) / total)
        some = run_tiles(backend, inputs, tiling, outputs, batch=8)
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(2**27 / total)
        with pytest.raises(TileTooLarge):
            run_tiles(backend, inputs, tiling, outputs, batch=8)

    assert 1 <= some.batch < 8
