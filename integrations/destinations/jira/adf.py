"""Build Atlassian documents from values: paragraphs, one table, link marks, and nothing that the schema refuses.

https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/
"""

import re
from collections.abc import Sequence
from typing import Any

Node = dict[str, Any]
# The limit is 1,048,576 bytes with all nodes; sites may keep the older one of 32,767 characters.
MOST_CHARACTERS = 30_000
MOST_LINES = 1_000
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean(value: str) -> str:
    """Return the text without characters that no XML or JSON store takes."""
    return _CONTROL.sub("", value)


def line(value: str, most: int = 255) -> str:
    """Return the text as one line of at most `most` characters."""
    return " ".join(clean(value).split())[:most].rstrip()


def text(value: str) -> list[Node]:
    """Return a text node, or none at all: an empty one makes the whole document invalid."""
    shown = clean(value)
    return [{"type": "text", "text": shown}] if shown else []


def link(value: str, href: str) -> list[Node]:
    """Return a text node that leads to an http address; other addresses stay plain text."""
    nodes = text(value)
    if not re.match(r"https?://\S+$", href):
        return nodes
    return [{**node, "marks": [{"type": "link", "attrs": {"href": href}}]} for node in nodes]


def paragraph(nodes: Sequence[Node]) -> Node:
    """Return a paragraph; one without nodes is valid."""
    return {"type": "paragraph", "content": list(nodes)}


def paragraphs(value: str) -> list[Node]:
    """Return a paragraph for each line that holds anything."""
    lines = [part.strip() for part in clean(value)[:MOST_CHARACTERS].splitlines()]
    return [paragraph(text(part)) for part in lines if part][:MOST_LINES]


def table(rows: Sequence[tuple[str, str]]) -> Node:
    """Return a table of two columns, the first one being headers."""
    return {"type": "table", "content": [_row(*row) for row in rows]}


def _row(name: str, value: str) -> Node:
    header: Node = {"type": "tableHeader", "content": [paragraph(text(name))]}
    return {"type": "tableRow", "content": [header, {"type": "tableCell", "content": [paragraph(text(value))]}]}


def document(blocks: Sequence[Node]) -> Node:
    """Return a document of blocks, which may be none."""
    return {"type": "doc", "version": 1, "content": list(blocks)}


def plain_text(node: Any) -> str:
    """Return all text of a node or document of any shape; blocks end with a space."""
    if not isinstance(node, dict):
        return ""
    inner = "".join(plain_text(child) for child in node.get("content") or [])
    return f"{node.get('text', '')}{inner}" if node.get("type") == "text" else f"{inner} "


# --- What a document says ---------------------------------------------------------------------------------------------
_LEAVES = {"paragraph", "heading", "codeBlock", "inlineCard", "blockCard", "embedCard"}
Run = tuple[str, str]  # text and where it leads, "" for nowhere


def essence(node: Any) -> list[tuple[Run, ...]]:
    """Return what a document says, line by line, in whatever form Jira keeps it; nothing for what is no document.

    Jira gives nodes ids and layouts of its own, drops empty ones, and joins or cuts texts of equal marks.
    """
    if not isinstance(node, dict):
        return []
    if node.get("type") not in _LEAVES:
        return [line for child in node.get("content") or [] for line in essence(child)]
    runs = _joined(_runs(node))
    return [runs] if runs else []


def _runs(node: Node) -> list[Run]:
    if node.get("type") == "text":
        return [(str(node.get("text", "")), _href(node))]
    attrs = node.get("attrs") or {}
    shown = " " if node.get("type") == "hardBreak" else str(attrs.get("url") or attrs.get("text") or "")
    return [(shown, "")] if "content" not in node else [run for child in node["content"] or [] for run in _runs(child)]


def _href(node: Node) -> str:
    links = [mark for mark in node.get("marks") or [] if mark.get("type") == "link"]
    return str((links[0].get("attrs") or {}).get("href", "")) if links else ""


def _joined(runs: Sequence[Run]) -> tuple[Run, ...]:
    found: list[Run] = []
    for words, href in runs:
        if found and found[-1][1] == href:
            words = found.pop()[0] + words
        found.append((words, href))
    tidy = [(" ".join(words.split()), href) for words, href in found]
    return tuple(run for run in tidy if run[0])
