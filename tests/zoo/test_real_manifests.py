"""The real zoo on paper, served by an imitation that is not ours."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bmz.zoo.fetch import WantedFile, fetch_files, sizes_of
from bmz.zoo.index import load_index
from bmz.zoo.locate import locate
from bmz.zoo.settings import ARTIFACTS, ZooSettings

CORE = """
import hashlib, sys
from bioimageio.core import load_description
from bioimageio.spec.utils import get_reader
for alias in sys.argv[1:]:
    found = load_description(alias, perform_io_checks=False)
    raw = get_reader(found.root / found.file_name).read()
    print(alias, hashlib.sha256(raw).hexdigest())
"""


@contextmanager
def serving(shared: Path, **options: int) -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("serve", shared / "zoo" / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.serve(**options)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def imitation(shared: Path) -> Iterator[Any]:
    with serving(shared) as server:
        yield server


def settings(server: Any, cache: Path) -> ZooSettings:
    mirrors = tuple(
        (real, server.url) for real in ("https://hypha.aicell.io", "https://bioimage-io.github.io")
    )
    return ZooSettings(cache, mirrors=mirrors)


def live(shared: Path) -> dict[str, Path]:
    """Give the manifest of every live model; the examples of the specification are none."""
    found = (shared / "zoo" / "models").glob("*/rdf.yaml")
    return {path.parent.name: path for path in found if not path.parent.name.startswith("ex-")}


def test_every_live_manifest_is_kept_byte_by_byte(
    shared: Path, imitation: Any, tmp_path: Path
) -> None:
    index = load_index(settings(imitation, tmp_path))

    kept = {e.id: e.manifest.read_bytes() for e in index.entries if e.manifest is not None}
    sent = {alias: path.read_bytes() for alias, path in live(shared).items()}
    assert len(sent) == 137
    assert {alias: kept[alias] for alias in sent} == sent
    assert "independent-mouse" in kept
    assert not [entry for entry in index.entries if entry.problem]


def test_a_service_that_limits_the_rate_still_gives_every_manifest(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(shared, rate=60) as server:
        # the second that the service wants us to wait passes at once
        monkeypatch.setattr("bmz.zoo.http.pause", lambda _: server.hits.clear())
        index = load_index(settings(server, tmp_path))

    assert not [entry.id for entry in index.entries if entry.manifest is None]


def test_every_doi_of_a_live_model_leads_to_it(
    shared: Path, imitation: Any, tmp_path: Path
) -> None:
    listed = json.loads((shared / "zoo" / "manifest.json").read_text())["entries"]
    with_doi = {e["alias"]: e["id"] for e in listed if str(e["id"]).startswith("10.")}
    known = settings(imitation, tmp_path)

    found = {alias: locate(doi, known).id for alias, doi in with_doi.items()}

    assert len(found) == 36
    assert found == {alias: alias for alias in with_doi}


def test_files_of_a_real_package_arrive_as_they_are(shared: Path, tmp_path: Path) -> None:
    there = shared / "zoo" / "models" / "ex-unet2d_nuclei_broad"
    names = ["weights.onnx", "test_input.npy"]

    with serving(shared, cut=700_000) as server:
        known = settings(server, tmp_path)
        package = locate("ex-unet2d_nuclei_broad", known)
        sizes = sizes_of(package, names, known)
        fetch_files(package, [WantedFile(name, None, name) for name in names], known)

    assert sizes == {name: (there / name).stat().st_size for name in names}
    for name in names:
        assert (package.manifest.parent / name).read_bytes() == (there / name).read_bytes()


def test_a_zip_of_the_service_is_loaded_as_a_package(
    shared: Path, imitation: Any, tmp_path: Path
) -> None:
    word = f"{ARTIFACTS}/ex-unet2d_nuclei_broad/create-zip-file?version=v0"

    package = locate(word, settings(imitation, tmp_path))

    there = shared / "zoo" / "models" / "ex-unet2d_nuclei_broad"
    kept = {p.name: p.read_bytes() for p in package.manifest.parent.iterdir() if p.is_file()}
    assert kept == {path.name: path.read_bytes() for path in there.iterdir()}


def test_the_client_of_bioimageio_core_loads_what_ours_loads(
    imitation: Any, tmp_path: Path
) -> None:
    pytest.importorskip("bioimageio.core")
    aliases = ["affable-shark", "impartial-shrimp", "kind-seashell", "hiding-tiger"]
    theirs = {
        "BIOIMAGEIO_COLLECTION_HTTP_PATTERN": f"{imitation.url}/bioimage-io/artifacts/"
        "{bioimageio_id}/files/rdf.yaml",
        "BIOIMAGEIO_CACHE_PATH": str(tmp_path / "core"),
    }

    done = subprocess.run(
        [sys.executable, "-c", CORE, *aliases],
        env={**os.environ, **theirs},
        capture_output=True,
        text=True,
        check=False,
    )
    known = settings(imitation, tmp_path / "ours")
    ours = {
        alias: hashlib.sha256(locate(alias, known).manifest.read_bytes()).hexdigest()
        for alias in aliases
    }

    assert done.returncode == 0, done.stderr[-2000:]
    loaded = [line.split() for line in done.stdout.splitlines()]
    assert {line[0]: line[1] for line in loaded if line and line[0] in ours} == ours
