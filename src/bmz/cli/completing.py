"""What the shell offers for a word that is being typed: models, files, kinds of images."""

from __future__ import annotations

from dataclasses import replace

import click
from click.shell_completion import CompletionItem

from bmz.spec.made_for import MODALITIES, STRUCTURES


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell offer files and folders."""
    return [CompletionItem(incomplete, type="file")]


def models(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer bundled models and those of the list that was last read, else files and folders.

    The network is never asked while somebody types.
    """
    names = [*_bundled(), *_listed()]
    items = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return items or [CompletionItem(incomplete, type="file")]


def kinds(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer modalities, and behind a comma structures."""
    modality, comma, structure = incomplete.partition(",")
    words = [f"{modality},{word}" for word in STRUCTURES] if comma else list(MODALITIES)
    typed = f"{modality},{structure}" if comma else modality
    return [CompletionItem(word) for word in words if word.startswith(typed)]


def modalities(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the terms for how images are made, with their plain names."""
    return [
        CompletionItem(word, help=modality.title)
        for word, modality in MODALITIES.items()
        if word.startswith(incomplete)
    ]


def structures(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the terms for what images show, with their plain names."""
    return [
        CompletionItem(word, help=structure.title)
        for word, structure in STRUCTURES.items()
        if word.startswith(incomplete)
    ]


def _bundled() -> list[str]:
    from bmz.zoo.locate import starter_names  # here, so that --help stays quick

    return [f"starter/{name}" for name in starter_names()]


def _listed() -> list[str]:
    from bmz.base.errors import BmzError
    from bmz.zoo.index import load_index
    from bmz.zoo.settings import settings_from_environment

    try:
        offline = replace(settings_from_environment(), offline=True)
        return [entry.id for entry in load_index(offline).entries]
    except BmzError:
        return []  # there is no list yet, and nobody wants an error while typing
