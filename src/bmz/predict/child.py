"""The script that a confined process runs first: it confines the process, then serves requests.

Before that, it imports only the standard library and the three modules that confine it.
"""

import json
import sys
from pathlib import Path


def main(handle: int) -> None:
    """Read the instructions from standard input, confine this process, and serve requests.

    Parameters
    ----------
    handle : file descriptor of the socket to the parent
    """
    words = json.load(sys.stdin)
    sys.path += words["path"]
    from bmz.predict.confine import Cell, confine

    cell = words["cell"]
    confined = confine(
        Cell(
            readable=tuple(map(Path, cell["readable"])),
            listable=tuple(map(Path, cell["listable"])),
            scratch=Path(cell["scratch"]),
            memory_bytes=cell["memory_bytes"],
            gpu=cell["gpu"],
        ),
        words["parent"],
    )
    from bmz.predict.serve import serve

    serve(handle, confined)


if __name__ == "__main__":
    main(int(sys.argv[1]))
