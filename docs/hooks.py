"""What mkdocs must know of this repository: where links lead, and which classes are dataclasses."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from griffe import Class, ExprCall, ExprName, Extension

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


class ValueClasses(Extension):
    """Tells griffe, which runs no code, that classes of `bmz.base.values` are dataclasses."""

    def on_class_instance(self, *, cls: Class, **_: Any) -> None:  # noqa: ANN401  (objects of griffe)
        """Put the decorator that griffe knows in place of ours."""
        for decorator in cls.decorators:
            if decorator.callable_path != "bmz.base.values.dataclass":
                continue
            known = ExprName("dataclasses.dataclass")
            if isinstance(decorator.value, ExprCall):
                decorator.value.function = known
            else:
                decorator.value = known
