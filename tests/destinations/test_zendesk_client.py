"""The Zendesk client: every known refusal, answers that are none, pages, and the ways in."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
import responses

from integrations.core.errors import ConnectorError, Disconnected, Misconfigured, Missing, Rejected, Transient
from integrations.core.ports import Account, TokenCall
from integrations.destinations.zendesk.client import ZendeskClient
from integrations.destinations.zendesk.oauth import ACCESS
from integrations.destinations.zendesk.refusals import CASES
from integrations.http import ApiClient

BASE = "https://acme.zendesk.com"
URLS = {"ZENDESK_URL": "https://{subdomain}.zendesk.com"}


class Fixed:
    """Credentials that cannot be renewed."""

    def headers(self) -> dict[str, str]:
        return {"Authorization": "Bearer canary"}

    def renew(self, stale: dict[str, str]) -> bool:
        return False


@pytest.fixture
def client() -> ZendeskClient:
    return ZendeskClient(ApiClient(BASE, Fixed(), requests.Session()))


@pytest.fixture
def net() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


def invalid(member: str, description: str, code: str = "") -> dict[str, Any]:
    problem = {"description": description} | ({"error": code} if code else {})
    return {"error": "RecordInvalid", "description": "Record validation errors", "details": {member: [problem]}}


RATE_OBJECT = {"errors": [{"code": "TooManyRequests", "title": "Too many requests to update"}]}
TOO_MANY_JOBS = {"error": "TooManyJobs", "description": "Too many jobs are queued or running"}
REFUSALS = [
    (401, {"error": "invalid_token", "error_description": "The access token provided is expired"}, Disconnected, "unauthorized", ""),
    (401, {"error": "Couldn't authenticate you"}, Disconnected, "unauthorized", ""),
    (403, {"error": {"title": "Forbidden", "message": "You do not have access"}}, Rejected, "forbidden", ""),
    (404, {"error": "RecordNotFound", "description": "Not found"}, Missing, "missing", ""),
    (404, {"error": {"title": "InvalidEndpoint", "message": "Not found"}}, Missing, "missing", ""),
    (408, "", Transient, "timeout", ""),
    (409, {"error": "DatabaseConflict", "description": "Database collision"}, Transient, "conflict", ""),
    (422, invalid("name", "Name: Acme has already been taken", "DuplicateValue"), Rejected, "name_taken", ""),
    (422, invalid("name", "Name:  Acme has already been taken"), Rejected, "name_taken", ""),
    (422, invalid("external_id", "External: x has already been taken", "DuplicateValue"), Rejected, "key_taken", ""),
    (422, invalid("email", "Email: a@b.co is already being used by another user"), Rejected, "email_taken", ""),
    (422, invalid("key", "Key: wave_email has already been taken", "DuplicateValue"), Rejected, "exists", ""),
    (422, invalid("base", "name:DuplicateValue is what somebody wrote"), Rejected, "invalid", ""),
    (429, RATE_OBJECT, Transient, "rate_limited", "object"),
    (429, "You have exceeded the rate limit for updating a single unique user. Try later.", Transient, "rate_limited", "object"),
    (429, "Number of allowed API requests per minute exceeded", Transient, "rate_limited", "connection"),
    (429, {}, Transient, "rate_limited", "object"),
    (429, TOO_MANY_JOBS, Transient, "too_many_jobs", ""),
    (403, TOO_MANY_JOBS, Transient, "too_many_jobs", ""),
    (422, invalid("base", "TooManyJobs is what somebody wrote"), Rejected, "invalid", ""),
    (302, "", Transient, "redirected", ""),
    (400, {"error": {"title": "Invalid attribute", "message": "You passed an invalid value"}}, Rejected, "refused", ""),
    (402, ["odd", 1], Rejected, "refused", ""),
    (500, "<html>", Transient, "server_error", ""),
    (503, {"error": "ServiceUnavailable"}, Transient, "server_error", ""),
]


def refused(client: ZendeskClient, net: responses.RequestsMock, status: int, body: Any, **headers: str) -> ConnectorError:
    given: Any = {"body": body} if isinstance(body, str) else {"json": body}
    net.put(f"{BASE}/api/v2/organizations/7", status=status, headers=headers, **given)
    with pytest.raises(ConnectorError) as caught:
        client.update_organization("7", {"name": "Acme"})
    return caught.value


@pytest.mark.parametrize(("status", "body", "error", "code", "scope"), REFUSALS)
def test_each_known_refusal_has_its_meaning(
    client: ZendeskClient, net: responses.RequestsMock, status: int, body: Any, error: type[ConnectorError], code: str, scope: str
) -> None:
    found = refused(client, net, status, body)
    assert (type(found), found.code, getattr(found, "scope", "")) == (error, code, scope)


def test_every_row_of_the_table_is_tried_here() -> None:
    tried = {(known, code, scope) for status, _, _, code, scope in REFUSALS for known in (0, status)}
    assert {(case.status, case.code, case.scope) for case in CASES} <= tried


def test_a_message_holds_none_of_the_vendors_words(client: ZendeskClient, net: responses.RequestsMock) -> None:
    found = refused(client, net, 422, invalid("name", "Name: Jane Doe has already been taken", "DuplicateValue"))
    assert str(found) == "PUT /api/v2/organizations/7: 422 the name is taken"
    assert found.words == "name:DuplicateValue Name: Jane Doe has already been taken"


def test_a_403_names_the_missing_right(client: ZendeskClient, net: responses.RequestsMock) -> None:
    found = refused(client, net, 403, {"error": {"title": "Forbidden", "message": "No"}})
    assert found.words.startswith("needs organizations:read and organizations:write") and found.words.endswith("Forbidden No")


@pytest.mark.parametrize(("given", "seconds"), [({"Retry-After": "93"}, 93), ({}, 10)])
def test_a_429_waits_as_told_or_ten_seconds(
    client: ZendeskClient, net: responses.RequestsMock, given: dict[str, str], seconds: int
) -> None:
    began = datetime.now(UTC)
    found = refused(client, net, 429, RATE_OBJECT, **given)
    assert isinstance(found, Transient) and found.not_before is not None
    assert timedelta(seconds=0) <= found.not_before - began - timedelta(seconds=seconds) < timedelta(seconds=5)


def test_an_unexplained_429_to_a_read_covers_the_connection(client: ZendeskClient, net: responses.RequestsMock) -> None:
    net.get(f"{BASE}/api/v2/organizations/count", status=429)
    with pytest.raises(Transient) as caught:
        client.count_organizations()
    assert caught.value.scope == "connection"


@pytest.mark.parametrize("body", ["<html>maintenance</html>", '{"organization": {"id": 7, "na', "[]", "", '{"organization": {}}'])
def test_a_2xx_without_the_content_is_transient(client: ZendeskClient, net: responses.RequestsMock, body: str) -> None:
    assert refused(client, net, 200, body).code == "bad_answer"


@pytest.mark.parametrize("body", ["<html>maintenance</html>", '{"organization_membership": {"id"', ""])
def test_a_page_is_no_proof_of_a_membership(client: ZendeskClient, net: responses.RequestsMock, body: str) -> None:
    net.post(f"{BASE}/api/v2/organization_memberships", body=body, status=200)
    with pytest.raises(Transient) as caught:
        client.add_membership("7", "9")
    assert caught.value.code == "bad_answer"


def test_a_page_is_no_proof_of_a_deletion(client: ZendeskClient, net: responses.RequestsMock) -> None:
    net.delete(f"{BASE}/api/v2/custom_objects/wave_payment/records/01K7", body="<html>maintenance</html>", status=200)
    with pytest.raises(Transient) as caught:
        client.delete_record("wave_payment", "01K7")
    assert caught.value.code == "bad_answer"


@pytest.mark.parametrize(
    ("email", "query"),
    [("jane+x@acme.example", 'email:"jane+x@acme.example"'), ('"ja\\ne"@acme.example', 'email:"\\"ja\\\\ne\\"@acme.example"')],
)
def test_an_address_is_searched_for_in_quotes(client: ZendeskClient, net: responses.RequestsMock, email: str, query: str) -> None:
    net.get(f"{BASE}/api/v2/users/search", json={"users": []}, match=[responses.matchers.query_param_matcher({"query": query})])
    assert client.users_with_email(email) == []


def test_only_identities_that_are_addresses_count(client: ZendeskClient, net: responses.RequestsMock) -> None:
    rows = [{"type": "email", "value": "a@acme.example"}, {"type": "phone_number", "value": "+1555"}, {"type": "email", "value": None}]
    net.get(f"{BASE}/api/v2/users/7/identities", json={"identities": rows, "meta": {"has_more": False}})
    assert client.addresses("7") == ["a@acme.example"]


def test_lists_are_followed_by_cursor_on_our_own_host(client: ZendeskClient, net: responses.RequestsMock) -> None:
    url = f"{BASE}/api/v2/organization_fields"
    first = {
        "organization_fields": [{"key": "a", "type": "text", "active": True}],
        "meta": {"has_more": True, "after_cursor": "c1"},
        "links": {"next": "https://elsewhere.example/"},
    }
    second = {
        "organization_fields": [{"key": "b", "type": "date"}, {"key": "c", "type": "text", "active": False}],
        "meta": {"has_more": False},
    }
    net.get(url, json=first, match=[responses.matchers.query_param_matcher({"page[size]": "100"})])
    net.get(url, json=second, match=[responses.matchers.query_param_matcher({"page[size]": "100", "page[after]": "c1"})])
    assert client.organization_fields() == {"a": "text", "b": "date"}


# --- Ways in


def account(auth: str, **settings: str) -> Account:
    return Account("zendesk-acme", "zendesk", auth, {"subdomain": "acme", **settings})


def test_the_address_is_built_from_a_bare_label() -> None:
    assert ACCESS.base_url(account("oauth"), URLS) == BASE
    assert ACCESS.base_url(account("oauth"), {"ZENDESK_URL": "http://127.0.0.1:8001/zendesk/"}) == "http://127.0.0.1:8001/zendesk"


@pytest.mark.parametrize(
    "subdomain", ["", "169.254.169.254/x#", "acme.evil", "Acme", "-acme", "acme-", "a" * 64, "acme\n", "ac{me", "äcme"]
)
def test_what_is_no_bare_label_never_becomes_an_address(subdomain: str) -> None:
    with pytest.raises(Misconfigured, match="subdomain"):
        ACCESS.base_url(account("oauth", subdomain=subdomain), URLS)


def test_headers_prove_who_we_are() -> None:
    assert ACCESS.headers(account("client_credentials"), {"client_secret": "s"}) == {}
    assert ACCESS.headers(account("oauth"), {"access_token": "t"}) == {"Authorization": "Bearer t"}
    basic = base64.b64encode(b"ops@example.com/token:k").decode()
    assert ACCESS.headers(account("api_token", email="ops@example.com"), {"api_token": "k"}) == {"Authorization": f"Basic {basic}"}


def test_a_missing_api_token_says_so() -> None:
    with pytest.raises(Misconfigured, match="api_token"):
        ACCESS.headers(account("api_token", email="ops@example.com"), {})


def test_client_credentials_ask_for_a_long_token() -> None:
    found = ACCESS.token_call(account("client_credentials", client_id="c"), {"client_secret": "s"}, URLS)
    body = {"grant_type": "client_credentials", "client_id": "c", "client_secret": "s", "scope": "read write", "expires_in": 172_000}
    assert found == TokenCall(f"{BASE}/oauth/tokens", json=body)


def test_a_refresh_keeps_the_scope_and_asks_for_long_tokens() -> None:
    found = ACCESS.token_call(account("oauth", client_id="c", scope="read"), {"client_secret": "s", "refresh_token": "r"}, URLS)
    body = {
        "grant_type": "refresh_token",
        "refresh_token": "r",
        "client_id": "c",
        "client_secret": "s",
        "expires_in": 172_000,
        "refresh_token_expires_in": 7_700_000,
    }
    assert found == TokenCall(f"{BASE}/oauth/tokens", json=body)


def test_a_public_client_refreshes_without_a_secret() -> None:
    found = ACCESS.token_call(account("oauth", client_id="c"), {"refresh_token": "r"}, URLS)
    assert found is not None and found.json is not None and "client_secret" not in found.json


def test_without_a_person_there_is_no_new_token() -> None:
    assert ACCESS.token_call(account("oauth", client_id="c"), {"client_secret": "s"}, URLS) is None
    assert ACCESS.token_call(account("api_token", email="a@b.co"), {"api_token": "k"}, URLS) is None
