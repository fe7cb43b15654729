"""The plugin in napari itself: ``make test-napari``. Without a display, napari has no canvas."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bmz.app.run import run_demo
from bmz.base.progress import Progress
from bmz.napari.panel import Job, RunPanel

if TYPE_CHECKING:
    import napari
    from napari.components import ViewerModel
else:
    napari = pytest.importorskip("napari", reason="needs the package napari: make test-napari")
    from napari.components import ViewerModel

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "how-to" / "napari.png"
WAIT_S = 120

displayed = pytest.mark.skipif(
    "DISPLAY" not in os.environ or os.environ.get("QT_QPA_PLATFORM") == "offscreen",
    reason="needs a display, such as that of Xvfb",
)
pytestmark = pytest.mark.filterwarnings("default")  # of libraries below napari


@pytest.fixture(scope="module", autouse=True)
def _application() -> Any:
    if "DISPLAY" not in os.environ:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from qtpy.QtWidgets import QApplication

    return QApplication.instance() or QApplication([])


@pytest.fixture
def cells() -> np.ndarray:
    """Bright discs on a dark ground."""
    y, x = np.indices((128, 160))
    image = np.full(y.shape, 10.0)
    for cy, cx in ((30, 30), (30, 90), (80, 50), (90, 120)):
        image += 150 * np.exp(-((((y - cy) ** 2 + (x - cx) ** 2) / 90) ** 2))
    return image.astype(np.uint8)


@pytest.fixture
def viewer(cells: np.ndarray) -> ViewerModel:
    model = ViewerModel()
    model.add_image(cells, name="cells", scale=(0.5, 0.5), units=("um", "um"))
    return model


def wait(until: Callable[[], bool]) -> None:
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + WAIT_S
    while not until():
        assert time.monotonic() < end
        QApplication.processEvents()
        time.sleep(0.01)


def finished(panel: RunPanel) -> None:
    wait(lambda: not panel.is_busy)


def test_a_run_shows_the_findings_and_adds_labels_with_features(viewer: ViewerModel) -> None:
    panel = RunPanel(viewer)

    panel.run()
    wait(lambda: bool(panel.findings.toPlainText()))
    shown_before = len(viewer.layers)
    finished(panel)

    labels = viewer.layers[-1]
    assert shown_before == 1
    assert "fits" in panel.findings.toPlainText()
    assert isinstance(labels, napari.layers.Labels)
    assert labels.data.max() == len(labels.features) == 4
    assert labels.features["index"].tolist() == [1, 2, 3, 4]
    assert labels.scale.tolist() == [0.5, 0.5]
    assert [str(unit) for unit in labels.units] == ["micrometer", "micrometer"]
    assert "area_um2" in labels.features
    assert labels.name == "starter/nuclei on cells"


def test_what_does_not_fit_is_shown_and_not_run(viewer: ViewerModel) -> None:
    viewer.layers.clear()
    viewer.add_image(np.zeros((3, 64, 64), np.uint8), name="stack")
    panel = RunPanel(viewer)

    panel.run()
    finished(panel)

    assert "the file does not say" in panel.findings.toPlainText() or "axes" in (
        panel.findings.toPlainText()
    )
    assert len(viewer.layers) == 1


def test_a_stack_is_run_once_its_axes_are_stated(viewer: ViewerModel, cells: np.ndarray) -> None:
    viewer.layers.clear()
    viewer.add_image(np.stack([cells, cells]), name="movie", scale=(1, 0.5, 0.5))
    panel = RunPanel(viewer)
    panel.axes.setText("tyx")

    panel.run()
    finished(panel)

    labels = viewer.layers[-1]
    assert labels.data.shape == (2, 128, 160)
    assert labels.axis_labels == ("t", "y", "x")
    assert len(labels.features) == 8


def test_an_unknown_model_and_no_image_are_told(viewer: ViewerModel) -> None:
    panel = RunPanel(viewer)
    panel.model.setCurrentText("starter/no-such-model")

    panel.check()
    finished(panel)

    assert "no model 'starter/no-such-model'" in panel.findings.toPlainText()
    viewer.layers.clear()
    panel.check()
    assert "no image layer is selected" in panel.findings.toPlainText()


def test_layers_that_come_and_go_are_listed_and_the_choice_stays(viewer: ViewerModel) -> None:
    panel = RunPanel(viewer)
    viewer.add_image(np.zeros((4, 4)), name="other")
    viewer.add_labels(np.zeros((4, 4), np.uint8), name="mask")

    listed = [panel.layers.item(row).text() for row in range(panel.layers.count())]

    assert listed == ["cells", "other"]
    assert [layer.name for layer in panel.choice().layers] == ["cells"]


def test_what_is_cancelled_ends_and_adds_nothing(
    viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = RunPanel(viewer)

    def endless(_choice: object, listener: Any) -> None:
        for number in range(10**9):
            listener(Progress("tiles", number, 10**9))
            time.sleep(0.001)

    monkeypatch.setattr(panel.session, "check", endless)
    panel.run()
    wait(lambda: panel.status.text().startswith("tiles"))
    panel.cancel()
    finished(panel)

    assert panel.status.text() == "stopped"
    assert len(viewer.layers) == 1


def test_a_bug_is_told_as_one(
    viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    panel = RunPanel(viewer)

    def broken(*_: object) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(panel.session, "check", broken)
    panel.check()
    finished(panel)

    assert panel.status.text() == "a bug in bmz: ZeroDivisionError: by nought"
    assert "by nought" in capsys.readouterr().err


def test_a_job_tells_its_events_in_order_in_the_thread_that_asks() -> None:
    def work(listener: Any) -> str:
        for number in range(3):
            listener(Progress("tiles", number, 3))
        return "done"

    job = Job(work)

    assert job.future.result(WAIT_S) == "done"
    assert [event.done for event in job.events() if isinstance(event, Progress)] == [0, 1, 2]
    assert job.events() == []


@displayed
def test_the_plugin_opens_results_and_its_widget_in_the_window_of_napari(tmp_path: Path) -> None:
    run_demo(tmp_path / "demo")
    viewer = napari.Viewer()
    try:
        image, labels = viewer.open(str(tmp_path / "demo"), plugin="bmz")
        dock, panel = viewer.window.add_plugin_dock_widget("bmz", "Run a model")
        viewer.window._qt_window.resize(1200, 760)
        panel.check()
        finished(panel)
        viewer.reset_view()
        labels.opacity = 0.5
        wait(lambda: "fits" in panel.findings.toPlainText())
        viewer.screenshot(tmp_path / "napari.png", canvas_only=False, flash=False)
    finally:
        viewer.close()

    assert dock is not None
    assert image.data.shape == labels.data.shape == (520, 696)
    assert labels.data.max() == len(labels.features)
    assert (tmp_path / "napari.png").stat().st_size > 20_000
    if "BMZ_PICTURES" in os.environ:  # make test-napari
        small_picture(tmp_path / "napari.png", PICTURE)
    assert PICTURE.is_file()


def small_picture(taken: Path, kept: Path) -> None:
    from PIL import Image

    colours = Image.open(taken).convert("RGB")
    colours.quantize(96, dither=Image.Dither.NONE).save(kept, optimize=True)
