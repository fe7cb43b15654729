"""Read the settings of a project in ``bmz.toml`` or ``[tool.bmz]``, and write them in ``bmz init``.

They supply what the command line leaves out: the model, a contract, options.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from bmz.base.errors import WrongUsage
from bmz.base.files import given_text, is_there, write_whole_text
from bmz.base.values import dataclass
from bmz.cli.options import as_path
from bmz.image.known_formats import suffixes

OWN = "bmz.toml"
PYPROJECT = "pyproject.toml"

REFUSED = ("trust", "scheduler", "output", "overwrite", "force")
"""Options accepted only on the command line: a folder from someone else must not run code, send
images away or replace files."""

MODEL_FIRST = ("check", "run", "test", "show", "card")
"""Commands whose first argument is a model."""

HELP = frozenset({"-h", "--help", "--explain"})

WITH_IMAGES = ("check", "run")
"""Commands in which images follow the model."""


class ProjectUnreadable(WrongUsage):
    """The settings of the project are not TOML, or name something unknown."""

    def __init__(self, file: Path, why: str) -> None:
        super().__init__(
            f"the settings in '{file}' cannot be used: {why}",
            hint="'bmz init --help' lists what the file may contain",
            code="project.unreadable",
        )


@dataclass(frozen=True)
class Project:
    """The settings of a project.

    Parameters
    ----------
    file : file with the settings
    model : model for the commands that take one; empty for none
    images : files and patterns that `check` and `run` use if no image is named
    options : name without dashes -> value, for every command that has the option
    own : command -> options for this command only
    """

    file: Path
    model: str
    images: tuple[str, ...]
    options: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]]

    def defaults(self, name: str, command: click.Command) -> dict[str, Any]:
        """Return the values of a command's options, as click's ``default_map`` takes them.

        Raises
        ------
        ProjectUnreadable
            An option of the command's own table is not one of its options.
        """
        known = {
            word.lstrip("-"): option
            for option in command.params
            if isinstance(option, click.Option)
            for word in option.opts
        }
        own = self.own.get(name, {})
        for option in own:
            if option not in known:
                raise ProjectUnreadable(self.file, f"bmz {name} has no option --{option}")
        shared = {option: value for option, value in self.options.items() if option in known}
        given = {**shared, **own}
        if name == "compare" and self.model:
            given = {"model": self._model} | given
        return {
            str(known[option].name): self._value(known[option], value)
            for option, value in given.items()
        }

    def _value(self, option: click.Option, value: object) -> str | bool | list[str]:
        if option.name == "contract":  # relative to the settings, wherever the command is given
            return str(self.file.parent / str(value))
        if option.multiple:
            return [str(each) for each in (value if isinstance(value, list) else [value])]
        return value if isinstance(value, bool) else str(value)

    def with_model(self, name: str, command: click.Command, words: list[str]) -> list[str]:
        """Insert the model and the images before the arguments of a command that names none.

        The first argument counts as an image, not as a model, if it is an image file.
        """
        if not self.model or name not in MODEL_FIRST:
            return words
        first, *_ = [*_named(command, words), ""]
        if first and not (name in WITH_IMAGES and _is_image(first)):
            return words
        images = [] if first or name not in WITH_IMAGES else self._images()
        return [self._model, *images, *words]

    @property
    def _model(self) -> str:
        beside = self.model.startswith(("./", "../"))  # relative to the file of settings
        return str(self.file.parent / self.model) if beside else self.model

    def _images(self) -> list[str]:
        return [str(self.file.parent / image) for image in self.images]


def _named(command: click.Command, words: Sequence[str]) -> Iterator[str]:
    """Return the arguments that are neither options nor their values."""
    takes = {
        word
        for option in command.params
        if isinstance(option, click.Option) and not option.is_flag and not option.count
        for word in (*option.opts, *option.secondary_opts)
    }
    rest = iter(words)
    for word in rest:
        if word == "--":
            yield from rest
        elif not word.startswith("-") or word == "-":
            yield word
        elif word in takes - {"--trust"}:
            next(rest, None)


def _is_image(word: str) -> bool:
    return word.lower().endswith(suffixes())


class ModelMissing(WrongUsage):
    """An image is where the model should be."""

    def __init__(self, command: str, image: str) -> None:
        super().__init__(
            f"no model is given: '{image}' is an image",
            hint=f"use bmz {command} MODEL {image}, or run 'bmz init MODEL' once in this folder",
            code="project.no-model",
        )


def with_settings(
    ctx: click.Context, name: str, command: click.Command, words: list[str], known: Collection[str]
) -> list[str]:
    """Apply the settings of the project to what the command line leaves out.

    Parameters
    ----------
    ctx : context of ``bmz`` itself, which receives the values of options
    name, command, words : the command, and the arguments after its name
    known : names of all commands

    Returns
    -------
    list
        the arguments, preceded by the model if it comes from the settings

    Raises
    ------
    ProjectUnreadable, ModelMissing
    """
    if name == "init" or HELP & set(words):  # these show which settings are allowed
        return words
    project = project_of(Path.cwd(), known)
    if project is None:
        first = next(_named(command, words), "")
        if name in WITH_IMAGES and _is_image(first) and is_there(as_path(first)):
            raise ModelMissing(name, first)
        return words
    ctx.default_map = {name: project.defaults(name, command)}
    return project.with_model(name, command, words)


def project_of(folder: Path, known: Collection[str]) -> Project | None:
    """Read the settings of the nearest folder that has some: this folder or a parent.

    The search ends at the top of a repository.

    Parameters
    ----------
    folder : folder in which the search begins
    known : names of all commands

    Raises
    ------
    ProjectUnreadable
    """
    for place in (folder, *folder.parents):
        own = place / OWN
        if own.is_file():
            return _project(own, _toml(own), known)
        shared = place / PYPROJECT
        if shared.is_file() and "tool.bmz" in given_text(shared):
            table = _toml(shared).get("tool", {}).get("bmz")
            if table is not None:
                return _project(shared, table, known)
        if (place / ".git").exists():
            return None
    return None


def _toml(file: Path) -> dict[str, Any]:
    import tomllib  # here: most folders have no settings

    try:
        return tomllib.loads(given_text(file))
    except (OSError, ValueError, RecursionError) as why:
        raise ProjectUnreadable(file, str(why)) from why


def _project(file: Path, table: Mapping[str, Any], known: Collection[str]) -> Project:
    tables = {name: value for name, value in table.items() if isinstance(value, dict)}
    for name, value in tables.items():
        if name not in {"options", *known}:
            raise ProjectUnreadable(file, f"there is no command '{name}'")
        refused = sorted(set(value) & set(REFUSED))
        if refused:
            raise ProjectUnreadable(file, f"--{refused[0]} may be given only on the command line")
    plain = {name: value for name, value in table.items() if name not in tables}
    model, images = plain.pop("model", ""), plain.pop("images", [])
    contract = plain.pop("contract", None)
    if plain or not isinstance(model, str) or not isinstance(images, list):
        wrong = next(iter(plain), "model" if not isinstance(model, str) else "images")
        raise ProjectUnreadable(file, f"'{wrong}' is unknown or has the wrong type")
    options = dict(tables.pop("options", {}))
    if contract is not None:
        tables["check"] = {"contract": contract} | tables.get("check", {})
    return Project(file, model, tuple(map(str, images)), options, tables)


EPILOG = """\b
The file may contain, all of it optional:
  model = "starter/nuclei"       for every command that takes a model
  images = ["images/*.tif"]      for check and run, if no image is given
  contract = "lab.toml"          for check
  [options]                      for every command that has them
  pixel-size = "0.5um"
  [run]                          for one command
  save = "labels,table"
The same settings may be in pyproject.toml below [tool.bmz]. The command line takes precedence.
Options that run code, send images away or replace files may be given only on the command line.

Exit status: 0 written, 2 wrong usage, such as a file that already exists."""

HEAD = "# Settings of bmz for this folder and those below it: see 'bmz init --help'.\n"


@click.command(epilog=EPILOG)
@click.argument("model", help="Name, DOI, URL or path of a model; see bmz search.")
@click.argument(
    "images", nargs=-1, metavar="[IMAGE...]", help="Files and patterns that check and run take."
)
@click.option("--contract", metavar="FILE", help="The contract against which check checks images.")
@click.option("--pixel-size", "pixel_size", metavar="LENGTH", help="Pixel size, such as 0.5um.")
@click.option("--channels", metavar="CHANNELS", help="Image channel for each model channel.")
def init(
    model: str,
    images: tuple[str, ...],
    contract: str | None,
    pixel_size: str | None,
    channels: str | None,
) -> None:
    """Write bmz.toml, which sets MODEL and its options for every command here and below."""
    file = as_path(OWN)
    if file.exists():
        raise ProjectExists(file)
    options = {"pixel-size": pixel_size, "channels": channels}
    write_whole_text(file, project_toml(model, images, contract, options))
    click.echo(f"wrote {file}: bmz check, run, test, show and card now use {model}")


class ProjectExists(WrongUsage):
    """Settings already exist."""

    def __init__(self, file: Path) -> None:
        super().__init__(
            f"'{file}' already exists, and bmz does not overwrite files unless asked to",
            hint="edit the file, or remove it",
            code="project.exists",
        )


def project_toml(
    model: str, images: tuple[str, ...], contract: str | None, options: Mapping[str, str | None]
) -> str:
    """Return the text of ``bmz.toml``."""
    import json  # a string of JSON is one of TOML

    lines = [HEAD, f"model = {json.dumps(model)}"]
    if images:
        lines.append(f"images = {json.dumps(list(images))}")
    if contract is not None:
        lines.append(f"contract = {json.dumps(contract)}")
    given = {name: value for name, value in options.items() if value is not None}
    if given:
        lines += ["", "[options]", *(f"{name} = {json.dumps(v)}" for name, v in given.items())]
    return "\n".join(lines) + "\n"
