"""Images on servers: files whole, OME-Zarr by what is read of it."""

from __future__ import annotations

import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from bmz.app.run import run
from bmz.base.errors import BmzError
from bmz.engine.remote_images import HOSTS_VARIABLE, follow_addresses, local_image
from bmz.engine.request import RunRequest
from bmz.image.inspect import inspect_image
from bmz.image.region import open_image, read_image
from bmz.image.remote import address_of
from bmz.plan.plan import Blocks
from bmz.testing.package import description, write_package
from bmz.zoo.settings import ZooSettings

PIXELS = np.random.default_rng(0).integers(0, 255, (64, 96)).astype(np.uint8)


class Server(ThreadingHTTPServer):
    """Serves a folder, and keeps what it was asked for.

    Parameters
    ----------
    cut : how many answers break off in the middle
    chunks_left : how many chunks it gives before it is dead; None for all
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.asked: list[str] = []
        self.cut = 0
        self.chunks_left: int | None = None
        self.chunks: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(SimpleHTTPRequestHandler):
    """Serves files without ranges."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.cut:
            self.server.cut -= 1
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"II*\0")
            return
        if re.search(r"/0/\d", self.path):
            if self.server.chunks_left == 0:
                self.close_connection = True  # no answer, as from a process that was killed
                return
            if self.server.chunks_left is not None:
                self.server.chunks_left -= 1
            self.server.chunks.append(self.path)
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    tifffile.imwrite(folder / "cells 1.tif", PIXELS)
    group = zarr.open_group(str(folder / "cells.zarr"), mode="w", zarr_format=2)
    array = group.create_array("0", shape=PIXELS.shape, dtype=PIXELS.dtype, chunks=(32, 32))
    array[...] = PIXELS
    scale: Any = [{"type": "scale", "scale": [0.5, 0.5]}]
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"],
            "datasets": [{"path": "0", "coordinateTransformations": scale}],
        }
    ]
    made = Server(folder)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def settings(tmp_path: Path) -> ZooSettings:
    return ZooSettings(tmp_path / "cache")


def test_a_file_is_brought_once_and_kept(server: Server, settings: ZooSettings) -> None:
    address = f"{server.url}/cells%201.tif"

    paths = {local_image(address, settings) for _ in range(2)}

    (path,) = paths
    assert path.name == "cells 1.tif"
    assert np.array_equal(np.asarray(read_image(inspect_image(path))), PIXELS)
    assert len(server.asked) == 1


def test_an_answer_that_breaks_off_is_asked_for_again(
    server: Server, settings: ZooSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmz.zoo.http.FIRST_WAIT_S", 0.01)
    server.cut = 2

    path = local_image(f"{server.url}/cells%201.tif", settings)

    assert np.array_equal(np.asarray(read_image(inspect_image(path))), PIXELS)


def test_of_an_ome_zarr_only_the_chunks_of_a_region_are_brought(
    server: Server, settings: ZooSettings
) -> None:
    info = inspect_image(local_image(f"{server.url}/cells.zarr", settings))
    with open_image(info) as image:
        region = image.region({"y": slice(33, 40), "x": slice(60, 70)})

    assert info.pixel_um == {"y": 0.5, "x": 0.5}
    assert np.array_equal(region.array, PIXELS[33:40, 60:70])
    chunks = [path for path in server.asked if path.startswith("/cells.zarr/0/1")]
    assert sorted(chunks) == ["/cells.zarr/0/1.1", "/cells.zarr/0/1.2"]


def test_what_was_read_is_there_without_the_server(server: Server, settings: ZooSettings) -> None:
    address = f"{server.url}/cells.zarr"
    first = read_image(inspect_image(local_image(address, settings)))
    asked = len(server.asked)

    again = read_image(inspect_image(local_image(address, settings)))

    assert np.array_equal(first.array, PIXELS)
    assert np.array_equal(again.array, PIXELS)
    assert len(server.asked) == asked


@pytest.mark.parametrize("name", ["no.tif", "no.zarr"])
def test_an_address_that_leads_nowhere_is_told(
    server: Server, settings: ZooSettings, name: str
) -> None:
    with pytest.raises(BmzError, match="there is no image at") as caught:
        local_image(f"{server.url}/{name}", settings)

    assert caught.value.code == "image.not-found"


@pytest.mark.parametrize("name", ["cells%201.tif", "cells.zarr"])
def test_without_a_network_an_image_that_is_not_kept_is_refused(
    server: Server, tmp_path: Path, name: str
) -> None:
    with pytest.raises(BmzError) as caught:
        local_image(f"{server.url}/{name}", ZooSettings(tmp_path / "cache", offline=True))

    assert caught.value.code == "zoo.offline"
    assert server.asked == []


def test_only_hosts_that_are_allowed_are_asked(
    server: Server, settings: ZooSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{server.url}/cells.zarr"
    monkeypatch.setenv(HOSTS_VARIABLE, "images.example.org")
    with pytest.raises(BmzError, match="are not allowed") as caught:
        local_image(address, settings)
    assert (caught.value.code, server.asked) == ("image.host", [])

    monkeypatch.setenv(HOSTS_VARIABLE, "images.example.org, 127.0.0.1")
    assert inspect_image(local_image(address, settings)).shape == PIXELS.shape


def test_a_bucket_is_read_at_the_endpoint_of_the_environment(
    server: Server, settings: ZooSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)

    path = local_image("s3://cells.zarr/0", settings)

    assert np.array_equal(read_image(inspect_image(path)).array, PIXELS)


@pytest.mark.parametrize("name", ["cells.ozx", "cells.zarr.zip"])
@pytest.mark.parametrize("inner", ["", "cells.zarr/"])
def test_a_zipped_ome_zarr_is_read(
    server: Server, tmp_path: Path, settings: ZooSettings, name: str, inner: str
) -> None:
    folder = tmp_path / "served" / "cells.zarr"
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(file, f"{inner}{file.relative_to(folder)}")

    info = inspect_image(local_image(str(tmp_path / name), settings))

    assert (info.path.name, info.pixel_um) == ("cells.zarr", {"y": 0.5, "x": 0.5})
    assert np.array_equal(read_image(info).array, PIXELS)
    assert server.asked == []


def test_a_zip_that_is_damaged_is_told(tmp_path: Path, settings: ZooSettings) -> None:
    (tmp_path / "cells.ozx").write_bytes(b"PK\x03\x04" + bytes(99))

    with pytest.raises(BmzError, match="damaged zipped OME-Zarr"):
        local_image(str(tmp_path / "cells.ozx"), settings)


@pytest.mark.parametrize("memory_gb", [1e3, 0.0])
def test_a_server_that_dies_in_a_run_fails_one_image_and_resume_goes_on(
    server: Server, memory_gb: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.delenv("BMZ_OFFLINE", raising=False)
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("bmz.zoo.http.FIRST_WAIT_S", 0.01)
    tifffile.imwrite(tmp_path / "local.tif", PIXELS)
    remote = local_image(f"{server.url}/cells.zarr")
    model = write_package(tmp_path / "net", description(halo=4)).parent
    request = RunRequest(
        str(model), (remote, tmp_path / "local.tif"), tmp_path / "out", tile=32, force=True,
        memory_gb=memory_gb, blocks=Blocks(side_px=32, overlap_px=8, least_side_px=16),
    )  # fmt: skip

    server.chunks_left = 3
    stopped = run(request)
    server.chunks_left = None
    summary = run(replace(request, resume=True))

    assert [(failed.image, failed.error.code) for failed in stopped.failed] == [
        (remote, "zoo.unreachable")
    ]
    assert [done.image.name for done in stopped.done] == ["local.tif"]
    assert not summary.failed
    first, second = (tifffile.imread(done.files["labels"]) for done in summary.done)
    assert np.array_equal(first, second)
    assert len(server.chunks) == len(set(server.chunks)) == 6  # each chunk is brought once


def test_a_mark_in_an_image_from_elsewhere_asks_no_server(server: Server, tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "mine.zarr"), mode="w", zarr_format=2)
    group.attrs["multiscales"] = [{"version": "0.4", "axes": ["y", "x"], "datasets": []}]
    (tmp_path / "mine.zarr" / ".bmz-address").write_text(f"{server.url}/cells.zarr")
    follow_addresses(ZooSettings(tmp_path / "cache"))

    with pytest.raises(BmzError):
        inspect_image(tmp_path / "mine.zarr")

    assert address_of(tmp_path / "mine.zarr") is None
    assert server.asked == []
