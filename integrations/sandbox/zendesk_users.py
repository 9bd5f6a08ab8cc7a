"""Users, their addresses and their organization memberships."""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from integrations.sandbox.server import Request, Response
from integrations.sandbox.zendesk_account import Account
from integrations.sandbox.zendesk_jobs import Jobs, Step
from integrations.sandbox.zendesk_organizations import Organizations, clean_tags, external_id_of, same
from integrations.sandbox.zendesk_wire import (
    Json,
    RefusedError,
    address,
    bad_request,
    batch,
    cursor_page,
    envelope,
    forbidden,
    invalid,
    listed,
    not_found,
    offset_page,
    page,
    reason,
    taken,
)

PLAIN = ("name", "phone", "notes", "details")
KNOWN = frozenset({*PLAIN, "id", "email", "external_id", "tags", "user_fields", "skip_verify_email"})
NEVER = frozenset({"role", "custom_role_id", "organization_id"})  # make agents, or remove all other organizations


@dataclass(slots=True)
class Identity:
    """One e-mail address of a user."""

    id: int
    value: str
    primary: bool
    created_at: str


@dataclass(slots=True)
class Membership:
    """One user in one organization."""

    id: int
    user_id: int
    organization_id: int
    default: bool
    created_at: str


@dataclass(slots=True)
class User:
    """One end user or agent."""

    id: int
    name: str
    seen_at: datetime
    created_at: str
    updated_at: str
    external_id: str | None = None
    role: str = "end-user"
    phone: str | None = None
    notes: str | None = None
    details: str | None = None
    tags: list[str] = field(default_factory=list)
    identities: list[Identity] = field(default_factory=list)

    def email(self) -> str | None:
        """Return the primary address."""
        return next((identity.value for identity in self.identities if identity.primary), None)


class Users:
    """Everything under /users and /organization_memberships."""

    def __init__(self, account: Account, jobs: Jobs, organizations: Organizations) -> None:
        self.account = account
        self.jobs = jobs
        self.organizations = organizations
        self.rows: dict[int, User] = {}
        self.memberships: dict[int, Membership] = {}
        self._add_routes(account)

    def _add_routes(self, account: Account) -> None:
        base, one = "/api/v2/users", r"/api/v2/users/(\d+)"
        account.route("POST", f"{base}/create_or_update", self.create_or_update)
        account.route("POST", f"{base}/create_many", self.create_many)
        account.route("POST", f"{base}/create_or_update_many", self.create_or_update_many)
        account.route("GET", f"{base}/search", self.search)
        account.route("GET", f"{base}/show_many", self.show_many)
        account.route("GET", one, self.get)
        account.route("PUT", one, self.put)
        account.route("GET", f"{one}/identities", self.list_identities)
        account.route("PUT", rf"{one}/identities/(\d+)/make_primary", self.make_primary)
        account.route("GET", f"{one}/organization_memberships", self.list_memberships)
        account.route("PUT", rf"{one}/organization_memberships/(\d+)/make_default", self.make_default)
        account.route("POST", "/api/v2/organization_memberships", self.post_membership)
        account.route("POST", "/api/v2/organization_memberships/create_many", self.create_memberships)
        account.route("DELETE", r"/api/v2/organization_memberships/(\d+)", self.delete_membership)

    # Rows

    def find(self, user_id: str | int) -> User:
        """Return a user by id; raise 404."""
        if int(user_id) not in self.rows:
            raise not_found()
        return self.rows[int(user_id)]

    def by_email(self, email: Any) -> User | None:
        """Return the user who has this address, primary or not."""
        return next((row for row in self.rows.values() for known in row.identities if same(known.value, email)), None)

    def match(self, body: Json) -> User | None:
        """Return whom create_or_update means: by external id, else by e-mail address."""
        external_id = external_id_of(body)
        by_id = next((row for row in self.rows.values() if same(row.external_id, external_id)), None)
        return by_id or self.by_email(body.get("email"))

    def create(self, body: Json) -> User:
        """Add a user; raise 422 and change nothing when a member does not fit."""
        if not body.get("name"):
            raise invalid("name", "Name: cannot be blank", "BlankValue")
        changes = self._checked(body, None)
        now = self.account.now()
        row = User(self.account.new_id(2), body["name"], self.account.clock(), now, now)
        self._set(row, changes, verify=not body.get("skip_verify_email"))
        self.rows[row.id] = row
        return row

    def update(self, row: User, body: Json) -> User:
        """Change the sent members only; a new address becomes a secondary one."""
        self._set(row, self._checked(body, row), verify=not body.get("skip_verify_email"))
        row.updated_at = self.account.now()
        return row

    def _checked(self, body: Json, row: User | None) -> Json:
        self.account.report("user", body, known=KNOWN, never=NEVER)
        changes: Json = {name: body[name] for name in PLAIN if name in body}
        if "name" in body and not body["name"]:
            raise invalid("name", "Name: cannot be blank", "BlankValue")
        if "tags" in body:
            changes["tags"] = clean_tags(body["tags"])
        if body.get("user_fields"):
            raise invalid("user_fields", f"user_fields: {', '.join(body['user_fields'])} is not a field", "UnknownField")
        if "external_id" in body:
            changes["external_id"] = self._free_external_id(external_id_of(body), row)
        if body.get("email"):
            changes["email"] = self._free_email(body["email"], row)
        return changes

    def _free_external_id(self, external_id: str | None, row: User | None) -> str | None:
        if external_id and any(same(other.external_id, external_id) for other in self.rows.values() if other is not row):
            raise taken("external_id", "External", external_id)
        return external_id

    def _free_email(self, email: Any, row: User | None) -> str:
        if not isinstance(email, str) or email.count("@") != 1 or email.strip() != email or " " in email:
            raise invalid("email", f"Email: {email} is not properly formatted")
        other = self.by_email(email)
        if other is not None and other is not row:
            raise invalid("email", f"Email: {email} is already being used by another user", "DuplicateValue")
        return email.lower()

    def _set(self, row: User, changes: Json, *, verify: bool) -> None:
        email = changes.pop("email", None)
        if email and not any(same(known.value, email) for known in row.identities):
            row.identities.append(Identity(self.account.new_id(6), email, not row.identities, self.account.now()))
            if verify:
                self.account.mails.append(email)
        for name, value in changes.items():
            setattr(row, name, value)

    def memberships_of(self, user_id: int) -> list[Membership]:
        """Return the memberships of a user whose organization still exists."""
        return [row for row in self.memberships.values() if row.user_id == user_id and row.organization_id in self.organizations.rows]

    def add_membership(self, user_id: Any, organization_id: Any) -> Membership:
        """Put a user into an organization; raise 422 when there is no such user or organization, or the user is in it."""
        if user_id not in self.rows:
            raise invalid("user_id", "User: is invalid")
        if organization_id not in self.organizations.rows:
            raise invalid("organization_id", "Organization: is invalid")
        rows = self.memberships_of(user_id)
        if any(row.organization_id == organization_id for row in rows):
            raise taken("user_id", "User", str(user_id))
        row = Membership(self.account.new_id(7), user_id, organization_id, not rows, self.account.now())
        self.memberships[row.id] = row
        return row

    def shown(self, request: Request, row: User) -> Json:
        """Return a user as the API answers it."""
        default = next((known.organization_id for known in self.memberships_of(row.id) if known.default), None)
        return {
            "id": row.id,
            "url": address(request, f"users/{row.id}"),
            "name": row.name,
            "email": row.email(),
            "external_id": row.external_id,
            "role": row.role,
            "organization_id": default,
            "phone": row.phone,
            "notes": row.notes,
            "details": row.details,
            "tags": row.tags,
            "user_fields": {},
            "created_at": row.created_at,
            "updated_at": row.updated_at,
        }

    # https://developer.zendesk.com/api-reference/ticketing/users/users/

    def me(self, *, known: bool) -> Response:
        """Answer the acting user, or 200 and nobody."""
        role = "admin" if self.account.admin else "agent"
        acting = {"id": self.account.acting_user, "name": "Connector", "email": self.account.email, "role": role}
        anonymous = {"id": None, "name": "Anonymous user", "email": "invalid@example.com", "role": "end-user"}
        return Response(200, {"user": (acting if known else anonymous) | {"authenticity_token": "sandbox"}})

    def create_or_update(self, request: Request) -> Response:
        """Upsert by external id or e-mail address."""
        self.account.take_user_write_turn()
        body = envelope(request, "user")
        row = self.match(body)
        status = 201 if row is None else 200
        row = self.create(body) if row is None else self._update_in_turn(row, body)
        return Response(status, {"user": self.shown(request, row)}, {"Location": address(request, f"users/{row.id}")})

    def _update_in_turn(self, row: User, body: Json) -> User:
        self.account.take_user_turn(row.id)
        return self.update(row, body)

    def get(self, request: Request, user_id: str) -> Response:
        """Read one."""
        return Response(200, {"user": self.shown(request, self.find(user_id))})

    def put(self, request: Request, user_id: str) -> Response:
        """Change one."""
        self.account.take_user_write_turn()
        row = self._update_in_turn(self.find(user_id), envelope(request, "user"))
        return Response(200, {"user": self.shown(request, row)})

    def search(self, request: Request) -> Response:
        """Find by external id or by `query=email:"<address>"`; the index lags, and there are offset pages only."""
        if any(name.startswith("page[") for name in request.query):
            raise bad_request("Cursor pagination is not supported by this endpoint")
        found = [self.shown(request, row) for row in self._searched(request) if self._indexed(row)]
        return offset_page(request, "users", found)

    def _searched(self, request: Request) -> list[User]:
        if "external_id" in request.query:
            return [row for row in self.rows.values() if same(row.external_id, request.arg("external_id"))]
        query = request.arg("query")
        if not query:
            raise bad_request("query or external_id is required")
        if query.startswith("email:"):
            row = self.by_email(_unquoted(query.removeprefix("email:")))
            return [row] if row else []
        words = query.casefold()
        return [row for row in self.rows.values() if words in row.name.casefold() or words in (row.email() or "")]

    def _indexed(self, row: User) -> bool:
        return self.account.clock() - row.seen_at >= timedelta(seconds=self.account.search_lag)

    def show_many(self, request: Request) -> Response:
        """Answer up to 100 by id or external id; not in the order that was asked for."""
        ids, keys = set(listed(request, "ids")), {key.casefold() for key in listed(request, "external_ids")}
        if not ids and not keys:
            raise bad_request("ids or external_ids is required")
        found = [row for row in self.rows.values() if str(row.id) in ids or (row.external_id or "").casefold() in keys]
        return offset_page(request, "users", [self.shown(request, row) for row in found[::-1]])

    def create_many(self, request: Request) -> Response:
        """Create up to 100, later, where Zendesk has enabled imports; an address or a key that is taken fails its item."""
        bodies = self._imported(request)
        return self.jobs.start("Creating user", [self._create_step(body) for body in bodies])

    def _imported(self, request: Request) -> list[Json]:
        if not self.account.bulk_users:
            raise forbidden("This endpoint is not enabled for this account. Please contact Zendesk Support.")
        return batch(request, "users", "Maximum 100 users may be created per call")

    def _create_step(self, body: Json) -> Step:
        def step(index: int) -> Json:
            try:
                home = body.get("organization_id")
                row = self.create({name: value for name, value in body.items() if name != "organization_id"})
                if home is not None:  # of a user that is new it takes nobody out of anything
                    self.add_membership(row.id, home)
                return {"status": "Created", "id": row.id}
            except RefusedError as refused:
                return {"index": index, "error": "UserCreateFailed", "details": reason(refused)}

        return step

    def create_or_update_many(self, request: Request) -> Response:
        """Upsert up to 100, later, where Zendesk has enabled imports."""
        bodies = self._imported(request)
        return self.jobs.start("Creating or updating user", [self._upsert_step(body) for body in bodies])

    def _upsert_step(self, body: Json) -> Step:
        def step(index: int) -> Json:
            try:
                row = self.match(body)
                if row is None:
                    return {"status": "Created", "id": self.create(body).id}
                return {"action": "update", "id": self.update(row, body).id, "status": "Updated", "success": True}
            except RefusedError as refused:
                return {"index": index, "error": "UserUpdateFailed", "details": reason(refused)}

        return step

    # https://developer.zendesk.com/api-reference/ticketing/users/user_identities/

    def list_identities(self, request: Request, user_id: str) -> Response:
        """Read the addresses of a user."""
        return page(request, "identities", self._identities(request, self.find(user_id)))

    def make_primary(self, request: Request, user_id: str, identity_id: str) -> Response:
        """Set the primary address."""
        row = self.find(user_id)
        if int(identity_id) not in [identity.id for identity in row.identities]:
            raise not_found()
        for identity in row.identities:
            identity.primary = identity.id == int(identity_id)
        return Response(200, {"identities": self._identities(request, row)})

    def _identities(self, request: Request, row: User) -> list[Json]:
        return [
            {
                "id": identity.id,
                "url": address(request, f"users/{row.id}/identities/{identity.id}"),
                "user_id": row.id,
                "type": "email",
                "value": identity.value,
                "primary": identity.primary,
                "verified": False,
                "created_at": identity.created_at,
                "updated_at": identity.created_at,
            }
            for identity in row.identities
        ]

    # https://developer.zendesk.com/api-reference/ticketing/organizations/organization_memberships/

    def list_memberships(self, request: Request, user_id: str) -> Response:
        """Read the memberships of a user."""
        rows = self.memberships_of(self.find(user_id).id)
        return cursor_page(request, "organization_memberships", [_shown_membership(request, row) for row in rows])

    def post_membership(self, request: Request) -> Response:
        """Add a membership."""
        body = envelope(request, "organization_membership")
        shown = _shown_membership(request, self.add_membership(body.get("user_id"), body.get("organization_id")))
        return Response(201, {"organization_membership": shown}, {"Location": shown["url"]})

    def create_memberships(self, request: Request) -> Response:
        """Add up to 100, later."""
        bodies = batch(request, "organization_memberships")
        return self.jobs.start("Creating organization membership", [self._membership_step(body) for body in bodies])

    def _membership_step(self, body: Json) -> Step:
        def step(index: int) -> Json:
            try:
                return {"status": "Created", "id": self.add_membership(body.get("user_id"), body.get("organization_id")).id}
            except RefusedError as refused:
                return {"index": index, "error": "OrganizationMembershipCreateFailed", "details": reason(refused)}

        return step

    def make_default(self, request: Request, user_id: str, membership_id: str) -> Response:
        """Set the default organization of a user."""
        rows = self.memberships_of(self.find(user_id).id)
        if int(membership_id) not in [row.id for row in rows]:
            raise not_found()
        for row in rows:
            row.default = row.id == int(membership_id)
        return Response(200, {"organization_memberships": [_shown_membership(request, row) for row in rows]})

    def delete_membership(self, request: Request, membership_id: str) -> Response:
        """Remove a membership; the next one becomes the default."""
        gone = self.memberships.pop(int(membership_id), None)
        if gone is None:
            raise not_found()
        rest = self.memberships_of(gone.user_id)
        if gone.default and rest:
            rest[0].default = True
        return Response(204)


def _unquoted(words: str) -> str:
    if len(words) < 2 or not (words.startswith('"') and words.endswith('"')):
        return words
    return re.sub(r"\\(.)", r"\1", words[1:-1])


def _shown_membership(request: Request, row: Membership) -> Json:
    return {
        "id": row.id,
        "url": address(request, f"organization_memberships/{row.id}"),
        "user_id": row.user_id,
        "organization_id": row.organization_id,
        "default": row.default or None,
        "created_at": row.created_at,
        "updated_at": row.created_at,
    }
