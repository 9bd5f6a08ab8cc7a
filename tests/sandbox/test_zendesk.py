"""The Zendesk stand-in answers over real HTTP as vendors/zendesk describes it."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from integrations.sandbox.server import serving
from integrations.sandbox.zendesk import Zendesk

START = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
NO_CREDENTIALS = {"error": "Couldn't authenticate you"}
DEAD_TOKEN = {
    "error": "invalid_token",
    "error_description": "The access token provided is expired, revoked, malformed or invalid for other reasons.",
}
NOT_FOUND = {"error": "RecordNotFound", "description": "Not found"}
BALANCE = {"key": "wave_balance", "title": "Balance", "type": "decimal"}


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = START

    def __call__(self) -> datetime:
        return self.moment

    def forward(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


class Api:
    """A bare client; paths are under /api/v2/ unless they begin with a slash."""

    def __init__(self, url: str, authorization: str) -> None:
        self.url = url
        self.headers = {"Authorization": authorization} if authorization else {}

    def __call__(self, method: str, path: str, body: Any = None) -> requests.Response:
        url = self.url + (path if path.startswith("/") else f"/api/v2/{path}")
        return requests.request(method, url, json=body, headers=self.headers, timeout=5, allow_redirects=False)

    def get(self, path: str) -> Any:
        answer = self("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def made(self, path: str, body: Any) -> Any:
        answer = self("POST", path, body)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def zendesk(clock: Clock) -> Zendesk:
    return Zendesk(clock)


@pytest.fixture
def url(zendesk: Zendesk) -> Iterator[str]:
    with serving({"zendesk": zendesk}) as base:
        yield f"{base}/zendesk"


@pytest.fixture
def api(zendesk: Zendesk, url: str) -> Api:
    return Api(url, f"Bearer {zendesk.issue().access}")


def basic(login: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()


def refusal(member: str, description: str, code: str) -> dict[str, Any]:
    details = {member: [{"description": description, "error": code}]}
    return {"error": "RecordInvalid", "description": "Record validation errors", "details": details}


def outcome(answer: requests.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json() if answer.content else None


def define_invoice(api: Api) -> int:
    """Define wave_invoice with an amount and a lookup to the organization; return the id of the lookup field."""
    api.made("custom_objects", {"custom_object": {"key": "wave_invoice", "title": "Invoice", "title_pluralized": "Invoices"}})
    amount = {"key": "amount", "title": "Amount", "type": "decimal"}
    api.made("custom_objects/wave_invoice/fields", {"custom_object_field": amount})
    lookup = {"key": "organization", "title": "Organization", "type": "lookup", "relationship_target_type": "zen:organization"}
    field_id: int = api.made("custom_objects/wave_invoice/fields", {"custom_object_field": lookup})["custom_object_field"]["id"]
    return field_id


def upsert(api: Api, external_id: str, record: dict[str, Any]) -> requests.Response:
    return api("PATCH", f"custom_objects/wave_invoice/records?external_id={external_id}", {"custom_object_record": record})


def polled(api: Api, started: Any) -> Any:
    """Poll a job twice and return its results."""
    job = f"job_statuses/{started['job_status']['id']}"
    assert api.get(job)["job_status"]["status"] == "working"
    done = api.get(job)["job_status"]
    assert done["status"] == "completed"
    return done["results"]


# Credentials


@pytest.mark.parametrize(
    ("authorization", "me", "elsewhere"),
    [
        ("", (200, None), (401, NO_CREDENTIALS)),
        ("Bearer wrong", (200, None), (401, DEAD_TOKEN)),
        (basic("admin@sandbox.example", "password"), (200, None), (401, NO_CREDENTIALS)),
        (basic("admin@sandbox.example/token", "wrong"), (401, None), (401, NO_CREDENTIALS)),
        (
            basic("admin@sandbox.example/token", "sandbox-api-token"),
            (200, 35436),
            (200, {"count": {"value": 0, "refreshed_at": "2026-11-02T09:00:00Z"}}),
        ),
    ],
)
def test_only_a_wrong_api_token_is_refused_at_users_me(
    url: str, authorization: str, me: tuple[int, int | None], elsewhere: tuple[int, Any]
) -> None:
    caller = Api(url, authorization)
    answer = caller("GET", "users/me.json")
    assert (answer.status_code, answer.json().get("user", {}).get("id")) == me
    assert outcome(caller("GET", "organizations/count.json")) == elsewhere


def test_client_credentials_give_an_access_token_only(zendesk: Zendesk, url: str) -> None:
    body = {"grant_type": "client_credentials", "client_id": "sandbox-client", "client_secret": "sandbox-secret", "scope": "read write"}
    answer = requests.post(f"{url}/oauth/tokens", json=body, timeout=5).json()
    assert answer == {"access_token": answer["access_token"], "token_type": "bearer", "scope": "read write", "expires_in": 1800}
    assert Api(url, f"Bearer {answer['access_token']}").get("users/me")["user"]["role"] == "admin"
    wrong = requests.post(f"{url}/oauth/tokens", json=body | {"client_secret": "no"}, timeout=5)
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")


def refresh(url: str, token: str | None) -> requests.Response:
    body = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "sandbox-client", "client_secret": "sandbox-secret"}
    return requests.post(f"{url}/oauth/tokens", json=body, timeout=5)


def test_a_refresh_kills_the_old_pair_and_a_replay_leaves_the_new_one_alive(zendesk: Zendesk, url: str) -> None:
    old = zendesk.issue()
    new = refresh(url, old.refresh).json()
    assert outcome(Api(url, f"Bearer {old.access}")("GET", "organizations")) == (401, DEAD_TOKEN)
    assert refresh(url, old.refresh).json()["error"] == "invalid_grant"
    assert Api(url, f"Bearer {new['access_token']}").get("organizations")["count"] == 0
    assert refresh(url, new["refresh_token"]).status_code == 200


def test_tokens_die_with_time_or_by_hand_and_refresh_tokens_outlive_them(zendesk: Zendesk, url: str, clock: Clock) -> None:
    timed, killed = zendesk.issue(), zendesk.issue()
    zendesk.expire(killed.access)
    assert Api(url, f"Bearer {killed.access}")("GET", "organizations").status_code == 401
    assert Api(url, f"Bearer {timed.access}")("GET", "organizations").status_code == 200
    clock.forward(1800)
    assert Api(url, f"Bearer {timed.access}")("GET", "organizations").status_code == 401
    assert [refresh(url, grant.refresh).status_code for grant in (timed, killed)] == [200, 200]
    dead = zendesk.issue()
    zendesk.expire(str(dead.refresh))
    assert refresh(url, dead.refresh).status_code == 400


def test_the_browser_comes_back_with_a_code_that_works_once(zendesk: Zendesk, url: str) -> None:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"verifier").digest()).rstrip(b"=").decode()
    query = f"response_type=code&client_id=sandbox-client&redirect_uri=http://localhost/back&state=s1&scope=read&code_challenge={challenge}"
    zendesk.consent_at_once = True
    answer = Api(url, "")("GET", f"/oauth/authorizations/new?{query}&code_challenge_method=S256")
    back = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert (answer.status_code, back["state"]) == (302, ["s1"])
    body = {"grant_type": "authorization_code", "code": back["code"][0], "client_id": "sandbox-client", "client_secret": "sandbox-secret"}
    body |= {"redirect_uri": "http://localhost/back", "scope": "read write", "code_verifier": "verifier", "expires_in": "172000"}
    first, second = (requests.post(f"{url}/oauth/tokens", json=body, timeout=5) for _ in range(2))
    assert (first.json()["expires_in"], first.json()["refresh_token_expires_in"]) == (172000, 2592000)
    assert (second.status_code, second.json()["error"]) == (400, "invalid_grant")
    zendesk.consent = False
    denied = Api(url, "")("GET", f"/oauth/authorizations/new?{query}")
    assert parse_qs(urlsplit(denied.headers["Location"]).query)["error"] == ["access_denied"]


@pytest.mark.parametrize(
    "change",
    [{"code_verifier": "wrong"}, {"redirect_uri": "http://localhost/other"}, {"code": "wrong"}, {"expires_in": 300}, {"scope": ""}],
)
def test_a_code_exchange_with_one_wrong_member_is_refused(zendesk: Zendesk, url: str, change: dict[str, Any]) -> None:
    code = zendesk.tokens.issue_code("http://localhost/back", base64.urlsafe_b64encode(hashlib.sha256(b"v").digest()).rstrip(b"=").decode())
    body = {"grant_type": "authorization_code", "code": code, "client_id": "sandbox-client", "client_secret": "sandbox-secret"}
    body |= {"redirect_uri": "http://localhost/back", "scope": "read write", "code_verifier": "v"}
    assert requests.post(f"{url}/oauth/tokens", json=body | change, timeout=5).status_code == 400


def test_a_code_dies_after_two_minutes(zendesk: Zendesk, url: str, clock: Clock) -> None:
    body = {"grant_type": "authorization_code", "code": zendesk.tokens.issue_code("http://localhost/back"), "client_id": "sandbox-client"}
    body |= {"client_secret": "sandbox-secret", "redirect_uri": "http://localhost/back", "scope": "read write"}
    clock.forward(120)
    assert requests.post(f"{url}/oauth/tokens", json=body, timeout=5).json()["error"] == "invalid_grant"


def test_a_revoked_token_takes_its_refresh_token_along(zendesk: Zendesk, url: str) -> None:
    grant = zendesk.issue("read")
    caller = Api(url, f"Bearer {grant.access}")
    token = caller.get("oauth/tokens/current.json")["token"]
    assert (token["scopes"], token["token"], token["expires_at"]) == (["read"], grant.access[:10], "2026-11-02T09:30:00Z")
    assert outcome(caller("DELETE", "oauth/tokens/current.json")) == (204, None)
    assert caller("GET", "organizations").status_code == 401
    assert refresh(url, grant.refresh).status_code == 400


def test_a_misspelt_scope_yields_a_token_that_may_do_nothing(zendesk: Zendesk, url: str) -> None:
    caller = Api(url, f"Bearer {zendesk.issue('reed').access}")
    assert {caller("GET", path).status_code for path in ("organizations", "users/me", "custom_objects")} == {403}
    narrow = Api(url, f"Bearer {zendesk.issue('organizations:read').access}")
    assert [narrow("GET", "organizations").status_code, narrow("POST", "organizations", {}).status_code] == [200, 403]


def test_more_than_the_allowed_scopes_is_refused_and_less_may_be_granted(zendesk: Zendesk, url: str) -> None:
    body = {"grant_type": "client_credentials", "client_id": "sandbox-client", "client_secret": "sandbox-secret", "scope": "read write"}
    zendesk.allowed_scopes = {"read"}
    assert requests.post(f"{url}/oauth/tokens", json=body, timeout=5).json()["error"] == "invalid_scope"
    zendesk.allowed_scopes, zendesk.granted_scope = None, "read"
    assert requests.post(f"{url}/oauth/tokens", json=body, timeout=5).json()["scope"] == "read"


# Organizations


def test_an_organization_is_created_read_changed_and_deleted(zendesk: Zendesk, api: Api, clock: Clock) -> None:
    api.made("organization_fields", {"organization_field": BALANCE})
    body = {"name": "Acme", "external_id": "wave:1", "tags": ["B a", "A"], "organization_fields": {"wave_balance": 12.5}}
    answer = api("POST", "organizations", {"organization": body})
    made = answer.json()["organization"]
    assert (answer.status_code, answer.headers["Location"]) == (201, made["url"])
    expected = {
        "id": made["id"],
        "url": f"{api.url}/api/v2/organizations/{made['id']}.json",
        "name": "Acme",
        "external_id": "wave:1",
        "details": None,
        "notes": None,
        "group_id": None,
        "domain_names": [],
        "tags": ["a", "b_a"],
        "organization_fields": {"wave_balance": "12.5"},
        "shared_tickets": False,
        "shared_comments": False,
        "created_at": "2026-11-02T09:00:00Z",
        "updated_at": "2026-11-02T09:00:00Z",
    }
    assert made == expected
    clock.forward(60)
    changed = api("PUT", f"organizations/{made['id']}.json", {"organization": {"notes": "n", "organization_fields": {}}})
    assert outcome(changed) == (200, {"organization": expected | {"notes": "n", "updated_at": "2026-11-02T09:01:00Z"}})
    assert api.get(f"organizations/{made['id']}") == changed.json()
    assert outcome(api("DELETE", f"organizations/{made['id']}")) == (204, None)
    assert outcome(api("GET", f"organizations/{made['id']}")) == (404, NOT_FOUND)
    assert zendesk.violations == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"name": "ACME"}, refusal("name", "Name: ACME has already been taken", "DuplicateValue")),
        ({"name": "B", "external_id": "WAVE:1"}, refusal("external_id", "External: WAVE:1 has already been taken", "DuplicateValue")),
        ({"name": " "}, refusal("name", "Name: cannot be blank", "BlankValue")),
        ({"name": "B", "external_id": 7}, refusal("external_id", "External ID: must be a string", "InvalidValue")),
        ({"name": "B", "organization_fields": {"no": 1}}, refusal("no", "organization_fields: no is not a field", "UnknownField")),
    ],
)
def test_an_organization_that_does_not_fit_is_refused_and_nothing_changes(
    zendesk: Zendesk, api: Api, body: dict[str, Any], expected: dict[str, Any]
) -> None:
    zendesk.add_organization("Acme", "wave:1")
    before = zendesk.state()
    assert outcome(api("POST", "organizations", {"organization": body})) == (422, expected)
    assert zendesk.state() == before


def test_create_or_update_matches_external_ids_without_case_but_never_names(zendesk: Zendesk, api: Api) -> None:
    known = zendesk.add_organization("Acme", "wave:1")
    zendesk.add_organization("Beta")
    matched = api("POST", "organizations/create_or_update", {"organization": {"external_id": "WAVE:1", "name": "Acme Ltd"}})
    assert (matched.status_code, matched.json()["organization"]["id"]) == (200, known)
    by_id = api("POST", "organizations/create_or_update", {"organization": {"id": known, "notes": "n"}})
    assert (by_id.status_code, by_id.json()["organization"]["name"]) == (200, "Acme Ltd")
    created = api("POST", "organizations/create_or_update", {"organization": {"external_id": "wave:2", "name": "Gamma"}})
    assert created.status_code == 201
    clash = api("POST", "organizations/create_or_update", {"organization": {"external_id": "wave:3", "name": "beta"}})
    assert outcome(clash) == (422, refusal("name", "Name: beta has already been taken", "DuplicateValue"))


def test_an_organization_takes_five_updates_a_minute(zendesk: Zendesk, api: Api, clock: Clock) -> None:
    one, other = zendesk.add_organization("Acme", "wave:1"), zendesk.add_organization("Beta")
    change = {"organization": {"notes": "n"}}
    assert [api("PUT", f"organizations/{one}", change).status_code for _ in range(4)] == [200] * 4
    clock.forward(20)
    upsert_body = {"organization": {"external_id": "wave:1", "notes": "n"}}
    assert api("POST", "organizations/create_or_update", upsert_body).status_code == 200
    refused = api("PUT", f"organizations/{one}", change)
    assert outcome(refused) == (429, {"errors": [{"code": "TooManyRequests", "title": "Too many requests to update"}]})
    assert refused.headers["Retry-After"] == "40"
    assert api("PUT", f"organizations/{other}", change).status_code == 200
    clock.forward(40)
    assert api("PUT", f"organizations/{one}", change).status_code == 200
    zendesk.organization_limit = False
    assert {api("PUT", f"organizations/{one}", change).status_code for _ in range(6)} == {200}


def names(answer: Any) -> list[str]:
    return [row["name"] for row in answer["organizations"]]


def test_search_and_show_many_find_without_case(zendesk: Zendesk, api: Api) -> None:
    ids = [zendesk.add_organization(name, f"wave:{name}") for name in ("Acme", "Beta", "Gamma")]
    assert names(api.get("organizations/search.json?name=aCME")) == ["Acme"]
    assert names(api.get("organizations/search?external_id=WAVE:beta")) == ["Beta"]
    assert names(api.get("organizations/search?name=acm")) == []
    assert api("GET", "organizations/search?name=a&external_id=b").status_code == 400
    assert names(api.get("organizations/show_many?external_ids=wave:acme,wave:gamma,wave:none")) == ["Gamma", "Acme"]
    assert names(api.get(f"organizations/show_many?ids={ids[0]},{ids[1]}")) == ["Beta", "Acme"]
    assert api.get("organizations/count")["count"]["value"] == 3
    too_many = api("GET", "organizations/show_many?ids=" + ",".join(["1"] * 101))
    expected = {"error": "TooManyValues", "description": "Parameter  cannot specify more than 100 values", "max_count": 100}
    assert outcome(too_many) == (400, expected)


def test_cursor_pages_lead_through_all_rows(zendesk: Zendesk, api: Api) -> None:
    for number in range(5):
        zendesk.add_organization(f"Org {number}")
    found, address = [], f"{api.url}/api/v2/organizations?page[size]=2"
    while address:
        answer = requests.get(address, headers=api.headers, timeout=5).json()
        found.append(names(answer))
        address = answer["links"]["next"]
    assert found == [["Org 0", "Org 1"], ["Org 2", "Org 3"], ["Org 4"]]
    assert answer["meta"]["has_more"] is False
    offset = api.get("organizations?per_page=2&page=3")
    assert (names(offset), offset["count"], offset["next_page"]) == (["Org 4"], 5, None)
    assert api("GET", "organizations?page=101&per_page=100").json()["error"] == "InvalidPaginationDepth"
    assert api("GET", "organizations?page[size]=101").status_code == 400


def test_tags_are_added_replaced_and_removed(zendesk: Zendesk, api: Api) -> None:
    path = f"organizations/{zendesk.add_organization('Acme', tags=['vip'])}/tags"
    assert outcome(api("PUT", path, {"tags": ["wave_open"]})) == (200, {"tags": ["vip", "wave_open"]})
    assert outcome(api("DELETE", path, {"tags": ["vip", "none"]})) == (204, None)
    assert api.get(path) == {"tags": ["wave_open"]}
    assert outcome(api("POST", path, {"tags": ["new"]})) == (201, {"tags": ["new"]})


def test_create_many_reports_each_item_and_ends_on_the_second_poll(zendesk: Zendesk, api: Api) -> None:
    zendesk.add_organization("Beta")
    started = api.made("organizations/create_many", {"organizations": [{"name": "Acme"}, {"name": "Beta"}]})
    job = started["job_status"]
    assert (job["status"], job["results"], job["total"]) == ("queued", None, 2)
    assert not job["url"].startswith(api.url)
    assert len(zendesk.state()["organizations"]) == 1
    results = polled(api, started)
    acme = zendesk.state()["organizations"][0]
    assert acme["name"] == "Acme"
    failed = {"index": 1, "error": "OrganizationCreateFailed", "details": "Name:  Beta has already been taken"}
    assert results == [{"status": "Created", "id": acme["id"]}, failed]
    many = api.get(f"job_statuses/show_many?ids={job['id']},gone")["job_statuses"]
    assert [one["results"] for one in many] == [results]
    complaint = api("POST", "organizations/create_many", {"organizations": [{"name": "x"}] * 101})
    assert (complaint.status_code, complaint.json()["error"]) == (400, "TooManyValues")


def test_update_many_changes_each_or_all(zendesk: Zendesk, api: Api) -> None:
    one, two = zendesk.add_organization("Acme", "wave:1"), zendesk.add_organization("Beta", "wave:2")
    each = [{"id": one, "notes": "n"}, {"id": two, "name": "ACME"}, {"id": 5, "notes": "n"}]
    assert polled(api, api("PUT", "organizations/update_many", {"organizations": each}).json()) == [
        {"action": "update", "id": one, "status": "Updated", "success": True},
        {"index": 1, "error": "OrganizationUpdateFailed", "id": two, "details": "Name:  ACME has already been taken"},
        {"index": 2, "error": "OrganizationUpdateFailed", "id": 5, "details": str(NOT_FOUND)},
    ]
    alike = api("PUT", "organizations/update_many?external_ids=WAVE:1,wave:2", {"organization": {"details": "d"}})
    polled(api, alike.json())
    assert [(row["details"], row["notes"]) for row in zendesk.state()["organizations"]] == [("d", "n"), ("d", None)]


def test_bulk_calls_can_be_refused_and_jobs_break_off_stick_and_vanish(zendesk: Zendesk, api: Api) -> None:
    body = {"organizations": [{"name": "Acme"}, {"name": "Beta"}]}
    zendesk.bulk = False
    assert api("POST", "organizations/create_many", body).status_code == 403
    zendesk.bulk, zendesk.jobs_break_after = True, 1
    path = f"job_statuses/{api.made('organizations/create_many', body)['job_status']['id']}"
    broken = [api.get(path)["job_status"] for _ in range(3)]
    assert [(job["status"], job["results"]) for job in broken] == [("working", None), ("failed", None), ("failed", None)]
    assert [row["name"] for row in zendesk.state()["organizations"]] == ["Acme"]
    zendesk.jobs_break_after, zendesk.jobs_stuck, zendesk.job_limit = None, True, 1
    path = f"job_statuses/{api.made('organizations/create_many', body)['job_status']['id']}"
    assert [api.get(path)["job_status"]["status"] for _ in range(4)] == ["working"] * 4
    zendesk.job_limit_status = 403
    full = api("POST", "organizations/create_many", body)
    assert (full.status_code, full.json()["error"]) == (403, "TooManyJobs")
    zendesk.jobs.forget()
    assert api("GET", path).status_code == 404


def test_a_job_that_nobody_polls_ends_by_itself_and_is_forgotten_after_a_day(zendesk: Zendesk, api: Api, clock: Clock) -> None:
    job = api.made("organizations/create_many", {"organizations": [{"name": "Acme"}]})["job_status"]["id"]
    clock.forward(5)
    assert names(api.get("organizations")) == ["Acme"]
    assert [one["status"] for one in api.get("job_statuses")["job_statuses"]] == ["completed"]
    clock.forward(86400)
    fresh = Api(api.url, f"Bearer {zendesk.issue().access}")
    assert outcome(fresh("GET", f"job_statuses/{job}")) == (404, NOT_FOUND)


def test_a_thirty_first_job_is_refused(api: Api) -> None:
    statuses = [api("POST", "organizations/create_many", {"organizations": [{"name": str(n)}]}) for n in range(31)]
    assert [answer.status_code for answer in statuses] == [200] * 30 + [429]
    assert statuses[30].json()["error"] == "TooManyJobs"


# Fields


@pytest.mark.parametrize(
    ("definition", "sent", "kept"),
    [
        ({"type": "text"}, "a", "a"),
        ({"type": "textarea"}, "a\nb", "a\nb"),
        ({"type": "date"}, "2018-11-04", "2018-11-04T00:00:00+00:00"),
        ({"type": "date"}, "2018-11-04T00:00:00Z", "2018-11-04T00:00:00+00:00"),
        ({"type": "decimal"}, "10.50", "10.50"),
        ({"type": "decimal"}, 7, "7"),
        ({"type": "integer"}, 7, 7),
        ({"type": "checkbox"}, True, True),
        ({"type": "checkbox"}, None, False),
        ({"type": "date"}, None, None),
        ({"type": "regexp", "regexp_for_validation": "^[a-z]+$"}, "abc", "abc"),
        ({"type": "dropdown", "custom_field_options": [{"name": "Open", "value": "open"}]}, "open", "open"),
        ({"type": "multiselect", "custom_field_options": [{"name": "Open", "value": "open"}]}, ["open"], ["open"]),
    ],
)
def test_a_value_comes_back_in_the_vendors_form(api: Api, definition: dict[str, Any], sent: Any, kept: Any) -> None:
    api.made("organization_fields", {"organization_field": {"key": "f", "title": "F"} | definition})
    body = {"name": "Acme", "organization_fields": {"f": sent}}
    assert api.made("organizations", {"organization": body})["organization"]["organization_fields"] == {"f": kept}


@pytest.mark.parametrize(
    ("definition", "sent"),
    [
        ({"type": "text"}, ["a"]),
        ({"type": "date"}, "04/11/2018"),
        ({"type": "decimal"}, "12 EUR"),
        ({"type": "decimal"}, "NaN"),
        ({"type": "integer"}, 7.5),
        ({"type": "checkbox"}, "yes"),
        ({"type": "regexp", "regexp_for_validation": "^[a-z]+$"}, "ABC"),
        ({"type": "dropdown", "custom_field_options": [{"name": "Open", "value": "open"}]}, "Open"),
        ({"type": "multiselect", "custom_field_options": [{"name": "Open", "value": "open"}]}, "open"),
        ({"type": "lookup", "relationship_target_type": "zen:organization"}, "999"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(zendesk: Zendesk, api: Api, definition: dict[str, Any], sent: Any) -> None:
    api.made("organization_fields", {"organization_field": {"key": "f", "title": "F"} | definition})
    answer = api("POST", "organizations", {"organization": {"name": "Acme", "organization_fields": {"f": sent}}})
    assert (answer.status_code, list(answer.json()["details"])) == (422, ["f"])
    assert zendesk.state()["organizations"] == []


@pytest.mark.parametrize(
    ("body", "member"),
    [
        (BALANCE, "key"),
        ({"key": "WAVE_BALANCE", "title": "T", "type": "text"}, "key"),
        ({"key": "123", "title": "T", "type": "text"}, "key"),
        ({"key": "wave-x", "title": "T", "type": "text"}, "key"),
        ({"key": "x", "title": "T", "type": "currency"}, "type"),
        ({"key": "x", "type": "text"}, "title"),
        ({"key": "x", "title": "T", "type": "dropdown"}, "custom_field_options"),
        ({"key": "x", "title": "T", "type": "dropdown", "custom_field_options": [{"name": "Open"}]}, "custom_field_options"),
        ({"key": "x", "title": "T", "type": "lookup"}, "relationship_target_type"),
    ],
)
def test_a_field_that_does_not_fit_is_refused(api: Api, body: dict[str, Any], member: str) -> None:
    api.made("organization_fields", {"organization_field": BALANCE})
    answer = api("POST", "organization_fields", {"organization_field": body})
    assert (answer.status_code, list(answer.json()["details"])) == (422, [member])


def test_a_field_is_read_and_changed_by_id_or_key_but_keeps_its_key(api: Api) -> None:
    made = api.made("organization_fields", {"organization_field": BALANCE})["organization_field"]
    changed = api("PUT", "organization_fields/wave_balance", {"organization_field": {"key": "wave_balance", "title": "Owed"}})
    assert outcome(changed) == (200, {"organization_field": made | {"title": "Owed", "raw_title": "Owed"}})
    assert api.get(f"organization_fields/{made['id']}") == changed.json()
    assert api.get("organization_fields")["organization_fields"] == [changed.json()["organization_field"]]
    assert api("PUT", f"organization_fields/{made['id']}", {"organization_field": {"key": "other"}}).status_code == 422


def test_an_option_left_out_of_an_update_is_wiped_from_organizations(zendesk: Zendesk, api: Api) -> None:
    options = [{"name": "Open", "value": "open"}, {"name": "Paid", "value": "paid"}]
    field = {"key": "state", "title": "State", "type": "dropdown", "custom_field_options": options}
    kept = api.made("organization_fields", {"organization_field": field})["organization_field"]["custom_field_options"][0]
    for name, value in (("Acme", "open"), ("Beta", "paid")):
        zendesk.add_organization(name, organization_fields={"state": value})
    api("PUT", "organization_fields/state", {"organization_field": {"custom_field_options": [kept]}})
    assert [row["organization_fields"] for row in zendesk.state()["organizations"]] == [{"state": "open"}, {"state": None}]


def test_only_an_admin_defines_fields_and_objects(zendesk: Zendesk, api: Api) -> None:
    zendesk.admin = False
    assert api.get("users/me")["user"]["role"] == "agent"
    field = api("POST", "organization_fields", {"organization_field": BALANCE})
    custom_object = api("POST", "custom_objects", {"custom_object": {"key": "a", "title": "A", "title_pluralized": "As"}})
    assert [(answer.status_code, answer.json()["error"]["title"]) for answer in (field, custom_object)] == [(403, "Forbidden")] * 2
    assert api("GET", "custom_objects/limits/object_limit").status_code == 403


# Users


def test_a_user_is_matched_by_external_id_or_address(zendesk: Zendesk, api: Api) -> None:
    body = {"name": "Ann", "email": "Ann@x.example", "external_id": "wave:1", "skip_verify_email": True}
    made = api("POST", "users/create_or_update", {"user": body})
    ann = made.json()["user"]
    assert (made.status_code, made.headers["Location"]) == (201, ann["url"])
    by_key = api("POST", "users/create_or_update", {"user": {"external_id": "WAVE:1", "name": "Anne"}})
    by_email = api("POST", "users/create_or_update", {"user": {"email": "ANN@x.example", "phone": "1", "skip_verify_email": True}})
    assert [(answer.status_code, answer.json()["user"]["id"]) for answer in (by_key, by_email)] == [(200, ann["id"])] * 2
    assert api.get(f"users/{ann['id']}")["user"] == ann | {"name": "Anne", "external_id": "WAVE:1", "phone": "1"}
    assert zendesk.mails == []


def test_a_new_address_becomes_secondary_until_it_is_made_primary(zendesk: Zendesk, api: Api) -> None:
    ann = zendesk.add_user("Ann", "ann@x.example", external_id="wave:1")
    api("POST", "users/create_or_update", {"user": {"external_id": "wave:1", "email": "new@x.example"}})
    assert api.get(f"users/{ann}")["user"]["email"] == "ann@x.example"
    identities = api.get(f"users/{ann}/identities")["identities"]
    assert [(one["value"], one["primary"]) for one in identities] == [("ann@x.example", True), ("new@x.example", False)]
    assert zendesk.mails == ["new@x.example"]
    assert api("PUT", f"users/{ann}/identities/{identities[1]['id']}/make_primary").status_code == 200
    assert api.get(f"users/{ann}")["user"]["email"] == "new@x.example"


def test_the_address_of_another_user_is_refused(zendesk: Zendesk, api: Api) -> None:
    zendesk.add_user("Ann", "ann@x.example", external_id="wave:1")
    bob = zendesk.add_user("Bob", "bob@x.example", external_id="wave:2")
    expected = refusal("email", "Email: ann@x.example is already being used by another user", "DuplicateValue")
    body = {"user": {"external_id": "wave:2", "email": "ann@x.example"}}
    assert outcome(api("POST", "users/create_or_update", body)) == (422, expected)
    assert outcome(api("PUT", f"users/{bob}", {"user": {"email": "ann@x.example"}})) == (422, expected)
    nameless = api("POST", "users/create_or_update", {"user": {"email": "c@x.example"}})
    assert outcome(nameless) == (422, refusal("name", "Name: cannot be blank", "BlankValue"))


def test_harmful_and_unknown_members_are_recorded(zendesk: Zendesk, api: Api) -> None:
    api.made("users/create_or_update", {"user": {"name": "Ann", "role": "agent", "custom_role_id": 1, "organization_id": 2}})
    api.made("organizations", {"organization": {"name": "Acme", "domain_names": ["x.example"], "nmae": "typo"}})
    assert zendesk.violations == [
        "user write sends custom_role_id",
        "user write sends organization_id",
        "user write sends role",
        "organization write sends domain_names",
        "organization write sends unknown nmae",
    ]
    assert zendesk.state()["users"][0]["role"] == "end-user"


def test_users_are_found_by_external_id_and_address_once_the_index_has_them(zendesk: Zendesk, api: Api, clock: Clock) -> None:
    ann = zendesk.add_user("Ann", "ann@x.example", external_id="wave:1")
    zendesk.add_user("Bob", "bob@x.example", external_id="wave:2")
    for query in ("external_id=WAVE:1", "query=email:ANN@x.example", "query=email:%22ann@x.example%22"):
        answer = api.get(f"users/search.json?{query}")
        assert ([row["id"] for row in answer["users"]], answer["count"]) == ([ann], 1)
    assert [row["name"] for row in api.get("users/show_many?external_ids=wave:1,wave:2")["users"]] == ["Bob", "Ann"]
    assert api("GET", "users/search?external_id=wave:1&page[size]=1").status_code == 400
    zendesk.search_lag = 60
    assert api.get("users/search?external_id=wave:1")["users"] == []
    clock.forward(60)
    assert [row["id"] for row in api.get("users/search?external_id=wave:1")["users"]] == [ann]


def test_a_quoted_address_may_hold_quotes(zendesk: Zendesk, api: Api) -> None:
    odd = zendesk.add_user("Odd", '"o\\dd"@x.example')
    answer = api.get("users/search?query=email:%22%5C%22o%5C%5Cdd%5C%22@x.example%22")
    assert [row["id"] for row in answer["users"]] == [odd]


def test_organizations_are_found_once_the_index_has_them(zendesk: Zendesk, api: Api, clock: Clock) -> None:
    acme = zendesk.add_organization("Acme", "wave:1")
    zendesk.search_lag = 60
    for found in ([], [acme]):
        for query in ("name=ACME", "external_id=wave:1"):
            assert [row["id"] for row in api.get(f"organizations/search?{query}")["organizations"]] == found
        clock.forward(60)


def test_bulk_users_need_the_vendors_consent(zendesk: Zendesk, api: Api) -> None:
    ann = zendesk.add_user("Ann", "ann@x.example", external_id="wave:1")
    body = {"users": [{"external_id": "wave:1", "name": "Anne"}, {"name": "Bob"}, {"email": "x@x.example"}]}
    refused = api("POST", "users/create_or_update_many", body)
    assert (refused.status_code, refused.json()["error"]["title"]) == (403, "Forbidden")
    zendesk.bulk_users = True
    results = polled(api, api.made("users/create_or_update_many", body))
    assert [row["name"] for row in zendesk.state()["users"]] == ["Anne", "Bob"]
    assert results == [
        {"action": "update", "id": ann, "status": "Updated", "success": True},
        {"status": "Created", "id": zendesk.state()["users"][1]["id"]},
        {"index": 2, "error": "UserUpdateFailed", "details": "Name:  cannot be blank"},
    ]


def test_bulk_creates_leave_the_users_of_an_address_alone(zendesk: Zendesk, api: Api) -> None:
    zendesk.add_user("Ann", "ann@x.example")
    body = {"users": [{"name": "Anne", "email": "ANN@x.example"}, {"name": "Bob", "email": "bob@x.example"}]}
    assert api("POST", "users/create_many", body).status_code == 403
    zendesk.bulk_users = True
    results = polled(api, api.made("users/create_many", body))
    assert [row["name"] for row in zendesk.state()["users"]] == ["Ann", "Bob"]
    assert [result.get("error", result.get("status")) for result in results] == ["UserCreateFailed", "Created"]


def test_users_take_one_write_a_second_and_five_updates_a_minute_when_limited(zendesk: Zendesk, api: Api, clock: Clock) -> None:
    ann = zendesk.add_user("Ann")
    zendesk.user_limit = True
    change = {"user": {"notes": "n"}}
    assert [api("PUT", f"users/{ann}", change).status_code for _ in range(2)] == [200, 429]
    for _ in range(4):
        clock.forward(1)
        assert api("PUT", f"users/{ann}", change).status_code == 200
    clock.forward(1)
    refused = api("PUT", f"users/{ann}", change)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "55")
    assert refused.text == "You have exceeded the rate limit for updating a single unique user."


def test_memberships_are_added_once_made_default_and_removed(zendesk: Zendesk, api: Api) -> None:
    one, two = zendesk.add_organization("Acme"), zendesk.add_organization("Beta")
    ann = zendesk.add_user("Ann", organization_id=one)
    body = {"organization_membership": {"user_id": ann, "organization_id": two}}
    made = api("POST", "organization_memberships", body)
    assert (made.status_code, made.json()["organization_membership"]["default"]) == (201, None)
    again = refusal("user_id", f"User: {ann} has already been taken", "DuplicateValue")
    assert outcome(api("POST", "organization_memberships", body)) == (422, again)
    membership = made.json()["organization_membership"]["id"]
    listed = api("PUT", f"users/{ann}/organization_memberships/{membership}/make_default").json()["organization_memberships"]
    assert [(row["organization_id"], row["default"]) for row in listed] == [(one, None), (two, True)]
    assert api.get(f"users/{ann}/organization_memberships")["organization_memberships"] == listed
    assert outcome(api("DELETE", f"organization_memberships/{membership}")) == (204, None)
    assert api.get(f"users/{ann}")["user"]["organization_id"] == one
    results = polled(
        api, api.made("organization_memberships/create_many", {"organization_memberships": [body["organization_membership"], {}]})
    )
    assert [result.get("status", result.get("error")) for result in results] == ["Created", "OrganizationMembershipCreateFailed"]
    assert zendesk.state()["users"][0]["organization_ids"] == [one, two]


# Custom objects


def test_an_upsert_creates_and_then_changes_only_what_is_given(zendesk: Zendesk, api: Api) -> None:
    define_invoice(api)
    acme = str(zendesk.add_organization("Acme"))
    values = {"amount": "10.00", "organization": acme}
    made = upsert(api, "wave:1", {"name": "INV-1", "custom_object_fields": values})
    record = made.json()["custom_object_record"]
    assert (made.status_code, len(record["id"]), record["external_id"]) == (200, 26, "wave:1")
    changed = upsert(api, "wave:1", {"custom_object_fields": {"amount": 5}})
    assert outcome(changed) == (200, {"custom_object_record": record | {"custom_object_fields": {"amount": "5", "organization": acme}}})
    upsert(api, "WAVE:1", {"name": "INV-1b"})
    listed = api.get("custom_objects/wave_invoice/records?filter[external_ids]=wave:1,wave:2")
    assert listed["custom_object_records"] == [changed.json()["custom_object_record"]]
    assert api.get("custom_objects/wave_invoice/records/count")["count"]["value"] == 2
    assert upsert(api, "wave:3", {"name": "x", "external_id": "wave:4"}).status_code == 400


@pytest.mark.parametrize(
    ("record", "member"),
    [
        ({"custom_object_fields": {}}, "name"),
        ({"name": "x", "custom_object_fields": {"nope": 1}}, "nope"),
        ({"name": "x", "custom_object_fields": {"external_id": "wave:1"}}, "external_id"),
        ({"name": "x", "custom_object_fields": {"organization": "42"}}, "organization"),
        ({"name": "x", "custom_object_fields": {"organization": 42}}, "organization"),
        ({"name": "x", "custom_object_fields": {"organization": "external_id:a"}}, "organization"),
        ({"name": "x", "external_id": "wave:taken"}, "external_id"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(api: Api, record: dict[str, Any], member: str) -> None:
    define_invoice(api)
    upsert(api, "wave:taken", {"name": "INV-1"})
    answer = api("POST", "custom_objects/wave_invoice/records", {"custom_object_record": record})
    assert (answer.status_code, list(answer.json()["details"])) == (422, [member])


def test_records_are_deleted_by_id_or_external_id(zendesk: Zendesk, api: Api) -> None:
    define_invoice(api)
    ids = [upsert(api, f"wave:{number}", {"name": "INV"}).json()["custom_object_record"]["id"] for number in range(3)]
    path = "custom_objects/wave_invoice/records"
    assert outcome(api("DELETE", f"{path}/{ids[0]}")) == (204, None)
    assert outcome(api("DELETE", f"{path}?external_id=wave:1")) == (204, None)
    assert outcome(api("DELETE", f"{path}?external_id=wave:1")) == (404, NOT_FOUND)
    zendesk.delete_record("wave:2")
    assert outcome(api("PATCH", f"{path}/{ids[2]}", {"custom_object_record": {}})) == (404, NOT_FOUND)
    assert zendesk.state()["custom_objects"][0]["records"] == []


def test_names_are_unique_only_where_defined_so_before_the_first_record(api: Api) -> None:
    define_invoice(api)
    name = "custom_objects/wave_invoice/fields/standard::name"
    unique = {"custom_object_field": {"properties": {"is_unique": True}}}
    assert api("PATCH", name, unique).status_code == 200
    assert upsert(api, "wave:1", {"name": "INV-1"}).status_code == 200
    assert outcome(upsert(api, "wave:2", {"name": "INV-1"})) == (
        422,
        refusal("name", "Name: INV-1 has already been taken", "DuplicateValue"),
    )
    assert api("PATCH", name, {"custom_object_field": {"properties": {"is_unique": False}}}).status_code == 422
    fields = api.get("custom_objects/wave_invoice/fields?include_standard_fields=true")["custom_object_fields"]
    assert [one["key"] for one in fields] == ["standard::name", "standard::external_id", "amount", "organization"]


def test_numbered_names_may_not_be_sent(api: Api) -> None:
    define_invoice(api)
    rules = {"autoincrement_enabled": True, "autoincrement_prefix": "P-", "autoincrement_padding": 3}
    api("PATCH", "custom_objects/wave_invoice/fields/standard::name", {"custom_object_field": {"properties": rules}})
    assert upsert(api, "wave:1", {"name": "x"}).status_code == 422
    assert [upsert(api, key, {}).json()["custom_object_record"]["name"] for key in ("wave:1", "wave:2")] == ["P-001", "P-002"]


def test_a_bulk_upsert_wants_the_external_id_on_top(zendesk: Zendesk, api: Api) -> None:
    define_invoice(api)
    known = upsert(api, "wave:1", {"name": "INV-1", "custom_object_fields": {"amount": "1"}}).json()["custom_object_record"]["id"]
    items = [
        {"external_id": "wave:1", "name": "INV-1b"},
        {"external_id": "wave:2", "name": "INV-2"},
        {"name": "INV-3", "custom_object_fields": {"external_id": "wave:3"}},
    ]
    action = "create_or_update_by_external_id"
    answer = api("POST", "custom_objects/wave_invoice/jobs", {"job": {"action": action, "items": items}})
    assert answer.status_code == 201
    results = polled(api, answer.json())
    records = zendesk.state()["custom_objects"][0]["records"]
    assert [(one["external_id"], one["name"], one["custom_object_fields"]["amount"]) for one in records] == [
        ("wave:1", "INV-1b", "1"),
        ("wave:2", "INV-2", None),
    ]
    assert results == [
        {"index": 0, "action": action, "id": known, "status": "Updated", "success": True},
        {"index": 1, "action": action, "id": records[1]["id"], "status": "Created", "success": True},
        {"index": 2, "action": action, "error": "RecordFailed", "details": "external_id:  cannot be blank", "success": False},
    ]
    gone = api.made("custom_objects/wave_invoice/jobs", {"job": {"action": "delete_by_external_id", "items": ["wave:1", "wave:2"]}})
    assert [one["status"] for one in polled(api, gone)] == ["Deleted", "Deleted"]
    many = api("POST", "custom_objects/wave_invoice/jobs", {"job": {"action": action, "items": [{}] * 101}})
    assert (many.status_code, many.json()["error"]) == (400, "TooManyValues")


def test_records_are_found_from_their_organization(zendesk: Zendesk, api: Api) -> None:
    field = define_invoice(api)
    one, two = (str(zendesk.add_organization(name)) for name in ("Acme", "Beta"))
    for key, organization in (("wave:1", one), ("wave:2", two), ("wave:3", one)):
        upsert(api, key, {"name": key, "custom_object_fields": {"organization": organization}})
    path = f"zen:organization/{one}/relationship_fields/{field}/zen:custom_object:wave_invoice"
    assert [row["name"] for row in api.get(path)["custom_object_records"]] == ["wave:1", "wave:3"]
    assert api("GET", path.replace(str(field), "1")).status_code == 404
    zendesk.delete_organization(int(one))
    assert api("GET", path).status_code == 404


def test_record_search_filters_and_lags(zendesk: Zendesk, api: Api, clock: Clock) -> None:
    define_invoice(api)
    acme = str(zendesk.add_organization("Acme"))
    upsert(api, "wave:1", {"name": "INV-1", "custom_object_fields": {"organization": acme}})
    clock.forward(1)
    upsert(api, "wave:2", {"name": "INV-2", "custom_object_fields": {"organization": acme}})
    upsert(api, "wave:3", {"name": "INV-3"})
    path = "custom_objects/wave_invoice/records/search?sort=-updated_at"
    mine: dict[str, Any] = {"custom_object_fields.organization": {"$eq": acme}}
    found: Callable[[Any], list[str]] = lambda body: [row["name"] for row in api.made(path, body)["custom_object_records"]]  # noqa: E731
    assert found({"filter": {"$and": [mine]}}) == ["INV-2", "INV-1"]
    assert found({"filter": {"$or": [{"external_id": {"$eq": "wave:3"}}, {"name": {"$eq": "INV-1"}}]}}) == ["INV-3", "INV-1"]
    assert api("POST", path, {"filter": {"amount": {"$eq": "1"}}}).status_code == 400
    zendesk.search_lag = 1
    assert found({"filter": mine}) == ["INV-1"]


def test_limits_count_what_is_used(zendesk: Zendesk, api: Api) -> None:
    zendesk.object_limit = 1
    define_invoice(api)
    upsert(api, "wave:1", {"name": "INV-1"})
    assert api.get("custom_objects/limits/object_limit") == {"count": 1, "limit": 1}
    assert api.get("custom_objects/limits/record_limit") == {"count": 1, "limit": 50_000_000}
    assert api.get("custom_objects/wave_invoice/limits/field_limit") == {"count": 2, "limit": 100}
    full = api("POST", "custom_objects", {"custom_object": {"key": "b", "title": "B", "title_pluralized": "Bs"}})
    assert (full.status_code, full.json()["details"]["base"][0]["error"]) == (422, "TooManyObjects")
    twice = api("POST", "custom_objects", {"custom_object": {"key": "wave_invoice", "title": "B", "title_pluralized": "Bs"}})
    assert (twice.status_code, list(twice.json()["details"])) == (422, ["key"])


def test_a_custom_object_is_retitled_and_deleted_with_its_records(zendesk: Zendesk, api: Api) -> None:
    define_invoice(api)
    upsert(api, "wave:1", {"name": "INV-1"})
    changed = api("PATCH", "custom_objects/wave_invoice", {"custom_object": {"title": "Bill"}}).json()["custom_object"]
    assert (changed["title"], changed["title_pluralized"]) == ("Bill", "Invoices")
    assert api.get("custom_objects")["custom_objects"] == [changed]
    field = api("PATCH", "custom_objects/wave_invoice/fields/amount", {"custom_object_field": {"title": "Sum"}})
    assert api.get(f"custom_objects/wave_invoice/fields/{field.json()['custom_object_field']['id']}") == field.json()
    assert outcome(api("DELETE", "custom_objects/wave_invoice")) == (204, None)
    assert zendesk.state()["custom_objects"] == []


def test_a_plan_without_custom_objects_refuses_them_all(zendesk: Zendesk, api: Api) -> None:
    zendesk.custom_objects = False
    expected = {"error": {"title": "Forbidden", "message": "Custom objects are not available on your plan"}}
    reverse = "zen:organization/1/relationship_fields/2/zen:custom_object:wave_invoice"
    for path in ("custom_objects", "custom_objects/limits/object_limit", "custom_objects/x/records", reverse):
        assert outcome(api("GET", path)) == (403, expected)


# The account


def test_the_account_limit_stops_everything_until_the_minute_is_over(zendesk: Zendesk, api: Api, clock: Clock) -> None:
    zendesk.limit_per_minute = 2
    first = api("GET", "organizations")
    assert (first.headers["x-rate-limit"], first.headers["x-rate-limit-remaining"]) == ("2", "1")
    assert api("GET", "users/me").status_code == 200
    clock.forward(15)
    refused = api("GET", "organizations")
    assert (refused.status_code, refused.headers["Retry-After"], refused.text) == (
        429,
        "45",
        "Number of allowed API requests per minute exceeded",
    )
    clock.forward(45)
    assert api("GET", "organizations").status_code == 200


@pytest.mark.parametrize("body", [None, [], {"name": "Acme"}, {"organization": []}])
def test_a_body_without_its_envelope_is_refused(zendesk: Zendesk, api: Api, body: Any) -> None:
    answer = api("POST", "organizations", body)
    assert (answer.status_code, answer.json()["error"]["title"]) == (400, "Invalid attribute")
    assert zendesk.state()["organizations"] == []


def test_the_state_is_whole_and_in_stable_order(zendesk: Zendesk, api: Api) -> None:
    define_invoice(api)
    api.made("organization_fields", {"organization_field": BALANCE})
    beta, acme = zendesk.add_organization("beta"), zendesk.add_organization("Acme", "wave:1", notes="n", tags=["vip"])
    ann = zendesk.add_user("Ann", "ann@x.example", role="agent", organization_id=acme)
    record = upsert(api, "wave:9", {"name": "INV-9", "custom_object_fields": {"organization": str(acme)}}).json()["custom_object_record"]
    rest = {"details": None, "organization_fields": {"wave_balance": None}}
    assert zendesk.state() == {
        "organizations": [
            {"id": acme, "name": "Acme", "external_id": "wave:1", "notes": "n", "tags": ["vip"], **rest},
            {"id": beta, "name": "beta", "external_id": None, "notes": None, "tags": [], **rest},
        ],
        "organization_fields": [{"key": "wave_balance", "type": "decimal", "title": "Balance", "active": True, "target": None}],
        "users": [
            {
                "id": ann,
                "name": "Ann",
                "email": "ann@x.example",
                "emails": ["ann@x.example"],
                "external_id": None,
                "role": "agent",
                "phone": None,
                "details": None,
                "notes": None,
                "tags": [],
                "organization_ids": [acme],
            }
        ],
        "custom_objects": [
            {
                "key": "wave_invoice",
                "title": "Invoice",
                "title_pluralized": "Invoices",
                "include_in_list_view": False,
                "fields": [
                    {"key": "amount", "type": "decimal", "title": "Amount", "active": True, "target": None},
                    {"key": "organization", "type": "lookup", "title": "Organization", "active": True, "target": "zen:organization"},
                ],
                "records": [
                    {
                        "id": record["id"],
                        "name": "INV-9",
                        "external_id": "wave:9",
                        "custom_object_fields": {"amount": None, "organization": str(acme)},
                    }
                ],
            }
        ],
        "violations": [],
        "mails": [],
    }
    control = requests.get(f"{api.url.removesuffix('/zendesk')}/control/zendesk/state", timeout=5)
    assert control.json() == zendesk.state()


def test_the_page_shows_each_organization_with_what_belongs_to_it(zendesk: Zendesk, api: Api) -> None:
    define_invoice(api)
    payment = {"key": "wave_payment", "title": "Payment", "title_pluralized": "Payments"}
    api.made("custom_objects", {"custom_object": payment})
    lookup = {"key": "invoice", "title": "Invoice", "type": "lookup", "relationship_target_type": "zen:custom_object:wave_invoice"}
    api.made("custom_objects/wave_payment/fields", {"custom_object_field": lookup})
    acme = zendesk.add_organization("Acme <&> Sons", "wave:1")
    zendesk.add_user("Ann", "ann@x.example", organization_id=acme)
    invoice = upsert(api, "wave:2", {"name": "INV-2", "custom_object_fields": {"amount": "10.00", "organization": str(acme)}})
    paid = {"name": "PAY-3", "custom_object_fields": {"invoice": invoice.json()["custom_object_record"]["id"]}}
    api("PATCH", "custom_objects/wave_payment/records?external_id=wave:3", {"custom_object_record": paid})
    page = requests.get(f"{api.url}/", timeout=5)
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    shown = ["<h2>Acme &lt;&amp;&gt; Sons</h2>", "wave:1", "<h3>Users</h3>", "ann@x.example", "<h3>Invoices</h3>", "10.00", "PAY-3"]
    assert [text for text in shown if text not in page.text] == []
    assert "<script" not in page.text
