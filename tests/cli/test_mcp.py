"""``bmz mcp``, asked by the client of the protocol's own library, in memory and over stdio."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pytest
import tifffile
from tests.cli.test_trust import write_state_dict_package

from bmz.app.run import demo_image
from bmz.base.progress import Progress
from bmz.cli.main import cli as command
from bmz.cli.main import status_of
from bmz.mcp import server, tools
from bmz.mcp.folders import Folders
from bmz.mcp.tools import TOOLS, Answer
from bmz.report.reference import schema_of
from bmz.testing.package import SmallZoo, description, small_zoo, write_package

if TYPE_CHECKING:
    import mcp
    from mcp import types
else:
    mcp = pytest.importorskip("mcp", reason="needs the package mcp")
    from mcp import types
jsonschema = pytest.importorskip("jsonschema")
pytest.importorskip("onnxruntime")


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallZoo]:
    """A zoo of one model."""
    pytest.importorskip("onnx")
    write_package(tmp_path / "zoo" / "able-cat", description(halo=4))
    monkeypatch.setenv("BMZ_OFFLINE", "0")
    monkeypatch.delenv("BMZ_MIRROR", raising=False)
    with small_zoo(tmp_path / "zoo") as served:
        monkeypatch.setenv("BMZ_INDEX_URL", served.index_url)
        yield served


Talk = Callable[["mcp.Client"], Coroutine[Any, Any, Any]]
DEMO = "nuclei.tif"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the bundled image."""
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / DEMO).write_bytes(demo_image().read_bytes())
    return folder


def talked(data: Path, talk: Talk) -> Any:
    async def talking() -> Any:
        async with mcp.Client(server.made_server(Folders.of([data]))) as client:
            return await talk(client)

    return asyncio.run(talking())


def called(data: Path, name: str, **arguments: Any) -> types.CallToolResult:
    answer: types.CallToolResult = talked(data, lambda client: client.call_tool(name, arguments))
    return answer


def text_of(answer: types.CallToolResult) -> str:
    return "\n".join(part.text for part in answer.content if isinstance(part, types.TextContent))


def test_the_tools_are_listed_with_the_schemas_of_the_documents(data: Path) -> None:
    listed = talked(data, lambda client: client.list_tools()).tools

    assert [tool.name for tool in listed] == ["search", "show", "check", "fit", "run", "score"]
    for tool in listed:
        assert tool.output_schema == schema_of(TOOLS[tool.name].document)
        assert tool.annotations.read_only_hint == (tool.name != "run")
        assert tool.input_schema["additionalProperties"] is False


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("name", "arguments", "status"),
    [
        ("search", {"words": ["nuclei"], "top": 1}, 0),
        ("show", {"model": "able-cat"}, 0),
        ("search", {"words": ["no-such-word"]}, 1),
        ("show", {"model": "starter/nuclei"}, 0),
        ("check", {"model": "starter/nuclei", "images": [DEMO]}, 0),
        ("fit", {"images": [DEMO], "top": 1}, 0),
        ("run", {"model": "starter/nuclei", "images": [DEMO], "output": "out"}, 0),
    ],
)
def test_a_tool_answers_with_its_document_and_the_exit_status(
    name: str, arguments: dict[str, Any], status: int, data: Path
) -> None:
    answer = called(data, name, **arguments)

    first, document = (part.text for part in answer.content)  # type: ignore[union-attr]
    assert first == TOOLS[name].meaning(status)
    assert json.loads(document) == answer.structured_content
    jsonschema.validate(answer.structured_content, schema_of(TOOLS[name].document))
    assert answer.is_error is False


def test_the_answer_is_what_the_command_prints(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = called(data, "check", model="starter/nuclei", images=[DEMO], pixel_size="9um")

    status = status_of(
        ["check", "starter/nuclei", str(data / DEMO), "--pixel-size", "9um", "--json"]
    )

    assert answer.structured_content == json.loads(capsys.readouterr().out)
    assert text_of(answer).startswith(TOOLS["check"].meaning(status))


def test_what_was_run_lies_in_the_folder_and_can_be_scored(data: Path) -> None:
    run = called(data, "run", model="starter/nuclei", images=["."], output="out", save=["labels"])
    mask = str(data / "out" / "nuclei.labels.tif")

    score = called(data, "score", predicted=mask, truth=mask, ious=[0.5])

    assert {path.name for path in (data / "out").iterdir()} == {
        "nuclei.labels.tif",
        "nuclei.run.json",
    }
    assert run.structured_content["runs"][0]["objects"] == tifffile.imread(mask).max()
    assert score.structured_content["scores"][0]["f1"] == 1


def test_a_model_with_which_an_image_does_not_fit_is_no_error_of_check_but_one_of_run(
    data: Path,
) -> None:
    np.save(data / "blank.npy", np.full((64, 64), np.nan, np.float32))
    words = {"model": "starter/nuclei", "images": ["blank.npy"], "axes": "yx"}

    check, run = called(data, "check", **words), called(data, "run", output="out", **words)

    assert check.is_error is False
    assert text_of(check).startswith("exit status 1: an image does not fit")
    assert run.is_error is True
    assert "range.nonfinite" in text_of(run)


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("check", {"model": "starter/nuclei", "images": ["/etc/passwd"]}, "mcp.outside"),
        ("fit", {"images": ["../cache"]}, "mcp.outside"),
        ("show", {"model": "/etc/net.zip"}, "mcp.outside"),
        ("fit", {"images": [DEMO], "models": ["/etc/net.zip"]}, "mcp.outside"),
        ("score", {"predicted": DEMO, "truth": "../x.tif"}, "mcp.outside"),
        ("run", {"model": "starter/nuclei", "images": [DEMO], "output": "../o"}, "mcp.outside"),
        ("run", {"model": "https://a.org/n.zip", "images": [DEMO], "output": "o"}, "mcp.model"),
        ("score", {"predicted": "*.tif", "truth": DEMO}, "mcp.no-path"),
        ("check", {"model": "starter/nuclei"}, "images: Field required"),
        ("check", {"model": "starter/nuclei", "images": []}, "at least 1 item"),
        ("check", {"model": "a", "images": [DEMO], "trust": True}, "trust: Extra inputs"),
        (
            "run",
            {"model": "a", "images": [DEMO], "output": "o", "save": ["x"]},
            "save: Value error, choose",
        ),
        ("check", {"model": "starter/nuclei", "images": [DEMO], "kind": "cheese"}, "call.word"),
    ],
)
def test_wrong_usage_is_a_tool_error_that_says_so(
    name: str, arguments: dict[str, Any], told: str, data: Path
) -> None:
    answer = called(data, name, **arguments)

    assert answer.is_error is True
    assert text_of(answer).startswith("exit status 2: wrong usage\nerror: ")
    assert told in text_of(answer)
    assert not (data / "o").exists()
    assert not (data.parent / "o").exists()


def test_what_could_not_be_told_is_a_tool_error_with_the_next_step(data: Path) -> None:
    answer = called(data, "show", model="starter/no-such-model")

    assert answer.is_error is True
    assert text_of(answer).startswith("exit status 3: could not tell\nerror: ")
    assert "hint: " in text_of(answer)


def test_code_of_a_model_is_not_run_unless_it_was_trusted_before(data: Path) -> None:
    pytest.importorskip("torch")
    write_state_dict_package(data / "net")
    np.save(data / "a.npy", np.zeros((60, 44), np.float32))
    words = {"model": "./net", "images": ["a.npy"], "axes": "yx"}

    check = called(data, "check", **words)
    tried = called(data, "check", trial=True, **words)
    run = called(data, "run", output="out", **words)

    findings = check.structured_content["images"][0]["findings"]
    assert "package.runs-code" in [finding["code"] for finding in findings]
    for refused in (tried, run):
        assert refused.is_error is True
        assert text_of(refused).startswith("exit status 3: could not tell\n")
        assert "[package.runs-code]" in text_of(refused)
    assert not (data / "marker").exists()
    assert not (data / "out").exists()


def test_a_bug_is_told_as_one(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Answer:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(
        server, "TOOLS", {"show": tools.Tool("", tools.ShowArguments, broken, "bmz.show/1", {})}
    )

    answer = called(data, "show", model="starter/nuclei")

    assert answer.is_error is True
    assert text_of(answer) == ("exit status 70: a bug in bmz\nerror: ZeroDivisionError: by nought")


def test_a_tool_that_is_not_there_is_an_error_of_the_protocol(data: Path) -> None:
    async def talk(client: mcp.Client) -> None:
        with pytest.raises(mcp.MCPError, match="no tool 'trust'"):
            await client.call_tool("trust", {"model": "net"})

    talked(data, talk)


def test_progress_grows_and_says_what_is_done(data: Path) -> None:
    heard: list[tuple[float, float | None, str | None]] = []

    async def told(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    arguments = {"model": "starter/nuclei", "images": [DEMO], "output": "out"}
    talked(data, lambda client: client.call_tool("run", arguments, progress_callback=told))

    numbers = [number for number, _, _ in heard]
    assert numbers == sorted(set(numbers))
    assert any(str(message).startswith("files 1 of 1") for _, _, message in heard)


def test_a_call_that_is_cancelled_ends_and_the_next_one_is_answered(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    def endless(_arguments: object, _folders: object, listener: Any) -> Answer:
        try:
            for number in range(10**9):
                listener(Progress("tiles", number, 10**9))
        finally:
            ended.append("ended")
        raise AssertionError

    search = tools.Tool("", tools.SearchArguments, endless, "bmz.search/1", {})
    monkeypatch.setattr(server, "TOOLS", {**TOOLS, "search": search})

    async def talk(client: mcp.Client) -> Any:
        with pytest.raises((mcp.MCPError, TimeoutError)):
            async with asyncio.timeout(0.5):
                await client.call_tool("search", {})
        return await client.call_tool("show", {"model": "starter/nuclei"})

    answer = talked(data, talk)

    assert ended == ["ended"]
    assert answer.is_error is False


def test_over_stdio_nothing_but_the_protocol_is_written(data: Path) -> None:
    words = ["-m", "bmz", "mcp", "--folder", str(data)]
    process = mcp.StdioServerParameters(command=sys.executable, args=words)

    async def talk() -> tuple[Any, Any]:
        async with mcp.Client(process) as client:
            arguments = {"model": "starter/nuclei", "images": [DEMO], "output": "out"}
            return await client.list_tools(), await client.call_tool("run", arguments)

    listed, run = asyncio.run(talk())

    assert len(listed.tools) == len(TOOLS)
    assert run.is_error is False
    assert (data / "out" / "nuclei.labels.tif").is_file()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_signal_ends_the_server_while_the_client_is_still_there(data: Path) -> None:
    words = [sys.executable, "-m", "bmz", "mcp", "--folder", str(data)]
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": 3}}

    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(listing) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())  # so it is there, and waits for more
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=60)

    assert answer["id"] == 1
    assert status == 128 + signal.SIGTERM


def test_without_the_library_the_next_step_is_told(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        server, "find_spec", lambda name: None if name == "mcp" else find_spec(name)
    )

    status = status_of(["mcp", "--folder", str(data)])

    assert status == 3
    assert "pip install 'bmz[mcp]'" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    status = status_of(["mcp", "--folder", "no/such/folder"])

    assert status == 2
    assert "mcp.no-folder" in capsys.readouterr().err


def test_every_entry_for_a_client_in_the_docs_starts_the_server() -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "mcp.md"

    files = re.findall(r"```json\n(.+?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    entries = [entry["bmz"] for file in files for entry in json.loads(file).values()]

    assert len(entries) == 2
    for entry in entries:
        assert entry["command"] == "bmz"
        assert command.get_command(click.Context(command), entry["args"][0]).name == "mcp"  # type: ignore[union-attr]
        assert entry["args"][1] == "--folder"
