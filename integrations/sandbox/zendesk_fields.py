"""Custom fields, of organizations and of custom objects alike: definitions, and values as Zendesk takes and returns them."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from integrations.sandbox.server import Request
from integrations.sandbox.zendesk_account import Account
from integrations.sandbox.zendesk_wire import Json, address, invalid, not_found, taken

IMMUTABLE = ("key", "type", "relationship_target_type")
SETTABLE = ("title", "description", "active", "position", "tag", "properties")
KNOWN = frozenset({*IMMUTABLE, *SETTABLE, "custom_field_options", "regexp_for_validation", "relationship_filter"})


@dataclass(slots=True)
class Field:
    """One definition."""

    id: int
    key: str
    type: str
    title: str
    created_at: str
    updated_at: str
    description: str = ""
    active: bool = True
    position: int = 9999
    tag: str | None = None
    regexp: str | None = None
    target: str | None = None
    target_filter: Json | None = None
    options: list[Json] = field(default_factory=list)
    properties: Json = field(default_factory=dict)


def _text(definition: Field, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be text")
    return str(value)


def _matching(definition: Field, value: Any) -> str:
    text = _text(definition, value)
    if not re.search(definition.regexp or "", text):
        raise ValueError("does not match the pattern")
    return text


def _checkbox(definition: Field, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _date(definition: Field, value: Any) -> str:
    # Whatever was sent, a whole day in UTC comes back.
    return f"{datetime.fromisoformat(_text(definition, value)).date()}T00:00:00+00:00"


def _integer(definition: Field, value: Any) -> int:
    if not re.fullmatch(r"-?\d+", _text(definition, value)):
        raise ValueError("must be a whole number")
    return int(value)


def _decimal(definition: Field, value: Any) -> str:
    try:
        number = Decimal(_text(definition, value))
    except InvalidOperation:
        raise ValueError("must be a number") from None
    if not number.is_finite():
        raise ValueError("must be a number")
    return f"{number:f}"


def _option(definition: Field, value: Any) -> str:
    if value not in [option["value"] for option in definition.options]:
        raise ValueError("is not one of the options")
    return str(value)


def _options(definition: Field, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("must be a list")
    return [_option(definition, item) for item in value]


def _lookup(definition: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be an id, as a string")
    return value


# https://developer.zendesk.com/api-reference/ticketing/organizations/organization_fields/
TYPES: dict[str, Callable[[Field, Any], Any]] = {
    "text": _text,
    "textarea": _text,
    "regexp": _matching,
    "checkbox": _checkbox,
    "date": _date,
    "integer": _integer,
    "decimal": _decimal,
    "dropdown": _option,
    "multiselect": _options,
    "lookup": _lookup,
}


class Fields:
    """The custom fields of one kind of object; `member` is what a write calls their values."""

    def __init__(self, account: Account, member: str) -> None:
        self.account = account
        self.member = member
        self.rows: dict[str, Field] = {}

    def create(self, body: Json) -> Field:
        """Define a field; raise 422 for a bad or known key and for what the type needs and lacks."""
        self.account.report("field", body, known=KNOWN)
        _check_options(body)
        key, kind, title = body.get("key"), body.get("type"), body.get("title")
        if not isinstance(key, str) or not re.fullmatch(r"\w+", key, re.ASCII) or key.isdigit():
            raise invalid("key", f"Key: {key} must be letters, digits and underscores, not only digits")
        if key.lower() in (known.lower() for known in self.rows):
            raise taken("key", "Key", key)
        if kind not in TYPES:
            raise invalid("type", f"Type: {kind} is not a valid type")
        if not title:
            raise invalid("title", "Title: cannot be blank", "BlankValue")
        self._check_needs(kind, body)
        now = self.account.now()
        definition = Field(self.account.new_id(3), key, kind, title, now, now)
        self._set(definition, body)
        definition.target = body.get("relationship_target_type")
        self.rows[key] = definition
        return definition

    def _check_needs(self, kind: str, body: Json) -> None:
        if len(self.rows) >= self.account.field_limit:
            raise invalid("base", f"Fields: at most {self.account.field_limit} are allowed", "TooManyFields")
        if kind in ("dropdown", "multiselect") and not body.get("custom_field_options"):
            raise invalid("custom_field_options", "Custom field options: cannot be blank", "BlankValue")
        if kind == "regexp" and not body.get("regexp_for_validation"):
            raise invalid("regexp_for_validation", "Regexp for validation: cannot be blank", "BlankValue")
        if kind == "lookup" and not re.fullmatch(
            r"zen:(user|organization|ticket|custom_object:\w+)", str(body.get("relationship_target_type"))
        ):
            raise invalid("relationship_target_type", "Relationship target type: is not valid")

    def update(self, definition: Field, body: Json, holders: Iterable[Json]) -> Field:
        """Change a field; values of a removed option are wiped from `holders`, the values of all objects."""
        self.account.report("field", body, known=KNOWN | {"id"})
        _check_options(body)
        now = {"key": definition.key, "type": definition.type, "relationship_target_type": definition.target}
        for member in IMMUTABLE:
            if body.get(member, now[member]) != now[member]:
                raise invalid(member, f"{member.capitalize()}: cannot be changed")
        if "custom_field_options" in body:
            self._wipe(definition, body["custom_field_options"], holders)
        self._set(definition, body)
        definition.updated_at = self.account.now()
        return definition

    def _wipe(self, definition: Field, options: list[Json], holders: Iterable[Json]) -> None:
        kept = {option.get("id") for option in options}
        gone = {option["value"] for option in definition.options if option["id"] not in kept}
        for values in holders:
            value = values.get(definition.key)
            if isinstance(value, list):
                values[definition.key] = [item for item in value if item not in gone]
            elif value in gone:
                values[definition.key] = None

    def _set(self, definition: Field, body: Json) -> None:
        for member in SETTABLE:
            if member in body:
                setattr(definition, member, body[member])
        definition.regexp = body.get("regexp_for_validation", definition.regexp)
        definition.target_filter = body.get("relationship_filter", definition.target_filter)
        if "custom_field_options" in body:
            definition.options = [self._new_option(option) for option in body["custom_field_options"]]

    def _new_option(self, option: Json) -> Json:
        return {"id": option.get("id") or self.account.new_id(5), "name": option["name"], "value": option["value"]}

    def find(self, key: str) -> Field:
        """Return a field by id or key; raise 404."""
        for definition in self.rows.values():
            if key in (definition.key, str(definition.id)):
                return definition
        raise not_found()

    def clean(self, values: Any) -> Json:
        """Return the sent values as they are kept; raise 422 for unknown keys and values that do not fit."""
        if not isinstance(values, dict):
            raise invalid(self.member, f"{self.member}: must be an object")
        return {key: self._cleaned(key, value) for key, value in values.items()}

    def _cleaned(self, key: str, value: Any) -> Any:
        definition = self.rows.get(key)
        if definition is None or not definition.active:
            raise invalid(key, f"{self.member}: {key} is not a field", "UnknownField")
        if value is None:
            return None
        try:
            cleaned = TYPES[definition.type](definition, value)
        except ValueError as error:
            raise invalid(key, f"{definition.title}: {value!r} {error}") from None
        if definition.type == "lookup" and not self.account.object_exists(str(definition.target), cleaned):
            raise invalid(key, f"{definition.title}: {value!r} is not the id of an existing {definition.target}")
        return cleaned

    def shown(self, values: Json) -> Json:
        """Return every active field with its value, null where none was ever written (a checkbox is false then)."""
        return {key: _value(definition, values) for key, definition in self.rows.items() if definition.active}


def _check_options(body: Json) -> None:
    options = body.get("custom_field_options", [])
    whole = isinstance(options, list) and all(isinstance(one, dict) and one.get("name") and one.get("value") for one in options)
    if not whole:
        raise invalid("custom_field_options", "Custom field options: name and value cannot be blank", "BlankValue")


def _value(definition: Field, values: Json) -> Any:
    value = values.get(definition.key)
    return False if value is None and definition.type == "checkbox" else value


def show_field(request: Request, definition: Field, path: str) -> Json:
    """Return a field as the API answers it; `path` is that of its list."""
    shown: Json = {
        "id": definition.id,
        "url": address(request, f"{path}/{definition.id}"),
        "key": definition.key,
        "type": definition.type,
        "title": definition.title,
        "raw_title": definition.title,
        "description": definition.description,
        "raw_description": definition.description,
        "position": definition.position,
        "active": definition.active,
        "system": definition.key.startswith("standard::"),
        "regexp_for_validation": definition.regexp,
        "created_at": definition.created_at,
        "updated_at": definition.updated_at,
    }
    if definition.type in ("dropdown", "multiselect"):
        shown["custom_field_options"] = definition.options
    if definition.type == "lookup":
        shown |= {"relationship_target_type": definition.target, "relationship_filter": definition.target_filter}
    return shown | ({"properties": definition.properties} if definition.properties else {})


def with_rules(definition: Field, body: Json, *, has_records: bool) -> Json:
    """Return the change of a standard field with all its rules; raise 422 when one changes although records exist."""
    rules = definition.properties | body.get("properties", {})
    if has_records and rules != definition.properties:
        raise invalid("properties", "Properties: can be changed only while the object has no records")
    return body | {"properties": rules}
