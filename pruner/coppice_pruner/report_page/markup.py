"""Elements of HTML and SVG. Text is escaped unless it is markup already, so nothing from outside can become markup."""

from __future__ import annotations

import html

_VOID = frozenset({"meta", "link", "br", "col"})


class Html(str):
    """Markup: text that has been escaped."""

    __slots__ = ()


def escape(text: str) -> Html:
    """Return text as markup; what UTF-8 or HTML cannot carry becomes a question mark or a replacement character."""
    if isinstance(text, Html):
        return text
    carried = text.encode("utf-8", "replace").decode()
    return Html(html.escape("".join("�" if ord(sign) < 32 and sign not in "\n\t" else sign for sign in carried)))


def join(*parts: str | None) -> Html:
    """Return parts one after another; None is left out."""
    return Html("".join(escape(part) for part in parts if part is not None))


def element(tag: str, *children: str | None, **attributes: str | float | None) -> Html:
    """Return an element.

    Args:
        tag: Its name.
        children: Text or markup; None is left out.
        attributes: `class_` is class, other underscores are hyphens; None is left out.
    """
    head = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Html(f"<{tag}{head}>") if tag in _VOID else Html(f"<{tag}{head}>{join(*children)}</{tag}>")


def _text(value: str | float) -> str:
    """Return an attribute's value; coordinates need no more than a tenth of a pixel."""
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
