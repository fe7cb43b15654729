"""``bmz card``: what a model says of itself, and what is measured of it here."""

from __future__ import annotations

from datetime import UTC, datetime

from bmz.app.show import show_model
from bmz.base.computer import versions
from bmz.base.progress import Listener, nobody
from bmz.engine.load import Permit, find_model
from bmz.engine.model_trial import ModelTrial
from bmz.results.models import CardView, ModelTestResult
from bmz.zoo.settings import settings_from_environment


def make_card(
    word: str, *, device: str = "cpu", trust: Permit = "no", listener: Listener = nobody
) -> CardView:
    """Test a model as ``bmz test`` does, time its formats, and measure the objects of its sample.

    Parameters
    ----------
    word : see ``bmz.engine.load.load_model``
    device, trust : see ``bmz test``

    Raises
    ------
    BmzError
        The model is not there, or its description is invalid.
    """
    settings = settings_from_environment()
    view = show_model(word, settings, listener)
    package, model = find_model(word, settings, listener=listener)
    trial = ModelTrial(package, model, settings, device=device, trust=trust, listener=listener)
    test = ModelTestResult(word, tuple(trial.checks()))
    speeds, sizes = trial.measured(test.reproduced_formats)
    today = datetime.now(UTC).date().isoformat()
    return CardView(view, test, speeds, sizes, today, versions())
