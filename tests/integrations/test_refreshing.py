"""Tokens are renewed before they end: when, whose, once, and what a refusal does."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import responses
import time_machine
from django.db import connections

from audit import holds
from audit.models import Hold
from integrations import oauth, refreshing, systems, tasks
from integrations.models import Connection, Credential
from tests.integrations import accounts

WAVE_TOKEN = "https://api.waveapps.com/oauth2/token/"
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
NEW_PAIR = {"access_token": "canary-new-access", "refresh_token": "canary-new-refresh", "expires_in": 3600}

pytestmark = pytest.mark.django_db


@pytest.fixture
def vendor() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture(autouse=True)
def at_noon() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


def ending(connection: Connection, *, left: timedelta, life: timedelta = timedelta(hours=1)) -> Connection:
    """Let the connection's token live for so long and end so soon."""
    Credential.objects.filter(pk=connection.credential_id).update(expires_at=NOW + left, changed_at=NOW + left - life)
    return connection


def refresh() -> Counter[str]:
    return refreshing.refresh_due(budget=10)


def status(connection: Connection) -> tuple[str, str]:
    found = Connection.objects.get(pk=connection.pk)
    return found.status, found.status_reason


@pytest.mark.parametrize(
    ("life", "left", "due"),
    [
        (timedelta(hours=1), timedelta(minutes=7), False),
        (timedelta(hours=1), timedelta(minutes=6), True),  # a tenth of an hour
        (timedelta(minutes=30), timedelta(minutes=6), False),
        (timedelta(minutes=30), timedelta(minutes=5), True),  # a tenth would be 3 minutes
        (timedelta(seconds=172_000), timedelta(seconds=17_300), False),
        (timedelta(seconds=172_000), timedelta(seconds=17_200), True),
        (timedelta(minutes=4), timedelta(minutes=3), False),  # never before half of a short life
        (timedelta(minutes=4), timedelta(minutes=2), True),
        (timedelta(hours=1), timedelta(minutes=-5), True),
        (timedelta(0), timedelta(seconds=1), False),
        (timedelta(hours=-1), timedelta(0), True),  # a clock that was set back
    ],
)
def test_a_token_is_renewed_five_minutes_or_a_tenth_of_its_life_before_its_end(life: timedelta, left: timedelta, due: bool) -> None:
    assert refreshing.ends_soon(NOW + left, NOW + left - life, now=NOW) is due


def test_a_token_that_ends_soon_is_renewed_and_others_are_left_alone(vendor: responses.RequestsMock) -> None:
    soon = ending(accounts.wave(), left=timedelta(minutes=5))
    later = ending(accounts.wave("wave-later"), left=timedelta(minutes=30))
    unknown = accounts.wave("wave-unknown")
    vendor.post(WAVE_TOKEN, json=NEW_PAIR)
    assert refresh() == {"renewed": 1}
    assert accounts.held(soon) == accounts.WAVE_SECRETS | {"access_token": "canary-new-access", "refresh_token": "canary-new-refresh"}
    assert [accounts.held(row) for row in (later, unknown)] == [accounts.WAVE_SECRETS] * 2
    assert refresh() == {}
    assert len(vendor.calls) == 1


def test_the_task_renews(vendor: responses.RequestsMock) -> None:
    connection = ending(accounts.wave(), left=timedelta(0))
    vendor.post(WAVE_TOKEN, json=NEW_PAIR)
    tasks.refresh()
    assert Credential.objects.get(pk=connection.credential_id).expires_at == NOW + timedelta(hours=1)


def test_nothing_is_asked_for_a_dead_grant_or_a_way_in_without_refresh(vendor: responses.RequestsMock) -> None:
    dead = ending(accounts.wave(), left=timedelta(0))
    oauth.mark_disconnected(dead, "dead")
    ending(accounts.zendesk_token(), left=timedelta(0))
    ending(accounts.wave("wave-without", refresh_token=""), left=timedelta(0))
    Credential.objects.create(expires_at=NOW)  # of no connection
    assert (refresh(), len(vendor.calls)) == ({}, 0)


def test_connections_that_share_a_grant_are_one_refresh(vendor: responses.RequestsMock) -> None:
    first = ending(accounts.wave(), left=timedelta(0))
    Connection.objects.create(slug="second", system="wave", auth="oauth", settings=first.settings, credential=first.credential)
    vendor.post(WAVE_TOKEN, json=NEW_PAIR)
    assert (refresh(), len(vendor.calls)) == ({"renewed": 1}, 1)


def test_a_refusal_marks_and_blocks_every_connection_of_the_grant_until_it_is_reconnected(vendor: responses.RequestsMock) -> None:
    first = ending(accounts.wave(), left=timedelta(0))
    second = Connection.objects.create(slug="second", system="wave", auth="oauth", settings=first.settings, credential=first.credential)
    vendor.post(WAVE_TOKEN, status=400, json={"error": "invalid_grant"})
    assert refresh() == {"refused": 1}
    said = ("needs_reconnect", "POST /oauth2/token/ answered 400: the grant was revoked or has expired: connect again")
    assert [status(first), status(second)] == [said, said]
    held = sorted(Hold.objects.values_list("scope", "reason"))
    assert held == sorted((f"connection:{row.pk}", holds.DISCONNECTED_REASON) for row in (first, second))
    assert (refresh(), len(vendor.calls)) == ({}, 1), "a dead grant is not asked for again"
    for row in (first, second):
        systems.mark_ready(row)
    assert (Hold.objects.count(), status(first), status(second)) == (0, ("ready", ""), ("ready", ""))


def test_one_that_was_reconnected_just_now_is_not_blocked() -> None:
    connection = accounts.wave()
    assert systems.block_refused(connection) is False
    assert Hold.objects.count() == 0


@pytest.mark.parametrize(("code", "answer"), [(500, "{}"), (429, "{}"), (200, "<html>")])
def test_a_bad_minute_leaves_everything_as_it_is(vendor: responses.RequestsMock, code: int, answer: str) -> None:
    connection = ending(accounts.wave(), left=timedelta(0))
    vendor.post(WAVE_TOKEN, status=code, body=answer)
    assert refresh() == {"later": 1}
    assert (status(connection), accounts.held(connection), Hold.objects.count()) == (("ready", ""), accounts.WAVE_SECRETS, 0)


def test_one_bad_account_keeps_no_other_from_its_token(vendor: responses.RequestsMock) -> None:
    ending(accounts.wave(), left=timedelta(minutes=-1))
    good = ending(accounts.wave("wave-good"), left=timedelta(0))
    vendor.post(WAVE_TOKEN, status=500)
    vendor.post(WAVE_TOKEN, json=NEW_PAIR)
    assert refresh() == {"later": 1, "renewed": 1}
    assert accounts.held(good)["access_token"] == "canary-new-access"


def test_what_the_time_does_not_suffice_for_is_left_for_the_next_run(vendor: responses.RequestsMock) -> None:
    ending(accounts.wave(), left=timedelta(0))
    assert (refreshing.refresh_due(budget=0), len(vendor.calls)) == ({}, 0)


@pytest.mark.django_db(transaction=True)
def test_two_schedulers_at_once_make_one_token_call(vendor: responses.RequestsMock) -> None:
    connection = ending(accounts.wave(), left=timedelta(0))
    entered, results = threading.Barrier(2), []

    def answer(request: Any) -> tuple[int, dict[str, str], str]:
        return 200, {}, json.dumps(NEW_PAIR)

    def run() -> None:
        try:
            entered.wait(5)
            results.append(refresh())
        finally:
            connections.close_all()

    vendor.add_callback(responses.POST, WAVE_TOKEN, callback=answer)
    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert len(results) == 2
    assert (len(vendor.calls), Credential.objects.get(pk=connection.credential_id).version) == (1, 2)
