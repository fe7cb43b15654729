"""Run the models of the BioImage Model Zoo from the terminal and from Python.

`fit` ranks models for an image; `load` one, then `Model.check` and `Model.run` the image: a path,
or an array with named axes. `images` are those of a file that holds several. A `Chain` runs several
models on files, one after another; `search`, `compare` and `score` are the commands of that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bmz.app.api import Model, load
    from bmz.app.api.calls import compare, score, search
    from bmz.app.api.options import images
    from bmz.app.api.ranking import fit
    from bmz.app.api.result import Report, Result
    from bmz.app.chain import Chain
    from bmz.base.errors import AnswerIsNo, BmzError, CouldNotTell, WrongUsage
    from bmz.check.finding import Finding
    from bmz.results.compare import Comparison, ScoreSummary
    from bmz.results.fit import ModelFit, Ranking
    from bmz.results.models import SearchView

__version__: str

__all__ = [
    "AnswerIsNo",
    "BmzError",
    "Chain",
    "Comparison",
    "CouldNotTell",
    "Finding",
    "Model",
    "ModelFit",
    "Ranking",
    "Report",
    "Result",
    "ScoreSummary",
    "SearchView",
    "WrongUsage",
    "__version__",
    "compare",
    "fit",
    "images",
    "load",
    "score",
    "search",
]

_PLACES = {
    "AnswerIsNo": "bmz.base.errors",
    "BmzError": "bmz.base.errors",
    "Chain": "bmz.app.chain",
    "Comparison": "bmz.results.compare",
    "CouldNotTell": "bmz.base.errors",
    "Finding": "bmz.check.finding",
    "Model": "bmz.app.api",
    "ModelFit": "bmz.results.fit",
    "Ranking": "bmz.results.fit",
    "Report": "bmz.app.api.result",
    "Result": "bmz.app.api.result",
    "ScoreSummary": "bmz.results.compare",
    "SearchView": "bmz.results.models",
    "WrongUsage": "bmz.base.errors",
    "compare": "bmz.app.api.calls",
    "fit": "bmz.app.api.ranking",
    "images": "bmz.app.api.options",
    "load": "bmz.app.api",
    "score": "bmz.app.api.calls",
    "search": "bmz.app.api.calls",
}
"""Where each public name is, so that ``import bmz`` loads no NumPy."""


def __getattr__(name: str) -> Any:  # noqa: ANN401  (whatever the name stands for)
    """Import a public name when it is first asked for."""
    from importlib import import_module

    if name == "__version__":
        from bmz.base.computer import version

        return version()
    if name not in _PLACES:
        raise AttributeError(f"module 'bmz' has no attribute '{name}'")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
