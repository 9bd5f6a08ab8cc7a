"""Custom objects: definitions, fields and limits."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from integrations.sandbox.server import Request, Response
from integrations.sandbox.zendesk_account import ACTING_USER, Account
from integrations.sandbox.zendesk_fields import Field, Fields, show_field, with_rules
from integrations.sandbox.zendesk_wire import Json, address, envelope, invalid, not_found, page, taken

TITLES = ("title", "title_pluralized", "description", "include_in_list_view")
KNOWN = frozenset({*TITLES, "key"})
PLAIN_NAME = {
    "is_unique": False,
    "autoincrement_enabled": False,
    "autoincrement_prefix": "",
    "autoincrement_padding": 0,
    "autoincrement_next_sequence": 1,
}


@dataclass(slots=True)
class Record:
    """One record of a custom object."""

    id: str
    name: str
    external_id: str | None
    values: Json
    created_at: str
    updated_at: str


@dataclass(slots=True)
class CustomObject:
    """One definition with its fields and records."""

    key: str
    fields: Fields
    standard: list[Field]  # name, external id
    created_at: str
    updated_at: str
    title: str = ""
    title_pluralized: str = ""
    description: str = ""
    include_in_list_view: bool = False
    records: dict[str, Record] = field(default_factory=dict)

    def name_rules(self) -> Json:
        """Return whether names are unique or numbered."""
        return self.standard[0].properties


class CustomObjects:
    """Everything under /custom_objects but the records and their jobs."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.rows: dict[str, CustomObject] = {}
        base, one, fields = "/api/v2/custom_objects", r"/api/v2/custom_objects/(\w+)", r"/api/v2/custom_objects/(\w+)/fields"
        account.route("GET", base, self.list_all)
        account.route("POST", base, self.post)
        account.route("GET", f"{base}/limits/object_limit", self.object_limit)
        account.route("GET", f"{base}/limits/record_limit", self.record_limit)
        account.route("GET", f"{one}/limits/field_limit", self.field_limit)
        account.route("GET", one, self.get)
        account.route("PATCH", one, self.patch)
        account.route("DELETE", one, self.delete)
        account.route("GET", fields, self.list_fields)
        account.route("POST", fields, self.create_field)
        account.route("GET", rf"{fields}/([^/]+)", self.get_field)
        account.route("PATCH", rf"{fields}/([^/]+)", self.update_field)

    def find(self, key: str) -> CustomObject:
        """Return a custom object; raise 404."""
        if key not in self.rows:
            raise not_found()
        return self.rows[key]

    def create(self, body: Json) -> CustomObject:
        """Define a custom object; raise 422 for a bad or known key, for missing titles, and at the plan's limit."""
        self.account.report("custom object", body, known=KNOWN)
        key = body.get("key")
        if not isinstance(key, str) or not key.isidentifier():
            raise invalid("key", f"Key: {key} is not valid")
        if key in self.rows:
            raise taken("key", "Key", key)
        if len(self.rows) >= self.account.object_limit:
            raise invalid("base", f"Custom objects: at most {self.account.object_limit} are allowed", "TooManyObjects")
        now = self.account.now()
        row = CustomObject(key, Fields(self.account, "custom_object_fields"), self._standard(now), now, now)
        self._set(row, {"title": "", "title_pluralized": ""} | body)
        self.rows[key] = row
        return row

    def _standard(self, now: str) -> list[Field]:
        name = Field(self.account.new_id(3), "standard::name", "text", "Name", now, now, properties=dict(PLAIN_NAME))
        return [name, Field(self.account.new_id(3), "standard::external_id", "text", "External ID", now, now)]

    def _set(self, row: CustomObject, body: Json) -> None:
        for member in ("title", "title_pluralized"):
            if not body.get(member, getattr(row, member)):
                raise invalid(member, f"{member.capitalize()}: cannot be blank", "BlankValue")
        for member in TITLES:
            setattr(row, member, body.get(member, getattr(row, member)))

    def shown(self, request: Request, row: CustomObject) -> Json:
        """Return a custom object as the API answers it."""
        return {
            "key": row.key,
            "url": address(request, f"custom_objects/{row.key}"),
            "title": row.title,
            "title_pluralized": row.title_pluralized,
            "description": row.description,
            "include_in_list_view": row.include_in_list_view,
            "raw_title": row.title,
            "raw_title_pluralized": row.title_pluralized,
            "raw_description": row.description,
            "created_at": row.created_at,
            "updated_at": row.updated_at,
            "created_by_user_id": str(ACTING_USER),
            "updated_by_user_id": str(ACTING_USER),
        }

    # https://developer.zendesk.com/api-reference/custom-data/custom-objects/custom_objects/

    def list_all(self, request: Request) -> Response:
        """Answer a page of the custom objects."""
        return page(request, "custom_objects", [self.shown(request, row) for row in self.rows.values()])

    def post(self, request: Request) -> Response:
        """Define one."""
        self.account.require_admin()
        row = self.create(envelope(request, "custom_object"))
        return Response(201, {"custom_object": self.shown(request, row)}, {"Location": address(request, f"custom_objects/{row.key}")})

    def get(self, request: Request, key: str) -> Response:
        """Read one."""
        return Response(200, {"custom_object": self.shown(request, self.find(key))})

    def patch(self, request: Request, key: str) -> Response:
        """Change titles."""
        self.account.require_admin()
        row, body = self.find(key), envelope(request, "custom_object")
        self.account.report("custom object", body, known=KNOWN)
        if body.get("key", key) != key:
            raise invalid("key", "Key: cannot be changed")
        self._set(row, body)
        row.updated_at = self.account.now()
        return Response(200, {"custom_object": self.shown(request, row)})

    def delete(self, request: Request, key: str) -> Response:
        """Delete one with all its records."""
        self.account.require_admin()
        del self.rows[self.find(key).key]
        return Response(204)

    def object_limit(self, request: Request) -> Response:
        """Answer the custom objects in use and allowed."""
        self.account.require_admin()
        return Response(200, {"count": len(self.rows), "limit": self.account.object_limit})

    def record_limit(self, request: Request) -> Response:
        """Answer the records in use and allowed."""
        return Response(200, {"count": sum(len(row.records) for row in self.rows.values()), "limit": self.account.record_limit})

    def field_limit(self, request: Request, key: str) -> Response:
        """Answer the fields in use and allowed."""
        return Response(200, {"count": len(self.find(key).fields.rows), "limit": self.account.field_limit})

    # https://developer.zendesk.com/api-reference/custom-data/custom-objects/custom_object_fields/

    def list_fields(self, request: Request, key: str) -> Response:
        """Answer a page of the fields, with the standard ones on demand."""
        row = self.find(key)
        standard = row.standard if request.arg("include_standard_fields") == "true" else []
        rows = [self._shown_field(request, row, one) for one in [*standard, *row.fields.rows.values()]]
        return page(request, "custom_object_fields", rows)

    def create_field(self, request: Request, key: str) -> Response:
        """Add a field."""
        self.account.require_admin()
        row = self.find(key)
        shown = self._shown_field(request, row, row.fields.create(envelope(request, "custom_object_field")))
        return Response(201, {"custom_object_field": shown}, {"Location": shown["url"]})

    def get_field(self, request: Request, key: str, field_key: str) -> Response:
        """Read a field by key or id."""
        row = self.find(key)
        return Response(200, {"custom_object_field": self._shown_field(request, row, self._field(row, field_key))})

    def update_field(self, request: Request, key: str, field_key: str) -> Response:
        """Change a field; the rules of the name only while there are no records."""
        self.account.require_admin()
        row, body = self.find(key), envelope(request, "custom_object_field")
        definition = self._field(row, field_key)
        if definition in row.standard:
            body = with_rules(definition, body, has_records=bool(row.records))
        row.fields.update(definition, body, [record.values for record in row.records.values()])
        return Response(200, {"custom_object_field": self._shown_field(request, row, definition)})

    def _field(self, row: CustomObject, key: str) -> Field:
        return next((one for one in row.standard if key in (one.key, str(one.id))), None) or row.fields.find(key)

    def _shown_field(self, request: Request, row: CustomObject, definition: Field) -> Json:
        return show_field(request, definition, f"custom_objects/{row.key}/fields")


def record_with(custom_object: CustomObject, accepts: Callable[[Record], Any]) -> Record | None:
    """Return the first record that the predicate accepts."""
    return next((record for record in custom_object.records.values() if accepts(record)), None)
