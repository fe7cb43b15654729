"""The server, which lists the tools, runs one call at a time, and reports progress."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bmz.base.computer import version
from bmz.base.errors import BmzError, CouldNotTell
from bmz.base.files import disk_faults_told
from bmz.base.progress import Event, Listener, Note, Progress, Stage, Stopped, printable
from bmz.image.given_names import with_given_names
from bmz.mcp.folders import Folders
from bmz.mcp.tools import TOOLS, Answer, Tool
from bmz.report.reference import schema_of

if TYPE_CHECKING:
    from mcp import types
    from mcp.server import Server, ServerRequestContext

INSTRUCTIONS = """bmz runs the models of the BioImage Model Zoo on microscope images.
Find a model with fit (by images) or search (by words), use check to see whether the images fit it,
and act on its findings; then run, and score if there is ground truth. Paths must be in {folders}.
Each answer begins with the exit status of the command of the same name, followed by the document
that the command prints with --json. A model's own code runs only if the user of this server has
trusted it with 'bmz trust add'."""

MEMORY_FULL = "the image does not fit into the memory of this computer [memory.full]"
_AT_ONCE = 2**16
_PAUSE_S = 0.1
"""Minimum time between two progress messages; the end of a stage is always reported."""


class ProtocolMissing(CouldNotTell):
    """The library for the protocol is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "bmz mcp needs the package mcp, which is not installed",
            hint="pip install 'bmz[mcp]'",
            code="mcp.no-package",
        )


def serve(folders: Folders) -> None:
    """Serve one client over stdin and stdout until it disconnects.

    Raises
    ------
    ProtocolMissing
    """
    if find_spec("mcp") is None:
        raise ProtocolMissing
    with _own_stdin() as stdin, asyncio.Runner() as runner:
        try:
            runner.run(_served(folders, stdin))
        except BaseException:
            stdin.end()  # otherwise the loop would wait for the client
            raise


async def _served(folders: Folders, stdin: _Stdin) -> None:
    import anyio
    from mcp.server.stdio import stdio_server

    server = made_server(folders)
    async with stdio_server(anyio.wrap_file(stdin.lines)) as (received, sent):
        try:
            await server.run(received, sent, server.create_initialization_options())
        finally:
            stdin.end()


class _Stdin:
    """The input from the client, which also ends when the server is asked to stop.

    A thread that waits for the client cannot be woken. A daemon thread therefore reads the input
    and forwards it through a pipe.

    Parameters
    ----------
    source : file descriptor
    """

    def __init__(self, source: int) -> None:
        receiver, sender = os.pipe()
        self.lines = os.fdopen(receiver, encoding="utf-8", errors="replace")
        self._sender = os.fdopen(sender, "wb", buffering=0)
        threading.Thread(target=self._hand_on, args=(source,), daemon=True).start()

    def end(self) -> None:
        """End the input."""
        self._sender.close()

    def _hand_on(self, source: int) -> None:
        with suppress(OSError, ValueError), self._sender:  # it may have ended in between
            while received := os.read(source, _AT_ONCE):
                self._sender.write(received)


@contextmanager
def _own_stdin() -> Iterator[_Stdin]:
    """Reserve stdin for the client: code that runs in the block finds it empty."""
    kept = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    try:
        yield _Stdin(kept)
    finally:
        os.dup2(kept, 0)


def made_server(folders: Folders) -> Server[Any]:
    """Create a server; it receives its streams when it is run.

    Parameters
    ----------
    folders : folders in which clients may read and write
    """
    from mcp import types
    from mcp.server import Server

    one_at_a_time = asyncio.Lock()  # a network uses all memory and processors

    async def listed(
        _context: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_described(name, tool) for name, tool in TOOLS.items()])

    async def called(
        context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        async with one_at_a_time, _told(context) as listener:
            return await _in_thread(params.name, params.arguments or {}, folders, listener)

    roots = (
        ", ".join(map(str, folders.roots))
        or "a folder (none was given: only information about models is available)"
    )
    return Server(
        "bmz", version=version(), instructions=INSTRUCTIONS.format(folders=roots),
        on_list_tools=listed, on_call_tool=called,
    )  # fmt: skip


def _described(name: str, tool: Tool) -> types.Tool:
    from mcp import types

    return types.Tool(
        name=name,
        description=f"{tool.what} Returns the document {tool.document}.",
        input_schema=tool.arguments.model_json_schema(),
        output_schema=schema_of(tool.document),
        annotations=types.ToolAnnotations(
            read_only_hint=not tool.writes,
            destructive_hint=tool.writes,
            idempotent_hint=not tool.writes,
            open_world_hint=tool.web,
        ),
    )


class _Messenger:
    """Listener of a call; passes events to the event loop and ends a job that was cancelled."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[Event | None] = asyncio.Queue()
        self.stopped = threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, event: Event, /) -> None:
        """Receive an event, in any thread.

        Raises
        ------
        Stopped
            The client has cancelled the call.
        """
        if self.stopped.is_set():
            raise Stopped
        self._loop.call_soon_threadsafe(self.waiting.put_nowait, event)


@asynccontextmanager
async def _told(context: ServerRequestContext[Any]) -> AsyncIterator[_Messenger]:
    """Forward events to the client within the block; all are sent before the block is left."""
    messenger = _Messenger()
    telling = asyncio.create_task(_tell(context, messenger.waiting))
    try:
        yield messenger
        messenger.waiting.put_nowait(None)
        await telling
    finally:
        telling.cancel()


async def _tell(context: ServerRequestContext[Any], waiting: asyncio.Queue[Event | None]) -> None:
    steps, told_at = 0, 0.0  # the number must increase from message to message, across stages
    while (event := await waiting.get()) is not None:
        steps += 1
        ends = not isinstance(event, Progress) or event.done == event.total
        if ends or time.monotonic() - told_at >= _PAUSE_S:
            told_at = time.monotonic()
            await context.session.report_progress(steps, message=printable(_words(event)))


def _words(event: Event) -> str:
    match event:
        case Progress(stage, done, total, what):
            return f"{stage} {done} of {total}" + (f": {what}" if what else "")
        case Note():
            return with_given_names(event.sentence)
        case Stage(what):
            return what


async def _in_thread(
    name: str, arguments: Mapping[str, Any], folders: Folders, messenger: _Messenger
) -> types.CallToolResult:
    """Answer a call in a thread; when it is cancelled, the thread ends at its next event."""
    tool = _tool(name)
    loop = asyncio.get_running_loop()
    work = loop.run_in_executor(None, answered, tool, arguments, folders, messenger)
    try:
        await asyncio.wait([work])
    except asyncio.CancelledError:
        messenger.stopped.set()
        await asyncio.wait([work])  # so that the memory is free for the next call
        work.exception()
        raise
    why = work.exception()
    if why is None:
        return work.result()
    traceback.print_exception(why, file=sys.stderr)
    return _failure(tool, 70, f"{type(why).__name__}: {why}")


def _tool(name: str) -> Tool:
    from mcp import MCPError, types

    if name not in TOOLS:
        raise MCPError(types.INVALID_PARAMS, f"no tool '{name}'; the tools are {', '.join(TOOLS)}")
    return TOOLS[name]


def answered(
    tool: Tool, arguments: Mapping[str, Any], folders: Folders, listener: Listener
) -> types.CallToolResult:
    """Answer one call with a document, or with an error and the meaning of its exit status.

    Parameters
    ----------
    arguments : arguments as the client gives them
    folders : folders in which the client may read and write
    listener : receives the progress

    Raises
    ------
    Stopped
        The client has cancelled the call.
    """
    try:
        with disk_faults_told():
            answer = tool.answer(tool.arguments.model_validate(arguments), folders, listener)
    except ValidationError as why:
        return _failure(tool, 2, _faults(why))
    except BmzError as why:
        hint = f"\nhint: {why.hint}" if why.hint else ""
        return _failure(tool, why.exit_status, with_given_names(f"{why}{hint}"))
    except MemoryError:
        return _failure(tool, 3, MEMORY_FULL)
    return _result(tool, answer)


def _result(tool: Tool, answer: Answer) -> types.CallToolResult:
    from mcp import types

    texts = (tool.meaning(answer.exit_status), answer.document)
    return types.CallToolResult(
        content=[types.TextContent(text=text) for text in texts],
        structured_content=json.loads(answer.document),
        is_error=answer.exit_status in tool.failed,
    )


def _failure(tool: Tool, exit_status: int, text: str) -> types.CallToolResult:
    from mcp import types

    meaning = tool.meaning(exit_status)
    content = types.TextContent(text=f"{meaning}\nerror: {text}")
    return types.CallToolResult(content=[content], is_error=True)


def _faults(error: ValidationError) -> str:
    """Describe on one line which arguments are wrong, and why."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "\n".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
