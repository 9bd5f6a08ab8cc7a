"""Zendesk's API: one method per endpoint, and one table that says what its refusals mean."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from integrations.core.errors import ConnectorError, Disconnected, Missing, Rejected, Transient
from integrations.http import Answer, ApiClient, retry_after

Json = dict[str, Any]

WAIT_WITHOUT_WORD = timedelta(seconds=10)  # what Zendesk's own Ruby client waits when a 429 names no time
PAGES_MOST = 50


# --- What a refusal means -------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Case:
    """One known refusal: its status, what its signature matches, and what it becomes."""

    status: int
    pattern: str  # searched in `signature(answer)`, line by line
    error: type[ConnectorError]
    code: str
    says: str
    scope: str = ""


# The first row that fits decides. What no row knows is refused, 5xx and 3xx apart: see `refusal`.
CASES = (
    # The client has renewed the credentials once already, so the grant is dead.
    Case(401, "", Disconnected, "unauthorized", "the credentials are not accepted"),
    # Scope, role or plan; `refusal` names the right that is missing.
    Case(403, "", Rejected, "forbidden", "this account may not do that"),
    # RecordNotFound: deleted or merged. InvalidEndpoint: the plan does not have it.
    Case(404, "", Missing, "missing", "there is no such thing"),
    Case(408, "", Transient, "timeout", "took too long"),
    # DatabaseConflict, DatabaseDeadlock: a race inside Zendesk; all our creates are upserts, so a repetition is safe.
    Case(409, "", Transient, "conflict", "collided with another change"),
    # Organization names are unique in an account, compared without case.
    Case(422, r"^name:DuplicateValue|^name:.*already been taken", Rejected, "name_taken", "the name is taken"),
    # Another object carries our key: a person copied it, for Zendesk's own upsert would have found it.
    Case(422, r"^external_id:DuplicateValue|^external_id:.*already been taken", Rejected, "key_taken", "another object carries the key"),
    # An address belongs to one user only; seen with and without the code.
    Case(422, r"^email:DuplicateValue|^email:.*already being used", Rejected, "email_taken", "another user has the e-mail address"),
    # A field or custom object of that key exists.
    Case(422, r"^key:DuplicateValue|^key:.*already been taken", Rejected, "exists", "exists already"),
    Case(422, "", Rejected, "invalid", "a value is not accepted"),
    # 5 updates a minute per organization; per user likewise, in plain text.
    Case(429, r"requests to update|for updating", Transient, "rate_limited", "too many updates of this object", "object"),
    # The plan's requests per minute, shared with the account's other tools.
    Case(429, r"(?i)API requests per minute", Transient, "rate_limited", "the account's requests are used up", "connection"),
)

RIGHTS = {
    "organizations": "organizations:read and organizations:write, and an agent who may change organizations (not only their notes)",
    "organization_memberships": "users:write and organizations:write, and an agent who may change users",
    "organization_fields": "write, and an admin: only admins may change organization fields",
    "users": "users:read and users:write, and an agent who may change users",
    "custom_objects": "custom_objects:read and custom_objects:write, a plan with custom objects, and for set-up an admin",
}


def signature(answer: Answer) -> str:
    """Return the vendor's words, one line per problem, `<member>:<code> <description>` for validation errors.

    The envelopes differ from endpoint to endpoint, and plain text comes too: unknown shapes yield what text they have.
    """
    data = answer.data
    if not isinstance(data, dict):
        return answer.text
    if isinstance(data.get("details"), dict):
        return "\n".join(_detail_lines(data["details"]))
    if isinstance(data.get("errors"), list):
        return "\n".join(_joined(entry, "code", "title", "detail") for entry in data["errors"])
    if isinstance(data.get("error"), dict):
        return _joined(data["error"], "title", "message")
    return _joined(data, "error", "description", "error_description")


def _detail_lines(details: Mapping[str, Any]) -> Iterator[str]:
    for member, problems in details.items():
        for problem in problems if isinstance(problems, list) else [problems]:
            code = problem.get("error", "") if isinstance(problem, dict) else ""
            yield f"{member}:{code} {_joined(problem, 'description')}"


def _joined(entry: Any, *members: str) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    return " ".join(str(entry[member]) for member in members if entry.get(member))


def refusal(method: str, path: str, answer: Answer) -> ConnectorError:
    """Return the error that an answer other than 2xx stands for."""
    words = signature(answer)
    found = next((case for case in CASES if case.status == answer.status and re.search(case.pattern, words, re.MULTILINE)), None)
    begin = f"{method} {path}: {answer.status}"
    if found is None:
        return _unknown(method, begin, answer, words)
    if found.code == "forbidden":
        return Rejected(f"{begin} {found.says}", code=found.code, words=f"needs {right(path)}. {words}")
    if found.error is Transient:
        until = _until(answer) if answer.status == 429 else retry_after(answer.headers)
        return Transient(
            f"{begin} {found.says}", code=found.code, words=words, not_before=until, scope=found.scope, unsent=answer.status == 429
        )
    return found.error(f"{begin} {found.says}", code=found.code, words=words)


def _unknown(method: str, begin: str, answer: Answer, words: str) -> ConnectorError:
    if answer.status == 429:
        # Without known words: a write has most likely met the limit of its own object, a read that of the account.
        scope = "connection" if method == "GET" else "object"
        return Transient(
            f"{begin} too many requests", code="rate_limited", words=words, not_before=_until(answer), scope=scope, unsent=True
        )
    if answer.status >= 500:
        return Transient(f"{begin} Zendesk has a problem", code="server_error", words=words, not_before=retry_after(answer.headers))
    if answer.status < 400:
        # Never followed: a redirect would carry the credentials to another host.
        return Transient(f"{begin} a redirect instead of an answer", code="redirected")
    return Rejected(f"{begin} refused", code="refused", words=words)


def _until(answer: Answer) -> datetime:
    return retry_after(answer.headers) or datetime.now(UTC) + WAIT_WITHOUT_WORD


def right(path: str) -> str:
    """Return what a path asks of the token and its user, in our words."""
    area = path.removeprefix("/api/v2/").split("/")[0]
    return RIGHTS.get(area, f"the right to use {area}")


# --- Endpoints ------------------------------------------------------------------------------------------------------
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

    # https://developer.zendesk.com/api-reference/ticketing/organizations/organization_memberships/#create-membership
    def add_membership(self, user: str, organization: str) -> None:
        """Put a user into an organization. Raises Rejected when the user is in it already."""
        content = {"user_id": int(user), "organization_id": int(organization)}
        self._call("POST", "/api/v2/organization_memberships", body={"organization_membership": content})

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
    def records_keyed(self, kind: str, key: str) -> list[Json]:
        """Return the records that carry the key, compared with case."""
        query = {"filter[external_ids]": key, "page[size]": 100}
        return self._found(f"/api/v2/custom_objects/{kind}/records", "custom_object_records", query)

    # https://developer.zendesk.com/api-reference/custom-data/custom-objects/custom_object_records/#delete-custom-object-record
    def delete_record(self, kind: str, record: str) -> None:
        """Delete a record. Raises Missing."""
        self._call("DELETE", f"/api/v2/custom_objects/{kind}/records/{record}")


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
