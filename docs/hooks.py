"""Links out of the folder of the docs lead to the repository, where the files are."""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)([^)\s]*\))")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:  # noqa: ANN401  (objects of mkdocs)
    """Point links such as ``../../CONTRIBUTING.md`` to the repository."""
    folder = posixpath.dirname(f"docs/{page.file.src_uri}")

    def outward(found: re.Match[str]) -> str:
        place = posixpath.normpath(posixpath.join(folder, found[2]))
        if place.startswith("docs/"):
            return found[0]
        return f"{found[1]}{config['repo_url']}/blob/main/{place}{found[3]}"

    return _LINK.sub(outward, markdown)
