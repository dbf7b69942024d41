"""What every page here stands in: one file that loads nothing and runs nothing."""

from __future__ import annotations

from coppice_pruner.report_page.markup import Html, element
from coppice_pruner.report_page.style import CSS

# Nothing is loaded and nothing runs, whatever may have got past the escaping.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def document(title: str, body: Html) -> str:
    """Return a whole HTML document.

    Args:
        title: Escaped here.
        body: The body element.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", Html(CSS)),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"
