"""Fixtures that every room uses."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from compileall import compile_dir
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from _pytest.doctest import DoctestModule
from hypothesis import HealthCheck, settings
from tests.ship.warm import warm_command

import bmz
from bmz.base.arrays import AnyArray
from bmz.check import kind_features, measured
from bmz.check.kind_features import measured_features, seen_features
from bmz.check.object_size import survey
from bmz.spec.model import ModelSpec
from bmz.spec.package_files import PackageInvalid
from bmz.spec.read import read_model

NEEDS = "needs"
"""How the reason begins for which tests are skipped that need something beside this repository."""

KEPT_PLANES = 50
"""So many planes are remembered."""

Result = TypeVar("Result")

settings.register_profile(
    "bmz", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("bmz")


def pytest_configure(config: pytest.Config) -> None:
    """Save the processor work of which no test speaks.

    Where Python keeps no bytecode the package is compiled: tests start it hundreds of times. With
    ``-n`` each process has one thread, as libraries that start one for each processor wait for each
    other; `bmz.cli.main` itself gives OpenBLAS one.
    """
    if hasattr(config, "workerinput"):
        return  # what starts the workers has done it
    if sys.dont_write_bytecode:
        compile_dir(Path(bmz.__file__).parent, quiet=1)
    if config.getoption("numprocesses", None):
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
            os.environ.setdefault(name, "1")


_START = {
    "TensorFlow": (
        "app/test_model_trial.py", "app/test_real_models.py", "conformance/test_conformance.py",
        "predict/test_frameworks_together.py", "predict/test_keras_backend.py",
        "predict/test_tensorflow_backend.py",
    ),
    "commands": (
        "app/test_cases.py", "app/test_lesson.py", "ship/test_action.py", "ship/test_docs.py",
    ),
    "live_descriptions": (
        "plan/test_recipe_choice.py", "spec/test_facts.py", "spec/test_read_model.py",
        "spec/test_stored_descriptions.py",
    ),
}  # fmt: skip
"""What takes seconds to start in a process -> files that need it, below this folder."""

GROUPS = {f"tests/{name}": start for start, names in _START.items() for name in names}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Let one process run all files that need the same start."""
    if config.getoption("dist") != "loadfile":
        return None
    # here, as the tests run without it, too
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    class LoadStartScheduling(LoadFileScheduling):  # type: ignore[misc]  # it has no types
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return GROUPS.get(file, file)

    return LoadStartScheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let the collector of garbage pass over the tests themselves, which live to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Look for examples in the docstrings of the package alone: tests have none."""
    collectors = yield
    return [each for each in collectors if not isinstance(each, DoctestModule)]


@pytest.fixture(autouse=True, scope="session")
def _no_network_and_no_cache_of_the_user(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """Keep a forgotten address from reaching the live zoo, and tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("BMZ_OFFLINE", "1")
        # what is measured to be the fastest depends on the computer, and what tests expect does not
        environment.setenv("BMZ_BACKEND", "native")
        environment.setenv("BMZ_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "bmz-cache"))
        yield


@pytest.fixture(autouse=True, scope="session")
def _the_same_pixels_are_measured_once() -> Iterator[None]:
    """Keep what the last planes showed: tests run the same few images again and again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind_features, "measured_features", by_pixels(measured_features))
        patch.setattr(kind_features, "seen_features", by_pixels(seen_features))
        patch.setattr(measured, "survey", by_pixels(survey))
        yield


def by_pixels(measure: Callable[..., Result]) -> Callable[..., Result]:
    """Let a function that depends on the pixels of a plane alone be called once for the same."""
    known = dict[tuple[object, ...], Result]()

    def measured_once(plane: AnyArray, *order: AnyArray) -> Result:
        key = (plane.shape, plane.dtype.str, sha256(np.ascontiguousarray(plane).data).digest())
        if key not in known:
            if len(known) == KEPT_PLANES:
                del known[next(iter(known))]
            known[key] = measure(plane, *order)
        return known[key]

    return measured_once


@pytest.fixture(scope="session")
def shared() -> Path:
    """Give the folder of real models, images and golden masks, or skip where it is absent."""
    folder = Path(os.environ.get("BMZ_TEST_DATA", Path(__file__).parents[2] / "shared"))
    if not (folder / "models").is_dir():
        pytest.skip(f"{NEEDS} ../shared, the folder of real models and images (or BMZ_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def live_descriptions(shared: Path) -> Mapping[str, ModelSpec | PackageInvalid]:
    """Read the description of every live model of the zoo, or why it is invalid, by alias."""
    return {
        manifest.parent.name: description_or_fault(manifest)
        for manifest in sorted((shared / "zoo" / "models").glob("*/rdf.yaml"))
        if not manifest.parent.name.startswith("ex-")
    }


def description_or_fault(manifest: Path) -> ModelSpec | PackageInvalid:
    try:
        return read_model(manifest)
    except PackageInvalid as fault:
        return fault


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder with the command ``bmz``, which starts quickly; see `tests.ship.warm`."""
    with warm_command(tmp_path_factory.mktemp("commands")) as folder:
        yield folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give all tests that lack the same thing one place, so that the summary has one line of it."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        _, _, reason = report.longrepr
        if reason.startswith(f"Skipped: {NEEDS}"):
            report.longrepr = (__file__, None, reason)  # type: ignore[assignment]  # no line
    return report


@pytest.fixture(scope="session")
def chromium() -> str:
    """Give the path of the browser, or skip where it or Playwright, which drives it, is absent."""
    command = shutil.which("chromium") or shutil.which("chromium-browser")
    if command is None or find_spec("playwright") is None:
        pytest.skip(f"{NEEDS} Chromium, and Playwright, which drives it")
    return command
