"""Access tokens: one refresh at a time, the pair stored at once, a dead grant told from a bad minute."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import responses
import time_machine
from django.db import connection as database
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import ReadTimeout

from integrations import oauth
from integrations.core.errors import ConnectorError, Disconnected, Transient
from integrations.core.ports import TokenCall
from integrations.models import Connection, Credential
from tests.integrations import accounts

WAVE_TOKEN = "https://api.waveapps.com/oauth2/token/"
ZENDESK_TOKEN = "https://acme.zendesk.com/oauth/tokens"
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
NEW_PAIR = {"access_token": "canary-new-access", "refresh_token": "canary-new-refresh", "expires_in": 3600, "scope": "a b"}

pytestmark = pytest.mark.django_db


@pytest.fixture
def vendor() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def row(connection: Connection) -> dict[str, Any]:
    names = ("version", "expires_at", "scope", "refresh_lease_until", "refresh_owner")
    found: dict[str, Any] = Credential.objects.values(*names).get(pk=connection.credential_id)
    return found


def health(connection: Connection) -> tuple[str, str]:
    found = Connection.objects.get(pk=connection.pk)
    return found.status, found.status_reason


@time_machine.travel(NOW, tick=False)
def test_refresh_stores_the_new_pair_and_raises_the_version(vendor: responses.RequestsMock) -> None:
    connection = accounts.wave()
    vendor.post(WAVE_TOKEN, json=NEW_PAIR)
    got = oauth.refreshed(connection.pk, 1)
    assert oauth.secrets_of(got) == accounts.held(connection)
    assert accounts.held(connection) == {
        "client_secret": "canary-client-secret",
        "access_token": "canary-new-access",
        "refresh_token": "canary-new-refresh",
    }
    assert row(connection) == {
        "version": 2,
        "expires_at": NOW + timedelta(seconds=3600),
        "scope": "a b",
        "refresh_lease_until": None,
        "refresh_owner": "",
    }


@pytest.mark.parametrize("answer", [{"access_token": "canary-new-access"}, {"access_token": "canary-new-access", "refresh_token": ""}])
def test_an_answer_without_a_refresh_token_keeps_the_old_one(vendor: responses.RequestsMock, answer: dict[str, str]) -> None:
    connection = accounts.wave()
    vendor.post(WAVE_TOKEN, json=answer)
    oauth.refreshed(connection.pk, 1)
    assert accounts.held(connection) == accounts.WAVE_SECRETS | {"access_token": "canary-new-access"}


@time_machine.travel(NOW, tick=False)
@pytest.mark.parametrize(
    ("system", "given", "seconds"),
    [
        ("wave", None, 7200),
        ("zendesk", None, 1800),
        ("jira", None, 3600),
        ("wave", 10_800, 10_800),
        ("wave", "10800", 10_800),
        ("wave", 0, 7200),
        ("wave", -5, 7200),
        ("wave", "soon", 7200),
        ("wave", 10**30, 366 * 86_400),
    ],
)
def test_the_lifetime_is_the_vendors_own_or_the_systems_usual_one(
    vendor: responses.RequestsMock, system: str, given: Any, seconds: int
) -> None:
    vendor.post(WAVE_TOKEN, json={"access_token": "t", "expires_in": given})
    assert oauth.ask(TokenCall(WAVE_TOKEN, form={"a": "b"}), system=system) == oauth.Tokens("t", NOW + timedelta(seconds=seconds))


HTML = "<html><body>Attention required</body></html>"
REFUSED = Connection.Status.NEEDS_RECONNECT
STANDS = Connection.Status.READY


@pytest.mark.parametrize(
    ("status", "body", "error", "code", "health_after"),
    [
        (400, '{"error": "invalid_grant"}', Disconnected, "invalid_grant", REFUSED),
        (403, '{"error": "invalid_grant"}', Disconnected, "invalid_grant", REFUSED),  # Jira's status for it
        (403, '{"error": "unauthorized_client"}', Disconnected, "unauthorized_client", REFUSED),
        (401, '{"error": "invalid_client"}', Disconnected, "invalid_client", REFUSED),
        (403, '{"error": "access_denied"}', Disconnected, "access_denied", REFUSED),
        (400, '{"error": "invalid_scope"}', Disconnected, "invalid_scope", REFUSED),
        (403, "", Disconnected, "disconnected", REFUSED),  # Wave: the plan has lapsed
        (403, '{"detail": "no"}', Disconnected, "disconnected", REFUSED),
        (403, HTML, Transient, "token_answer", STANDS),  # from something in between
        (429, "{}", Transient, "rate_limited", STANDS),
        (500, '{"error": "invalid_grant"}', Transient, "token_answer", STANDS),
        (502, HTML, Transient, "token_answer", STANDS),
        (200, HTML, Transient, "token_answer", STANDS),
        (200, '{"access_token": "can', Transient, "token_answer", STANDS),
        (200, '{"access_token": ""}', Transient, "token_answer", STANDS),
        (200, '["access_token"]', Transient, "token_answer", STANDS),
        (302, "", Transient, "token_answer", STANDS),
        (404, "{}", Transient, "token_answer", STANDS),
    ],
)
def test_each_answer_of_a_token_endpoint_means_one_thing(
    vendor: responses.RequestsMock, status: int, body: str, error: type[ConnectorError], code: str, health_after: str
) -> None:
    connection = accounts.wave()
    vendor.post(WAVE_TOKEN, body=body, status=status, headers={"Location": "https://evil.example/"})
    with pytest.raises(error) as raised:
        oauth.refreshed(connection.pk, 1)
    assert (type(raised.value), raised.value.code, health(connection)[0]) == (error, code, health_after)
    assert row(connection) | {"expires_at": None} == {
        "version": 1,
        "expires_at": None,
        "scope": "",
        "refresh_lease_until": None,
        "refresh_owner": "",
    }
    assert accounts.held(connection) == accounts.WAVE_SECRETS
    assert len(vendor.calls) == 1


@pytest.mark.parametrize("failure", [ReadTimeout("canary-refresh"), NoConnection("canary-refresh")])
def test_no_answer_is_transient_and_shows_no_secret(vendor: responses.RequestsMock, failure: Exception) -> None:
    connection = accounts.wave()
    vendor.post(WAVE_TOKEN, body=failure)
    with pytest.raises(Transient) as raised:
        oauth.refreshed(connection.pk, 1)
    assert (str(raised.value), raised.value.code) == (f"POST /oauth2/token/: {type(failure).__name__}", "no_answer")
    assert raised.value.__cause__ is None


def test_a_refusal_tells_what_to_do_and_keeps_the_vendors_words_apart(vendor: responses.RequestsMock) -> None:
    connection = accounts.wave()
    vendor.post(WAVE_TOKEN, status=400, json={"error": "invalid_grant", "error_description": "Token of Ann Doe is invalid."})
    with pytest.raises(Disconnected) as raised:
        oauth.refreshed(connection.pk, 1)
    said = "POST /oauth2/token/ answered 400: the grant was revoked or has expired: connect again"
    assert (str(raised.value), raised.value.words) == (said, "Token of Ann Doe is invalid.")
    assert health(connection) == (REFUSED, said)


@time_machine.travel(NOW, tick=False)
def test_a_429_waits_as_long_as_the_vendor_says(vendor: responses.RequestsMock) -> None:
    connection = accounts.wave()
    vendor.post(WAVE_TOKEN, status=429, headers={"Retry-After": "90"})
    with pytest.raises(Transient) as raised:
        oauth.refreshed(connection.pk, 1)
    assert (raised.value.not_before, raised.value.scope) == (NOW + timedelta(seconds=90), "connection")


def test_every_connection_of_a_dead_grant_is_marked_and_no_other(vendor: responses.RequestsMock) -> None:
    connection, other = accounts.wave(), accounts.wave("wave-other")
    twin = Connection.objects.create(slug="wave-twin", system="wave", auth="oauth", credential=connection.credential, status=STANDS)
    vendor.post(WAVE_TOKEN, status=400, json={"error": "invalid_grant"})
    with pytest.raises(Disconnected):
        oauth.refreshed(connection.pk, 1)
    assert [health(each)[0] for each in (connection, twin, other)] == [REFUSED, REFUSED, STANDS]


def test_a_refusal_of_secrets_that_were_replaced_meanwhile_marks_nothing(vendor: responses.RequestsMock) -> None:
    connection = accounts.wave()

    def replaced(request: Any) -> tuple[int, dict[str, str], str]:
        Credential.objects.filter(pk=connection.credential_id).update(version=2)
        return 400, {}, '{"error": "invalid_grant"}'

    vendor.add_callback("POST", WAVE_TOKEN, replaced)
    with pytest.raises(Disconnected):
        oauth.refreshed(connection.pk, 1)
    assert health(connection) == (STANDS, "")


def test_a_newer_row_is_returned_without_a_call(vendor: responses.RequestsMock) -> None:
    connection = accounts.wave()
    Credential.objects.filter(pk=connection.credential_id).update(version=2)
    assert oauth.refreshed(connection.pk, 1).version == 2
    assert len(vendor.calls) == 0


def test_a_pair_stored_meanwhile_by_somebody_else_wins(vendor: responses.RequestsMock) -> None:
    connection = accounts.wave()
    known = Credential.objects.get(pk=connection.credential_id)
    Credential.objects.filter(pk=known.pk).update(version=5, scope="theirs")
    got = oauth.store(known, oauth.Tokens("canary-new-access", NOW, "canary-new-refresh", "ours"))
    assert (got.version, got.scope, oauth.secrets_of(got)) == (5, "theirs", accounts.WAVE_SECRETS)


# --- Waiting -------------------------------------------------------------------------------------------------------


def lease(connection: Connection, until: datetime) -> None:
    Credential.objects.filter(pk=connection.credential_id).update(refresh_lease_until=until, refresh_owner="another worker")


def while_waiting(monkeypatch: pytest.MonkeyPatch, connection: Connection, **changes: Any) -> None:
    """Let the other worker end while we sleep."""
    gone = {"refresh_lease_until": None, "refresh_owner": ""}
    rows = Credential.objects.filter(pk=connection.credential_id)
    monkeypatch.setattr(time, "sleep", lambda seconds: rows.update(**gone, **changes))


def test_a_waiter_takes_the_pair_that_the_other_worker_stored(vendor: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = accounts.wave()
    lease(connection, datetime.now(UTC) + timedelta(seconds=20))
    while_waiting(monkeypatch, connection, version=2)
    assert oauth.refreshed(connection.pk, 1).version == 2
    assert len(vendor.calls) == 0


def test_a_waiter_does_not_repeat_a_refresh_that_failed(vendor: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = accounts.wave()
    lease(connection, datetime.now(UTC) + timedelta(seconds=20))
    while_waiting(monkeypatch, connection)
    with pytest.raises(Transient) as raised:
        oauth.refreshed(connection.pk, 1)
    assert (str(raised.value), raised.value.counted, len(vendor.calls)) == ("another worker's refresh failed", False, 0)


def test_a_waiter_learns_that_the_grant_is_dead(vendor: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = accounts.wave()
    lease(connection, datetime.now(UTC) + timedelta(seconds=20))
    monkeypatch.setattr(time, "sleep", lambda seconds: oauth.mark_disconnected(connection, "the grant is dead"))
    with pytest.raises(Disconnected, match="the grant is dead"):
        oauth.refreshed(connection.pk, 1)
    assert len(vendor.calls) == 0


def test_a_waiter_gives_up_after_ten_seconds(vendor: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = accounts.wave()
    lease(connection, datetime.now(UTC) + timedelta(seconds=60))
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "monotonic", lambda: sum(slept))
    with pytest.raises(Transient, match="takes too long"):
        oauth.refreshed(connection.pk, 1)
    assert 9.9 < sum(slept) < 10.2
    assert len(vendor.calls) == 0


def test_the_lease_of_a_worker_that_died_is_taken_over(vendor: responses.RequestsMock) -> None:
    connection = accounts.wave()
    lease(connection, datetime.now(UTC) - timedelta(seconds=1))
    vendor.post(WAVE_TOKEN, json=NEW_PAIR)
    assert oauth.refreshed(connection.pk, 1).version == 2


def test_a_grant_known_to_be_dead_is_asked_for_only_when_a_person_insists(vendor: responses.RequestsMock) -> None:
    connection = accounts.wave()
    oauth.mark_disconnected(connection, "the grant is dead")
    vendor.post(WAVE_TOKEN, json=NEW_PAIR)
    with pytest.raises(Disconnected, match="the grant is dead"):
        oauth.refreshed(connection.pk, 1)
    assert len(vendor.calls) == 0
    assert oauth.refreshed(connection.pk, 1, insist=True).version == 2


@pytest.mark.django_db(transaction=True)
def test_eight_workers_make_one_token_call() -> None:
    connection = accounts.wave()
    versions: list[int] = []

    def work() -> None:
        versions.append(oauth.refreshed(connection.pk, 1).version)
        database.close()

    with responses.RequestsMock() as mock:
        mock.post(WAVE_TOKEN, json=NEW_PAIR)
        workers = [threading.Thread(target=work) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert (versions, len(mock.calls)) == ([2] * 8, 1)


# --- Ways in that differ ---------------------------------------------------------------------------------------------


def test_client_credentials_fetch_a_first_token_once(vendor: responses.RequestsMock) -> None:
    connection = accounts.zendesk()
    vendor.post(ZENDESK_TOKEN, status=201, json={"access_token": "canary-new-access"})
    first, second = oauth.ensure_token(connection.pk), oauth.ensure_token(connection.pk)
    assert oauth.secrets_of(first) == {"client_secret": "canary-client-secret", "access_token": "canary-new-access"}
    assert (second.version, len(vendor.calls)) == (2, 1)


def test_ways_without_a_token_endpoint_fetch_nothing(vendor: responses.RequestsMock) -> None:
    assert oauth.secrets_of(oauth.ensure_token(accounts.zendesk_token().pk)) == {"api_token": "canary-api-token"}
    assert len(vendor.calls) == 0


def test_a_refused_api_token_needs_a_person(vendor: responses.RequestsMock) -> None:
    connection = accounts.zendesk_token()
    with pytest.raises(Disconnected):
        oauth.refreshed(connection.pk, 1)
    assert health(connection) == (REFUSED, "zendesk: the credentials of api_token were refused: enter new ones or connect again")
    assert len(vendor.calls) == 0


def test_no_refresh_token_means_a_person(vendor: responses.RequestsMock) -> None:
    connection = accounts.wave(refresh_token="")
    with pytest.raises(Disconnected):
        oauth.refreshed(connection.pk, 1)
    assert (health(connection)[0], len(vendor.calls)) == (REFUSED, 0)


def test_our_own_notes_are_no_secrets() -> None:
    connection = accounts.wave(_applied={"client_secret": "digest"})
    assert oauth.secrets_of(connection.credential) == accounts.WAVE_SECRETS


def test_tokens_show_no_token() -> None:
    assert repr(oauth.Tokens("canary-access", NOW, "canary-refresh", "s")) == f"Tokens(expires_at={NOW!r}, scope='s')"
