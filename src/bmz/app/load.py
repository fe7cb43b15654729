"""From the word MODEL to a description whose files can be trusted."""

from __future__ import annotations

from bmz.spec.model import ModelSpec
from bmz.spec.read import read_model
from bmz.zoo.locate import locate


def load_model(word: str) -> ModelSpec:
    """Find and read a model.

    Parameters
    ----------
    word : ``starter/NAME``, or the path of a folder, zip or manifest

    Raises
    ------
    CouldNotTell
        It is not there, no package, or its description is invalid.
    """
    package = locate(word)
    return read_model(package.manifest, model_id=package.id)
