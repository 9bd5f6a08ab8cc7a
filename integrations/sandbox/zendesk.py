"""The stand-in for Zendesk Support: one account, over real HTTP, strict where the vendor is strict."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from integrations.sandbox.server import Request, Response
from integrations.sandbox.zendesk_account import Account
from integrations.sandbox.zendesk_jobs import Jobs
from integrations.sandbox.zendesk_objects import CustomObject, CustomObjects
from integrations.sandbox.zendesk_organizations import Organization, Organizations
from integrations.sandbox.zendesk_page import render
from integrations.sandbox.zendesk_records import Records
from integrations.sandbox.zendesk_tokens import Grant, Tokens
from integrations.sandbox.zendesk_users import User, Users
from integrations.sandbox.zendesk_wire import Json, RefusedError, forbidden

FREE = re.compile(r"/|/oauth/.*")  # without credentials
PLAN = re.compile(r"/api/v2/(custom_objects.*|zen.*custom_object.*)")


class Zendesk(Account):
    """The account with all its parts; nothing exists in it until the API or a test makes it."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__(clock)
        self.tokens = Tokens(self)
        self.jobs = Jobs(self)
        self.organizations = Organizations(self, self.jobs)
        self.users = Users(self, self.jobs, self.organizations)
        self.objects = CustomObjects(self)
        self.records = Records(self, self.jobs, self.objects, self.organizations)
        self.route("GET", "/", lambda request: Response(200, render(self.users, self.records)))
        self.route("GET", "/api/v2/users/me", self.show_me)

    def handle(self, request: Request) -> Response:
        """Check credentials, limits and plan, then run the endpoint; a refusal becomes its answer."""
        request = replace(request, path=request.path.removesuffix(".json"))
        with self.lock:
            try:
                self.jobs.run_due()
                headers = self._admit(request)
                response = super().handle(request)
            except RefusedError as refused:
                return refused.response
        return replace(response, headers=response.headers | headers)

    def _admit(self, request: Request) -> dict[str, str]:
        if FREE.fullmatch(request.path):
            return {}
        if request.path != "/api/v2/users/me":
            self.tokens.check(request)
        headers = self.take_account_turn() | self.take_endpoint_turn(_endpoint(request))
        if not self.custom_objects and PLAN.fullmatch(request.path):
            raise forbidden("Custom objects are not available on your plan")
        return headers

    def show_me(self, request: Request) -> Response:
        """Answer the acting user, or 200 and nobody without good credentials."""
        known = self.tokens.known(request)
        if known:
            self.tokens.check(request)
        return self.users.me(known=known)

    def object_exists(self, target: str, value: str) -> bool:
        """Say whether a lookup value names an existing object; tickets are outside the sandbox and never exist."""
        if target == "zen:organization":
            return value.isdigit() and int(value) in self.organizations.rows
        if target == "zen:user":
            return value.isdigit() and int(value) in self.users.rows
        custom_object = self.objects.rows.get(target.removeprefix("zen:custom_object:"))
        return custom_object is not None and value in custom_object.records

    # For tests and the demo: prepare what the product finds

    def issue(self, scope: str = "read write") -> Grant:
        """Make an access and a refresh token without the browser."""
        with self.lock:
            return self.tokens.issue(scope)

    def expire(self, token: str) -> None:
        """Let an access token or a refresh token die now."""
        with self.lock:
            self.tokens.expire(token)

    def add_organization(self, name: str, external_id: str | None = None, **members: Any) -> int:
        """Add an organization as another tool would have; return its id."""
        with self.lock:
            return self.organizations.create({"name": name, "external_id": external_id, **members}).id

    def add_user(self, name: str, email: str | None = None, *, role: str = "end-user", organization_id: int = 0, **members: Any) -> int:
        """Add a user as another tool would have; return its id."""
        with self.lock:
            row = self.users.create({"name": name, "email": email, "skip_verify_email": True, **members})
            row.role = role
            if organization_id:
                self.users.add_membership(row.id, organization_id)
            return row.id

    def delete_organization(self, organization_id: int) -> None:
        """Delete an organization as an agent would."""
        with self.lock:
            del self.organizations.rows[organization_id]

    def delete_record(self, external_id: str) -> None:
        """Delete every record with this external id, of whatever custom object; raise KeyError when there is none."""
        with self.lock:
            found = [(one, record) for one in self.objects.rows.values() if (record := self.records.by_external_id(one, external_id))]
            if not found:
                raise KeyError(external_id)
            for custom_object, record in found:
                del custom_object.records[record.id]

    # What tests compare

    def state(self) -> dict[str, Any]:
        """Return everything but times and addresses, each list in the order of its names or keys."""
        with self.lock:
            return {
                "organizations": [self._organization(row) for row in sorted(self.organizations.rows.values(), key=_by_name)],
                "organization_fields": _fields(self.organizations.fields.rows.values()),
                "users": [self._user(row) for row in sorted(self.users.rows.values(), key=_by_name)],
                "custom_objects": [self._object(self.objects.rows[key]) for key in sorted(self.objects.rows)],
                "violations": list(self.violations),
                "mails": list(self.mails),
            }

    def _organization(self, row: Organization) -> Json:
        return {
            "id": row.id,
            "name": row.name,
            "external_id": row.external_id,
            "details": row.details,
            "notes": row.notes,
            "tags": list(row.tags),
            "organization_fields": self.organizations.fields.shown(row.values),
        }

    def _user(self, row: User) -> Json:
        return {
            "id": row.id,
            "name": row.name,
            "email": row.email(),
            "emails": [identity.value for identity in row.identities],
            "external_id": row.external_id,
            "role": row.role,
            "phone": row.phone,
            "details": row.details,
            "notes": row.notes,
            "tags": list(row.tags),
            "organization_ids": sorted(known.organization_id for known in self.users.memberships_of(row.id)),
        }

    def _object(self, row: CustomObject) -> Json:
        records = sorted(row.records.values(), key=lambda record: (record.external_id or "", record.name, record.id))
        return {
            "key": row.key,
            "title": row.title,
            "title_pluralized": row.title_pluralized,
            "include_in_list_view": row.include_in_list_view,
            "fields": _fields(row.fields.rows.values()),
            "records": [
                {"id": one.id, "name": one.name, "external_id": one.external_id, "custom_object_fields": row.fields.shown(one.values)}
                for one in records
            ],
        }


def _endpoint(request: Request) -> str:
    parts = request.path.removeprefix("/api/v2/").split("/")
    return "-".join([*(part for part in parts if not any(sign.isdigit() for sign in part)), request.method.lower()])


def _by_name(row: Organization | User) -> tuple[str, int]:
    return row.name.casefold(), row.id


def _fields(rows: Any) -> list[Json]:
    return [
        {"key": row.key, "type": row.type, "title": row.title, "active": row.active, "target": row.target}
        for row in sorted(rows, key=lambda row: str(row.key))
    ]
