"""Organizations, their fields and their tags."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from integrations.sandbox.server import Request, Response
from integrations.sandbox.zendesk_account import Account
from integrations.sandbox.zendesk_fields import Fields, show_field
from integrations.sandbox.zendesk_jobs import Jobs, Step
from integrations.sandbox.zendesk_wire import (
    Json,
    RefusedError,
    address,
    bad_request,
    batch,
    envelope,
    invalid,
    listed,
    not_found,
    offset_page,
    page,
    payload,
    reason,
    taken,
)

PLAIN = ("details", "notes", "group_id", "shared_tickets", "shared_comments")
KNOWN = frozenset({*PLAIN, "id", "name", "external_id", "tags", "organization_fields"})
NEVER = frozenset({"domain_names"})  # domains assign users to organizations


@dataclass(slots=True)
class Organization:
    """One organization."""

    id: int
    name: str
    seen_at: datetime
    created_at: str
    updated_at: str
    external_id: str | None = None
    details: str | None = None
    notes: str | None = None
    group_id: int | None = None
    domain_names: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    values: Json = field(default_factory=dict)
    shared_tickets: bool = False
    shared_comments: bool = False


def clean_tags(tags: Any) -> list[str]:
    """Return tags as Zendesk keeps them: lower case, without blanks, each once, sorted; raise 422 for no list of strings."""
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise invalid("tags", "Tags: must be a list of strings")
    return sorted({tag.lower().replace(" ", "_") for tag in tags})


def same(one: str | None, other: Any) -> bool:
    """Compare as Zendesk compares names, e-mail addresses and external ids: without case; nothing equals what is no string."""
    return one is not None and isinstance(other, str) and one.casefold() == other.casefold()


def external_id_of(body: Json) -> str | None:
    """Return the external id of a write, null for an empty one; raise 422 when it is no string."""
    value = body.get("external_id")
    if value is not None and not isinstance(value, str):
        raise invalid("external_id", "External ID: must be a string")
    return value or None


class Organizations:
    """Everything under /organizations and /organization_fields."""

    def __init__(self, account: Account, jobs: Jobs) -> None:
        self.account = account
        self.jobs = jobs
        self.fields = Fields(account, "organization_fields")
        self.rows: dict[int, Organization] = {}
        self._add_routes(account)

    def _add_routes(self, account: Account) -> None:
        base, one = "/api/v2/organizations", r"/api/v2/organizations/(\d+)"
        account.route("GET", base, self.list_all)
        account.route("POST", base, self.post)
        account.route("GET", f"{base}/count", self.count)
        account.route("POST", f"{base}/create_or_update", self.create_or_update)
        account.route("GET", f"{base}/search", self.search)
        account.route("GET", f"{base}/show_many", self.show_many)
        account.route("POST", f"{base}/create_many", self.create_many)
        account.route("PUT", f"{base}/update_many", self.update_many)
        account.route("GET", one, self.get)
        account.route("PUT", one, self.put)
        account.route("DELETE", one, self.delete)
        account.route("GET", f"{one}/tags", self.get_tags)
        account.route("PUT", f"{one}/tags", self.add_tags)
        account.route("POST", f"{one}/tags", self.replace_tags)
        account.route("DELETE", f"{one}/tags", self.remove_tags)
        account.route("GET", "/api/v2/organization_fields", self.list_fields)
        account.route("POST", "/api/v2/organization_fields", self.create_field)
        account.route("GET", r"/api/v2/organization_fields/(\w+)", self.get_field)
        account.route("PUT", r"/api/v2/organization_fields/(\w+)", self.update_field)

    # Rows

    def find(self, organization_id: str | int) -> Organization:
        """Return an organization by id; raise 404."""
        row = self.rows.get(int(organization_id)) if str(organization_id).isdigit() else None
        if row is None:
            raise not_found()
        return row

    def by_external_id(self, external_id: str | None) -> Organization | None:
        """Return the organization with this external id, without case."""
        return next((row for row in self.rows.values() if same(row.external_id, external_id)), None)

    def create(self, body: Json) -> Organization:
        """Add an organization; raise 422 and change nothing when a member does not fit."""
        changes = self._checked(body, None)
        now = self.account.now()
        row = Organization(self.account.new_id(1), changes.pop("name"), self.account.clock(), now, now)
        self._set(row, changes)
        self.rows[row.id] = row
        return row

    def update(self, row: Organization, body: Json) -> Organization:
        """Change the sent members only; raise 422 and change nothing when one does not fit."""
        self._set(row, self._checked(body, row))
        row.updated_at = self.account.now()
        return row

    def _checked(self, body: Json, row: Organization | None) -> Json:
        self.account.report("organization", body, known=KNOWN, never=NEVER)
        changes: Json = {name: body[name] for name in (*PLAIN, "domain_names") if name in body}
        for name in ("details", "notes"):
            if not isinstance(changes.get(name, ""), str | None):
                raise invalid(name, f"{name.capitalize()}: must be text")
        if row is None or "name" in body:
            changes["name"] = self._free_name(body.get("name"), row)
        if "external_id" in body:
            changes["external_id"] = self._free_external_id(external_id_of(body), row)
        if "tags" in body:
            changes["tags"] = clean_tags(body["tags"])
        if body.get("organization_fields") is not None:
            changes["values"] = self.fields.clean(body["organization_fields"])
        return changes

    def _free_name(self, name: Any, row: Organization | None) -> str:
        if not isinstance(name, str) or not name.strip():
            raise invalid("name", "Name: cannot be blank", "BlankValue")
        clean: str = name.strip()
        if any(same(other.name, clean) for other in self.rows.values() if other is not row):
            raise taken("name", "Name", clean)
        return clean

    def _free_external_id(self, external_id: str | None, row: Organization | None) -> str | None:
        other = self.by_external_id(external_id)
        if external_id and other is not None and other is not row:
            raise taken("external_id", "External", external_id)
        return external_id

    def _set(self, row: Organization, changes: Json) -> None:
        row.values |= changes.pop("values", {})
        for name, value in changes.items():
            setattr(row, name, value)

    def shown(self, request: Request, row: Organization) -> Json:
        """Return an organization as the API answers it."""
        return {
            "id": row.id,
            "url": address(request, f"organizations/{row.id}"),
            "name": row.name,
            "external_id": row.external_id,
            "details": row.details,
            "notes": row.notes,
            "group_id": row.group_id,
            "domain_names": row.domain_names,
            "tags": row.tags,
            "organization_fields": self.fields.shown(row.values),
            "shared_tickets": row.shared_tickets,
            "shared_comments": row.shared_comments,
            "created_at": row.created_at,
            "updated_at": row.updated_at,
        }

    def _all_shown(self, request: Request, rows: list[Organization]) -> list[Json]:
        return [self.shown(request, row) for row in rows]

    def _created(self, request: Request, row: Organization) -> Response:
        body = {"organization": self.shown(request, row)}
        return Response(201, body, {"Location": address(request, f"organizations/{row.id}")})

    # https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/

    def list_all(self, request: Request) -> Response:
        """Answer a page of all organizations."""
        return page(request, "organizations", self._all_shown(request, list(self.rows.values())))

    def post(self, request: Request) -> Response:
        """Create one."""
        return self._created(request, self.create(envelope(request, "organization")))

    def get(self, request: Request, organization_id: str) -> Response:
        """Read one."""
        return Response(200, {"organization": self.shown(request, self.find(organization_id))})

    def put(self, request: Request, organization_id: str) -> Response:
        """Change one, 5 times a minute."""
        row = self.find(organization_id)
        self.account.take_organization_turn(row.id)
        self.update(row, envelope(request, "organization"))
        return Response(200, {"organization": self.shown(request, row)})

    def delete(self, request: Request, organization_id: str) -> Response:
        """Delete one."""
        del self.rows[self.find(organization_id).id]
        return Response(204)

    def count(self, request: Request) -> Response:
        """Answer the number of organizations."""
        return Response(200, {"count": {"value": len(self.rows), "refreshed_at": self.account.now()}})

    def create_or_update(self, request: Request) -> Response:
        """Upsert by id or external id, never by name."""
        body = envelope(request, "organization")
        row = self.find(body["id"]) if body.get("id") else self.by_external_id(external_id_of(body))
        if row is None:
            row = self.create(body)
            self.account.take_organization_turn(row.id)
            return self._created(request, row)
        self.account.take_organization_turn(row.id)
        self.update(row, body)
        return Response(200, {"organization": self.shown(request, row)})

    def search(self, request: Request) -> Response:
        """Find by exact external id or exact name, without case, one of the two; the index lags."""
        if ("external_id" in request.query) == ("name" in request.query):
            raise bad_request("Exactly one of external_id and name is required")
        member = "name" if "name" in request.query else "external_id"
        found = [row for row in self.rows.values() if self._indexed(row) and same(getattr(row, member), request.arg(member))]
        return offset_page(request, "organizations", self._all_shown(request, found))

    def _indexed(self, row: Organization) -> bool:
        return self.account.clock() - row.seen_at >= timedelta(seconds=self.account.search_lag)

    def show_many(self, request: Request) -> Response:
        """Answer up to 100 by id or external id; not in the order that was asked for."""
        found = self._named(request)
        return offset_page(request, "organizations", self._all_shown(request, found[::-1]))

    def _named(self, request: Request) -> list[Organization]:
        ids, keys = set(listed(request, "ids")), {key.casefold() for key in listed(request, "external_ids")}
        if not ids and not keys:
            raise bad_request("ids or external_ids is required")
        return [row for row in self.rows.values() if str(row.id) in ids or (row.external_id or "").casefold() in keys]

    def create_many(self, request: Request) -> Response:
        """Create up to 100, later."""
        return self.jobs.start("Creating organization", [self._create_step(body) for body in batch(request, "organizations")])

    def _create_step(self, body: Json) -> Step:
        def step(index: int) -> Json:
            try:
                return {"status": "Created", "id": self.create(body).id}
            except RefusedError as refused:
                return {"index": index, "error": "OrganizationCreateFailed", "details": reason(refused)}

        return step

    def update_many(self, request: Request) -> Response:
        """Change up to 100, later: each by its id, or all named ones alike."""
        if "ids" in request.query or "external_ids" in request.query:
            change = envelope(request, "organization")
            bodies = [change | {"id": row.id} for row in self._named(request)]
        else:
            bodies = batch(request, "organizations")
        return self.jobs.start("Updating organization", [self._update_step(body) for body in bodies])

    def _update_step(self, body: Json) -> Step:
        def step(index: int) -> Json:
            try:
                row = self.update(self.find(body.get("id", "")), body)
            except RefusedError as refused:
                return {"index": index, "error": "OrganizationUpdateFailed", "id": body.get("id"), "details": reason(refused)}
            return {"action": "update", "id": row.id, "status": "Updated", "success": True}

        return step

    # https://developer.zendesk.com/api-reference/ticketing/ticket-management/tags/

    def get_tags(self, request: Request, organization_id: str) -> Response:
        """Read the tags."""
        return Response(200, {"tags": self.find(organization_id).tags})

    def add_tags(self, request: Request, organization_id: str) -> Response:
        """Add the named tags."""
        row = self.find(organization_id)
        return self._tagged(row, clean_tags(row.tags + _sent_tags(request)), 200)

    def replace_tags(self, request: Request, organization_id: str) -> Response:
        """Replace all tags."""
        return self._tagged(self.find(organization_id), _sent_tags(request), 201)

    def remove_tags(self, request: Request, organization_id: str) -> Response:
        """Remove the named tags."""
        row, gone = self.find(organization_id), _sent_tags(request)
        self._tagged(row, [tag for tag in row.tags if tag not in gone], 204)
        return Response(204)

    def _tagged(self, row: Organization, tags: list[str], status: int) -> Response:
        row.tags = tags
        row.updated_at = self.account.now()
        return Response(status, {"tags": tags})

    # https://developer.zendesk.com/api-reference/ticketing/organizations/organization_fields/

    def list_fields(self, request: Request) -> Response:
        """Answer a page of the fields."""
        rows = [show_field(request, definition, "organization_fields") for definition in self.fields.rows.values()]
        return page(request, "organization_fields", rows)

    def create_field(self, request: Request) -> Response:
        """Define a field."""
        self.account.require_admin()
        definition = self.fields.create(envelope(request, "organization_field"))
        shown = show_field(request, definition, "organization_fields")
        return Response(201, {"organization_field": shown}, {"Location": shown["url"]})

    def get_field(self, request: Request, key: str) -> Response:
        """Read a field by id or key."""
        return Response(200, {"organization_field": show_field(request, self.fields.find(key), "organization_fields")})

    def update_field(self, request: Request, key: str) -> Response:
        """Change a field."""
        self.account.require_admin()
        holders = [row.values for row in self.rows.values()]
        definition = self.fields.update(self.fields.find(key), envelope(request, "organization_field"), holders)
        return Response(200, {"organization_field": show_field(request, definition, "organization_fields")})


def _sent_tags(request: Request) -> list[str]:
    return clean_tags(payload(request).get("tags"))
