from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))
pytest.importorskip("zarr")

scale: Any = import_module("scale")
Work, simulated_s = scale.Work, scale.simulated_s


def test_one_worker_does_one_piece_after_the_other() -> None:
    work = Work(caller_s=0.0, before_s=2.0, after_s=1.0, gpu_s=0.5)

    assert simulated_s(work, 4, workers=1, gpus=1) == pytest.approx(4 * 3.5)


def test_a_slow_caller_holds_all_workers_up() -> None:
    work = Work(caller_s=1.0, before_s=2.0, after_s=1.0)

    assert simulated_s(work, 50, workers=100) == pytest.approx(50 * 1.0 + 3.0)


def test_workers_wait_for_the_gpu_they_share() -> None:
    work = Work(caller_s=0.0, before_s=0.1, after_s=0.1, gpu_s=1.0)

    assert simulated_s(work, 20, workers=8, gpus=1) == pytest.approx(20 * 1.0 + 0.2)
    assert simulated_s(work, 20, workers=8, gpus=2) == pytest.approx(10 * 1.0 + 0.2)


@pytest.mark.parametrize("workers", [1, 3, 16])
@pytest.mark.parametrize("gpus", [0, 1, 2])
@pytest.mark.parametrize(
    ("caller_s", "before_s", "gpu_s", "after_s"),
    [(0.01, 1.0, 0.2, 0.3), (0.5, 0.1, 0.1, 0.1), (0.0, 0.2, 0.7, 0.0)],
)
def test_no_part_is_faster_than_its_share_and_all_together_never_slower_than_their_sum(
    workers: int, gpus: int, caller_s: float, before_s: float, gpu_s: float, after_s: float
) -> None:
    work = Work(caller_s, before_s, after_s, gpu_s if gpus else 0.0)
    least = work.least_s(40, workers, gpus)

    took = simulated_s(work, 40, workers, gpus)

    assert max(least.values()) - 1e-9 <= took <= sum(least.values()) + 1e-9


def test_seconds_of_a_gpu_are_those_of_the_page() -> None:
    page = (ROOT / "docs/reference/performance.md").read_text(encoding="utf-8")

    image_s, megapixel_s = scale.gpu_figures(page)

    assert f"of which {40 * image_s:.1f} s" in page
    assert f"of which {megapixel_s * 8192**2 / 1e6:.1f} s" in page.replace("\n", " ")


def test_a_page_without_the_seconds_of_a_gpu_is_refused() -> None:
    with pytest.raises(ValueError, match="seconds of a GPU"):
        scale.gpu_figures("40 images of 512 px take 1.0 s, of which 0.5 s for the network")


def test_stages_share_the_seconds_of_the_processor_as_those_of_the_wall() -> None:
    stages = scale.shared_out(3.0, [{"read": 1.0, "network": 4.0}, {"read": 3.0, "network": 4.0}])

    assert stages["read"] == pytest.approx(1.0)
    assert sum(stages.values()) == pytest.approx(3.0)
