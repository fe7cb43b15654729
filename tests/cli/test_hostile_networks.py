"""Networks that print what steers a terminal, and networks that never return."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml

from bmz.testing.package import description, write_package

pytest.importorskip("torch")

import torch

# PyTorch wants other files than TorchScript, but the zoo has these
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")


class Talks(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print("\033]0;owned\007\033[31mFAKE: 999 objects")  # noqa: T201
        warnings.warn("\033[2Jcleared")  # noqa: B028
        return x


class Loops(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        turns = 0
        while turns >= 0:
            turns = 1 - turns
        return x


@pytest.fixture
def package(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Give a package whose TorchScript network is one of the parameter's class."""
    network = torch.jit.script(request.param())
    content = description(halo=4)
    manifest = write_package(tmp_path / "net", content)
    network.save(manifest.parent / "net.pt")
    (manifest.parent / "weights.onnx").unlink()
    sha256 = hashlib.sha256((manifest.parent / "net.pt").read_bytes()).hexdigest()
    content["weights"] = {
        "torchscript": {"source": "net.pt", "sha256": sha256, "pytorch_version": "2.6"}
    }
    manifest.write_text(yaml.safe_dump(content))
    np.save(tmp_path / "image.npy", np.random.default_rng(0).random((64, 64), np.float32))
    return tmp_path


WORDS = ["run", "./net", "image.npy", "-o", "out", "--recipe", "none", "--save", "raw"]
# a shell that starts the tests in the background has Ctrl-C ignored, and children inherit that
ANSWERS_TO_INTERRUPTS = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from bmz.cli.main import main; main()"
)


@pytest.mark.parametrize("package", [Talks], indirect=True)
def test_what_a_network_prints_is_told_cleaned_and_never_on_stdout(package: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "bmz", *WORDS, "--json"],
        cwd=package, capture_output=True, check=False,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["schema"]
    assert b"\x1b" not in ended.stderr
    assert b"\x07" not in ended.stderr
    told = ended.stderr.decode()
    assert "warning: the network prints: " in told
    assert "FAKE: 999 objects" in told
    assert "cleared" in told


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("package", [Loops], indirect=True)
def test_a_second_interrupt_ends_a_network_that_never_returns(package: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ANSWERS_TO_INTERRUPTS, *WORDS],
        cwd=package, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    _wait_until_it_computes(process.pid)

    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    _, told = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "interrupted twice" in told


def _wait_until_it_computes(process: int) -> None:
    """Wait until PyTorch is loaded and the processor has been busy for some time since."""
    busy_since: int | None = None
    while True:
        time.sleep(0.2)
        ticks = sum(map(int, Path(f"/proc/{process}/stat").read_text().split()[13:15]))
        if "libtorch_cpu" in Path(f"/proc/{process}/maps").read_text():
            busy_since = busy_since if busy_since is not None else ticks
            if ticks - busy_since > 5 * os.sysconf("SC_CLK_TCK"):
                return
