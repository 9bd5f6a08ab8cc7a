"""The Jira stand-in over real HTTP: what it does, what it refuses, and whether its shapes fit the vendor's contract."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from openapi_schema_validator import OAS30Validator

from integrations.sandbox.jira import SCOPES, Jira
from integrations.sandbox.jira_adf import REFUSAL, shown
from integrations.sandbox.server import serving

CONTRACT = Path(__file__).parents[3] / "shared" / "contracts" / "jira-cloud-v3.json"
TYPES = "com.atlassian.jira.plugin.system.customfieldtypes:"
NOT_ON_SCREEN = "Field '{0}' cannot be set. It is not on the appropriate screen, or unknown."


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Client:
    """A caller of the stand-in under test."""

    root: str
    auth: tuple[str, str] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    base: str = "/jira/rest/api/3"

    def __call__(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        url = f"{self.root}{self.base}{path}"
        return requests.request(method, url, json=body, params=query, auth=self.auth, headers=self.headers, timeout=5)

    def create(self, **fields: Any) -> dict[str, Any]:
        answer = self("POST", "/issue", {"fields": {"project": {"key": "BILL"}, "issuetype": {"name": "Task"}, "summary": "S"} | fields})
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def search(self, jql: str, **more: Any) -> requests.Response:
        return self("POST", "/search/jql", {"jql": jql, "fields": ["key"]} | more)

    def keys(self, jql: str) -> list[str]:
        return [issue["key"] for issue in self.search(jql).json()["issues"]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jira(clock: Clock) -> Jira:
    return Jira(clock)


@pytest.fixture
def root(jira: Jira) -> Iterator[str]:
    with serving({"jira": jira}) as url:
        yield url


@pytest.fixture
def call(root: str, jira: Jira) -> Client:
    return Client(root, (jira.email, jira.api_token))


@pytest.fixture
def oauth(root: str, jira: Jira) -> Client:
    return bearer(root, jira, jira.grant()["access_token"])


def bearer(root: str, jira: Jira, token: str) -> Client:
    return Client(root, headers={"Authorization": f"Bearer {token}"}, base=f"/jira/ex/{jira.cloud_id}/rest/api/3")


def adf(text: str) -> dict[str, Any]:
    return {"type": "doc", "version": 1, "content": [{"type": "paragraph", "content": [{"type": "text", "text": text}]}]}


def refusal(answer: requests.Response) -> tuple[int, dict[str, str]]:
    return answer.status_code, answer.json()["errors"]


# Credentials


def test_myself_names_the_caller_of_a_right_api_token(call: Client, jira: Jira) -> None:
    answer = call("GET", "/myself")
    assert (answer.status_code, answer.json()["accountId"], answer.json()["emailAddress"]) == (200, jira.account_id, "ops@example.com")


@pytest.mark.parametrize("auth", [("ops@example.com", "wrong"), ("other@example.com", "jira-api-token")])
def test_a_wrong_api_token_is_a_401_without_json(root: str, auth: tuple[str, str]) -> None:
    answer = Client(root, auth)("GET", "/myself")
    assert (answer.status_code, answer.headers["Content-Type"]) == (401, "text/html; charset=utf-8")


def test_anonymous_reads_are_empty_but_myself_is_401(root: str, call: Client) -> None:
    call.create(labels=["wave"])
    nobody = Client(root)
    assert nobody.search("project = BILL").json() == {"issues": [], "isLast": True}
    assert nobody("GET", "/project/search").json() == {"startAt": 0, "maxResults": 50, "total": 0, "isLast": True, "values": []}
    assert [nobody("GET", "/myself").status_code, nobody("POST", "/issue", {}).status_code] == [401, 401]


def test_a_bearer_token_works_at_the_gateway_only(root: str, jira: Jira, oauth: Client) -> None:
    assert oauth("GET", "/myself").status_code == 200
    assert Client(root, headers=oauth.headers)("GET", "/myself").status_code == 401
    assert Client(root, headers=oauth.headers, base="/jira/ex/other/rest/api/3")("GET", "/myself").status_code == 404
    assert Client(root, (jira.email, jira.api_token), base=oauth.base)("GET", "/myself").status_code == 401


def test_a_missing_scope_has_its_own_401(root: str, jira: Jira) -> None:
    token = jira.grant(["read:jira-work"])["access_token"]
    answer = bearer(root, jira, token)("POST", "/issue", {})
    assert (answer.status_code, answer.json()) == (401, {"code": 401, "message": "Unauthorized; scope does not match"})


def test_access_ends_after_an_hour(jira: Jira, clock: Clock, oauth: Client) -> None:
    clock.move(minutes=59)
    assert oauth("GET", "/myself").status_code == 200
    clock.move(minutes=1)
    answer = oauth("GET", "/myself")
    assert (answer.status_code, answer.json()) == (401, {"code": 401, "message": "Unauthorized"})


def token(root: str, **body: str) -> requests.Response:
    return requests.post(
        f"{root}/jira/auth/oauth/token", json={"client_id": "jira-client", "client_secret": "jira-secret"} | body, timeout=5
    )


def consent(root: str, **chosen: str) -> dict[str, list[str]]:
    """Approve on the page, and return what the browser brings back."""
    query = {
        "audience": "api.atlassian.com",
        "client_id": "jira-client",
        "scope": " ".join(SCOPES),
        "redirect_uri": "http://127.0.0.1/back",
        "state": "s",
        "response_type": "code",
        "prompt": "consent",
    }
    answer = requests.post(
        f"{root}/jira/auth/authorize", params=query, data={"answer": "approve", **chosen}, allow_redirects=False, timeout=5
    )
    assert answer.status_code == 302
    return parse_qs(urlsplit(answer.headers["Location"]).query)


def test_a_consent_leads_to_tokens_and_to_the_site(root: str, jira: Jira) -> None:
    back = consent(root)
    assert back["state"] == ["s"]
    grant = token(root, grant_type="authorization_code", code=back["code"][0], redirect_uri="http://127.0.0.1/back").json()
    assert (grant["expires_in"], grant["token_type"], grant["scope"]) == (3600, "Bearer", " ".join(sorted(SCOPES)))
    sites = requests.get(
        f"{root}/jira/api/oauth/token/accessible-resources", headers={"Authorization": f"Bearer {grant['access_token']}"}, timeout=5
    ).json()
    scopes = sorted(set(SCOPES) - {"offline_access"})
    avatar = "https://acme.atlassian.net/avatar.png"
    assert sites == [{"id": jira.cloud_id, "url": "https://acme.atlassian.net", "name": "acme", "scopes": scopes, "avatarUrl": avatar}]


def test_a_code_works_once_and_with_its_own_redirect_uri_only(root: str) -> None:
    code = consent(root)["code"][0]
    assert token(root, grant_type="authorization_code", code=code, redirect_uri="http://127.0.0.1/other").status_code == 403
    assert token(root, grant_type="authorization_code", code=code, redirect_uri="http://127.0.0.1/back").status_code == 403


def test_a_replaced_refresh_token_works_ten_minutes_and_then_ends_the_family(root: str, jira: Jira, clock: Clock) -> None:
    first = jira.grant()["refresh_token"]
    second = token(root, grant_type="refresh_token", refresh_token=first).json()["refresh_token"]
    assert second != first
    clock.move(minutes=9)
    assert token(root, grant_type="refresh_token", refresh_token=first).status_code == 200
    clock.move(minutes=9)
    late = token(root, grant_type="refresh_token", refresh_token=first)
    gone = {"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."}
    assert (late.status_code, late.json()) == (403, gone)
    assert token(root, grant_type="refresh_token", refresh_token=second).status_code == 403


def test_an_answer_without_refresh_token_leaves_the_old_one_alive(root: str, jira: Jira, clock: Clock) -> None:
    old = jira.grant()["refresh_token"]
    jira.omit_refresh_token = True
    assert "refresh_token" not in token(root, grant_type="refresh_token", refresh_token=old).json()
    clock.move(hours=1)
    assert token(root, grant_type="refresh_token", refresh_token=old).status_code == 200


def test_a_wrong_secret_and_a_revoked_grant_have_different_errors(root: str, jira: Jira) -> None:
    refresh = jira.grant()["refresh_token"]
    assert token(root, grant_type="refresh_token", refresh_token=refresh, client_secret="x").json()["error"] == "access_denied"
    jira.grants.revoke()
    assert token(root, grant_type="refresh_token", refresh_token=refresh).json()["error"] == "invalid_grant"


# Issues


def test_a_created_issue_can_be_read_at_once_by_id_and_key_in_any_case(call: Client, jira: Jira) -> None:
    fields = {"description": adf("d"), "labels": ["wave", "wave-inv-1"], "duedate": "2026-04-01"}
    created = call.create(**fields)
    assert created == {"id": created["id"], "key": "BILL-1", "self": f"https://acme.atlassian.net/rest/api/3/issue/{created['id']}"}
    for name in (created["id"], "BILL-1", "bill-1"):
        read = call("GET", f"/issue/{name}", fields="summary,description,labels,duedate").json()
        kept = {"summary": "S", **fields, "description": shown(fields["description"])}
        assert (read["id"], read["key"], read["fields"]) == (created["id"], "BILL-1", kept)
    assert jira.state()["issues"]["BILL-1"] == {
        "id": created["id"],
        "type": "Task",
        "status": "To Do",
        "summary": "S",
        "labels": ["wave", "wave-inv-1"],
        "duedate": "2026-04-01",
        "description": adf("d"),
        "fields": {},
        "properties": {},
        "worklogs": [],
        "comments": [],
        "links": [],
    }


TEXT = {"type": "text", "text": "x"}
CELL = {"type": "tableCell", "content": [{"type": "paragraph", "content": [TEXT]}]}
TABLE = {"type": "table", "content": [{"type": "tableRow", "content": [CELL]}]}
LINK = {"type": "text", "text": "x", "marks": [{"type": "link", "attrs": {"href": "https://example.com"}}]}


def doc(*content: Any) -> dict[str, Any]:
    return {"type": "doc", "version": 1, "content": list(content)}


@pytest.mark.parametrize("good", [doc(), doc({"type": "paragraph"}), doc(TABLE), doc({"type": "paragraph", "content": [LINK]})])
def test_well_formed_documents_are_taken(call: Client, good: Any) -> None:
    call.create(description=good)


@pytest.mark.parametrize(
    "bad",
    [
        "plain text",
        {"type": "doc", "content": []},
        {"type": "doc", "version": 1},
        doc(TEXT),
        doc({"type": "paragraph", "content": [{"type": "text", "text": ""}]}),
        doc({"type": "paragraph", "content": [{"type": "text", "text": "x", "marks": [{"type": "link"}]}]}),
        doc({"type": "table", "content": [CELL]}),
        doc({"type": "table", "content": [{"type": "tableRow", "content": [{"type": "tableCell", "content": [TEXT]}]}]}),
        doc({"type": "table", "content": []}),
        doc({"type": "marquee"}),
    ],
)
def test_malformed_documents_are_refused_wherever_one_is_due(call: Client, jira: Jira, bad: Any) -> None:
    area = jira.add_field("Notes", "textarea")
    call.create()
    edits = {name: refusal(call("PUT", "/issue/BILL-1", {"fields": {name: bad}})) for name in ("description", "environment", area)}
    assert edits == {name: (400, {name: REFUSAL}) for name in ("description", "environment", area)}
    assert refusal(call("POST", "/issue/BILL-1/comment", {"body": bad})) == (400, {"comment": REFUSAL})
    assert refusal(call("POST", "/issue/BILL-1/worklog", {"timeSpentSeconds": 60, "comment": bad})) == (400, {"comment": REFUSAL})
    issue = jira.state()["issues"]["BILL-1"]
    assert (issue["description"], issue["comments"], issue["worklogs"]) == (None, [], [])


REFUSED_FIELDS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"summary": None}, {"summary": "You must specify a summary of the issue."}),
    ({"summary": "x" * 256}, {"summary": "Summary can't exceed 255 characters."}),
    ({"summary": "a\nb"}, {"summary": "The summary is invalid because it contains newline characters."}),
    ({"labels": ["a b"]}, {"labels": "The label 'a b' contains spaces which is invalid."}),
    ({"labels": "a"}, {"labels": "Operation value must be an array of strings"}),
    ({"duedate": "01/04/2026"}, {"duedate": "Error parsing date string: 01/04/2026"}),
    ({"duedate": "2026-02-30"}, {"duedate": "Error parsing date string: 2026-02-30"}),
    ({"project": {"key": "NOPE"}}, {"project": "Specify a valid project ID or key"}),
    ({"issuetype": {"name": "Epic"}}, {"issuetype": "Specify a valid issue type"}),
    ({"status": {"name": "Done"}}, {"status": NOT_ON_SCREEN.format("status")}),
    ({"customfield_1": "x"}, {"customfield_1": NOT_ON_SCREEN.format("customfield_1")}),
]


@pytest.mark.parametrize(("fields", "errors"), REFUSED_FIELDS)
def test_create_names_the_field_at_fault_and_creates_nothing(
    call: Client, jira: Jira, fields: dict[str, Any], errors: dict[str, str]
) -> None:
    body = {"fields": {"project": {"key": "BILL"}, "issuetype": {"name": "Task"}, "summary": "S"} | fields}
    assert refusal(call("POST", "/issue", body)) == (400, errors)
    assert jira.state()["issues"] == {}


@pytest.mark.parametrize(
    ("kind", "good", "bad", "error"),
    [
        ("textfield", "x", 5, "Operation value must be a string"),
        ("textfield", "x" * 255, "x" * 256, "The entered text is too long. It exceeds the allowed limit of 255 characters."),
        ("float", 12.5, "12.5", "Operation value must be a number"),
        ("float", 0, True, "Operation value must be a number"),
        ("datepicker", "2026-01-31", "2026-01-31T00:00:00Z", "Error parsing date string: 2026-01-31T00:00:00Z"),
        ("url", "https://example.com/1", "example", "Please specify a valid URL."),
        ("labels", ["a"], ["a b"], "The label 'a b' contains spaces which is invalid."),
        ("select", {"value": "Open"}, {"value": "Shut"}, "Option value 'Shut' is not valid"),
    ],
)
def test_custom_fields_take_their_own_type_only(call: Client, jira: Jira, kind: str, good: Any, bad: Any, error: str) -> None:
    name = jira.add_field("Wave", kind, options=["Open"] if kind == "select" else [])
    call.create(**{name: good})
    read = call("GET", "/issue/BILL-1", fields=name).json()["fields"][name]
    assert read == ({"value": "Open", "id": "1"} if kind == "select" else good)
    assert refusal(call("PUT", "/issue/BILL-1", {"fields": {name: bad}})) == (400, {name: error})
    assert call("PUT", "/issue/BILL-1", {"fields": {name: None}}).status_code == 204
    assert jira.state()["issues"]["BILL-1"]["fields"] == {}


def test_a_field_off_the_projects_screen_cannot_be_set(call: Client, jira: Jira) -> None:
    jira.add_project("OWN", "Own screen", own_screen=True)
    name = jira.add_field("Wave", "textfield", on_screen=False)
    call("POST", f"/screens/addToDefault/{name}")
    call.create(**{name: "x"})
    body = {"fields": {"project": {"key": "OWN"}, "issuetype": {"name": "Task"}, "summary": "S", name: "x"}}
    assert refusal(call("POST", "/issue", body)) == (400, {name: NOT_ON_SCREEN.format(name)})


def test_a_required_custom_field_must_be_given(call: Client, jira: Jira) -> None:
    name = jira.add_field("Cost centre", "textfield", required=True)
    body = {"fields": {"project": {"key": "BILL"}, "issuetype": {"name": "Task"}, "summary": "S"}}
    assert refusal(call("POST", "/issue", body)) == (400, {name: "Cost centre is required."})


def test_a_field_may_be_in_fields_or_in_update_but_not_in_both(call: Client, jira: Jira) -> None:
    call.create(labels=["a"])
    both = call("PUT", "/issue/BILL-1", {"fields": {"labels": ["b"]}, "update": {"labels": [{"add": "c"}]}})
    assert refusal(both) == (400, {"labels": "Field 'labels' may be in 'fields' or in 'update', not in both."})
    assert call("PUT", "/issue/BILL-1", {"update": {"labels": [{"add": "c"}, {"remove": "a"}]}}).status_code == 204
    assert jira.state()["issues"]["BILL-1"]["labels"] == ["c"]


def test_an_edit_with_one_bad_field_changes_nothing(call: Client, jira: Jira) -> None:
    call.create()
    before = jira.state()
    assert call("PUT", "/issue/BILL-1", {"fields": {"summary": "new", "customfield_9": 1}}).status_code == 400
    assert jira.state() == before


def test_a_transition_in_an_edit_is_ignored(call: Client, jira: Jira) -> None:
    call.create()
    edge = call("GET", "/issue/BILL-1/transitions").json()["transitions"][0]["id"]
    answer = call("PUT", "/issue/BILL-1", {"fields": {"summary": "new"}, "transition": {"id": edge}}, returnIssue="true")
    assert (answer.status_code, answer.json()["fields"]["summary"]) == (200, "new")
    assert jira.state()["issues"]["BILL-1"]["status"] == "To Do"


def test_a_moved_issue_is_found_by_its_old_key_and_answers_the_new_one(call: Client, jira: Jira) -> None:
    jira.add_project("NEW", "New home")
    number = call.create()["id"]
    assert jira.rekey_issue("BILL-1", "NEW") == "NEW-1"
    assert [call("GET", f"/issue/{name}").json()["key"] for name in ("BILL-1", number)] == ["NEW-1", "NEW-1"]
    assert call.create()["key"] == "BILL-2"


def test_a_deleted_issue_is_404_and_its_key_is_not_used_again(call: Client) -> None:
    call.create()
    assert call("DELETE", "/issue/BILL-1").status_code == 204
    gone = call("GET", "/issue/BILL-1")
    assert (gone.status_code, gone.json()["errorMessages"]) == (404, ["Issue does not exist or you do not have permission to see it."])
    assert call.create()["key"] == "BILL-2"


def test_bulk_create_is_201_if_any_succeeded_and_400_when_all_failed(call: Client) -> None:
    good = {"fields": {"project": {"key": "BILL"}, "issuetype": {"name": "Task"}, "summary": "S"}}
    bad = {"fields": {"project": {"key": "BILL"}, "issuetype": {"name": "Task"}}}
    errors = {"errorMessages": [], "errors": {"summary": "You must specify a summary of the issue."}}
    some, none = call("POST", "/issue/bulk", {"issueUpdates": [bad, good]}), call("POST", "/issue/bulk", {"issueUpdates": [bad]})
    assert (some.status_code, [issue["key"] for issue in some.json()["issues"]]) == (201, ["BILL-1"])
    assert some.json()["errors"] == [{"status": 400, "elementErrors": errors, "failedElementNumber": 0}]
    assert (none.status_code, none.json()["issues"]) == (400, [])
    assert call("POST", "/issue/bulk", {"issueUpdates": [good] * 51}).status_code == 400


def test_a_bulk_fetch_leaves_unknown_issues_out_and_reports_those_it_fails_to_show(call: Client, jira: Jira) -> None:
    ids = [call.create()["id"] for _ in range(3)]
    jira.unfetchable.add(ids[1])
    answer = call("POST", "/issue/bulkfetch", {"issueIdsOrKeys": [ids[2], ids[1], "BILL-1", "BILL-7"], "fields": ["summary"]}).json()
    assert [(issue["key"], issue["fields"]) for issue in answer["issues"]] == [("BILL-1", {"summary": "S"}), ("BILL-3", {"summary": "S"})]
    assert [error["id"] for error in answer["issueErrors"]] == [ids[1]]
    assert call("POST", "/issue/bulkfetch", {"issueIdsOrKeys": ids[:1] * 101}).status_code == 400
    assert call("POST", "/issue/bulkfetch", {"issueIdsOrKeys": ids, "properties": list("abcdef")}).status_code == 400


def test_properties_can_come_with_the_create_and_be_replaced(call: Client, jira: Jira) -> None:
    body = {
        "fields": {"project": {"key": "BILL"}, "issuetype": {"name": "Task"}, "summary": "S"},
        "properties": [{"key": "wave.invoice", "value": {"id": "1"}}],
    }
    call("POST", "/issue", body)
    path = "/issue/BILL-1/properties/wave.invoice"
    assert call("GET", path).json() == {"key": "wave.invoice", "value": {"id": "1"}}
    assert call("PUT", path, {"id": "2"}).status_code == 200
    assert call("PUT", "/issue/BILL-1/properties/new", ["x"]).status_code == 201
    assert call("PUT", "/issue/BILL-1/properties/long", "x" * 32_768).status_code == 400
    assert call("DELETE", path).status_code == 204
    assert call("GET", path).status_code == 404
    assert jira.state()["issues"]["BILL-1"]["properties"] == {"new": ["x"]}


def test_a_remote_link_is_replaced_as_a_whole_by_its_global_id(call: Client, jira: Jira) -> None:
    call.create()
    first = {"globalId": "wave:1", "relationship": "bills", "object": {"url": "https://example.com/1", "title": "One"}}
    second = {"globalId": "wave:1", "object": {"url": "https://example.com/2", "title": "Two"}}
    created, updated = call("POST", "/issue/BILL-1/remotelink", first), call("POST", "/issue/BILL-1/remotelink", second)
    assert (created.status_code, updated.status_code) == (201, 200)
    assert created.json() == updated.json()
    stored = second | {"id": created.json()["id"], "application": None, "relationship": None}
    assert jira.state()["issues"]["BILL-1"]["links"] == [stored]
    assert call("POST", "/issue/BILL-1/remotelink", {"globalId": "x" * 256, "object": first["object"]}).status_code == 400
    assert call("POST", "/issue/BILL-1/remotelink", {"globalId": "y", "object": {"url": "https://example.com"}}).status_code == 400


def test_comments_are_listed_in_order(call: Client) -> None:
    call.create()
    for text in ("one", "two"):
        assert call("POST", "/issue/BILL-1/comment", {"body": adf(text)}).status_code == 201
    listed = call("GET", "/issue/BILL-1/comment").json()
    assert (listed["total"], [comment["body"] for comment in listed["comments"]]) == (2, [adf("one"), adf("two")])


def test_writes_to_one_issue_are_limited_in_two_seconds(call: Client, jira: Jira, clock: Clock) -> None:
    jira.writes_per_issue = 20
    call.create()
    call.create()
    assert {call("PUT", "/issue/BILL-1", {"fields": {}}).status_code for _ in range(20)} == {204}
    limited = call("POST", "/issue/BILL-1/comment", {"body": adf("x")})
    assert limited.status_code == 429
    assert (limited.headers["RateLimit-Reason"], limited.headers["Retry-After"]) == ("jira-per-issue-on-write", "2")
    assert call("PUT", "/issue/BILL-2", {"fields": {}}).status_code == 204
    clock.move(seconds=2)
    assert call("PUT", "/issue/BILL-1", {"fields": {}}).status_code == 204


def test_a_body_must_be_json_of_the_right_type(call: Client, root: str, jira: Jira) -> None:
    auth, url = (jira.email, jira.api_token), f"{root}/jira/rest/api/3/issue"
    form = requests.post(url, data={"a": "b"}, auth=auth, timeout=5)
    broken = requests.post(url, data="{", auth=auth, headers={"Content-Type": "application/json"}, timeout=5)
    assert (form.status_code, broken.status_code, call("POST", "/issue", []).status_code) == (415, 400, 400)


@pytest.mark.parametrize(
    ("permission", "method", "path", "body", "status"),
    [
        ("BROWSE_PROJECTS", "GET", "/issue/BILL-1", None, 404),
        ("BROWSE_PROJECTS", "GET", "/project/BILL", None, 404),
        ("CREATE_ISSUES", "POST", "/issue", {"fields": {"project": {"key": "BILL"}}}, 403),
        ("EDIT_ISSUES", "PUT", "/issue/BILL-1", {"fields": {}}, 403),
        ("DELETE_ISSUES", "DELETE", "/issue/BILL-1", None, 403),
        ("TRANSITION_ISSUES", "POST", "/issue/BILL-1/transitions", {"transition": {"id": "11"}}, 400),
        ("WORK_ON_ISSUES", "POST", "/issue/BILL-1/worklog", {"timeSpentSeconds": 60}, 400),
        ("LINK_ISSUES", "POST", "/issue/BILL-1/remotelink", {"object": {"url": "https://example.com", "title": "T"}}, 403),
        ("ADD_COMMENTS", "POST", "/issue/BILL-1/comment", {"body": adf("x")}, 400),
    ],
)
def test_a_missing_permission_refuses_its_call(
    call: Client, jira: Jira, permission: str, method: str, path: str, body: Any, status: int
) -> None:
    call.create()
    jira.permissions.discard(permission)
    answer = call("GET", "/mypermissions", permissions=f"{permission},ADMINISTER").json()["permissions"]
    assert {name: entry["havePermission"] for name, entry in answer.items()} == {permission: False, "ADMINISTER": True}
    assert call(method, path, body).status_code == status


# Transitions


def leaving(call: Client, key: str = "BILL-1") -> dict[str, str]:
    """Return the ids of the possible transitions by the status they lead to."""
    return {edge["to"]["name"]: edge["id"] for edge in call("GET", f"/issue/{key}/transitions").json()["transitions"]}


def test_done_is_reached_in_two_hops_only(call: Client, jira: Jira) -> None:
    call.create()
    assert list(leaving(call)) == ["In Progress"]
    assert call("POST", "/issue/BILL-1/transitions", {"transition": {"id": leaving(call)["In Progress"]}}).status_code == 204
    assert list(leaving(call)) == ["To Do", "Done"]
    assert call("POST", "/issue/BILL-1/transitions", {"transition": {"id": leaving(call)["Done"]}}).status_code == 204
    assert call("GET", "/issue/BILL-1", fields="status").json()["fields"]["status"]["statusCategory"]["key"] == "done"


def test_a_transition_that_does_not_leave_the_status_is_refused(call: Client, jira: Jira) -> None:
    call.create()
    jira.move_issue("BILL-1", "In Progress")
    done = leaving(call)["Done"]
    jira.move_issue("BILL-1", "To Do")
    wrong, word = (call("POST", "/issue/BILL-1/transitions", {"transition": {"id": number}}) for number in (done, "abc"))
    assert (wrong.status_code, wrong.json()["errorMessages"]) == (400, [f"Transition id '{done}' is not valid for this issue."])
    assert (word.status_code, word.json()["errorMessages"]) == (400, ["'transition' identifier must be an integer"])
    assert jira.state()["issues"]["BILL-1"]["status"] == "To Do"


def test_without_the_permission_the_list_of_transitions_is_empty(call: Client, jira: Jira) -> None:
    call.create()
    jira.permissions.discard("TRANSITION_ISSUES")
    answer = call("GET", "/issue/BILL-1/transitions")
    assert (answer.status_code, answer.json()["transitions"]) == (200, [])


def test_a_transition_screen_requires_its_fields_and_takes_no_others(call: Client, jira: Jira) -> None:
    jira.add_project("SCR", "Screens", statuses=["Open", "Shut"], edges={"Open": ["Shut"]}, transition_fields={"Shut": ["resolution"]})
    call.create(project={"key": "SCR"})
    (edge,) = call("GET", "/issue/SCR-1", expand="transitions.fields").json()["transitions"]
    assert (edge["hasScreen"], list(edge["fields"]), edge["fields"]["resolution"]["required"]) == (True, ["resolution"], True)
    go = {"transition": {"id": edge["id"]}}
    assert refusal(call("POST", "/issue/SCR-1/transitions", go)) == (400, {"resolution": "Resolution is required."})
    other = call("POST", "/issue/SCR-1/transitions", go | {"fields": {"resolution": {"name": "Done"}, "summary": "x"}})
    assert refusal(other) == (400, {"summary": NOT_ON_SCREEN.format("summary")})
    update = {"comment": [{"add": {"body": adf("shut")}}]}
    assert call("POST", "/issue/SCR-1/transitions", go | {"fields": {"resolution": {"name": "Done"}}, "update": update}).status_code == 204
    issue = jira.state()["issues"]["SCR-1"]
    assert (issue["status"], [comment["body"] for comment in issue["comments"]]) == ("Shut", [adf("shut")])


def test_a_create_with_a_wrong_transition_still_creates_the_issue(call: Client, jira: Jira) -> None:
    body = {"fields": {"project": {"key": "BILL"}, "issuetype": {"name": "Task"}, "summary": "S"}, "transition": {"id": "999"}}
    answer = call("POST", "/issue", body)
    assert (answer.status_code, answer.json()["transition"]["status"]) == (201, 400)
    assert jira.state()["issues"]["BILL-1"]["status"] == "To Do"


# Search


def test_a_new_or_changed_issue_is_found_after_the_lag_only(call: Client, jira: Jira, clock: Clock) -> None:
    jira.index_lag = 5
    number = call.create(labels=["wave"])["id"]
    assert call.keys("labels = wave") == []
    assert call.search("labels = wave", reconcileIssues=[int(number)]).json()["issues"][0]["key"] == "BILL-1"
    clock.move(seconds=5)
    assert call.keys("labels = wave") == ["BILL-1"]
    call("PUT", "/issue/BILL-1", {"fields": {"summary": "new"}})
    assert call.keys("labels = wave") == []


QUERIES = [
    ('project = BILL AND labels = "wave-1"', ["BILL-1"]),
    ("project = bill and labels = wave", ["BILL-2", "BILL-1"]),
    ("project = BILL AND labels = wave ORDER BY created ASC, key ASC", ["BILL-1", "BILL-2"]),
    ('labels IN ("wave-1", wave-2) ORDER BY key', ["BILL-1", "BILL-2"]),
    ("labels NOT IN (wave-1)", ["BILL-2"]),
    ("project = OTH", ["OTH-1"]),
    ("project = Billing AND issuetype = Story", ["BILL-2"]),
    ('status = "in progress"', ["BILL-2"]),
    ("labels IS EMPTY", ["OTH-1"]),
    ("NOT labels = wave-1 AND (project = BILL OR project = OTH) ORDER BY key DESC", ["OTH-1", "BILL-2"]),
    ("key = BILL-1 OR id = BILL-2 ORDER BY summary DESC", ["BILL-2", "BILL-1"]),
    ('summary ~ "alpha"', ["BILL-1"]),
    ("duedate >= 2026-02-01", ["BILL-2"]),
]


@pytest.mark.parametrize(("jql", "keys"), QUERIES)
def test_queries_find_the_right_issues_in_order(call: Client, jira: Jira, jql: str, keys: list[str]) -> None:
    jira.add_project("OTH", "Other")
    call.create(labels=["wave", "wave-1"], summary="alpha one", duedate="2026-01-01")
    call.create(labels=["wave", "wave-2"], summary="beta", issuetype={"name": "Story"}, duedate="2026-03-01")
    call.create(project={"key": "OTH"})
    jira.move_issue("BILL-2", "In Progress")
    assert call.keys(jql) == keys


@pytest.mark.parametrize(
    ("jql", "message"),
    [
        ("", "Unbounded JQL queries are not allowed here. Please add a search restriction to your query."),
        ("ORDER BY created", "Unbounded JQL queries are not allowed here. Please add a search restriction to your query."),
        ('"Wave key" = x', "The operator '=' is not supported by the 'Wave key' field."),
        ("summary = x", "The operator '=' is not supported by the 'summary' field."),
        ("project = NOPE", "The value 'NOPE' does not exist for the field 'project'."),
        ("nonsense = x", "Field 'nonsense' does not exist or you do not have permission to view it."),
        ("Hidden ~ x", "Field 'Hidden' does not exist or you do not have permission to view it."),
        ("project = BILL labels = x", "Error in the JQL Query: Expecting either 'OR' or 'AND' but got 'labels'."),
        (
            "project = BILL ORDER BY key, id, created, updated, status, due, type, summary",
            "The ORDER BY clause can contain at most 7 fields.",
        ),
    ],
)
def test_queries_that_jira_refuses_are_refused(call: Client, jira: Jira, jql: str, message: str) -> None:
    jira.add_field("Wave key", "textfield", searcher="textsearcher")
    jira.add_field("Hidden", "textfield")
    answer = call.search(jql)
    assert (answer.status_code, answer.json()["errorMessages"]) == (400, [message])


def test_a_custom_field_is_searched_by_its_number(call: Client, jira: Jira) -> None:
    amount = jira.add_field("Amount", "float", searcher="exactnumber")
    call.create(**{amount: 10})
    call.create(**{amount: 20.5})
    assert call.keys(f"cf[{amount.removeprefix('customfield_')}] > 10") == ["BILL-2"]


def test_search_results_hold_the_id_only_unless_fields_are_asked_for(call: Client) -> None:
    number = call.create(labels=["wave"])["id"]
    bare = call("POST", "/search/jql", {"jql": "project = BILL"}).json()
    assert bare == {"issues": [{"id": number}], "isLast": True}
    asked = call("GET", "/search/jql", jql="project = BILL", fields="summary,labels").json()["issues"]
    assert [issue["fields"] for issue in asked] == [{"summary": "S", "labels": ["wave"]}]


def test_pages_go_on_by_token_until_the_last_has_none(call: Client, jira: Jira) -> None:
    for _ in range(5):
        call.create()
    jira.page_limit = 2
    seen: list[list[str]] = []
    body: dict[str, Any] = {"jql": "project = BILL ORDER BY key", "fields": ["summary"], "maxResults": 50}
    while not seen or "nextPageToken" in body:
        answer = call("POST", "/search/jql", body).json()
        seen.append([issue["key"] for issue in answer["issues"]])
        body.pop("nextPageToken", None)
        assert answer["isLast"] == ("nextPageToken" not in answer)
        body |= {"nextPageToken": answer["nextPageToken"]} if "nextPageToken" in answer else {}
    assert seen == [["BILL-1", "BILL-2"], ["BILL-3", "BILL-4"], ["BILL-5"]]


def test_a_token_of_another_query_is_refused(call: Client, jira: Jira) -> None:
    call.create()
    call.create()
    next_page = call.search("project = BILL", maxResults=1).json()["nextPageToken"]
    assert call.search("project = BILL AND labels IS EMPTY", nextPageToken=next_page).status_code == 400
    assert call.search("project = BILL", nextPageToken="junk").status_code == 400


def test_the_removed_search_is_410(call: Client) -> None:
    assert [call("GET", "/search", jql="project = BILL").status_code, call("POST", "/search", {}).status_code] == [410, 410]


# Worklogs

STARTED = "2026-03-01T12:00:00.000+0000"


def test_a_worklog_keeps_its_properties_and_shows_them_when_asked(call: Client, jira: Jira) -> None:
    call.create()
    properties = [{"key": "wave.payment", "value": {"id": "9"}}]
    body = {"timeSpentSeconds": 3600, "started": "2026-03-01T13:00:00.000+0100", "comment": adf("paid"), "properties": properties}
    made = call("POST", "/issue/BILL-1/worklog", body, notifyUsers="false", adjustEstimate="leave")
    assert (made.status_code, made.json()["timeSpent"], made.json()["started"]) == (201, "1h", STARTED)
    (plain,) = call("GET", "/issue/BILL-1/worklog").json()["worklogs"]
    (full,) = call("GET", "/issue/BILL-1/worklog", expand="properties").json()["worklogs"]
    assert "properties" not in plain
    assert full == plain | {"properties": properties}
    path = f"/issue/BILL-1/worklog/{full['id']}"
    assert call("PUT", path, {"timeSpentSeconds": 120}).json()["timeSpent"] == "2m"
    assert call("PUT", f"{path}/properties/wave.payment", {"id": "10"}).status_code == 200
    stored = {"id": full["id"], "timeSpentSeconds": 120, "started": STARTED, "comment": adf("paid")}
    assert jira.state()["issues"]["BILL-1"]["worklogs"] == [stored | {"properties": {"wave.payment": {"id": "10"}}}]
    assert call("DELETE", path).status_code == 204
    assert call("GET", path).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"timeSpentSeconds": 59, "started": STARTED},
        {"timeSpentSeconds": 60, "timeSpent": "1m", "started": STARTED},
        {"timeSpent": "soon", "started": STARTED},
        {"started": STARTED},
        {"timeSpentSeconds": 60, "started": "2026-03-01T12:00:00Z"},
        {"timeSpentSeconds": 60, "started": "2026-03-01T12:00:00.000+00:00"},
        {"timeSpentSeconds": 60, "started": "2026-13-01T12:00:00.000+0000"},
    ],
)
def test_bad_worklogs_are_refused(call: Client, jira: Jira, body: dict[str, Any]) -> None:
    call.create()
    assert call("POST", "/issue/BILL-1/worklog", body).status_code == 400
    assert jira.state()["issues"]["BILL-1"]["worklogs"] == []


def test_worklogs_need_time_tracking(call: Client, jira: Jira) -> None:
    call.create()
    jira.time_tracking = False
    assert call("GET", "/configuration").json()["timeTrackingEnabled"] is False
    assert call("POST", "/issue/BILL-1/worklog", {"timeSpentSeconds": 60, "started": STARTED}).status_code == 400


def test_the_bulk_delete_of_worklogs_is_a_violation(call: Client, jira: Jira) -> None:
    call.create()
    call("POST", "/issue/BILL-1/worklog", {"timeSpentSeconds": 60, "started": STARTED})
    assert call("DELETE", "/issue/BILL-1/worklog").status_code == 400
    state = jira.state()
    assert state["violations"] == ["DELETE /issue/BILL-1/worklog without an id is a bulk delete"]
    assert len(state["issues"]["BILL-1"]["worklogs"]) == 1


# Set-up


def test_a_project_shows_its_types_statuses_and_create_fields(call: Client, jira: Jira) -> None:
    name = jira.add_field("Wave", "textfield")
    types = {entry["name"]: entry["id"] for entry in call("GET", "/issue/createmeta/BILL/issuetypes").json()["issueTypes"]}
    assert list(types) == ["Task", "Story"]
    statuses = {entry["name"]: [status["name"] for status in entry["statuses"]] for entry in call("GET", "/project/BILL/statuses").json()}
    assert statuses == {kind: ["To Do", "In Progress", "Done"] for kind in ("Task", "Story")}
    first = call("GET", f"/issue/createmeta/BILL/issuetypes/{types['Task']}", maxResults=2).json()
    assert [entry["fieldId"] for entry in first["fields"]] == ["summary", "issuetype"]
    last = call("GET", f"/issue/createmeta/BILL/issuetypes/{types['Task']}", startAt=first["total"] - 1).json()
    assert [(entry["fieldId"], entry["required"]) for entry in last["fields"]] == [(name, False)]
    assert [project["key"] for project in call("GET", "/project/search").json()["values"]] == ["BILL"]
    assert [entry["name"] for entry in call("GET", "/project/bill").json()["issueTypes"]] == ["Task", "Story"]
    assert call("GET", "/project/NOPE").status_code == 404
    assert call("GET", "/serverInfo").json()["deploymentType"] == "Cloud"


def test_issue_types_can_have_their_own_workflow(call: Client, jira: Jira) -> None:
    jira.set_workflow("BILL", "Story", statuses=["Idea", "Told"], edges={"Idea": ["Told"]})
    call.create(issuetype={"name": "Story"})
    call.create()
    assert [list(leaving(call, key)) for key in ("BILL-1", "BILL-2")] == [["Told"], ["In Progress"]]


def test_a_created_field_is_usable_once_it_is_on_the_screen(call: Client, jira: Jira) -> None:
    body = {"name": "Wave number", "type": f"{TYPES}textfield", "searcherKey": f"{TYPES}textsearcher"}
    made = call("POST", "/field", body)
    name = made.json()["id"]
    number = int(name.removeprefix("customfield_"))
    assert (made.status_code, made.json()["clauseNames"]) == (201, [f"cf[{number}]", "Wave number"])
    assert made.json()["schema"] == {"type": "string", "custom": f"{TYPES}textfield", "customId": number}
    call.create()
    assert refusal(call("PUT", "/issue/BILL-1", {"fields": {name: "7"}})) == (400, {name: NOT_ON_SCREEN.format(name)})
    assert call("POST", f"/screens/addToDefault/{name}").status_code == 200
    assert call("POST", f"/screens/addToDefault/{name}").status_code == 404
    assert call("PUT", "/issue/BILL-1", {"fields": {name: "7"}}).status_code == 204
    assert jira.state()["issues"]["BILL-1"]["fields"] == {"Wave number": "7"}
    assert made.json() in call("GET", "/field").json()
    assert [entry["id"] for entry in call("GET", "/field/search", query="wave", type="custom").json()["values"]] == [name]


@pytest.mark.parametrize(
    "body",
    [
        {"type": f"{TYPES}textfield"},
        {"name": "X", "type": "textfield"},
        {"name": "X", "type": f"{TYPES}hologram"},
        {"name": "X", "type": f"{TYPES}textfield", "searcherKey": f"{TYPES}daterange"},
        {"name": "X", "type": f"{TYPES}textfield", "colour": "red"},
    ],
)
def test_a_malformed_field_is_not_created(call: Client, jira: Jira, body: dict[str, Any]) -> None:
    assert call("POST", "/field", body).status_code == 400
    assert jira.state()["fields"] == []


def test_without_admin_rights_a_field_is_400_and_screens_are_403(call: Client, jira: Jira) -> None:
    jira.admin = False
    assert call("POST", "/field", {"name": "X", "type": f"{TYPES}float"}).status_code == 400
    assert [call("GET", path).status_code for path in ("/screens", "/screens/1/tabs", "/screens/1/tabs/1/fields")] == [403, 403, 403]


def test_a_field_can_be_put_on_a_projects_own_screen(call: Client, jira: Jira) -> None:
    jira.add_project("OWN", "Own screen", own_screen=True)
    name = jira.add_field("Wave", "textfield", on_screen=False)
    (screen,) = [entry["id"] for entry in call("GET", "/screens").json()["values"] if entry["name"] == "OWN Screen"]
    (tab,) = call("GET", f"/screens/{screen}/tabs").json()
    path = f"/screens/{screen}/tabs/{tab['id']}/fields"
    assert call("POST", path, {"fieldId": name}).json() == {"id": name, "name": "Wave"}
    assert call("POST", path, {"fieldId": name}).status_code == 400
    assert {"id": name, "name": "Wave"} in call("GET", path).json()
    call.create(project={"key": "OWN"}, **{name: "x"})


# Webhooks

HOOK = {"events": ["jira:issue_updated"], "jqlFilter": "project IN (BILL)"}


def test_webhooks_belong_to_oauth_apps(call: Client, oauth: Client) -> None:
    assert call("GET", "/webhook").status_code == 403
    assert oauth("GET", "/webhook").json()["values"] == []


def test_registration_is_200_even_where_it_fails(oauth: Client) -> None:
    bad_event, bad_clause = HOOK | {"events": ["worklog_created"]}, HOOK | {"jqlFilter": "labels = wave"}
    answer = oauth("POST", "/webhook", {"url": "https://example.com/hook", "webhooks": [HOOK, bad_event, bad_clause]})
    results = answer.json()["webhookRegistrationResult"]
    assert (answer.status_code, results) == (
        200,
        [
            {"createdWebhookId": 1000},
            {"errors": ["The event worklog_created is unsupported"]},
            {"errors": ["The clause labels = wave is unsupported"]},
        ],
    )
    other = oauth("POST", "/webhook", {"url": "https://example.com/other", "webhooks": [HOOK]}).json()
    assert list(other["webhookRegistrationResult"][0]) == ["errors"]


def test_an_app_has_at_most_five_webhooks(oauth: Client) -> None:
    results = oauth("POST", "/webhook", {"url": "https://example.com", "webhooks": [HOOK] * 6}).json()["webhookRegistrationResult"]
    assert [list(result) for result in results] == [["createdWebhookId"]] * 5 + [["errors"]]


def test_webhooks_end_after_thirty_days_unless_refreshed(oauth: Client, jira: Jira, clock: Clock) -> None:
    oauth("POST", "/webhook", {"url": "https://example.com", "webhooks": [HOOK, HOOK]})
    born = clock.now
    clock.move(minutes=30)
    later = int((clock.now + timedelta(days=30)).timestamp() * 1000)
    assert oauth("PUT", "/webhook/refresh", {"webhookIds": [1001, 7]}).json() == {"expirationDate": later}
    first = int((born + timedelta(days=30)).timestamp() * 1000)
    assert [hook["expirationDate"] for hook in oauth("GET", "/webhook").json()["values"]] == [first, later]
    jira.webhook_dates_as_text = True
    assert oauth("GET", "/webhook").json()["values"][0]["expirationDate"] == "2026-04-01T09:30:00.000+0000"
    assert oauth("DELETE", "/webhook", {"webhookIds": [1000, 7]}).status_code == 202
    assert [hook["id"] for hook in jira.state()["webhooks"]] == [1001]


# The page, and what tests do by hand


def test_the_page_shows_a_board_without_scripts_and_escapes_names(root: str, call: Client) -> None:
    call.create(summary="<b>Acme</b>", description=doc(TABLE, {"type": "paragraph", "content": [LINK]}), labels=["wave"])
    call("POST", "/issue/BILL-1/worklog", {"timeSpentSeconds": 5400, "started": STARTED, "comment": adf("paid")})
    page = requests.get(f"{root}/jira/", timeout=5).text
    assert "<h3>To Do (1)</h3>" in page
    assert "BILL-1 &lt;b&gt;Acme&lt;/b&gt;" in page
    assert "<dd>2026-03-01 1h 30m paid</dd>" in page
    assert "<script" not in page


def test_a_person_can_edit_move_and_delete_by_hand(call: Client, jira: Jira) -> None:
    call.create()
    jira.edit("BILL-1", labels=[], summary="by hand")
    jira.move_issue("BILL-1", "Done")
    issue = jira.state()["issues"]["BILL-1"]
    assert (issue["summary"], issue["labels"], issue["status"]) == ("by hand", [], "Done")
    jira.delete_issue("BILL-1")
    assert jira.state()["issues"] == {}


def test_searches_are_no_writes(call: Client, jira: Jira) -> None:
    call.create()
    call.search("project = BILL")
    assert [(entry.method, entry.path) for entry in jira.writes()] == [("POST", "/rest/api/3/issue")]


def test_the_state_is_plain_json(call: Client, jira: Jira) -> None:
    call.create(description=adf("x"))
    call("POST", "/issue/BILL-1/worklog", {"timeSpentSeconds": 60})
    assert json.loads(json.dumps(jira.state())) == jira.state()


# The vendor's contract


class Contract:
    """The vendor's OpenAPI excerpt."""

    def __init__(self) -> None:
        self.document = json.loads(CONTRACT.read_text())

    def faults(self, schema: Any, value: Any) -> list[str]:
        document = {"components": self.document["components"]} | schema
        return [f"{error.json_path}: {error.message}" for error in OAS30Validator(document).iter_errors(value)]

    def check(self, path: str, body: Any, answer: requests.Response) -> None:
        assert answer.ok, answer.text
        operation = self.document["paths"][f"/rest/api/3{path}"][str(answer.request.method).lower()]
        if body is not None:
            assert self.faults(operation["requestBody"]["content"]["application/json"]["schema"], body) == []
        content = operation["responses"][str(answer.status_code)].get("content")
        if answer.content and content:
            assert self.faults(content["application/json"]["schema"], answer.json()) == []


@pytest.mark.skipif(not CONTRACT.exists(), reason="the vendor's contract is not part of this repository")
def test_requests_and_answers_fit_the_vendors_contract(call: Client, oauth: Client, jira: Jira) -> None:
    contract = Contract()
    new = {
        "fields": {"project": {"key": "BILL"}, "issuetype": {"name": "Task"}, "summary": "S", "description": adf("x"), "labels": ["wave"]}
    }
    field_body = {"name": "Wave", "type": f"{TYPES}textfield", "searcherKey": f"{TYPES}textsearcher"}
    log = {"timeSpentSeconds": 60, "started": STARTED, "comment": adf("x"), "properties": [{"key": "wave.payment", "value": {"id": "1"}}]}
    link = {"globalId": "g", "object": {"url": "https://example.com", "title": "T"}}
    hooks = {"url": "https://example.com", "webhooks": [HOOK]}
    one = "/issue/{issueIdOrKey}"
    steps: list[tuple[str, str, str, Any, dict[str, str]]] = [
        ("POST", "/field", "/field", field_body, {}),
        ("POST", "/issue", "/issue", new | {"properties": [{"key": "k", "value": 1}], "transition": {"id": "11"}}, {}),
        ("POST", "/issue/bulk", "/issue/bulk", {"issueUpdates": [new, {"fields": {}}]}, {}),
        ("PUT", "/issue/BILL-1", one, {"fields": {"summary": "T"}, "update": {"labels": [{"add": "x"}]}}, {}),
        ("PUT", "/issue/BILL-1", one, {"fields": {"duedate": None}}, {"returnIssue": "true"}),
        ("GET", "/issue/BILL-1", one, None, {"expand": "transitions.fields", "properties": "*all"}),
        ("POST", "/issue/bulkfetch", "/issue/bulkfetch", {"issueIdsOrKeys": ["BILL-1", "NOPE-1"]}, {}),
        ("GET", "/issue/BILL-1/transitions", f"{one}/transitions", None, {"expand": "transitions.fields"}),
        ("POST", "/issue/BILL-2/transitions", f"{one}/transitions", {"transition": {"id": "11"}}, {}),
        ("POST", "/issue/BILL-1/worklog", f"{one}/worklog", log, {"adjustEstimate": "leave"}),
        ("GET", "/issue/BILL-1/worklog", f"{one}/worklog", None, {"expand": "properties"}),
        ("POST", "/issue/BILL-1/comment", f"{one}/comment", {"body": adf("x")}, {}),
        ("GET", "/issue/BILL-1/comment", f"{one}/comment", None, {}),
        ("POST", "/issue/BILL-1/remotelink", f"{one}/remotelink", link, {}),
        ("GET", "/issue/BILL-1/remotelink", f"{one}/remotelink", None, {"globalId": "g"}),
        ("GET", "/issue/BILL-1/properties/k", f"{one}/properties/{{propertyKey}}", None, {}),
        ("GET", "/issue/BILL-1/properties", f"{one}/properties", None, {}),
        ("POST", "/search/jql", "/search/jql", {"jql": "project = BILL", "fields": ["*all"], "properties": ["k"], "maxResults": 1}, {}),
        ("GET", "/search/jql", "/search/jql", None, {"jql": "project = BILL"}),
        ("GET", "/myself", "/myself", None, {}),
        ("GET", "/mypermissions", "/mypermissions", None, {"permissions": "BROWSE_PROJECTS"}),
        ("GET", "/configuration", "/configuration", None, {}),
        ("GET", "/serverInfo", "/serverInfo", None, {}),
        ("GET", "/project/search", "/project/search", None, {}),
        ("GET", "/project/BILL", "/project/{projectIdOrKey}", None, {}),
        ("GET", "/project/BILL/statuses", "/project/{projectIdOrKey}/statuses", None, {}),
        ("GET", "/status", "/status", None, {}),
        ("GET", "/field", "/field", None, {}),
        ("GET", "/field/search", "/field/search", None, {}),
        ("GET", "/screens", "/screens", None, {}),
        ("GET", "/screens/1/tabs", "/screens/{screenId}/tabs", None, {}),
        ("GET", "/screens/1/tabs/1/fields", "/screens/{screenId}/tabs/{tabId}/fields", None, {}),
        ("GET", "/issue/createmeta/BILL/issuetypes", "/issue/createmeta/{projectIdOrKey}/issuetypes", None, {}),
        (
            "GET",
            f"/issue/createmeta/BILL/issuetypes/{jira.types['Task']}",
            "/issue/createmeta/{projectIdOrKey}/issuetypes/{issueTypeId}",
            None,
            {},
        ),
    ]
    for method, path, template, body, query in steps:
        contract.check(template, body, call(method, path, body, **query))
    hooks_steps: list[tuple[str, str, Any]] = [
        ("POST", "/webhook", hooks),
        ("GET", "/webhook", None),
        ("PUT", "/webhook/refresh", {"webhookIds": [1000]}),
        ("DELETE", "/webhook", {"webhookIds": [1000]}),
    ]
    for method, path, body in hooks_steps:
        contract.check(path, body, oauth(method, path, body))


@pytest.mark.skipif(not CONTRACT.exists(), reason="the vendor's contract is not part of this repository")
def test_the_contract_check_can_fail() -> None:
    contract = Contract()
    schema = {"$ref": "#/components/schemas/CreatedIssue"}
    assert contract.faults(schema, {"id": 7}) != []
