"""Check and time every way in which bmz uses a GPU, in one go.

``PYTHONPATH=src python benchmarks/gpu.py`` needs PyTorch with CUDA, NumPy, SciPy, xarray and
scikit-image, and takes less than 8 minutes. ``--device cpu --small`` runs the same code on any
computer in seconds; its times mean nothing. ``--models FOLDER`` adds rows for real packages.
Prints one line per row, then all rows as JSON; exit status 1 when a check fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_labels import handed_on, labels_on_tensors, maps_that_stay
from torch.nn import functional

from bmz.base.progress import Event, Note
from bmz.engine.network_choice import measure_trials
from bmz.plan.channel_names import RecipeChoice
from bmz.plan.geometry import axis_rules, output_rules
from bmz.plan.plan import Plan
from bmz.plan.tiling import plan_tiles
from bmz.plan.weights_choice import Way, choose_precision
from bmz.predict.backend import CPU, Backend, Device, LoadRequest, OutOfMemory, shapes_of
from bmz.predict.cutting import Tensor, TileJob, stacked_tiles
from bmz.predict.formats import FORMATS, resolve_device
from bmz.predict.formats import OTHERS as RUN_AS_WELL
from bmz.predict.mosaic import Mosaic, Places
from bmz.predict.state_dict import build_network
from bmz.predict.tiles import Attempts, predict_tiled, run_tiles
from bmz.predict.torchscript import round_nothing_in
from bmz.process.components import ComponentSettings, label_components
from bmz.spec.model import (
    AnySize,
    Architecture,
    AxisSpec,
    Fixed,
    LikeAxis,
    ModelSpec,
    PackagedFile,
    Stepped,
    TensorSpec,
)
from bmz.spec.model import Weights as Entry

SOURCE = """
import torch

def pair(taken, given):
    layers = []
    for channels in (taken, given):
        layers += [torch.nn.Conv2d(channels, given, 3, padding=1), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers)

class UNet(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.down = pair(1, width), pair(width, 2 * width)
        self.deep, self.up = pair(2 * width, 4 * width), pair(6 * width, 2 * width)
        self.last, self.out = pair(3 * width, width), torch.nn.Conv2d(width, 1, 1)

    def forward(self, x):
        fine = self.first(x)
        middle = self.down(torch.nn.functional.max_pool2d(fine, 2))
        deep = self.deep(torch.nn.functional.max_pool2d(middle, 2))
        up = torch.nn.functional.interpolate(deep, scale_factor=2.0)
        middle = self.up(torch.cat([middle, up], 1))
        up = torch.nn.functional.interpolate(middle, scale_factor=2.0)
        return torch.sigmoid(self.out(self.last(torch.cat([fine, up], 1))))
"""
HALO_PX = 32  # more than the network sees
BATCHES = (1, 2, 4, 8, 16)
OTHERS = {
    "onnx": "nuclei-broad/weights.onnx",
    "tensorflow_saved_model_bundle": "unmicst-nuclei/tensorflow_saved_model_bundle.zip",
    "keras_hdf5": "psc-keras-full/unet_pancreatic_cell_segmentation.h5",
}


@dataclass(frozen=True)
class Row:
    """One thing that was checked and timed.

    Parameters
    ----------
    passed : None where it could not be tried here
    took_s : of one run of what is named; None where time is not the question
    ratio : of the time of the other way to this one: above 1 is faster than the other
    """

    what: str
    passed: bool | None
    took_s: float | None = None
    ratio: float | None = None
    detail: str = ""

    def __str__(self) -> str:
        """Give one line."""
        state = {True: "pass", False: "FAIL", None: "skip"}[self.passed]
        took = "" if self.took_s is None else f"{1000 * self.took_s:10.2f} ms"
        ratio = "" if self.ratio is None else f"{self.ratio:6.2f} x"
        return f"{state}  {self.what:<52}{took:>13}{ratio:>9}  {self.detail}"


@dataclass(frozen=True)
class Bench:
    """Where to run, how large, and the network that was made for it."""

    device: Device
    folder: Path
    small: bool
    models: Path | None

    @property
    def side(self) -> int:
        """Give the side of a tile, px."""
        return 96 if self.small else 512

    @property
    def width(self) -> int:
        """Give the channels of the first layers."""
        return 8 if self.small else 48

    def weights(self, weights_format: str = "torchscript", **more: Any) -> LoadRequest:  # noqa: ANN401
        """Give what a backend is opened with."""
        name = {"torchscript": "script.pt", "pytorch_state_dict": "state.pt"}[weights_format]
        built_by = Architecture("UNet", {"width": self.width}, PackagedFile(self.folder / "net.py"))
        words = {"device": self.device, "architecture": built_by, "trusted": True} | more
        return LoadRequest(self.folder / name, ("image",), ("mask",), **words)

    def opened(self, weights_format: str = "torchscript", **more: Any) -> Backend:  # noqa: ANN401
        """Load the network."""
        return FORMATS[weights_format].open(self.weights(weights_format, **more))

    def wait(self) -> None:
        """Wait until the device has done its work."""
        if self.device.kind == "cuda":
            torch.cuda.synchronize(self.device.index)


def discs(side: int, *, count: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw noisy discs: (count, 1, side, side) float32 image and truth."""
    rng = np.random.default_rng(seed)
    step = 32
    y, x = np.mgrid[:step, :step]
    truth = np.zeros((count, 1, side, side), np.float32)
    for image in truth[:, 0]:
        for top in range(0, side - step + 1, step):
            for left in range(0, side - step + 1, step):
                radius, middle = rng.uniform(5, 12), rng.uniform(13, 19, 2)
                disc = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < radius**2
                image[top : top + step, left : left + step] = disc
    noise = rng.normal(0, 0.25, truth.shape).astype(np.float32)
    return truth * 0.8 + noise + np.float32(0.1), truth


def made(bench: Bench) -> None:
    """Train the network for a moment, and write it as TorchScript and as a state dict."""
    (bench.folder / "net.py").write_text(SOURCE, encoding="utf-8")
    torch.manual_seed(0)
    network = build_network(bench.weights().architecture).to(str(bench.device))
    step = torch.optim.Adam(network.parameters(), 2e-3)
    images, truth = discs(96 if bench.small else 128, count=4 if bench.small else 8)
    x, wanted = (torch.from_numpy(a).to(str(bench.device)) for a in (images, truth))
    for _ in range(40 if bench.small else 200):
        step.zero_grad()
        functional.binary_cross_entropy(network(x), wanted).backward()
        step.step()
    network = network.eval().to("cpu")
    torch.save(network.state_dict(), bench.folder / "state.pt")
    torch.jit.trace(network, torch.zeros(1, 1, 64, 64)).save(str(bench.folder / "script.pt"))


def best_s(bench: Bench, work: Callable[[], object], repeats: int = 5) -> float:
    """Give the shortest time of a few runs, after one that warms up.

    On a CPU it is the time of the processors: what else the computer does is not counted.
    """
    clock = time.process_time if bench.device == CPU else time.perf_counter
    work()
    took = []
    for _ in range(2 if bench.small else repeats):
        bench.wait()
        start = clock()
        work()
        bench.wait()
        took.append(clock() - start)
    return min(took)


def side_by_side_s(
    bench: Bench, ours: Callable[[], object], theirs: Callable[[], object]
) -> tuple[float, float]:
    """Give the shortest times of two ways, run in turns: what else the computer does hits both."""
    rounds = [
        (best_s(bench, ours, 1), best_s(bench, theirs, 1)) for _ in range(1 if bench.small else 4)
    ]
    return min(a for a, _ in rounds), min(b for _, b in rounds)


def formats_agree(bench: Bench) -> Iterator[Row]:
    """Compare TorchScript and state dict on the device with TorchScript on the CPU."""
    image = discs(bench.side)[0]
    with closing(bench.opened(device=CPU)) as reference:
        (wanted,) = reference.run([image])
        cpu_s = best_s(bench, partial(reference.run, [image]), 2)
    for weights_format in ("torchscript", "pytorch_state_dict"):
        with closing(bench.opened(weights_format)) as backend:
            (found,) = backend.run([image])
            took_s = best_s(bench, lambda: backend.run([image]))
        off = float(np.abs(found - wanted).max())
        what = f"{weights_format} on {bench.device} against the CPU, float32"
        yield Row(what, off < 1e-4, took_s, cpu_s / took_s, f"largest difference {off:.1e}")


def precisions_agree(bench: Bench) -> Iterator[Row]:
    """Measure each precision as --precision auto does."""
    image = discs(bench.side, count=1 if bench.small else 4, seed=1)[0]
    ways = tuple(map(Way, FORMATS["torchscript"].precisions(bench.device)))
    with closing(bench.opened()) as whole:
        (wanted,) = whole.run([image])

    def labels(outputs: Sequence[np.ndarray]) -> np.ndarray:
        return label_components(
            outputs[0][0], (1, 1), ComponentSettings(threshold=0.5, channel=0)
        ).labels

    trials = measure_trials(
        lambda way: bench.opened(precision=way.precision), [image], ways, labels
    )
    for trial in trials:
        with closing(bench.opened(precision=trial.precision)) as backend:
            (found,) = backend.run([image])
        off = float(np.abs(found - wanted).max())
        close = found.dtype == np.float32 and off < (1e-6 if trial.precision == "float32" else 0.2)
        detail = f"F1 {trial.f1:.3f} at IoU 0.9, largest difference {off:.1e}"
        gain = trials[0].took_s / trial.took_s
        yield Row(f"precision {trial.precision}", close, trial.took_s, gain, detail)
    choice = choose_precision(trials)
    agrees = all(trial.f1 >= 0.99 for trial in trials if trial.precision == choice.name)
    yield Row(f"precision auto takes {choice.name}", bool(trials) and agrees, detail=choice.why)


def batches_agree(bench: Bench) -> Iterator[Row]:
    """Run 16 tiles in batches of each size."""
    tiles = discs(bench.side, count=4 if bench.small else 16, seed=2)[0]
    alone_s, alone = 0.0, tiles
    with closing(bench.opened()) as backend:
        for batch in (size for size in BATCHES if size <= len(tiles)):
            parts = [tiles[i : i + batch] for i in range(0, len(tiles), batch)]
            found = np.concatenate([backend.run([part])[0] for part in parts])
            took_s = best_s(bench, partial(_run_all, backend, parts), 3) / len(tiles)
            if batch == 1:
                alone_s, alone = took_s, found
            same = bool(np.abs(found - alone).max() < 1e-4)
            yield Row(f"batch of {batch}, time a tile", same, took_s, alone_s / took_s)


def _run_all(backend: Backend, parts: Sequence[np.ndarray]) -> None:
    for part in parts:
        backend.run([part])


def loaded(path: Path, bench: Bench) -> Any:  # noqa: ANN401  (a script module)
    """Load a network as a script of a user would, but as exact as bmz."""
    network = torch.jit.load(str(path), str(bench.device)).eval()
    round_nothing_in(network)
    return network


def layouts(bench: Bench) -> Iterator[Row]:
    """Time the network in PyTorch itself, in either layout and precision."""
    image = torch.from_numpy(discs(bench.side, count=1 if bench.small else 8)[0])
    for precision in ("float32", "bfloat16"):
        lower = precision != "float32"
        plain_s, wanted = 0.0, None
        for name in ("contiguous_format", "channels_last"):
            layout = getattr(torch, name)
            network = loaded(bench.folder / "script.pt", bench).to(memory_format=layout)
            x = image.to(str(bench.device)).contiguous(memory_format=layout)
            with (
                torch.inference_mode(),
                torch.autocast(bench.device.kind, torch.bfloat16, enabled=lower),
            ):
                took_s = best_s(bench, partial(network, x))
                found = network(x).float()
            if wanted is None:
                plain_s, wanted = took_s, found
            same = torch.allclose(found, wanted, rtol=0, atol=0.1 if lower else 1e-4)
            yield Row(f"layout {name} in {precision}", same, took_s, plain_s / took_s)


def copies(bench: Bench) -> Iterator[Row]:
    """Time a copy to the device from memory that may be swapped out, and from pinned memory."""
    if bench.device.kind != "cuda":
        yield Row("pinned against pageable memory", None, detail="needs CUDA")
        return
    pageable = torch.rand(16, 1, 512, 512)
    pinned = pageable.pin_memory()
    where = str(bench.device)
    slow_s = best_s(bench, lambda: pageable.to(where))
    fast_s = best_s(bench, lambda: pinned.to(where, non_blocking=True))
    same = torch.equal(pinned.to(where, non_blocking=True).cpu(), pageable)
    yield Row("copy from pageable memory, 16 MiB", same, slow_s, 1.0)
    yield Row("copy from pinned memory, 16 MiB", same, fast_s, slow_s / fast_s)


class Limited:
    """A backend that pretends to run out of memory above some pixels, where there is no CUDA."""

    def __init__(self, backend: Backend, most_px: int) -> None:
        self.name, self.device = backend.name, backend.device
        self.close, self._backend, self._most_px = backend.close, backend, most_px

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run the network on what is small enough."""
        if sum(array.size for array in inputs) > self._most_px:
            raise OutOfMemory(self.device, shapes_of(inputs))
        return self._backend.run(inputs)


def model_of(bench: Bench) -> ModelSpec:
    """Describe the network."""
    first = (AxisSpec("b", "batch", AnySize()), AxisSpec("c", "channel", Fixed(1)))
    taken = [AxisSpec(a, "space", Stepped(32, 4)) for a in "yx"]
    given = [AxisSpec(a, "space", LikeAxis("image", a), HALO_PX) for a in "yx"]
    inputs = (TensorSpec("image", (*first, *taken), "float32"),)
    outputs = (TensorSpec("mask", (*first, *given), "float32"),)
    entry = Entry("torchscript", PackagedFile(bench.folder / "script.pt"))
    return ModelSpec("u", "U", bench.folder, "0" * 64, "0.5.4", inputs, outputs, (entry,))


def planned(bench: Bench, model: ModelSpec, size: int, side: int, batch: int) -> Plan:
    """Plan tiles over a square image."""
    rules = axis_rules(model, side=side)
    shape = {"y": size, "x": size}
    return Plan(
        weights=model.weights[0], device=str(bench.device), loop={}, channels=((0,),), clip=None,
        scale=1, shape=shape, tiling=plan_tiles(shape, rules, side=side),
        outputs=output_rules(model), batch=batch, recipe=RecipeChoice("none", "", "mask"),
    )  # fmt: skip


def memory(bench: Bench) -> Iterator[Row]:
    """Take memory away until the batch, then the tile, must become smaller."""
    model, size, side = model_of(bench), 4 * bench.side, 2 * bench.side
    plan = planned(bench, model, size, side, batch=4)
    image = Tensor(discs(size, seed=3)[0], "bcyx")
    with closing(bench.opened()) as backend:
        whole = predict_tiled(backend, [image], plan.tiling, plan.outputs)[0]
        tile_px = int(np.prod(list(plan.tiling.tile.values())))
        for name, share in (("batch", 2.5), ("tile", 0.6)):
            start = time.perf_counter()
            notes, (arrays, used) = _short_of_memory(backend, image, (model, plan), share * tile_px)
            took_s = time.perf_counter() - start
            off = float(np.abs(arrays[0] - whole).max())
            smaller = used.batch < 4 if name == "batch" else used.tiling.tile["y"] < side // 2 + 64
            detail = f"{'; '.join(notes)}; largest difference {off:.1e}"
            yield Row(f"out of memory: smaller {name}", smaller and off < 1e-4, took_s,
                      detail=detail)  # fmt: skip


def _short_of_memory(
    backend: Backend, image: Tensor, what: tuple[ModelSpec, Plan], most_px: float
) -> tuple[list[str], tuple[list[np.ndarray], Plan]]:
    model, plan = what
    notes: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    limited: Backend = backend
    cuda = backend.device.kind == "cuda"
    if cuda:
        _limit_cuda(backend, image, plan, most_px)
    else:
        limited = Limited(backend, int(most_px))
    try:
        attempts = Attempts(plan, model, hear)
        for attempt in attempts:
            with attempt as tried:
                outputs, batch, _ = run_tiles(
                    limited, [image], tried.tiling, tried.outputs, batch=tried.batch, listener=hear
                )
                attempts.succeed(batch)
        return notes, (outputs, attempts.plan)
    finally:
        if cuda:
            torch.cuda.set_per_process_memory_fraction(1.0, backend.device.index)


def _limit_cuda(backend: Backend, image: Tensor, plan: Plan, most_px: float) -> None:
    # the peak of one tile tells how much memory a pixel needs
    index = backend.device.index
    one = stacked_tiles(image, [TileJob(0, (0, 0))], plan.tiling)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(index)
    torch.cuda.reset_peak_memory_stats(index)
    backend.run([one])
    a_pixel = (torch.cuda.max_memory_allocated(index) - before) / one.size
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(index).total_memory
    held = torch.cuda.memory_reserved(index) + a_pixel * most_px
    torch.cuda.set_per_process_memory_fraction(min(1.0, held / total), index)


def whole_image(bench: Bench) -> Iterator[Row]:
    """Predict a large image, and compare with the plain loop over the same tiles."""
    size = 4 * bench.side if bench.small else 4096
    model = model_of(bench)
    image = Tensor(discs(size, seed=4)[0], "bcyx")
    for batch in (1, 4, 8):
        plan = planned(bench, model, size, bench.side, batch)
        plain = partial(plain_loop, bench, image, plan)
        with closing(bench.opened()) as backend:
            ours = partial(predict_tiled, backend, [image], plan.tiling, plan.outputs, batch=batch)
            off = float(np.abs(ours()[0] - plain()[0]).max())
            ours_s, plain_s = side_by_side_s(bench, ours, plain)
        gain = plain_s / ours_s
        what = f"{size} x {size} px, batches of {batch}, against a plain loop"
        detail = f"{plan.tiling.count} tiles, largest difference {off:.1e}"
        yield Row(what, off < 1e-4 and (bench.small or gain > 0.9), ours_s, gain, detail)


def plain_loop(bench: Bench, image: Tensor, plan: Plan) -> list[np.ndarray]:
    """Do what a first script does: tile by tile, to the device and back."""
    network = _plain_network(bench, bench.folder / "script.pt")
    mosaic = Mosaic(Places(plan.tiling, plan.outputs, 1))
    with torch.inference_mode():
        for position in plan.tiling.positions():
            jobs = [TileJob(0, position)]
            tile = np.ascontiguousarray(stacked_tiles(image, jobs, plan.tiling))
            out = network(torch.from_numpy(tile).to(str(bench.device)))
            mosaic.place([out.cpu().numpy()], jobs)
    return mosaic.arrays


_NETWORKS: dict[Path, Any] = {}


def _plain_network(bench: Bench, path: Path) -> Any:  # noqa: ANN401
    if path not in _NETWORKS:
        _NETWORKS[path] = loaded(path, bench).to(memory_format=torch.channels_last)
    return _NETWORKS[path]


def real_network(bench: Bench) -> Iterator[Row]:
    """Predict 1024 x 1024 px by nuclei-broad, and compare with the plain loop."""
    path = bench.models / "nuclei-broad" / "weights.pt" if bench.models else None
    if path is None or not path.is_file():
        yield Row("nuclei-broad, 1024 x 1024 px", None, detail="no --models")
        return
    model = model_of(bench)
    fixed = [AxisSpec(a, "space", Fixed(512)) for a in "yx"]
    axes = (*model.inputs[0].axes[:2], *fixed)
    model = replace(model, inputs=(replace(model.inputs[0], axes=axes),))
    plan = planned(bench, model, 1024, 512, 1)
    image = Tensor(discs(1024, seed=5)[0], "bcyx")
    network = _plain_network(bench, path)

    def plain() -> None:
        with torch.inference_mode():
            for position in plan.tiling.positions():
                tile = stacked_tiles(image, [TileJob(0, position)], plan.tiling)
                x = torch.from_numpy(np.ascontiguousarray(tile)).to(str(bench.device))
                network(x.to(memory_format=torch.channels_last)).cpu().numpy()

    weights = LoadRequest(path, ("image",), ("mask",), device=bench.device)
    with closing(FORMATS["torchscript"].open(weights)) as backend:
        ours = partial(predict_tiled, backend, [image], plan.tiling, plan.outputs)
        ours_s, plain_s = side_by_side_s(bench, ours, plain)
    fast = bench.small or plain_s / ours_s > 0.9
    yield Row("nuclei-broad, 1024 x 1024 px, against a plain loop", fast, ours_s, plain_s / ours_s)


def other_frameworks(bench: Bench) -> Iterator[Row]:
    """Run other formats where the framework and a package are there."""
    for name, place in OTHERS.items():
        path = bench.models / place if bench.models else Path("none")
        entry = FORMATS.get(name)
        if entry is None or find_spec(entry.module) is None or not path.is_file():
            yield Row(name, None, detail="no framework, or no --models")
            continue
        sample = np.load(path.parent / "test_input.npy").astype(np.float32)
        sample = (sample - sample.mean()) / sample.std()
        device = max(entry.devices(), key=lambda d: d.kind == bench.device.kind)
        found, took_s = {}, 0.0
        for where in (CPU, device):
            with closing(entry.open(LoadRequest(path, ("image",), ("mask",), where))) as backend:
                found[where] = backend.run([sample])[0]
                took_s = best_s(bench, partial(backend.run, [sample]), 2)
        off = float(np.abs(found[device] - found[CPU]).max())
        yield Row(f"{name} on {device} against the CPU", off < 1e-3, took_s,
                  detail=f"largest difference {off:.1e}")  # fmt: skip


def tensorrt_agrees(bench: Bench) -> Iterator[Row]:
    """Run an ONNX file by TensorRT in each precision, twice, and compare with the CPU."""
    path = bench.models / OTHERS["onnx"] if bench.models else Path("none")
    entry = RUN_AS_WELL["onnx"]["tensorrt"]
    missing = [name for name in ("onnxruntime", entry.module) if find_spec(name) is None]
    if missing or not path.is_file() or bench.device.kind != "cuda":
        yield Row("onnx by TensorRT", None, detail="needs TensorRT, CUDA and --models")
        return
    sample = np.load(path.parent / "test_input.npy").astype(np.float32)
    sample = (sample - sample.mean()) / sample.std()
    request = LoadRequest(path, ("image",), ("mask",))
    with closing(FORMATS["onnx"].open(request)) as backend:
        wanted = backend.run([sample])[0]
    for precision in entry.precisions(bench.device):
        ours = replace(request, device=bench.device, backend="tensorrt", precision=precision,
                       kept=bench.folder / "trt" / "compiled")  # fmt: skip
        for what in ("compiled again", "as it was kept"):
            start = time.perf_counter()
            with closing(entry.open(ours)) as backend:
                found = backend.run([sample])[0]
                ready_s = time.perf_counter() - start
                took_s = best_s(bench, partial(backend.run, [sample]), 2)
            off = float(np.abs(found - wanted).max())
            close = off < (1e-3 if precision == "float32" else 0.2)
            detail = f"ready after {ready_s:.1f} s, largest difference {off:.1e}"
            yield Row(f"onnx by TensorRT in {precision}, {what}", close, took_s, detail=detail)


def labels_there(bench: Bench) -> Iterator[Row]:
    """Make labels on the device; keep maps there; take those of other frameworks there."""
    yield from labels_on_tensors(bench, Row, side_by_side_s)
    size = 2 * bench.side if bench.small else 4096
    image = discs(size, seed=8)[0]
    plan = planned(bench, model_of(bench), size, bench.side, 4)
    yield from maps_that_stay(bench, Row, side_by_side_s, plan, image)
    handed = {name: place for name, place in OTHERS.items() if name != "keras_hdf5"}
    yield from handed_on(bench, Row, side_by_side_s, handed)


PARTS = (
    formats_agree, precisions_agree, batches_agree, layouts, copies, memory, whole_image,
    real_network, other_frameworks, tensorrt_agrees, labels_there,
)  # fmt: skip


def main(words: Sequence[str]) -> int:
    """Run all parts; a part that stops is a failed row, and the next one runs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda[:N]")
    parser.add_argument("--small", action="store_true", help="a few seconds; times mean nothing")
    parser.add_argument("--models", type=Path, help="folder of real packages")
    names = {part.__name__: part for part in PARTS}
    parser.add_argument("--only", action="append", choices=names, help="this part; repeatable")
    given = parser.parse_args(words)
    device = resolve_device(given.device, "torchscript")
    rows: list[Row] = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(device, Path(folder), given.small, given.models)
        made(bench)
        for part in (names[name] for name in given.only or names):
            try:
                for row in part(bench):
                    rows.append(row)
                    print(row, flush=True)
            except Exception as why:  # noqa: BLE001  (the other parts are still worth their time)
                rows.append(Row(part.__name__, passed=False, detail=f"{type(why).__name__}: {why}"))
                print(rows[-1], flush=True)
    hardware = FORMATS["torchscript"].hardware(device)
    took_s = round(time.perf_counter() - start, 1)
    found = {"device": hardware, "torch": torch.__version__, "took_s": took_s}
    print(json.dumps(found | {"rows": [asdict(row) for row in rows]}, indent=1))
    return int(any(row.passed is False for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
