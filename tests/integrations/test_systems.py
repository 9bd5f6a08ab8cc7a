"""Rows become adapters: credentials, sessions that go nowhere else, plans, and what is remembered of an account."""

import dataclasses
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
import responses
import time_machine
from pytest_django import Settings

from audit import holds
from audit.models import Hold, SyncJob
from integrations import outgoing, registry, systems
from integrations.core.errors import Disconnected, Misconfigured, Rejected, Transient
from integrations.core.ports import Account, Check, FieldRule, Plan, StatusRule
from integrations.http import ApiClient
from integrations.models import Connection, Credential, FieldMapping, RemoteShape, Route, StatusMapping
from tests.integrations import accounts

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
WAVE = "https://gql.waveapps.com/graphql/public"
WAVE_TOKEN = "https://api.waveapps.com/oauth2/token/"
ZENDESK = "https://acme.zendesk.com"

pytestmark = pytest.mark.django_db


@pytest.fixture
def vendor() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def client(connection: Connection) -> ApiClient:
    return systems.client(connection)


# --- Accounts and plans ----------------------------------------------------------------------------------------------


def test_an_account_is_the_connection_without_its_secrets() -> None:
    assert systems.account(accounts.wave()) == Account(
        "wave-main", "wave", "oauth", {"client_id": "wave-client", "business_id": accounts.BUSINESS}
    )


def test_a_plan_is_the_route_with_its_mappings_and_default_options() -> None:
    route = accounts.route()
    route.options = {"on_delete": "delete"}
    FieldMapping.objects.create(route=route, kind="customer", target="name", template="{{ customer.name }}")
    FieldMapping.objects.create(route=route, kind="invoice", target="x", template="{{ invoice.due }}", remote="cf_1", problem="gone")
    StatusMapping.objects.create(route=route, state="PAID", status="Done", via="In Progress, Review,")
    defaults = {setting.name: setting.default for setting in registry.entry("zendesk").system.options}
    assert systems.plan(route) == Plan(
        "wave-to-zendesk",
        ("customer", "invoice", "payment"),
        defaults | {"on_delete": "delete"},
        (
            FieldRule("customer", "name", "{{ customer.name }}"),
            FieldRule("invoice", "x", "{{ invoice.due }}", remote="cf_1", problem="gone"),
        ),
        (StatusRule("PAID", "Done", via=("In Progress", "Review")),),
    )


def test_adapters_are_those_of_the_registry() -> None:
    route = accounts.route()
    assert type(systems.source(route.source)) is registry.SOURCES["wave"].build
    assert type(systems.destination(route)) is registry.DESTINATIONS["zendesk"].build


def test_a_destination_is_no_source() -> None:
    with pytest.raises(Misconfigured, match='"zendesk" is no source'):
        systems.source(accounts.zendesk())


# --- The way out -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["https://api.example.com/x", "http://127.0.0.1:8001", "http://127.9.9.9/", "http://localhost:99/x", "http://[::1]:8001/"],
)
def test_https_or_loopback_may_have_credentials(url: str) -> None:
    assert outgoing.checked_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com/",
        "http://localhost.example.com/",
        "http://127.0.0.1@evil.example/",
        "https://user@api.example.com/",
        "http://10.0.0.1/",
        "http://0.0.0.0/",
        "ftp://127.0.0.1/",
        "https:///x",
        "http://[::1/",
        "",
    ],
)
def test_nothing_else_may(url: str) -> None:
    with pytest.raises(Misconfigured, match="use https"):
        outgoing.checked_url(url)


def test_an_adapter_is_not_built_for_an_open_wire(settings: Settings) -> None:
    settings.WAVE_GRAPHQL_URL = "http://gql.example.com/"
    with pytest.raises(Misconfigured, match="use https"):
        systems.source(accounts.wave())


def test_a_session_follows_no_redirect_even_when_asked(vendor: responses.RequestsMock) -> None:
    vendor.get("https://a.example/", status=302, headers={"Location": "https://evil.example/"})
    assert outgoing.PlainSession().get("https://a.example/", allow_redirects=True).status_code == 302
    assert [call.request.url for call in vendor.calls] == ["https://a.example/"]


def test_a_session_takes_no_proxy_and_no_netrc_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://evil.example:3128")
    session = outgoing.PlainSession()
    merged = session.merge_environment_settings("https://a.example/", {}, stream=None, verify=None, cert=None)
    assert (session.trust_env, dict(merged["proxies"])) == (False, {})


def test_a_session_keeps_no_cookie(vendor: responses.RequestsMock) -> None:
    vendor.get("https://a.example/", headers={"Set-Cookie": "session=1; Path=/"})
    session = outgoing.PlainSession()
    session.get("https://a.example/")
    session.get("https://a.example/")
    assert (len(session.cookies), "Cookie" in vendor.calls[1].request.headers) == (0, False)


def test_a_session_serves_one_connection_in_one_thread() -> None:
    found: list[requests.Session] = []
    thread = threading.Thread(target=lambda: found.append(systems._session(1)))
    thread.start()
    thread.join()
    assert systems._session(1) is systems._session(1)
    assert len({id(session) for session in (found[0], systems._session(1), systems._session(2))}) == 3


# --- The 401 rule ----------------------------------------------------------------------------------------------------


def tokens_used(vendor: responses.RequestsMock) -> list[str]:
    return [call.request.headers.get("Authorization", "") for call in vendor.calls if call.request.url == WAVE]


def test_a_401_refreshes_and_repeats_once(vendor: responses.RequestsMock) -> None:
    api = client(accounts.wave())
    vendor.post(WAVE, status=401, json={})
    vendor.post(WAVE, json={"data": 1})
    vendor.post(WAVE_TOKEN, json={"access_token": "canary-new-access"})
    assert api.send("POST", "", body={}).data == {"data": 1}
    assert tokens_used(vendor) == ["Bearer canary-access", "Bearer canary-new-access"]
    assert len(vendor.calls) == 3


def test_a_401_after_another_workers_refresh_takes_its_token_without_a_call(vendor: responses.RequestsMock) -> None:
    connection = accounts.wave()
    api = client(connection)

    def refreshed_meanwhile(request: Any) -> tuple[int, dict[str, str], str]:
        secrets = json.dumps(accounts.WAVE_SECRETS | {"access_token": "canary-new-access"})
        Credential.objects.filter(pk=connection.credential_id).update(secrets=secrets, version=2)
        return 401, {}, "{}"

    vendor.add_callback("POST", WAVE, refreshed_meanwhile)
    vendor.post(WAVE, json={})
    assert api.send("POST", "", body={}).status == 200
    assert tokens_used(vendor) == ["Bearer canary-access", "Bearer canary-new-access"]
    assert len(vendor.calls) == 2


def test_a_second_401_is_the_answer(vendor: responses.RequestsMock) -> None:
    api = client(accounts.wave())
    vendor.post(WAVE, status=401, json={})
    vendor.post(WAVE_TOKEN, json={"access_token": "canary-new-access"})
    assert (api.send("POST", "", body={}).status, len(vendor.calls)) == (401, 3)


def test_a_refused_refresh_is_a_dead_grant(vendor: responses.RequestsMock) -> None:
    api = client(accounts.wave())
    vendor.post(WAVE, status=401, json={})
    vendor.post(WAVE_TOKEN, status=400, json={"error": "invalid_grant"})
    with pytest.raises(Disconnected):
        api.send("POST", "", body={})


def test_credentials_are_loaded_when_the_first_request_goes_out(django_assert_num_queries: Any) -> None:
    connection = accounts.wave()
    auth = systems.ConnectionAuth(connection)
    assert "canary" not in repr(auth)
    with django_assert_num_queries(1):
        assert auth.headers() == auth.headers() == {"Authorization": "Bearer canary-access"}
    assert "canary" not in repr(auth)


def test_no_anonymous_call_goes_out(vendor: responses.RequestsMock) -> None:
    settings = {"subdomain": "acme", "client_id": "c"}
    connection = accounts.connection("zendesk-new", "zendesk", "oauth", settings, {"client_secret": "canary-client-secret"})
    with pytest.raises(Disconnected, match="zendesk-new is not connected yet"):
        client(connection).send("GET", "/api/v2/users/me.json")
    assert len(vendor.calls) == 0


# --- Last successful call ----------------------------------------------------------------------------------------------


def last_ok(connection: Connection) -> datetime | None:
    return Connection.objects.get(pk=connection.pk).last_ok_at


def test_a_success_is_noted_at_most_once_a_minute(vendor: responses.RequestsMock) -> None:
    connection = accounts.wave()
    vendor.post(WAVE, json={})
    with time_machine.travel(NOW, tick=False) as clock:
        client(connection).send("POST", "", body={})
        clock.shift(timedelta(seconds=59))
        client(connection).send("POST", "", body={})
        assert last_ok(connection) == NOW
        clock.shift(timedelta(seconds=1))
        client(connection).send("POST", "", body={})
        assert last_ok(connection) == NOW + timedelta(seconds=60)


def test_a_failure_is_no_success(vendor: responses.RequestsMock) -> None:
    connection = accounts.wave()
    vendor.post(WAVE, status=500)
    client(connection).send("POST", "", body={})
    assert last_ok(connection) is None


# --- What is remembered ------------------------------------------------------------------------------------------------


def test_a_shape_is_loaded_with_one_query_and_kept(django_assert_num_queries: Any) -> None:
    route = accounts.route()
    systems.DatabaseShape(route).put("fields", {"a": 1})
    systems.DatabaseShape(route).put("fields", {"a": 2})
    shape = systems.DatabaseShape(route)
    with django_assert_num_queries(1):
        assert (shape.get("fields"), shape.get("workflow"), shape.get("fields")) == ({"a": 2}, None, {"a": 2})


def test_what_was_learnt_a_day_ago_is_forgotten() -> None:
    route = accounts.route()
    with time_machine.travel(NOW, tick=False) as clock:
        systems.DatabaseShape(route).put("fields", 1)
        clock.shift(timedelta(hours=24) - timedelta(seconds=1))
        assert systems.DatabaseShape(route).get("fields") == 1
        clock.shift(timedelta(seconds=1))
        assert systems.DatabaseShape(route).get("fields") is None


def test_putting_none_forgets() -> None:
    route = accounts.route()
    shape = systems.DatabaseShape(route)
    shape.put("fields", 1)
    shape.put("fields", None)
    assert (shape.get("fields"), RemoteShape.objects.count()) == (None, 0)


def test_a_route_remembers_for_itself_alone() -> None:
    first = accounts.route()
    second = accounts.route("other", source=first.source, destination=accounts.zendesk("zendesk-other"))
    systems.DatabaseShape(first).put("fields", 1)
    assert systems.DatabaseShape(second).get("fields") is None


# --- Ping --------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Pinged:
    """An adapter whose ping gives what a test wants; it notes the plans it was built with."""

    result: list[Check] | Exception
    plans: list[Plan] = dataclasses.field(default_factory=list)

    def build(self, api: ApiClient, plan: Plan, shape: Any) -> "Pinged":
        self.plans.append(plan)
        return self

    def ping(self) -> list[Check]:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def pinged(monkeypatch: pytest.MonkeyPatch, result: list[Check] | Exception) -> Pinged:
    adapter = Pinged(result)
    entry: Any = dataclasses.replace(registry.DESTINATIONS["zendesk"], build=adapter.build)  # type: ignore[arg-type]
    monkeypatch.setitem(registry.DESTINATIONS, "zendesk", entry)
    return adapter


def blocked_job(route: Route) -> SyncJob:
    now = datetime.now(UTC)
    return SyncJob.objects.create(
        route_id=route.pk,
        route_slug=route.slug,
        source_id=route.source_id,
        destination_id=route.destination_id,
        system="zendesk",
        kind="customer",
        key="wave:b:customer:1",
        created_at=now,
        due_at=now,
    )


def test_a_ping_that_holds_makes_ready_and_turns_jobs_loose(monkeypatch: pytest.MonkeyPatch) -> None:
    route = accounts.route()
    job = blocked_job(route)
    Connection.objects.filter(pk=route.destination_id).update(status="needs_reconnect", status_reason="dead")
    holds.block(route.destination_id)
    pinged(monkeypatch, [Check("account", ok=True)])
    assert systems.ping(route.destination) == [Check("account", ok=True)]
    job.refresh_from_db()
    found = Connection.objects.get(pk=route.destination_id)
    assert (found.status, found.status_reason, job.state, Hold.objects.count()) == ("ready", "", "pending", 0)


def test_a_ping_that_holds_lifts_a_block_that_marked_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    route = accounts.route()
    holds.block(route.destination_id)
    pinged(monkeypatch, [Check("account", ok=True)])
    systems.ping(route.destination)
    assert Hold.objects.count() == 0


def test_a_ping_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    route = accounts.route()
    holds.block(route.destination_id)
    Connection.objects.filter(pk=route.destination_id).update(status="needs_reconnect")
    pinged(monkeypatch, [Check("account", ok=True), Check("fields", ok=False)])
    systems.ping(route.destination)
    assert (Connection.objects.get(pk=route.destination_id).status, Hold.objects.count()) == ("needs_reconnect", 1)


@pytest.mark.parametrize(
    ("error", "check"),
    [
        (Disconnected("dead"), Check("call", ok=False, detail="dead", advice="connect the account again, or enter new credentials")),
        (Transient("later"), Check("call", ok=False, detail="later", advice="try again in a few minutes")),
        (Rejected("no"), Check("call", ok=False, detail="no", advice="check what the account may do")),
        (Misconfigured("wrong"), Check("set-up", ok=False, detail="wrong", advice="correct the connection's settings")),
    ],
)
def test_an_error_in_a_ping_is_a_failed_check(monkeypatch: pytest.MonkeyPatch, error: Exception, check: Check) -> None:
    pinged(monkeypatch, error)
    assert systems.ping(accounts.zendesk()) == [check]


def test_a_destination_is_pinged_once_per_route_and_without_one_with_an_empty_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = pinged(monkeypatch, [Check("account", ok=True)])
    route = accounts.route()
    accounts.route("second", source=accounts.wave("wave-other"), destination=route.destination)
    systems.ping(route.destination)
    systems.ping(accounts.zendesk("zendesk-lonely"))
    assert [(plan.route, plan.kinds) for plan in adapter.plans] == [
        ("second", ("customer", "invoice", "payment")),
        ("wave-to-zendesk", ("customer", "invoice", "payment")),
        ("", ()),
    ]
