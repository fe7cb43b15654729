"""The ways in which a user can name a model: aliases, DOIs, addresses and paths."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from bmz.base.values import dataclass
from bmz.zoo.settings import ARTIFACTS, HUGGING_FACE

_LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w-]+): *(?P<value>.*?)\s*$")
_DOI_TEXT = re.compile(r"10\.\d{4,9}/\S+")
_PLACES = (
    ("id",),
    ("config", "_conceptdoi"),
    ("config", "_doi"),
    ("config", "bioimageio", "nickname"),
)


def names_in(raw: bytes) -> tuple[str, ...]:
    """Return the id, the DOIs and the nickname of a manifest, in lower case.

    The zoo writes the DOI of a model as ``<DOI of the concept>/<number of the version>``; the DOIs
    of the concept and of the version are returned as well.
    """
    text = raw.decode("utf-8", "replace")
    try:
        names = _of_json(json.loads(text)) if text.lstrip().startswith("{") else _of_lines(text)
    except (ValueError, RecursionError):
        names = []
    return tuple(dict.fromkeys(spelling for name in names for spelling in _spellings(name.lower())))


_TYPES = frozenset({"model", "dataset", "application", "notebook", "generic", "collection"})


def is_description(raw: bytes) -> bool:
    """Return whether bytes look like the description of a resource of the zoo.

    A description is text, not a web page, and states its type or format at its top level. A
    login page, an error of the service or an empty answer is not one.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    if "\0" in text or is_web_page(raw):
        return False
    try:
        if text.lstrip().startswith("{"):
            node = json.loads(text)
            return "format_version" in node or node.get("type") in _TYPES
    except (ValueError, RecursionError, TypeError):
        pass  # it may be YAML that begins with a brace
    top_level = dict(_top_level(text))
    return "format_version" in top_level or top_level.get("type") in _TYPES


def is_web_page(raw: bytes) -> bool:
    """Return whether bytes start like HTML or XML."""
    return raw.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"


def _top_level(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is not None and not match["indent"]:
            yield match["key"], _scalar(match["value"])


def _of_json(node: object) -> list[str]:
    names = []
    for place in _PLACES:
        value = node
        for key in place:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str):
            names.append(value)
    return names


def _of_lines(text: str) -> list[str]:
    names = []
    above: list[tuple[int, str]] = []  # indent and key of the enclosing mappings
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        indent = len(match["indent"])
        while above and above[-1][0] >= indent:
            above.pop()
        above.append((indent, match["key"]))
        if tuple(key for _, key in above) in _PLACES and (value := _scalar(match["value"])):
            names.append(value)
    return names


def _scalar(written: str) -> str:
    if written[:1] in {'"', "'"}:
        return written[1:].partition(written[0])[0]
    return "" if written[:1] in {"|", ">", "&", "*", "{", "["} else written.partition(" #")[0]


def _spellings(name: str) -> list[str]:
    if not _DOI_TEXT.fullmatch(name):
        return [name]
    concept, _, version = name.rpartition("/")
    if "/" not in concept:
        return [name]
    return [name, concept, f"{concept.rpartition('.')[0]}.{version}"]


STARTER = "starter/"
"""Prefix of the models that come with bmz."""

COLLECTION = "bioimage-io/"
"""Prefix that the index puts before an alias."""

_ALIAS = r"[a-zA-Z0-9][a-zA-Z0-9_-]*"
_NAMED = re.compile(rf"(?P<alias>{_ALIAS})(?:/(?P<version>v?\d+(?:\.\d+)*|latest))?")
_DOI = re.compile(
    r"(?:doi:\s*|https?://(?:dx\.)?doi\.org/)?(?P<doi>10\.\d{4,9}/\S+)", re.IGNORECASE
)
_ARTIFACT = re.compile(rf".*/artifacts/(?P<alias>{_ALIAS})/?")
_ZENODO = re.compile(r"/records?/(?P<number>\d+)/?")


@dataclass(frozen=True)
class Starter:
    """A model that comes with bmz."""

    name: str


@dataclass(frozen=True)
class OnDisk:
    """A folder, zip or manifest on this computer."""

    path: Path


@dataclass(frozen=True)
class Alias:
    """A model of the zoo; `version` is empty for the newest one."""

    alias: str
    version: str = ""


@dataclass(frozen=True)
class Doi:
    """A DOI, of the concept or of one version, or ``concept/version`` as the zoo writes it."""

    doi: str


@dataclass(frozen=True)
class ManifestUrl:
    """A manifest on the web, at the first of `urls` that has one."""

    urls: tuple[str, ...]
    id: str


@dataclass(frozen=True)
class ZipUrl:
    """A whole package on the web."""

    url: str
    id: str


@dataclass(frozen=True)
class Unclear:
    """An address in none of the known forms."""

    why: str


Address = Starter | OnDisk | Alias | Doi | ManifestUrl | ZipUrl | Unclear


def read_address(source: str) -> Address:
    """Return the kind of address that `source` is, judging by its form.

    A folder must be written as a path (``./name``), so that it can never take the place of a
    model of the zoo with the same name.
    """
    if source.startswith(STARTER):
        return Starter(source.removeprefix(STARTER))
    if doi := _DOI.fullmatch(source):
        return Doi(doi["doi"].lower())
    if "://" in source:
        return _of_url(source)
    if source.startswith("huggingface/"):
        return _of_hugging_face(source)
    return _of_name(source) or _of_path(source)


def _of_name(source: str) -> Alias | None:
    named = _NAMED.fullmatch(source.removeprefix(COLLECTION))
    return Alias(named["alias"].lower(), _version(named["version"])) if named else None


def _of_path(source: str) -> Address:
    if "\0" in source:
        return Unclear("a path cannot contain a NUL character")
    path = Path(os.path.expanduser(source))  # noqa: PTH111  (Path raises for an unknown user)
    written_as_path = path.parent != Path() or source.startswith((".", "~"))
    if written_as_path or path.suffix.lower() in {".zip", ".yaml", ".yml"}:
        return OnDisk(path)
    return Unclear("it is neither an alias, a DOI, a URL nor a path")


def _version(label: str | None) -> str:
    return "" if label in {None, "latest"} else str(label)


def _of_url(url: str) -> Address:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").removeprefix("www.")
    except ValueError as why:
        return Unclear(f"it is not a URL ({why})")
    if parts.scheme == "file":
        return OnDisk(path_of(url))
    if parts.scheme not in {"http", "https"}:
        return Unclear(f"'{parts.scheme}' addresses are not supported")
    if host == "bioimage.io":
        return _of_website(parts.fragment or parts.path)
    if host == "zenodo.org" and (record := _ZENODO.fullmatch(parts.path)):
        return Doi(f"10.5281/zenodo.{record['number']}")
    return _of_file(url, parts.path)


def path_of(url: str) -> Path:
    """Return the path of a ``file`` address."""
    from urllib.request import url2pathname  # imported here, since it imports many modules

    return Path(url2pathname(urlsplit(url).path))


def _of_file(url: str, path: str) -> Address:
    if artifact := _ARTIFACT.fullmatch(path):
        return _of_artifact(url, artifact["alias"])
    if path.endswith((".yaml", ".yml")):
        return ManifestUrl((url,), _name_of(path))
    if path.endswith((".zip", "/create-zip-file")):
        return ZipUrl(url, _name_of(path))
    return Unclear("the URL names neither a manifest (.yaml) nor a zip")


def _of_website(fragment: str) -> Address:
    path, _, query = fragment.partition("?")
    named = _of_name(path.strip("/").removeprefix("artifacts/"))
    if named is not None and path.strip("/").startswith("artifacts/"):
        return named
    model_id = parse_qs(query).get("id", [""])[0]  # links of the website until 2024
    if model_id and "://" not in model_id:
        return read_address(model_id)
    return Unclear("the link to bioimage.io names no model")


def _of_artifact(url: str, alias: str) -> Address:
    bare, _, query = url.partition("?")
    version = parse_qs(query).get("version", [""])[0]
    if bare.startswith(ARTIFACTS + "/"):
        return Alias(alias.lower(), _version(version or None))
    return ManifestUrl(artifact_manifests(bare.rstrip("/"), version), alias)


def artifact_manifests(artifact: str, version: str = "") -> tuple[str, ...]:
    """Return the addresses at which an artifact of the service may have its manifest.

    Uploads since July 2026 are stored as ``bioimageio.yaml``, older ones as ``rdf.yaml``.
    """
    query = f"?version={version}" if version else ""
    return tuple(f"{artifact}/files/{name}{query}" for name in ("bioimageio.yaml", "rdf.yaml"))


def _of_hugging_face(source: str) -> Address:
    parts = source.split("/")[1:]
    if len(parts) not in {2, 3} or not all(re.fullmatch(r"[\w.-]+", part) for part in parts):
        return Unclear("wanted huggingface/ORGANISATION/NAME or …/NAME/VERSION")
    # as in bioimageio.spec: version 1.3 is the branch "v1.3", any other word is a branch
    version = (parts[2:] or ["main"])[0]
    branch = f"v{version}" if version[0].isdigit() else version
    package = f"{HUGGING_FACE}/{parts[0]}/{parts[1]}/resolve/{branch}/package"
    urls = (f"{package}/bioimageio.yaml", f"{package}/rdf.yaml")
    return ManifestUrl(urls, f"{parts[0]}/{parts[1]}")


def _name_of(path: str) -> str:
    folders = [part for part in unquote(path).split("/")[:-1] if part]
    if "artifacts" in folders[:-1]:
        return folders[folders.index("artifacts") + 1]
    last = path.rsplit("/", 1)[-1]
    return last.removesuffix(".zip") if last.endswith(".zip") else (folders or [last])[-1]
