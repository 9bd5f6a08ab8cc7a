"""Zendesk's API: one method per endpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from integrations.core.errors import Missing, Rejected, Transient
from integrations.destinations.zendesk.refusals import refusal
from integrations.http import Answer, ApiClient

Json = dict[str, Any]

PAGES_MOST = 50


@dataclass(frozen=True, slots=True)
class Saved:
    """The remote id after a write, whether the write created the object, and the object as it came back."""

    id: str
    created: bool
    data: Json


@dataclass(frozen=True, slots=True)
class ZendeskClient:
    """The calls this product makes. Each raises the errors of `refusal`, and Transient for a 2xx that is no proper answer."""

    api: ApiClient

    def _call(self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Json | None = None) -> Answer:
        answer = self.api.send(method, path, query=query, body=body)
        if not answer.ok:
            raise refusal(method, path, answer)
        if answer.data is None and answer.text:
            raise _bad_answer(method, path, answer)
        return answer

    def _one(self, method: str, path: str, member: str, *, query: Mapping[str, Any] | None = None, body: Json | None = None) -> Json:
        return _part(method, path, self._call(method, path, query, body), member)

    def _save(self, method: str, path: str, member: str, content: Json, *, query: Mapping[str, Any] | None = None) -> Saved:
        answer = self._call(method, path, query, {member: content})
        data = _part(method, path, answer, member)
        if not data.get("id"):
            raise _bad_answer(method, path, answer)
        return Saved(str(data["id"]), answer.status == 201, data)

    def _found(self, path: str, member: str, query: Mapping[str, Any]) -> list[Json]:
        return _rows(path, self._call("GET", path, query), member)

    def _all(self, path: str, member: str) -> list[Json]:
        rows: list[Json] = []
        query: dict[str, Any] = {"page[size]": 100}
        for _ in range(PAGES_MOST):
            answer = self._call("GET", path, query)
            rows += _rows(path, answer, member)
            # By cursor on our own base URL: `links.next` may name another host, and credentials must not go there.
            meta = answer.data.get("meta") or {}
            if not meta.get("has_more") or not meta.get("after_cursor"):
                break
            query["page[after]"] = meta["after_cursor"]
        return rows

    # https://developer.zendesk.com/api-reference/ticketing/users/users/#show-self
    def me(self) -> Json:
        """Return the acting user; Zendesk answers an anonymous one with a null id instead of refusing."""
        return self._one("GET", "/api/v2/users/me", "user")

    # https://developer.zendesk.com/api-reference/ticketing/oauth/oauth_tokens/#show-current-token
    def scopes(self) -> list[str]:
        """Return what the token in use was granted."""
        token = self._one("GET", "/api/v2/oauth/tokens/current", "token")
        return [str(scope) for scope in token.get("scopes") or []]

    # --- Organizations

    # https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/#count-organizations
    def count_organizations(self) -> int:
        """Return about how many organizations there are; unlike `me` it is refused without good credentials."""
        return int(self._one("GET", "/api/v2/organizations/count", "count").get("value") or 0)

    # https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/#update-organization
    def update_organization(self, organization: str, content: Json) -> Saved:
        """Change the given members; Zendesk takes 5 updates a minute per organization. Raises Missing."""
        return self._save("PUT", f"/api/v2/organizations/{organization}", "organization", content)

    # https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/#create-or-update-organization
    def upsert_organization(self, content: Json) -> Saved:
        """Create or change the organization with the content's external_id; names are not matched."""
        return self._save("POST", "/api/v2/organizations/create_or_update", "organization", content)

    # https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/#show-organization
    def organization(self, organization: str) -> Json:
        """Return one organization. Raises Missing."""
        return self._one("GET", f"/api/v2/organizations/{organization}", "organization")

    def require_organization(self, organization: str) -> None:
        """Raise Rejected `parent_missing` when the organization that a write pointed to has been deleted."""
        try:
            self.organization(organization)
        except Missing as error:
            raise Rejected(f"{error}: its customer must be synced again first", code="parent_missing") from error

    # https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/#search-organizations
    def organizations_named(self, name: str) -> list[Json]:
        """Return the organizations of exactly this name, compared without case."""
        return self._found("/api/v2/organizations/search", "organizations", {"name": name})

    # https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/#search-organizations
    def organizations_keyed(self, key: str) -> list[Json]:
        """Return the organizations that carry the key."""
        return self._found("/api/v2/organizations/search", "organizations", {"external_id": key})

    # https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/#show-many-organizations
    def show_organizations(self, keys: Sequence[str]) -> list[Json]:
        """Return the organizations that carry these keys (at most 100), in no order; unlike a search this does not lag."""
        return self._found("/api/v2/organizations/show_many", "organizations", {"external_ids": ",".join(keys)})

    # https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/#create-many-organizations
    def create_organizations(self, contents: Sequence[Json]) -> Json:
        """Start a job that creates up to 100 organizations; return it."""
        return self._job("POST", "/api/v2/organizations/create_many", {"organizations": list(contents)})

    # https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/#update-many-organizations
    def update_organizations(self, contents: Sequence[Json]) -> Json:
        """Start a job that changes up to 100 organizations, each with its `id`; return it."""
        return self._job("PUT", "/api/v2/organizations/update_many", {"organizations": list(contents)})

    # https://developer.zendesk.com/api-reference/ticketing/organizations/organization_fields/#list-organization-fields
    def organization_fields(self) -> dict[str, str]:
        """Return the active organization fields, key to type."""
        return _types(self._all("/api/v2/organization_fields", "organization_fields"))

    # https://developer.zendesk.com/api-reference/ticketing/organizations/organization_fields/#create-organization-field
    def add_organization_field(self, content: Json) -> None:
        """Create an organization field."""
        self._call("POST", "/api/v2/organization_fields", body={"organization_field": content})

    # --- Users

    # https://developer.zendesk.com/api-reference/ticketing/users/users/#search-users
    def users_keyed(self, key: str) -> list[Json]:
        """Return the users that carry the key; the index lags by up to some minutes."""
        return self._found("/api/v2/users/search", "users", {"external_id": key})

    # https://developer.zendesk.com/api-reference/ticketing/users/users/#show-many-users
    def show_users(self, ids: Sequence[str]) -> list[Json]:
        """Return the users with these ids (at most 100), in no order, without deleted ones."""
        return _active(self._found("/api/v2/users/show_many", "users", {"ids": ",".join(ids)}))

    # https://developer.zendesk.com/api-reference/ticketing/users/users/#show-many-users
    def show_users_keyed(self, keys: Sequence[str]) -> list[Json]:
        """Return the users that carry these keys (at most 100), in no order; unlike a search this does not lag."""
        return _active(self._found("/api/v2/users/show_many", "users", {"external_ids": ",".join(keys)}))

    # https://developer.zendesk.com/api-reference/ticketing/users/users/#search-users
    def users_with_email(self, email: str) -> list[Json]:
        """Return the users that the search finds for this address, maybe with others like it; the index lags by up to some minutes."""
        return self._found("/api/v2/users/search", "users", {"query": f"email:{_quoted(email)}"})

    # https://developer.zendesk.com/api-reference/ticketing/users/user_identities/#list-identities
    def addresses(self, user: str) -> list[str]:
        """Return the e-mail addresses of a user, primary or not. Raises Missing."""
        rows = self._all(f"/api/v2/users/{user}/identities", "identities")
        return [str(row["value"]) for row in rows if row.get("type") == "email" and row.get("value")]

    # https://developer.zendesk.com/api-reference/ticketing/users/users/#update-user
    def update_user(self, user: str, content: Json) -> Saved:
        """Change the given members; an `email` is added as a further address. Raises Missing."""
        return self._save("PUT", f"/api/v2/users/{user}", "user", content)

    # https://developer.zendesk.com/api-reference/ticketing/users/users/#create-or-update-user
    def upsert_user(self, content: Json) -> Saved:
        """Create or change the user with the content's external_id or e-mail address."""
        return self._save("POST", "/api/v2/users/create_or_update", "user", content)

    # https://developer.zendesk.com/api-reference/ticketing/users/users/#create-many-users
    def create_users(self, contents: Sequence[Json]) -> Json:
        """Start a job that creates up to 100 users; return it. Rejected `forbidden` until Zendesk has enabled imports."""
        return self._job("POST", "/api/v2/users/create_many", {"users": list(contents)})

    # https://developer.zendesk.com/api-reference/ticketing/organizations/organization_memberships/#create-membership
    def add_membership(self, user: str, organization: str) -> None:
        """Put a user into an organization. Raises Rejected when the user is in it already."""
        content = {"user_id": int(user), "organization_id": int(organization)}
        self._one("POST", "/api/v2/organization_memberships", "organization_membership", body={"organization_membership": content})

    # https://developer.zendesk.com/api-reference/ticketing/organizations/organization_memberships/#list-memberships
    def memberships(self, user: str) -> set[str]:
        """Return the ids of the organizations a user is in."""
        rows = self._all(f"/api/v2/users/{user}/organization_memberships", "organization_memberships")
        return {str(row.get("organization_id")) for row in rows}

    # --- Custom objects

    # https://developer.zendesk.com/api-reference/custom-data/custom-objects/custom_objects/#list-custom-objects
    def objects(self) -> list[str]:
        """Return the keys of the custom objects. Raises Missing or Rejected `forbidden` where the plan has none."""
        return [str(row.get("key")) for row in self._all("/api/v2/custom_objects", "custom_objects")]

    # https://developer.zendesk.com/api-reference/custom-data/custom-objects/custom_object_fields/#list-custom-object-fields
    def object_fields(self, kind: str) -> dict[str, str]:
        """Return the active fields of a custom object, key to type, without the standard ones."""
        return _types(self._all(f"/api/v2/custom_objects/{kind}/fields", "custom_object_fields"))

    # https://developer.zendesk.com/api-reference/custom-data/custom-objects/custom_objects/#create-custom-object
    def add_object(self, content: Json) -> None:
        """Define a custom object."""
        self._call("POST", "/api/v2/custom_objects", body={"custom_object": content})

    # https://developer.zendesk.com/api-reference/custom-data/custom-objects/custom_object_fields/#create-custom-object-field
    def add_object_field(self, kind: str, content: Json) -> None:
        """Add a field to a custom object."""
        self._call("POST", f"/api/v2/custom_objects/{kind}/fields", body={"custom_object_field": content})

    # https://developer.zendesk.com/api-reference/custom-data/custom-objects/custom_object_records/#update-custom-object-record
    def update_record(self, kind: str, record: str, content: Json) -> Saved:
        """Change the given attributes of a record. Raises Missing."""
        return self._save("PATCH", f"/api/v2/custom_objects/{kind}/records/{record}", "custom_object_record", content)

    # https://developer.zendesk.com/api-reference/custom-data/custom-objects/custom_object_records/#set-custom-object-record-by-external-id
    def upsert_record(self, kind: str, key: str, content: Json) -> Saved:
        """Create or change the record with this external id."""
        path = f"/api/v2/custom_objects/{kind}/records"
        saved = self._save("PATCH", path, "custom_object_record", content, query={"external_id": key})
        # The specification knows 200 only, so the times tell a new record from a changed one.
        fresh = saved.data.get("created_at") is not None and saved.data.get("created_at") == saved.data.get("updated_at")
        return Saved(saved.id, saved.created or fresh, saved.data)

    # https://developer.zendesk.com/api-reference/custom-data/custom-objects/custom_object_records/#list-custom-object-records
    def records_keyed(self, kind: str, keys: Sequence[str]) -> list[Json]:
        """Return the records that carry these keys (at most 100), compared with case, in no order."""
        query = {"filter[external_ids]": ",".join(keys), "page[size]": 100}
        return self._found(f"/api/v2/custom_objects/{kind}/records", "custom_object_records", query)

    # https://developer.zendesk.com/api-reference/custom-data/custom-objects/custom_object_record_bulk_jobs/
    def upsert_records(self, kind: str, contents: Sequence[Json]) -> Json:
        """Start a job that creates or changes up to 100 records by their external id; return it."""
        job = {"action": "create_or_update_by_external_id", "items": list(contents)}
        return self._job("POST", f"/api/v2/custom_objects/{kind}/jobs", {"job": job})

    # https://developer.zendesk.com/api-reference/custom-data/custom-objects/custom_object_records/#delete-custom-object-record
    def delete_record(self, kind: str, record: str) -> None:
        """Delete a record. Raises Missing."""
        self._call("DELETE", f"/api/v2/custom_objects/{kind}/records/{record}")

    # --- Jobs

    # https://developer.zendesk.com/api-reference/ticketing/ticket-management/job_statuses/#show-job-status
    def job(self, job: str) -> Json:
        """Return a job's status, by id: `url` in it may name another host, and credentials must not go there. Raises Missing."""
        return self._one("GET", f"/api/v2/job_statuses/{quote(job, safe='')}", "job_status")

    def _job(self, method: str, path: str, body: Json) -> Json:
        answer = self._call(method, path, body=body)
        # What status this comes with is not documented.
        if isinstance(answer.data, dict) and answer.data.get("error") == "TooManyJobs":
            raise refusal(method, path, answer)
        found = _part(method, path, answer, "job_status")
        if not found.get("id"):
            raise _bad_answer(method, path, answer)
        return found


def _active(users: list[Json]) -> list[Json]:
    # A deleted user can be shown for a month.
    return [user for user in users if user.get("active", True)]


def _quoted(words: str) -> str:
    # Without quotes the search may find more than the one address.
    escaped = words.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _types(rows: list[Json]) -> dict[str, str]:
    # An inactive field is listed and refuses values.
    return {str(row["key"]): str(row.get("type")) for row in rows if row.get("key") and row.get("active", True)}


def _part(method: str, path: str, answer: Answer, member: str) -> Json:
    found = answer.data.get(member) if isinstance(answer.data, dict) else None
    if not isinstance(found, dict):
        raise _bad_answer(method, path, answer)
    return found


def _rows(path: str, answer: Answer, member: str) -> list[Json]:
    found = answer.data.get(member) if isinstance(answer.data, dict) else None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise _bad_answer("GET", path, answer)
    return found


def _bad_answer(method: str, path: str, answer: Answer) -> Transient:
    # A proxy's or a maintenance page, or a body cut on the way: whatever was done must be done again.
    return Transient(f"{method} {path}: {answer.status} without the expected content", code="bad_answer")
