"""The widget, which checks whether a model fits the chosen layers and runs it on them."""

from __future__ import annotations

import html
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

from bmz.base.errors import BmzError, WrongUsage
from bmz.base.progress import Event, Listener, Note, Progress, Stage, Stopped
from bmz.base.values import dataclass
from bmz.napari.layers import (
    ImageLayer,
    LayerTuple,
    Placement,
    image_of,
    labels_layer,
    placement_of,
)
from bmz.zoo.locate import starter_names

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

    from bmz.app.api import Model
    from bmz.app.api.result import Report, Result
    from bmz.check.finding import Finding

_POLL_MS = 50
_RANKED = 20
"""Maximum number of models that are offered."""
_LIST_PX = 90
_COLOURS = {"error": "#e5534b", "warning": "#d29922", "note": "#808890"}


class NoImage(WrongUsage):
    """No image layer is chosen."""

    def __init__(self) -> None:
        hint = "open an image, and select it in the list"
        super().__init__("no image layer is selected", hint=hint, code="napari.no-image")


class Job:
    """Work in a separate thread, whose progress the thread of the window polls.

    Parameters
    ----------
    work : function that takes a listener and returns the result
    """

    def __init__(self, work: Callable[[Listener], Any]) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stopped = threading.Event()
        threads = ThreadPoolExecutor(1, thread_name_prefix="bmz")
        self.future: Future[Any] = threads.submit(work, self._hear)
        threads.shutdown(wait=False)

    def stop(self) -> None:
        """Make the work end at its next event."""
        self._stopped.set()

    def events(self) -> list[Event]:
        """Return the events since the last call."""
        return [self._events.get() for _ in range(self._events.qsize())]

    def _hear(self, event: Event, /) -> None:
        if self._stopped.is_set():
            raise Stopped
        self._events.put(event)


@dataclass(frozen=True)
class Choice:
    """The choices that the user made in the panel.

    Parameters
    ----------
    layers : the image, or its channels
    placement : placement of the image
    model : model as `bmz.load` takes it
    resized : whether the image is resized to the scale of the model
    forced : whether the model runs despite errors
    """

    layers: tuple[ImageLayer, ...]
    placement: Placement
    model: str
    resized: bool
    forced: bool


class Session:
    """The work of the panel, without its window; the last model that was loaded is kept."""

    def __init__(self) -> None:
        self._loaded: tuple[str, Model] | None = None

    def check(self, choice: Choice, listener: Listener) -> Report:
        """Return whether the chosen layers fit the model.

        Raises
        ------
        BmzError
            The model cannot be obtained, or the layers are not one image.
        """
        image = image_of(choice.layers, choice.placement)
        return self._model(choice, listener).check(image, scale=self._scale(choice))

    def run(self, choice: Choice, listener: Listener) -> LayerTuple:
        """Run the model on the chosen layers, and return the label mask with their placement.

        Raises
        ------
        BmzError
            As for `check`, or the image does not fit, or the network fails.
        """
        image = image_of(choice.layers, choice.placement)
        model = self._model(choice, listener)
        result = model.run(image, scale=self._scale(choice), force=choice.forced)
        return _as_layer(result, choice)

    def rank(self, choice: Choice, listener: Listener) -> list[str]:
        """Return the names of the models that fit the chosen layers, the best first."""
        from bmz.app.api.ranking import fit

        ranking = fit(image_of(choice.layers, choice.placement), listener=listener)
        return [model.id for model in ranking.fitting][:_RANKED]

    def _model(self, choice: Choice, listener: Listener) -> Model:
        from bmz.app.api import load

        if self._loaded is None or self._loaded[0] != choice.model:
            if self._loaded is not None:
                self._loaded[1].close()
            self._loaded = choice.model, load(choice.model, listener=listener)
        model = self._loaded[1]
        model.listener = listener
        return model

    @staticmethod
    def _scale(choice: Choice) -> Literal["auto"] | None:
        return "auto" if choice.resized else None


def _as_layer(result: Result, choice: Choice) -> LayerTuple:
    name = f"{choice.model} on {choice.layers[0].name}"
    if result.labels is None:
        axes = [axis for axis in map(str, result.raw.dims) if axis != "c"]
        words = {"name": name, **choice.placement.keywords(axes)}
        return result.raw.values, {**words, "channel_axis": result.raw.dims.index("c")}, "image"
    tables = {"table": result.table()}
    if "t" in result.record["joined_over"]:
        tables["tracks"] = result.table("tracks")
    return labels_layer(result.labels.values, choice.placement, name, tables)


class RunPanel:
    """The widget, which napari creates; it shows the Qt widget in `native`.

    Parameters
    ----------
    napari_viewer : viewer that has the layers to run and receives the labels
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        from qtpy.QtCore import QTimer

        self._viewer = napari_viewer
        self.session = Session()
        self._job: Job | None = None
        self._then: Callable[[Any], None] | None = None
        self._build()
        self._timer = QTimer(self.native)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self.poll)
        layers = napari_viewer.layers
        for event in (layers.events.inserted, layers.events.removed):
            event.connect(lambda _event: self.list_layers())
        self.list_layers()

    def _build(self) -> None:
        from qtpy import QtWidgets

        self.native = QtWidgets.QWidget()
        self.native.panel = self  # keeps the panel alive as long as its window
        self.layers = QtWidgets.QListWidget()
        self.layers.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode.ExtendedSelection)
        self.layers.setToolTip("One image, or several layers that are its channels, in this order")
        self.layers.setMaximumHeight(_LIST_PX)
        self.model = QtWidgets.QComboBox()
        self.model.setEditable(True)
        self.model.addItems([f"starter/{name}" for name in starter_names()])
        self.model.setToolTip(
            "The name of a model in the zoo, starter/NAME, or the path of a package"
        )
        self.axes = QtWidgets.QLineEdit()
        self.axes.setPlaceholderText("from the layer, or for example zyx")
        self.resized = QtWidgets.QCheckBox("resize to the scale of the model")
        self.forced = QtWidgets.QCheckBox("run despite errors")
        self.findings = QtWidgets.QTextBrowser()
        self.bar = QtWidgets.QProgressBar()
        self.bar.setTextVisible(False)
        self.status = QtWidgets.QLabel()
        self.status.setWordWrap(True)
        form = QtWidgets.QFormLayout(self.native)
        for word, widget in (
            ("image", self.layers), ("model", self.model), ("axes", self.axes),
            ("", self.resized), ("", self.forced), ("", self._buttons()),
        ):  # fmt: skip
            form.addRow(word, widget)
        for widget in (self.findings, self.bar, self.status):
            form.addRow(widget)

    def _buttons(self) -> QWidget:
        from qtpy import QtWidgets

        row = QtWidgets.QWidget()
        layout = QtWidgets.QHBoxLayout(row)
        layout.setContentsMargins(0, 0, 0, 0)
        self.buttons = {
            "Which fits?": self.rank, "Check": self.check, "Run": self.run, "Cancel": self.cancel,
        }  # fmt: skip
        self._widgets = {}
        for name, action in self.buttons.items():
            button = self._widgets[name] = QtWidgets.QPushButton(name)
            button.clicked.connect(lambda _=False, action=action: action())
            layout.addWidget(button)
        self._widgets["Cancel"].setEnabled(False)
        return row

    @property
    def is_busy(self) -> bool:
        """Whether a job is under way."""
        return self._job is not None

    def list_layers(self) -> None:
        """List the current image layers, and keep the selection."""
        chosen = {item.text() for item in self.layers.selectedItems()}
        names = [layer.name for layer in self._images()]
        self.layers.clear()
        self.layers.addItems(names)
        for row, name in enumerate(names):
            self.layers.item(row).setSelected(name in chosen or (not chosen and row == 0))

    def choice(self) -> Choice:
        """Return the user's choices.

        Raises
        ------
        BmzError
            No image is chosen.
        """
        chosen = {item.text() for item in self.layers.selectedItems()}
        layers = tuple(layer for layer in self._images() if layer.name in chosen)
        if not layers:
            raise NoImage
        placement = placement_of(layers[0], self.axes.text().strip())
        words = self.model.currentText().strip()
        return Choice(layers, placement, words, self.resized.isChecked(), self.forced.isChecked())

    def rank(self) -> None:
        """Offer the models of the zoo that fit the chosen layers."""
        self._start(self.session.rank, self._offer)

    def check(self) -> None:
        """Check the chosen layers and show every finding."""
        self._start(self.session.check, self._show)

    def run(self) -> None:
        """Check the chosen layers, show every finding, and run the model unless one forbids it."""
        choice = self._chosen()
        if choice is not None:
            self._begin(choice, self.session.check, lambda report: self._go_on(report, choice))

    def cancel(self) -> None:
        """Stop the current job at its next tile."""
        if self._job is not None:
            self._job.stop()
            self.status.setText("stopping")

    def poll(self) -> None:
        """Show the events of the current job, and use its result once it is done."""
        job = self._job
        if job is None:
            return
        for event in job.events():
            self._tell(event)
        if job.future.done():
            self._job = None
            self._timer.stop()
            self._busy(busy=False)
            self._take(job.future)

    def _take(self, future: Future[Any]) -> None:
        why = future.exception()
        then, self._then = self._then, None
        if why is None and then is not None:
            self.status.setText("")
            then(future.result())
        elif isinstance(why, Stopped):
            self.status.setText("stopped")
        elif isinstance(why, BmzError):
            self._show_error(why)
        else:
            traceback.print_exception(why, file=sys.stderr)
            self.status.setText(f"a bug in bmz: {type(why).__name__}: {why}")

    def _start(self, work: Callable[[Choice, Listener], Any], then: Callable[[Any], None]) -> None:
        choice = self._chosen()
        if choice is not None:
            self._begin(choice, work, then)

    def _begin(
        self, choice: Choice, work: Callable[[Choice, Listener], Any], then: Callable[[Any], None]
    ) -> None:
        self._then = then
        self._job = Job(lambda listener: work(choice, listener))
        self._busy(busy=True)
        self._timer.start()

    def _chosen(self) -> Choice | None:
        try:
            return self.choice()
        except BmzError as why:
            self._show_error(why)
            return None

    def _go_on(self, report: Report, choice: Choice) -> None:
        self._show(report)
        if report.fits or choice.forced:
            self._begin(choice, self.session.run, self._add)

    def _add(self, layer: LayerTuple) -> None:
        data, words, kind = layer
        getattr(self._viewer, f"add_{kind}")(data, **words)
        features = words.get("features")
        count = "" if features is None else f": {len(features)} objects"
        self.status.setText(f"added '{words['name']}'{count}")

    def _offer(self, names: Sequence[str]) -> None:
        if not names:
            self.status.setText("no model in the zoo is made for this image")
            return
        self.model.clear()
        self.model.addItems([*names])
        self.status.setText(f"{len(names)} models fit, best first")

    def _show(self, report: Report) -> None:
        lines = [f"<b>{html.escape(report.words)}</b>", *map(_finding_html, report.findings)]
        self.findings.setHtml("<br>".join(lines))

    def _show_error(self, why: BmzError) -> None:
        text = html.escape(str(why))
        self.findings.setHtml(
            f"<b style='color:{_COLOURS['error']}'>{text}</b><br>{html.escape(why.hint)}"
        )
        self.status.setText("")

    def _tell(self, event: Event) -> None:
        match event:
            case Progress(stage, done, total):
                self.bar.setRange(0, total)
                self.bar.setValue(done)
                self.status.setText(f"{stage} {done} of {total}")
            case Stage(what):
                self.bar.setRange(0, 0)
                self.status.setText(what)
            case Note():
                self.status.setText(event.sentence)

    def _busy(self, *, busy: bool) -> None:
        for name, button in self._widgets.items():
            button.setEnabled(busy == (name == "Cancel"))
        self.bar.setRange(0, 0 if busy else 1)

    def _images(self) -> list[Any]:
        from napari.layers import Image

        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]


def _finding_html(finding: Finding) -> str:
    colour = _COLOURS[finding.severity]
    hint = f" <i>{html.escape(finding.hint)}</i>" if finding.hint else ""
    message = html.escape(finding.message)
    return f"<span style='color:{colour}'>{finding.severity}</span> {message}{hint}"
