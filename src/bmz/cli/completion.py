"""Shell completion for half-typed arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import click
from click.shell_completion import CompletionItem

from bmz.spec.made_for import MODALITIES, STRUCTURES


def offered_files(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete files and folders."""
    return [CompletionItem(incomplete, type="file")]


def offered_models(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete bundled models and models in the last list that was read, else files and folders.

    Completion never uses the network.
    """
    names = [*_bundled(), *_listed()]
    items = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return items or [CompletionItem(incomplete, type="file")]


def offered_kinds(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete modalities, and structures after a comma."""
    modality, comma, structure = incomplete.partition(",")
    words = [f"{modality},{word}" for word in STRUCTURES] if comma else list(MODALITIES)
    typed = f"{modality},{structure}" if comma else modality
    return [CompletionItem(word) for word in words if word.startswith(typed)]


def offered_recipes(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete label recipes, and ``none``."""
    from bmz.plan.recipe_settings import declared_settings  # here, so that --help stays quick

    names = (*declared_settings(), "none")
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def offered_parameters(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Complete parameters of the given recipe, else of all recipes, with their defaults."""
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
    """Complete codes of findings, with their meanings."""
    from bmz.check.codes import CODES

    return _beginning(incomplete, {code: page.cause for code, page in CODES.items()})


def offered_modalities(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete terms for how images are made, with their plain names."""
    return _beginning(incomplete, {word: term.title for word, term in MODALITIES.items()})


def offered_structures(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete terms for what images show, with their plain names."""
    return _beginning(incomplete, {word: term.title for word, term in STRUCTURES.items()})


def _beginning(start: str, words: Mapping[str, str]) -> list[CompletionItem]:
    """Return the words with this beginning, each with the help that the shell shows."""
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
