"""What a TensorFlow SavedModel would do beside computing, read from its graph without TensorFlow.

A graph is a list of operations. Most compute; some read and write files, call Python, send what
they are given elsewhere, or end the process.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bmz.predict.backend import WeightsUnreadable
from bmz.predict.bundle import FORMAT, read_graph
from bmz.predict.protobuf import NotProtobuf, fields, texts

# Parts of the names of operations, as TensorFlow 2.21 registers them. A test holds every registered
# operation that takes a file, an address or a program against this list.
_HOST = re.compile(
    r"Abort|BigQuery|Checkpoint|Cloud|Collective|Coordinat|CustomCall|Dataset|Debug|Descriptor"
    r"|DecodeProto|DistributedSave|Dump|EncodeProto|Files?(?![a-z])|FromTextFile|Heartbeat|Host"
    r"|ImmutableConst|ImportEvent|Infeed|Iterator|Kafka|LMDB|LoadAndRemap|Minibatch|Mlir|Nccl"
    r"|Outfeed|PrintV|PyFunc|Reader|Record|Remote|Restore|Rpc|Save|Server|Session|ShardedFile"
    r"|Skipgram|Sleep|Snapshot|Sql|Summary|TPU|TRT|Tpu|UnigramCandidate|Vocab|Xla(?!Sharding)"
    r"|^_?(?:Send|Recv)$|^Copy(?:Host)?$|^[^A-Z_]|[^A-Za-z0-9_]"
)
_HARMLESS = frozenset(
    {
        "AudioSummary", "AudioSummaryV2", "HistogramSummary", "ImageSummary", "MergeSummary",
        "ScalarSummary", "TensorSummary", "TensorSummaryV2",
    }
)  # fmt: skip
"""They make a summary as a value; only other operations write it."""
_SAVERS = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"})
"""Every bundle holds these, in a part of the graph that nobody runs."""
_RESTORERS = frozenset({"RestoreV2", "ShardedFilename"})

# numbers of fields: saved_model.proto, meta_graph.proto, graph.proto, function.proto,
# node_def.proto, saver.proto, saved_object_graph.proto
_META_GRAPHS = 2
_GRAPH_DEF, _SAVER, _COLLECTIONS, _SIGNATURES, _OBJECTS = 2, 3, 4, 5, 7
_NODES, _FUNCTIONS = (1,), (2, 1)
_NAME, _OP, _INPUTS, _ATTRIBUTES = 1, 2, 3, 5
_VALUE, _CALLED = 2, 10


@dataclass(frozen=True)
class _Node:
    name: str
    op: str
    inputs: tuple[str, ...]
    calls: tuple[str, ...]


def host_ops(bundle: Path) -> tuple[str, ...]:
    """Name the operations of a SavedModel that touch files, Python, the network or the process.

    Parameters
    ----------
    bundle : a zip or a folder

    Returns
    -------
    tuple of str
        such as ``WriteFile``, sorted; empty for a network that computes only

    Raises
    ------
    WeightsUnreadable
        The bundle is absent, damaged, or no SavedModel.
    ArchiveRefused
        Its members leave the folder, or would swell beyond measure.
    """
    message = memoryview(read_graph(bundle))
    try:
        found = {op for graph in fields(message, _META_GRAPHS) for op in _of_graph(graph)}
    except NotProtobuf as why:
        raise WeightsUnreadable(bundle, FORMAT, str(why)) from why
    return tuple(sorted(found))


def reaches_host(op: str) -> bool:
    """Say whether an operation does more than compute, by its name.

    Examples
    --------
    >>> [op for op in ("Conv2D", "WriteFile", "Fingerprint", "PyFunc") if reaches_host(op)]
    ['WriteFile', 'PyFunc']
    """
    return op not in _HARMLESS and _HOST.search(op) is not None


def _of_graph(meta: memoryview) -> Iterator[str]:
    graphs = list(fields(meta, _GRAPH_DEF))
    top = [_node(node) for graph in graphs for node in fields(graph, *_NODES)]
    functions = {
        name: tuple(_node(node) for node in fields(function, 3))
        for graph in graphs
        for function in fields(graph, *_FUNCTIONS)
        for name in texts(function, 1, 1)
    }
    everywhere = [*top, *(node for body in functions.values() for node in body)]
    yield from (node.op for node in everywhere if reaches_host(node.op) and node.op not in _SAVERS)
    graph = _Graph({node.name: node for node in top}, functions)
    yield from graph.reached(_started(meta), texts(meta, _OBJECTS, 2, 1)) & _SAVERS
    # reading the weights is what restoring is for; it must not write
    yield from (graph.reached(texts(meta, _SAVER, 3)) & _SAVERS) - _RESTORERS


def _started(meta: memoryview) -> Iterator[str]:
    """Yield the names of nodes at which something may be run."""
    yield from texts(meta, _SIGNATURES, 2, 2, 2, 1)  # outputs of signatures
    yield from texts(meta, _SIGNATURES, 2, 1, 2, 1)  # inputs: no placeholder need stand there
    yield from texts(meta, _COLLECTIONS, 2, 1, 1)  # among them what initialises


def _node(message: memoryview) -> _Node:
    op = "".join(texts(message, _OP))
    values = fields(message, _ATTRIBUTES, _VALUE)
    called = (name for value in values for name in _functions_in(value))
    # an operation may be a function by its own name
    return _Node("".join(texts(message, _NAME)), op, tuple(texts(message, _INPUTS)), (op, *called))


def _functions_in(value: memoryview) -> Iterator[str]:
    for function in (*fields(value, _CALLED), *fields(value, 1, 9)):
        yield from texts(function, 1)
        for bound in fields(function, 2, _VALUE):
            yield from _functions_in(bound)


@dataclass(frozen=True)
class _Graph:
    nodes: Mapping[str, _Node]
    functions: Mapping[str, tuple[_Node, ...]]

    def reached(self, nodes: Iterable[str], functions: Iterable[str] = ()) -> set[str]:
        """Give the operations that run when nodes and functions of these names do."""
        names, called = deque(map(_plain, nodes)), deque(functions)
        seen_nodes, seen_functions, found = set[str](), set[str](), set[str]()
        while names or called:
            reached: tuple[_Node, ...] = ()
            if names:
                name = names.popleft()
                if name in self.nodes and name not in seen_nodes:
                    reached = (self.nodes[name],)
                    names.extend(map(_plain, self.nodes[name].inputs))
                seen_nodes.add(name)
            else:
                name = called.popleft()
                if name not in seen_functions:
                    reached = self.functions.get(name, ())
                seen_functions.add(name)
            found.update(node.op for node in reached)
            called.extend(function for node in reached for function in node.calls)
        return found


def _plain(name: str) -> str:
    # "^name" is a control input, "name:1" the second output
    return name.removeprefix("^").partition(":")[0]
