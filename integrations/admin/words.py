"""How pages show JSON and bodies."""

import json
from typing import Any

from django.utils.html import format_html


def pretty_json(value: Any) -> str:
    """Return JSON indented, in a block that scrolls."""
    return format_html('<pre class="json">{}</pre>', printable(json.dumps(value, indent=2, ensure_ascii=False)))


def pretty_body(body: bytes) -> str:
    """Return a request's body: indented where it is JSON, else as it came."""
    try:
        return pretty_json(json.loads(body))
    except (ValueError, RecursionError):
        return format_html('<pre class="json">{}</pre>', printable(body.decode("utf-8", "backslashreplace")))


def printable(text: str) -> str:
    r"""Return the text with what no page can carry (lone surrogates, NUL) written as \u escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")
