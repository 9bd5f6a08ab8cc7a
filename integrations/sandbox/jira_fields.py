"""Check the values that a caller writes into issue fields, in the words with which Jira refuses them.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-post
"""

import json
import re
from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

from integrations.sandbox import jira_adf
from integrations.sandbox.jira_site import Field, Project, RefusedError, Site

LONGEST_TEXT = 255
NO_SUMMARY = "You must specify a summary of the issue."
FIXED = ("project", "issuetype")  # set by the create call, never by an edit


def new_values(site: Site, project: Project, old: dict[str, Any], body: dict[str, Any], *, creating: bool) -> dict[str, Any]:
    """Return the old values with `fields` and `update` applied; raise RefusedError 400 that names every field at fault."""
    fields, update = object_in(body, "fields"), object_in(body, "update")
    screen = {entry.id: entry for entry in site.on_screen(project) if entry.id not in FIXED}
    values, errors = dict(old), {}
    for name in fields.keys() | update.keys() - {"comment"}:
        if creating and name in FIXED:
            continue
        try:
            if name in fields and name in update:
                raise ValueError(f"Field '{name}' may be in 'fields' or in 'update', not in both.")
            if name not in screen:
                raise ValueError(f"Field '{name}' cannot be set. It is not on the appropriate screen, or unknown.")
            values[name] = checked(screen[name], fields[name]) if name in fields else updated(screen[name], old.get(name), update[name])
        except ValueError as error:
            errors[name] = str(error)
    if creating:
        errors = _missing(screen.values(), values) | errors
    if errors:
        raise RefusedError(400, errors=errors)
    return {name: value for name, value in values.items() if value not in (None, [])}


def object_in(body: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object member of a body, {} for none; raise RefusedError when it is something else."""
    value = body.get(name) or {}
    if not isinstance(value, dict):
        raise RefusedError(400, f"'{name}' must be an object.")
    return value


def _missing(screen: Iterable[Field], values: dict[str, Any]) -> dict[str, str]:
    missing = [entry for entry in screen if entry.required and values.get(entry.id) in (None, "", [])]
    return {entry.id: NO_SUMMARY if entry.id == "summary" else f"{entry.name} is required." for entry in missing}


def checked(entry: Field, value: Any) -> Any:
    """Return the value as the field keeps it, None for an empty one; raise ValueError in Jira's words."""
    return _CHECKS[entry.kind](entry, value) if value is not None or entry.id == "summary" else None


def updated(entry: Field, old: Any, operations: Any) -> Any:
    """Apply a list of {"set"|"add"|"remove": value}; only label fields can add and remove."""
    if not isinstance(operations, list) or not all(isinstance(operation, dict) and len(operation) == 1 for operation in operations):
        raise ValueError("data was not an array of operations")
    value = old
    for operation in operations:
        ((verb, operand),) = operation.items()
        if verb != "set" and (entry.kind != "labels" or verb not in ("add", "remove")):
            raise ValueError(f"Field with id '{entry.id}' does not support operation '{verb}'")
        value = checked(entry, operand if verb == "set" else _relabelled(value or [], verb, operand))
    return value


def _relabelled(labels: list[str], verb: str, label: Any) -> list[Any]:
    rest = [old for old in labels if old != label]
    return [*rest, label] if verb == "add" else rest


def document(value: Any) -> Any:
    """Return an ADF document; raise ValueError in Jira's words when it is none or too long."""
    if not jira_adf.is_document(value):
        raise ValueError(jira_adf.REFUSAL)
    if len(json.dumps(value, ensure_ascii=False).encode()) > jira_adf.MOST_BYTES:
        raise ValueError("CONTENT_LIMIT_EXCEEDED")
    return value


def _document(entry: Field, value: Any) -> Any:
    return document(value)


def _summary(entry: Field, value: Any) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValueError(NO_SUMMARY)
    if not isinstance(value, str):
        raise ValueError("Operation value must be a string")
    if len(value) > LONGEST_TEXT:
        raise ValueError("Summary can't exceed 255 characters.")
    if "\n" in value or "\r" in value:
        raise ValueError("The summary is invalid because it contains newline characters.")
    return value


def _text(entry: Field, value: Any) -> str | None:
    if not isinstance(value, str):
        raise ValueError("Operation value must be a string")
    if len(value) > LONGEST_TEXT:
        raise ValueError("The entered text is too long. It exceeds the allowed limit of 255 characters.")
    return value or None


def _url(entry: Field, value: Any) -> str | None:
    text = _text(entry, value)
    if text and not re.fullmatch(r"(https?|ftp)://\S+", text):
        raise ValueError("Please specify a valid URL.")
    return text


def _number(entry: Field, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("Operation value must be a number")
    return value


def _date(entry: Field, value: Any) -> str | None:
    if value == "":
        return None
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        raise ValueError(f"Error parsing date string: {value}")
    try:
        date.fromisoformat(value)
    except ValueError:
        raise ValueError(f"Error parsing date string: {value}") from None
    return value


def _labels(entry: Field, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        raise ValueError("Operation value must be an array of strings")
    for label in value:
        if not label or re.search(r"\s", label):
            raise ValueError(f"The label '{label}' contains spaces which is invalid.")
        if len(label) > LONGEST_TEXT:
            raise ValueError(f"The label '{label}' exceeds the maximum length of 255 characters.")
    return sorted(set(value))


def _option(entry: Field, value: Any) -> str:
    member = "value" if entry.kind == "select" else "name"
    if not isinstance(value, dict) or not isinstance(value.get(member), str):
        raise ValueError(f"Specify a valid '{member}' for {entry.name}")
    if value[member] not in entry.options:
        raise ValueError(f"Option value '{value[member]}' is not valid")
    return str(value[member])


_CHECKS: dict[str, Callable[[Field, Any], Any]] = {
    "summary": _summary,
    "textarea": _document,
    "textfield": _text,
    "url": _url,
    "float": _number,
    "datepicker": _date,
    "labels": _labels,
    "select": _option,
    "priority": _option,
}
