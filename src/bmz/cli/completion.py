"""What the shell offers when a word of a command is half typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import click
from click.shell_completion import CompletionItem

from bmz.spec.made_for import MODALITIES, STRUCTURES


def offered_files(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell offer files and folders."""
    return [CompletionItem(incomplete, type="file")]


def offered_models(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer bundled models and those of the list that was last read, else files and folders.

    The network is never asked while somebody types.
    """
    names = [*_bundled(), *_listed()]
    items = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return items or [CompletionItem(incomplete, type="file")]


def offered_kinds(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer modalities, and behind a comma structures."""
    modality, comma, structure = incomplete.partition(",")
    words = [f"{modality},{word}" for word in STRUCTURES] if comma else list(MODALITIES)
    typed = f"{modality},{structure}" if comma else modality
    return [CompletionItem(word) for word in words if word.startswith(typed)]


def offered_recipes(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the label recipes, and ``none``."""
    from bmz.plan.recipe_settings import declared_settings  # here, so that --help stays quick

    names = (*declared_settings(), "none")
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def offered_parameters(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Offer the parameters of the recipe that is named, else of all, with their defaults."""
    from bmz.plan.recipe_settings import declared_settings  # here, so that --help stays quick

    named = str(ctx.params.get("recipe"))
    table = declared_settings()
    defaults = {
        f"{setting.name}=": f"{setting.value} in recipe {recipe}"
        for recipe in ([named] if named in table else table)
        for setting in table[recipe]
    }
    return _beginning(incomplete, defaults)


def offered_codes(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the codes of findings, with what each means."""
    from bmz.check.codes import CODES

    return _beginning(incomplete, {code: page.cause for code, page in CODES.items()})


def offered_modalities(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the terms for how images are made, with their plain names."""
    return _beginning(incomplete, {word: term.title for word, term in MODALITIES.items()})


def offered_structures(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the terms for what images show, with their plain names."""
    return _beginning(incomplete, {word: term.title for word, term in STRUCTURES.items()})


def _beginning(start: str, words: Mapping[str, str]) -> list[CompletionItem]:
    """Give the words that begin so, with what the shell says of each."""
    return [
        CompletionItem(word, help=told) for word, told in words.items() if word.startswith(start)
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
