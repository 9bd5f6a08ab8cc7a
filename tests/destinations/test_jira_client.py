"""The Jira client: every known refusal, answers that are none, pages, and the ways in."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
import responses

from integrations.core.errors import ConnectorError, Disconnected, Misconfigured, Missing, Rejected, Transient
from integrations.core.ports import Account, TokenCall
from integrations.destinations.jira import adapter
from integrations.destinations.jira.adapter import ACCESS, SYSTEM
from integrations.destinations.jira.client import JiraClient
from integrations.destinations.jira.refusals import CASES, RefusedError, refusal, unauthorized
from integrations.http import Answer, ApiClient
from integrations.registry import DESTINATIONS

BASE = "https://acme.atlassian.net"
REST = f"{BASE}/rest/api/3"
URLS = {
    "JIRA_SITE_URL": "https://{site}.atlassian.net",
    "JIRA_API_URL": "https://api.atlassian.com/ex/jira/{cloud_id}",
    "ATLASSIAN_AUTH_URL": "https://auth.atlassian.com/",
}
REASON = "RateLimit-Reason"


class Fixed:
    """Credentials that count how often somebody wants others."""

    def __init__(self) -> None:
        self.renewals = 0

    def headers(self) -> dict[str, str]:
        return {"Authorization": "Basic canary"}

    def renew(self, stale: dict[str, str]) -> bool:
        self.renewals += 1
        return False


@pytest.fixture
def net() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


def client(auth: Fixed | None = None) -> JiraClient:
    return JiraClient(ApiClient(BASE, auth or Fixed(), requests.Session(), unauthorized=unauthorized))


def said(text: str) -> dict[str, Any]:
    return {"errorMessages": [text], "errors": {}}


Row = tuple[int, Any, dict[str, str], type[ConnectorError], str, str]
REFUSALS: list[Row] = [
    (401, {"code": 401, "message": "Unauthorized; scope does not match"}, {}, Disconnected, "scope", ""),
    (401, {"code": 401, "message": "Unauthorized"}, {}, Disconnected, "unauthorized", ""),
    (403, "", {"x-authentication-denied-reason": "CAPTCHA_CHALLENGE; login-url=https://x"}, Disconnected, "captcha", ""),
    (403, said("You do not have permission"), {}, Rejected, "forbidden", ""),
    (404, said("Issue does not exist or you do not have permission to see it."), {}, Missing, "missing", ""),
    (408, "", {}, Transient, "timeout", ""),
    (409, said("conflicting update"), {}, Transient, "conflict", ""),
    (410, said("The requested API has been removed."), {}, Rejected, "removed", ""),
    (413, said("The issue has reached its limit of worklogs."), {}, Rejected, "issue_full", ""),
    (422, said("workflow"), {}, Rejected, "workflow", ""),
    (429, said("Rate limit exceeded."), {REASON: "jira-per-issue-on-write"}, Transient, "issue_rate", "object"),
    (429, "", {REASON: "jira-quota-tenant-based"}, Transient, "quota", "connection"),
    (429, "", {REASON: "jira-burst-based"}, Transient, "burst", "connection"),
    (429, "", {}, Transient, "rate", ""),
]
UNKNOWN: list[Row] = [
    (402, said("Payment required"), {}, Rejected, "rejected", ""),
    (429, "", {REASON: "jira-cost-based"}, Transient, "rate", ""),
    (302, "", {"Location": "https://elsewhere.example/"}, Transient, "unavailable", ""),
    (500, "<html>Oops</html>", {}, Transient, "unavailable", ""),
    (503, said("down"), {}, Transient, "unavailable", ""),
]


def answer(status: int, body: Any, headers: dict[str, str]) -> Answer:
    data = body if isinstance(body, dict) else None
    return Answer(status, data, "" if data else body, requests.structures.CaseInsensitiveDict(headers))


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refusal_that_is_cut_on_its_way_passes(status: int) -> None:
    error = refusal("POST", "/rest/api/3/issue", Answer(status, None, '{"errorMessages": [], "err'))
    assert (type(error), error.code, str(error)) == (Transient, "cut_short", f"POST /rest/api/3/issue: {status} in a body cut short")


@pytest.mark.parametrize(("status", "body", "headers", "error", "code", "scope"), REFUSALS + UNKNOWN)
def test_refusals_are_told_apart(
    status: int, body: Any, headers: dict[str, str], error: type[ConnectorError], code: str, scope: str
) -> None:
    found = refusal("POST", "/issue", answer(status, body, headers))
    assert (type(found), found.code, getattr(found, "scope", "")) == (error, code, scope)


def test_every_row_of_the_table_has_its_test() -> None:
    assert [(case.status, case.error, case.code, case.scope) for case in CASES] == [(row[0], *row[3:]) for row in REFUSALS]


def test_messages_hold_our_words_and_the_vendors_travel_apart(net: responses.RequestsMock) -> None:
    body = {"errorMessages": ["Ann Lee did it."], "errors": {"summary": "Blue Ltd is wrong."}}
    net.post(f"{REST}/issue", status=400, json=body)
    with pytest.raises(RefusedError) as caught:
        client().create_issue({})
    assert (str(caught.value), caught.value.code) == ("POST /rest/api/3/issue: 400", "refused")
    assert (caught.value.words, caught.value.fields) == ("Ann Lee did it.; summary: Blue Ltd is wrong.", {"summary": "Blue Ltd is wrong."})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"message": "a"}, "a"),
        ({"errorMessage": "b"}, "b"),
        ({"errorMessages": None, "errors": []}, ""),
        ({}, ""),
        ("<p>c</p>", "<p>c</p>"),
    ],
)
def test_all_shapes_of_an_error_are_read(body: Any, words: str) -> None:
    assert (
        refusal("GET", "/x", Answer(400, body if isinstance(body, dict) else None, "" if isinstance(body, dict) else body, {})).words
        == words
    )


def waited(headers: dict[str, str]) -> timedelta | None:
    found = refusal("PUT", "/issue/1", answer(429, "", headers))
    assert isinstance(found, Transient)
    return found.not_before - datetime.now(UTC) if found.not_before else None


def test_a_wait_is_what_the_vendor_says_it_is() -> None:
    soon = [
        (waited({REASON: "jira-per-issue-on-write", "Retry-After": "30"}), 30),
        (waited({REASON: "jira-per-issue-on-write"}), 2),
        (waited({REASON: "jira-burst-based"}), 5),
        (waited({"Retry-After": "7"}), 7),
    ]
    assert all(wait is not None and seconds - 1 < wait.total_seconds() <= seconds for wait, seconds in soon)
    assert waited({}) is None


@pytest.mark.parametrize("seconds", [True, False], ids=["with seconds", "without"])
def test_a_used_up_quota_waits_for_the_reset(seconds: bool) -> None:
    reset = (datetime.now(UTC) + timedelta(minutes=90)).replace(second=0, microsecond=0)
    text = reset.strftime("%Y-%m-%dT%H:%M:%SZ" if seconds else "%Y-%m-%dT%H:%MZ")
    found = refusal("GET", "/field", answer(429, "", {REASON: "jira-quota-global-based", "X-RateLimit-Reset": text}))
    assert isinstance(found, Transient)
    assert found.not_before == reset


@pytest.mark.parametrize("reset", ["", "soon", "2020-01-01T00:00Z", "2999-01-01T00:00Z"])
def test_a_reset_that_cannot_be_means_the_next_full_hour(reset: str) -> None:
    found = refusal("GET", "/field", answer(429, "", {REASON: "jira-quota-global-based", "X-RateLimit-Reset": reset}))
    assert isinstance(found, Transient)
    assert found.not_before is not None
    assert (found.not_before.minute, found.not_before.second, found.not_before.microsecond) == (0, 0, 0)
    assert timedelta() < found.not_before - datetime.now(UTC) <= timedelta(hours=1)


@pytest.mark.parametrize(("body", "renewals"), [({"message": "Unauthorized"}, 1), ({"message": "Unauthorized; scope does not match"}, 0)])
def test_a_missing_scope_is_no_reason_to_renew(net: responses.RequestsMock, body: dict[str, str], renewals: int) -> None:
    net.get(f"{REST}/myself", status=401, json=body)
    auth = Fixed()
    with pytest.raises(Disconnected):
        client(auth).myself()
    assert auth.renewals == renewals


@pytest.mark.parametrize("body", ["<html>Down for maintenance</html>", '{"id": "100', "[]", ""], ids=["html", "cut", "list", "empty"])
def test_a_success_without_what_was_asked_for_says_nothing(net: responses.RequestsMock, body: str) -> None:
    net.post(f"{REST}/issue", status=201, body=body)
    with pytest.raises(Transient):
        client().create_issue({})


def test_a_created_issue_without_an_id_is_uncertain(net: responses.RequestsMock) -> None:
    net.post(f"{REST}/issue", status=201, json={"key": "BILL-1"})
    with pytest.raises(Transient):
        client().create_issue({})


def test_worklogs_are_read_to_the_last_page(net: responses.RequestsMock) -> None:
    for start, ids in ((0, ["1", "2"]), (2, ["3"])):
        query = {"expand": "properties", "maxResults": 1000, "startAt": start}
        page = {"startAt": start, "total": 3, "worklogs": [{"id": number} for number in ids]}
        net.get(f"{REST}/issue/10001/worklog", json=page, match=[responses.matchers.query_param_matcher(query)])
    assert client().worklogs("10001") == [{"id": "1"}, {"id": "2"}, {"id": "3"}]


def test_a_search_goes_on_after_an_empty_page(net: responses.RequestsMock) -> None:
    net.post(f"{REST}/search/jql", json={"issues": [], "isLast": False, "nextPageToken": "t"})
    net.post(f"{REST}/search/jql", json={"issues": [{"id": "1"}], "isLast": True})
    assert list(client().search("project = BILL", fields=["labels"], properties=[], size=5)) == [{"id": "1"}]


def test_what_goes_into_a_path_stays_one_segment(net: responses.RequestsMock) -> None:
    net.get(f"{REST}/project/A%2F..%2Fx/statuses", json=[])
    assert client().project_statuses("A/../x") == []


def test_a_comment_is_changed_and_deleted_by_its_id(net: responses.RequestsMock) -> None:
    net.put(f"{REST}/issue/10001/comment/10002", json={"id": "10002"}, match=[responses.matchers.json_params_matcher({"body": {}})])
    net.delete(f"{REST}/issue/10001/comment/10002", status=204)
    client().edit_comment("10001", "10002", {"body": {}})
    client().delete_comment("10001", "10002")


# --- Ways in

TOKEN = Account("j", "jira", "api_token", {"site": "acme", "email": "ops@example.com"})
OAUTH = Account("j", "jira", "oauth", {"cloud_id": "11111111-2222-4333-8444-555555555555", "client_id": "app"})


def test_an_api_token_calls_the_site_with_basic() -> None:
    assert ACCESS.base_url(TOKEN, URLS) == "https://acme.atlassian.net"
    basic = base64.b64encode(b"ops@example.com:canary").decode()
    assert ACCESS.headers(TOKEN, {"api_token": "canary"}) == {"Authorization": f"Basic {basic}"}
    assert ACCESS.token_call(TOKEN, {"api_token": "canary", "refresh_token": "x"}, URLS) is None


def test_oauth_calls_the_gateway_with_bearer_and_renews_with_json() -> None:
    assert ACCESS.base_url(OAUTH, URLS) == "https://api.atlassian.com/ex/jira/11111111-2222-4333-8444-555555555555"
    assert ACCESS.headers(OAUTH, {"access_token": "canary"}) == {"Authorization": "Bearer canary"}
    grant = {"grant_type": "refresh_token", "client_id": "app", "client_secret": "s", "refresh_token": "r"}
    expected = TokenCall("https://auth.atlassian.com/oauth/token", json=grant)
    assert ACCESS.token_call(OAUTH, {"client_secret": "s", "refresh_token": "r"}, URLS) == expected


def test_without_a_refresh_token_there_is_no_way_to_a_new_one() -> None:
    assert ACCESS.token_call(OAUTH, {"client_secret": "s"}, URLS) is None


@pytest.mark.parametrize("value", ["", "acme.evil.example", "acme/", "ACME", "a@b", "-acme", "acme\n", "a" * 64, "acme?x"])
@pytest.mark.parametrize(("account", "name"), [(TOKEN, "site"), (OAUTH, "cloud_id")])
def test_only_a_bare_name_gets_into_the_address(account: Account, name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=name):
        ACCESS.base_url(Account("j", "jira", account.auth, {name: value}), URLS)


@pytest.mark.parametrize(("account", "name"), [(TOKEN, "api_token"), (OAUTH, "access_token")])
def test_a_missing_secret_is_named(account: Account, name: str) -> None:
    with pytest.raises(Misconfigured, match=name):
        ACCESS.headers(account, {})


def test_the_registry_knows_what_this_folder_offers() -> None:
    entry = DESTINATIONS["jira"]
    assert (entry.system, entry.access, entry.unauthorized, entry.build) == (SYSTEM, ACCESS, unauthorized, adapter.JiraDestination)
