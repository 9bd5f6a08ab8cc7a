"""Connecting in the browser: whose answer is taken, what is compared, and what is stored."""

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import responses
import time_machine
from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone

from audit import holds
from audit.models import Hold
from integrations import connect, disconnect, ways
from integrations.core.errors import Misconfigured
from integrations.models import Connection, Credential, Route
from tests.integrations import accounts

WAVE_TOKEN, WAVE_REVOKE = "https://api.waveapps.com/oauth2/token/", "https://api.waveapps.com/oauth2/token-revoke/"
WAVE_API = "https://gql.waveapps.com/graphql/public"
ZENDESK = "https://acme.zendesk.com"
JIRA_TOKEN = "https://auth.atlassian.com/oauth/token"
JIRA_SITES = "https://api.atlassian.com/oauth/token/accessible-resources"
SCOPES = {
    "wave": "user:read business:read customer:read invoice:read",
    "zendesk": "read write",
    "jira": "read:jira-work write:jira-work read:jira-user manage:jira-webhook offline_access",
}
SITE, OTHER_SITE = "11111111-2222-4333-8444-555555555555", "66666666-7777-4888-8999-000000000000"
OTHER_BUSINESS = "99999999-7b1d-4d5e-9c57-2f3a4b5c6d7e"

pytestmark = pytest.mark.django_db


@pytest.fixture
def vendor() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def session() -> SessionStore:
    return SessionStore()


def zendesk() -> Connection:
    return accounts.connection(
        "zendesk-acme", "zendesk", "oauth", {"subdomain": "acme", "client_id": "z"}, {"client_secret": "canary-client-secret"}
    )


def jira(slug: str = "jira-acme") -> Connection:
    return accounts.connection(slug, "jira", "oauth", {"client_id": "j"}, {"client_secret": "canary-client-secret"})


def state_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["state"][0]


def token_answer(system: str, **changes: Any) -> dict[str, Any]:
    pair = {"access_token": "canary-new-access", "refresh_token": "canary-new-refresh", "expires_in": 3600}
    return {**pair, "scope": SCOPES[system], **changes}


def businesses(*uuids: str) -> dict[str, Any]:
    nodes = [{"id": base64.b64encode(f"Business:{uuid}".encode()).decode(), "name": f"B-{uuid[:4]}", "isArchived": False} for uuid in uuids]
    return {"data": {"businesses": {"pageInfo": {"totalPages": 1}, "edges": [{"node": node} for node in nodes]}}}


def site(cloud_id: str, name: str, scope: str = "read:jira-work") -> dict[str, Any]:
    return {"id": cloud_id, "name": name, "url": f"https://{name}.atlassian.net", "scopes": [scope]}


def myself(vendor: responses.RequestsMock, cloud_id: str = SITE, account: str = "person-1") -> None:
    url = f"https://api.atlassian.com/ex/jira/{cloud_id}/rest/api/3/myself"
    vendor.get(url, json={"accountId": account, "displayName": "Ann"})


def come_back(connection: Connection, session: SessionStore, **given: str) -> connect.Ending:
    url = connect.begin(connection, session)
    return connect.finish(connection.system, {"state": state_of(url), "code": "canary-code", **given}, session)


def refused(connection: Connection, session: SessionStore, **given: str) -> str:
    """Return why it was refused, after a look that nothing was changed."""
    before = accounts.held(connection)
    with pytest.raises(connect.Refused) as raised:
        come_back(connection, session, **given)
    connection.refresh_from_db()
    assert accounts.held(connection) == before
    return str(raised.value)


# --- Out -----------------------------------------------------------------------------------------------------------


def test_wave_is_asked_for_its_business_and_scopes(session: SessionStore) -> None:
    url = connect.begin(accounts.wave(), session)
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert url.startswith("https://api.waveapps.com/oauth2/authorize/?")
    assert query == {
        "client_id": "wave-client",
        "response_type": "code",
        "scope": SCOPES["wave"],
        "redirect_uri": "http://127.0.0.1:8000/oauth/wave/callback/",
        "state": query["state"],
        "approval_prompt": "force",
        "businessId": base64.b64encode(f"Business:{accounts.BUSINESS}".encode()).decode(),
    }


def test_zendesk_is_asked_with_a_challenge_whose_verifier_stays_here(session: SessionStore) -> None:
    url = connect.begin(zendesk(), session)
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    verifier = session[connect.ASKED][query["state"]]["verifier"]
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    assert (query["code_challenge"], query["code_challenge_method"], len(verifier)) == (digest, "S256", 64)
    assert url.startswith(f"{ZENDESK}/oauth/authorizations/new?")


def test_jira_is_asked_for_offline_access_and_a_site(session: SessionStore) -> None:
    url = connect.begin(jira(), session)
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert url.startswith("https://auth.atlassian.com/authorize?")
    assert (query["audience"], query["prompt"], query["scope"]) == ("api.atlassian.com", "consent", SCOPES["jira"])


def test_the_right_to_create_fields_is_asked_for_only_when_wanted(session: SessionStore) -> None:
    connection = jira()
    connection.settings["create_fields"] = True
    assert connect.needed_scopes(connection)[-2:] == ("manage:jira-configuration", "manage:jira-project")


def test_a_way_in_without_a_consent_page_says_what_to_press_instead(session: SessionStore) -> None:
    with pytest.raises(Misconfigured, match="press Ping"):
        connect.begin(accounts.zendesk(), session)


@pytest.mark.parametrize("subdomain", ["169.254.169.254/x#", "a.b", "a@b", "", "\u0430cme", "a%2eb", "x" * 64])
def test_no_consent_page_of_a_hostile_subdomain(session: SessionStore, subdomain: str) -> None:
    connection = zendesk()
    connection.settings["subdomain"] = subdomain
    with pytest.raises(Misconfigured):
        connect.begin(connection, session)


# --- Whose answer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["", "made-up"])
def test_a_wrong_state_is_not_taken(session: SessionStore, state: str) -> None:
    assert "Nobody asked for this answer" in refused(accounts.wave(), session, state=state)


def test_a_state_of_another_session_is_not_taken(session: SessionStore) -> None:
    connection = accounts.wave()
    elsewhere = state_of(connect.begin(connection, SessionStore()))
    assert "Nobody asked for this answer" in refused(connection, session, state=elsewhere)


def test_a_state_of_another_system_is_not_taken(session: SessionStore) -> None:
    state = state_of(connect.begin(accounts.wave(), session))
    with pytest.raises(connect.Refused, match="another system"):
        connect.finish("zendesk", {"state": state, "code": "c"}, session)


def test_a_state_lives_ten_minutes(session: SessionStore) -> None:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        state = state_of(connect.begin(accounts.wave(), session))
        clock.shift(timedelta(minutes=10, seconds=1))
        with pytest.raises(connect.Refused, match="later than 10 minutes"):
            connect.finish("wave", {"state": state, "code": "c"}, session)


def test_a_replayed_answer_is_told_apart_and_makes_no_call(session: SessionStore, vendor: responses.RequestsMock) -> None:
    state = state_of(connect.begin(accounts.wave(), session))
    with pytest.raises(connect.Refused):
        connect.finish("wave", {"state": state, "error": "access_denied"}, session)
    with pytest.raises(connect.Refused, match="taken already"):
        connect.finish("wave", {"state": state, "code": "c"}, session)
    assert len(vendor.calls) == 0


# --- Errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("access_denied", "access was denied there"),
        ("invalid_scope", "a scope was refused"),
        ("server_error", "something went wrong there"),
        ("redirect_uri_mismatch", "Register http://127.0.0.1:8000/oauth/wave/callback/"),
        ("{weird}", 'it answered the error "{weird}"'),
    ],
)
def test_a_vendors_error_is_told_in_words_that_say_what_to_do(session: SessionStore, error: str, words: str) -> None:
    told = refused(accounts.wave(), session, error=error)
    assert told.startswith("Wave: ")
    assert words in told
    assert "press Connect again" in told


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (400, {"error": "invalid_grant"}, "used already or has expired (it lives 2 minutes)"),
        (401, {"error": "invalid_client"}, "client id or secret was refused"),
        (503, None, "wait a few minutes"),
        (200, token_answer("zendesk", scope="read"), "did not grant what is needed: write"),
    ],
)
def test_a_code_that_gives_no_good_tokens_changes_nothing(
    session: SessionStore, vendor: responses.RequestsMock, status: int, answer: Any, words: str
) -> None:
    vendor.post(f"{ZENDESK}/oauth/tokens", status=status, json=answer)
    told = refused(zendesk(), session)
    assert words in told
    assert "canary" not in told


def test_jira_without_a_refresh_token_lacks_offline_access(session: SessionStore, vendor: responses.RequestsMock) -> None:
    vendor.post(JIRA_TOKEN, json=token_answer("jira", refresh_token=None))
    assert "offline_access" in refused(jira(), session)


# --- The place -----------------------------------------------------------------------------------------------------


def test_the_only_business_is_taken_and_blocked_jobs_are_let_loose(session: SessionStore, vendor: responses.RequestsMock) -> None:
    connection = accounts.wave()
    Connection.objects.filter(pk=connection.pk).update(status="needs_reconnect", status_reason="revoked", settings={"client_id": "w"})
    holds.block(connection.pk)
    connection.refresh_from_db()
    vendor.post(WAVE_TOKEN, json=token_answer("wave"))
    vendor.post(WAVE_API, json=businesses(accounts.BUSINESS))
    ending = come_back(connection, session)
    connection.refresh_from_db()
    assert ending.place is not None
    assert (connection.status, connection.status_reason, Hold.objects.count()) == ("ready", "", 0)
    assert connection.account == {"place": accounts.BUSINESS, "place_name": "B-4f1a", "person": "", "person_name": ""}
    assert connection.settings["business_id"] == base64.b64encode(f"Business:{accounts.BUSINESS}".encode()).decode()
    assert accounts.held(connection) == {
        "client_secret": "canary-client-secret",
        "access_token": "canary-new-access",
        "refresh_token": "canary-new-refresh",
    }
    assert Credential.objects.get(pk=connection.credential_id).scope == SCOPES["wave"]


def test_another_business_is_no_silent_switch(session: SessionStore, vendor: responses.RequestsMock) -> None:
    vendor.post(WAVE_TOKEN, json=token_answer("wave"))
    vendor.post(WAVE_API, json=businesses(OTHER_BUSINESS))
    assert "make a new connection for the other business" in refused(accounts.wave(), session)


def test_settings_that_were_pointed_elsewhere_are_no_silent_switch(session: SessionStore) -> None:
    connection = accounts.wave()
    connection.account = {"place": OTHER_BUSINESS, "place_name": "Other"}
    with pytest.raises(Misconfigured, match="set them back, or make a new connection"):
        connect.begin(connection, session)


def test_a_business_is_connected_once(session: SessionStore, vendor: responses.RequestsMock) -> None:
    accounts.wave()
    second = accounts.connection("wave-2", "wave", "oauth", {"client_id": "w"}, {"client_secret": "canary-client-secret"})
    vendor.post(WAVE_TOKEN, json=token_answer("wave"))
    vendor.post(WAVE_API, json=businesses(accounts.BUSINESS))
    assert "connected already, as wave-main" in refused(second, session)


def test_several_businesses_wait_encrypted_until_one_is_chosen(session: SessionStore, vendor: responses.RequestsMock) -> None:
    connection = accounts.connection("wave-2", "wave", "oauth", {"client_id": "w"}, {"client_secret": "canary-client-secret"})
    vendor.post(WAVE_TOKEN, json=token_answer("wave"))
    vendor.post(WAVE_API, json=businesses(accounts.BUSINESS, OTHER_BUSINESS))
    ending = come_back(connection, session)
    assert ending.place is None
    assert [place.name for place in connect.choices(connection, session)] == ["B-4f1a", "B-9999"]
    assert "canary" not in json.dumps(dict(session))
    with pytest.raises(connect.Refused, match="not open any more"):
        connect.choose(connection, "another", session)
    chosen = connect.choose(connection, OTHER_BUSINESS, session)
    assert chosen.place is not None
    assert chosen.connection.account["place"] == OTHER_BUSINESS
    assert accounts.held(connection)["access_token"] == "canary-new-access"
    assert Credential.objects.filter(connections=None).count() == 0
    with pytest.raises(connect.Refused, match="not open any more"):
        connect.choose(connection, OTHER_BUSINESS, session)


@pytest.mark.parametrize(
    ("user", "words"), [({"id": 8, "role": "admin"}, "wrong account"), ({"id": None, "role": "end-user"}, "neither an admin")]
)
def test_another_person_at_zendesk_is_no_silent_switch(
    session: SessionStore, vendor: responses.RequestsMock, user: dict[str, Any], words: str
) -> None:
    connection = zendesk()
    connection.account = {"place": "acme", "person": "7", "person_name": "Ann"}
    connection.save()
    vendor.post(f"{ZENDESK}/oauth/tokens", json=token_answer("zendesk"))
    vendor.get(f"{ZENDESK}/api/v2/users/me", json={"user": user})
    assert words in refused(connection, session)


def test_a_second_site_of_one_grant_shares_its_tokens(session: SessionStore, vendor: responses.RequestsMock) -> None:
    first, second = jira(), jira("jira-other")
    vendor.post(JIRA_TOKEN, json=token_answer("jira"))
    sites = [site(SITE, "acme"), site(OTHER_SITE, "other"), site("7" * 8, "wiki", "read:confluence-content.all")]
    vendor.get(JIRA_SITES, json=sites)
    myself(vendor)
    for connection, cloud_id in ((first, SITE), (second, OTHER_SITE)):
        come_back(connection, session)
        assert [place.id for place in connect.choices(connection, session)] == [SITE, OTHER_SITE]
        connect.choose(connection, cloud_id, session)
        connection.refresh_from_db()
    assert (first.setting("cloud_id"), second.setting("cloud_id")) == (SITE, OTHER_SITE)
    assert (first.credential_id, Credential.objects.count()) == (second.credential_id, 1)


# --- Disconnecting ---------------------------------------------------------------------------------------------------


def test_disconnecting_revokes_pauses_and_keeps_the_client(vendor: responses.RequestsMock) -> None:
    route = accounts.route()
    vendor.post(WAVE_REVOKE, json={})
    told = disconnect.disconnect(route.source)
    assert told == ["Paused, until somebody resumes them: wave-to-zendesk.", "The grant was revoked at Wave."]
    assert accounts.held(route.source) == {"client_secret": "canary-client-secret"}
    assert (route.source.status, Route.objects.get().paused_at is None) == ("incomplete", False)
    assert vendor.calls[0].request.body == "token=canary-refresh&client_id=wave-client&client_secret=canary-client-secret"


def test_a_vendor_that_does_not_revoke_stops_nothing(vendor: responses.RequestsMock) -> None:
    connection = accounts.wave()
    vendor.post(WAVE_REVOKE, status=500)
    assert "Wave answered 500" in disconnect.disconnect(connection)[0]
    assert "refresh_token" not in accounts.held(connection)


def test_zendesks_token_is_renewed_first_where_it_has_run_out(vendor: responses.RequestsMock) -> None:
    connection = zendesk()
    secrets = json.dumps({"access_token": "canary-access", "refresh_token": "canary-refresh"})
    Credential.objects.filter(pk=connection.credential_id).update(secrets=secrets)
    connection.refresh_from_db()
    url = f"{ZENDESK}/api/v2/oauth/tokens/current.json"
    vendor.delete(url, status=401)
    vendor.delete(url, status=204)
    vendor.post(f"{ZENDESK}/oauth/tokens", json=token_answer("zendesk"))
    assert disconnect.disconnect(connection) == ["The grant was revoked at Zendesk."]
    assert vendor.calls[-1].request.headers["Authorization"] == "Bearer canary-new-access"


def test_a_shared_grant_stays_while_another_connection_uses_it(vendor: responses.RequestsMock) -> None:
    first, second = jira(), jira("jira-other")
    Connection.objects.filter(pk=second.pk).update(credential=first.credential)
    told = disconnect.disconnect(Connection.objects.get(pk=second.pk))
    assert told == ["The grant was not revoked, for jira-acme works with it too."]
    assert Connection.objects.get(pk=second.pk).credential_id != first.credential_id
    assert accounts.held(Connection.objects.get(pk=second.pk)) == {"client_secret": "canary-client-secret"}


# --- What to know ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("today", "urgent"), [("2026-11-22", False), ("2027-01-29", False), ("2027-01-30", True), ("2027-05-01", True)])
def test_zendesks_api_token_warns_from_ninety_days_before_its_end(today: str, urgent: bool) -> None:
    with time_machine.travel(f"{today}T12:00:00+00:00"):
        assert [caution.urgent for caution in ways.cautions(accounts.zendesk_token())] == [False, urgent]


def test_jiras_api_token_reminds_of_its_year() -> None:
    with time_machine.travel("2026-11-22T12:00:00+00:00") as clock:
        connection = accounts.connection("jira-t", "jira", "api_token", {"site": "acme"}, {"api_token": "canary-api-token"})
        assert "22 November 2027 at the latest" in ways.cautions(connection)[-1].text
        clock.shift(timedelta(days=336))
        assert ways.cautions(connection)[-1].urgent
