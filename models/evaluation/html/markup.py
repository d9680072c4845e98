"""HTML that is escaped unless it is known to be markup: names of systems and songs are anybody's text."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | Iterable[str]
"""Plain text, markup, or several of them."""

_VOID = ("meta", "br", "input")


def escape(content: Content) -> Markup:
    """Return plain text as HTML; what is markup stays as it is."""
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return Markup(html.escape(content, quote=True))
    return Markup("".join(escape(part) for part in content))


def tag(name: str, content: Content = "", attributes: Mapping[str, str] | None = None) -> Markup:
    """Return an element; its content and the values of its attributes are escaped."""
    written = "".join(f' {key}="{html.escape(value, quote=True)}"' for key, value in (attributes or {}).items())
    return Markup(f"<{name}{written}>" if name in _VOID else f"<{name}{written}>{escape(content)}</{name}>")
