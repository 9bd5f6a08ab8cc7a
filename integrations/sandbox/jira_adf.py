"""Check Atlassian documents (ADF) as strictly as Jira does, and read them as plain text.

https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/
"""

from typing import Any

REFUSAL = "Operation value must be an Atlassian Document (see the Atlassian Document Format)"
MOST_BYTES = 1_048_576

_INLINE = {"text", "hardBreak", "inlineCard", "status", "mention", "emoji", "date"}
_LISTS = {"bulletList", "orderedList"}
_TOP = {"paragraph", "heading", "rule", "codeBlock", "blockquote", "panel", "expand", "table", "mediaSingle"} | _LISTS
_CELL = {"paragraph", "heading", "rule", "codeBlock", "blockquote", "panel"} | _LISTS
# Which children a node may have; a node that is not named here has none.
_CHILDREN = {
    "doc": _TOP,
    "paragraph": _INLINE,
    "heading": _INLINE,
    "codeBlock": {"text"},
    "blockquote": {"paragraph"} | _LISTS,
    "panel": {"paragraph", "heading"} | _LISTS,
    "expand": _CELL | {"table"},
    "bulletList": {"listItem"},
    "orderedList": {"listItem"},
    "listItem": {"paragraph", "codeBlock"} | _LISTS,
    "table": {"tableRow"},
    "tableRow": {"tableHeader", "tableCell"},
    "tableHeader": _CELL,
    "tableCell": _CELL,
    "mediaSingle": {"media"},
}
_NEVER_EMPTY = {"bulletList", "orderedList", "listItem", "table", "tableRow", "tableHeader", "tableCell", "blockquote", "panel", "expand"}
_MARKS = {"link", "strong", "em", "code", "strike", "underline", "subsup", "textColor", "backgroundColor"}


def is_document(value: Any) -> bool:
    """Say whether the value is a document that the published schema takes."""
    if not isinstance(value, dict) or value.get("type") != "doc" or value.get("version") != 1:
        return False
    return isinstance(value.get("content"), list) and value.keys() <= {"type", "version", "content"} and _children_fit(value)


def _children_fit(node: dict[str, Any]) -> bool:
    allowed = _CHILDREN.get(node["type"], set())
    content = node.get("content", [])
    if not isinstance(content, list) or (not content and node["type"] in _NEVER_EMPTY):
        return False
    return all(isinstance(child, dict) and child.get("type") in allowed and _fits(child) for child in content)


def _fits(node: dict[str, Any]) -> bool:
    if not isinstance(node.get("attrs", {}), dict) or not _children_fit(node):
        return False
    if node["type"] == "text":
        return isinstance(node.get("text"), str) and node["text"] != "" and _marks_fit(node.get("marks", []))
    return "text" not in node and (node["type"] != "heading" or node.get("attrs", {}).get("level") in range(1, 7))


def _marks_fit(marks: Any) -> bool:
    return isinstance(marks, list) and all(isinstance(mark, dict) and mark.get("type") in _MARKS and _mark_fits(mark) for mark in marks)


def _mark_fits(mark: dict[str, Any]) -> bool:
    if mark["type"] != "link":
        return True
    attrs = mark.get("attrs")
    return isinstance(attrs, dict) and isinstance(attrs.get("href"), str) and attrs["href"] != ""


def shown(node: Any) -> Any:
    """Return a document as Jira gives it back: blocks have ids, tables a layout, cells attributes, empty blocks no content."""
    if not isinstance(node, dict) or node.get("type") == "text":
        return node
    content = [shown(child) for child in node.get("content") or []]
    more = {"content": content} if content or node["type"] == "doc" else {}
    return {name: value for name, value in node.items() if name != "content"} | _attrs(node) | more


def _attrs(node: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {
        "paragraph": {"localId": "8a6f"},
        "table": {"isNumberColumnEnabled": False, "layout": "default", "localId": "c0de"},
        "tableHeader": {"colspan": 1},
        "tableCell": {"colspan": 1},
    }
    return {"attrs": own[node["type"]] | (node.get("attrs") or {})} if node["type"] in own else {}


def plain_text(node: Any) -> str:
    """Return the text of a document or node: a line per block, table cells parted by bars, "" for None."""
    if not isinstance(node, dict):
        return ""
    if node.get("type") == "text":
        return str(node["text"])
    if node.get("type") in ("hardBreak", "rule"):
        return "\n"
    if node.get("type") in ("inlineCard", "status"):
        return str(node.get("attrs", {}).get("url") or node.get("attrs", {}).get("text", ""))
    return _separator(node.get("type", "")).join(plain_text(child) for child in node.get("content", []))


def _separator(kind: str) -> str:
    if kind == "tableRow":
        return " | "
    return "" if kind in ("paragraph", "heading", "codeBlock") else "\n"
