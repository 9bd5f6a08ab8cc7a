"""Health: every line, by what is stored; kept current by a ping an hour."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from audit import holds
from audit.states import State
from integrations import health, polling, systems
from integrations.core.ports import Check
from integrations.health import Level, Line
from integrations.models import Connection, Credential, Delivery, Disagreement, Intake, Sweep, Watermark, WebhookSecret
from tests.admin.people import job_of
from tests.integrations import accounts

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]


@pytest.fixture
def noon() -> Iterator[Any]:
    with time_machine.travel(NOW, tick=False) as clock:
        yield clock


def lines(connection: Connection) -> dict[str, Line]:
    return {line.name: line for line in health.of(Connection.objects.get(pk=connection.pk)).lines}


def delivered(connection: Connection, *minutes_ago: int, event: str = "invoice.paid", decision: str = "accepted") -> None:
    for ago in minutes_ago:
        at = NOW - timedelta(minutes=ago)
        values = {"event_type": event, "decision": decision, "received_at": at, "last_seen_at": at}
        Delivery.objects.create(connection=connection, event_hash=f"{event}{ago}", body_hash="b", body=b"{}", **values)


def signed(connection: Connection, fingerprint: str, *, skew: float | None = None, days_ago: int = 0) -> None:
    """Store a delivery that was signed with a secret, which is added unless it is known."""
    at = NOW - timedelta(days=days_ago)
    added = {"added_at": NOW - timedelta(days=9)}
    WebhookSecret.objects.get_or_create(intake=connection.intake, fingerprint=fingerprint, defaults=added)
    hashes = {"event_hash": fingerprint, "body_hash": fingerprint, "body": b"{}"}
    Delivery.objects.create(
        connection=connection, secret=fingerprint, skew=skew, decision="ignored", received_at=at, last_seen_at=at, **hashes
    )


def test_all_that_is_known_of_an_account_that_works() -> None:
    wave = accounts.wave()
    Connection.objects.filter(pk=wave.pk).update(
        last_ok_at=NOW - timedelta(minutes=5),
        checked_at=NOW - timedelta(minutes=5),
        checks=[{"name": "user", "ok": True, "detail": "ann@example.com", "advice": ""}],
    )
    scope = "user:read business:read customer:read invoice:*"
    Credential.objects.filter(pk=wave.credential_id).update(
        expires_at=NOW + timedelta(hours=1), changed_at=NOW - timedelta(hours=1), scope=scope
    )
    signed(wave, "aaaa", skew=-2.0)
    delivered(wave, 10)
    found = health.of(Connection.objects.get(pk=wave.pk))
    assert (found.level, found.word, found.problems) == (Level.OK, "healthy", [])
    assert [(line.name, line.detail) for line in found.lines] == [
        ("connection", "ready"),
        ("last successful call", "5 min ago"),
        ("token", "got 1 h ago, ends in 1 h, is renewed in 48 min"),
        ("scopes", f"granted: {scope}"),
        ("last ping", "5 min ago: 1 of 1 checks hold"),
        ("check: user", "ann@example.com"),
        ("jobs", "0 waiting, 0 running, 0 blocked, 0 dead"),
        ("last delivery", "10 min ago"),
        ("event: invoice.paid", "10 min ago, 1 in all"),
        ("clock", "the sender's is 2 s behind ours; 300 s are allowed"),
        ("stale but signed", "0"),
        ("turned away", "0 wrongly signed, 0 unsigned, 0 signed without a time"),
    ]


def test_a_missing_scope_fails_for_its_events_never_come() -> None:
    wave = accounts.wave()
    Credential.objects.update(scope="user:read business:read customer:write")
    line = lines(wave)["scopes"]
    assert (line.level, line.detail) == (Level.FAILED, "not granted: customer:read, invoice:read")


@pytest.mark.parametrize(
    ("needed", "granted", "lacking"),
    [
        (["invoice:read"], ["invoice:*"], []),
        (["invoice:read"], ["invoice:write"], ["invoice:read"]),
        (["organizations:write"], ["read", "write"], []),
        (["read:jira-work"], ["read:jira-work"], []),
        (["read:jira-work"], ["write:jira-work", "jira-work"], ["read:jira-work"]),
        (["offline_access"], [], []),
    ],
)
def test_what_covers_a_scope(needed: list[str], granted: list[str], lacking: list[str]) -> None:
    assert health.lacking_scopes(needed, granted) == lacking


@pytest.mark.parametrize(
    ("status", "word", "level"),
    [("incomplete", "not connected", Level.WARNING), ("needs_reconnect", "reconnect", Level.FAILED), ("ready", "healthy", Level.NOTE)],
)
def test_the_status_decides_the_word(status: str, word: str, level: Level) -> None:
    made = accounts.zendesk()
    Connection.objects.update(status=status)
    found = health.of(Connection.objects.get(pk=made.pk))
    assert (found.word, found.level) == (word, level)
    assert health.access(Connection.objects.get(pk=made.pk))[:2] == (level, word)


def test_a_ready_account_without_a_successful_call_for_hours_is_looked_at() -> None:
    made = accounts.zendesk()
    Connection.objects.update(last_ok_at=NOW - timedelta(hours=4))
    assert lines(made)["last successful call"].level == Level.WARNING


@pytest.mark.parametrize(
    ("today", "level"),
    [("2027-01-29", Level.OK), ("2027-01-30", Level.WARNING), ("2027-04-29", Level.WARNING), ("2027-04-30", Level.FAILED)],
)
def test_zendesk_api_tokens_end_on_a_day_and_we_say_so_90_days_before(today: str, level: Level) -> None:
    made = accounts.zendesk_token()
    line = {line.name: line for line in health.of(made, datetime.fromisoformat(f"{today}T12:00:00+00:00")).lines}["way in"]
    assert line.level == level


@pytest.mark.parametrize(
    ("minutes_ago", "level"),
    [
        ((), Level.NOTE),  # none yet
        ((500, 510, 520, 530), Level.OK),  # too few to know what is usual
        ((59, 69, 79, 89, 99), Level.OK),  # less than an hour
        ((61, 71, 81, 91, 101), Level.WARNING),
        ((550, 750, 950, 1150, 1350), Level.OK),  # every 200 minutes: up to 600 are usual
        ((610, 810, 1010, 1210, 1410), Level.WARNING),
    ],
)
def test_quiet_for_longer_than_usual(minutes_ago: tuple[int, ...], level: Level) -> None:
    wave = accounts.wave()
    delivered(wave, *minutes_ago)
    delivered(wave, 1, event="connector.test", decision="ignored")  # says nothing of the sender
    assert lines(wave)["last delivery"].level == level


@pytest.mark.parametrize(("skew", "level"), [(None, Level.NOTE), (-75.0, Level.OK), (76.0, Level.WARNING), (-200.0, Level.WARNING)])
def test_the_clock_is_compared_with_the_signing_window(skew: float | None, level: Level) -> None:
    wave = accounts.wave()
    signed(wave, "aaaa", skew=skew)
    assert lines(wave)["clock"].level == level


def test_what_was_turned_away_is_told_apart() -> None:
    wave = accounts.wave()
    signed(wave, "aaaa")
    Intake.objects.update(stale_signed=3, stale_at=NOW - timedelta(minutes=2), stale_skew=-412, unsigned=2, bare=1, forged=1)
    found = lines(wave)
    assert (found["stale but signed"].level, found["stale but signed"].detail) == (
        Level.WARNING,
        "3, the last 2 min ago with a time 6 min 52 s off",
    )
    assert found["turned away"] == Line("turned away", Level.OK, "1 wrongly signed, 2 unsigned, 1 signed without a time")


def test_forgeries_without_one_that_verified_mean_the_wrong_secret() -> None:
    wave = accounts.wave()
    Intake.objects.update(forged=1)
    assert lines(wave)["turned away"].level == Level.FAILED


def test_an_old_secret_that_is_still_live_is_remembered() -> None:
    wave = accounts.wave()
    signed(wave, "aaaa", days_ago=1)
    WebhookSecret.objects.create(intake=wave.intake, fingerprint="bbbb", added_at=NOW)
    assert lines(wave)["webhook secrets"].detail == "2 live; the newest, bbbb, is not used yet"
    signed(wave, "bbbb")
    assert lines(wave)["webhook secrets"].advice == "Retire the old one on the page Webhook."


def test_jobs_and_holds_of_the_account_show() -> None:
    route = accounts.route()
    job_of(route, 1, state=State.DEAD)
    job_of(route, 2, state=State.BLOCKED)
    holds.hold(f"route:{route.pk}", reason="paused")
    holds.hold("connection:999999", reason="other")
    found = lines(route.destination)
    assert (found["jobs"].level, found["jobs"].detail) == (Level.WARNING, "0 waiting, 0 running, 1 blocked, 1 dead")
    assert found["hold"] == Line("hold", Level.WARNING, "route: paused, until somebody ends it")


def test_a_ping_is_remembered_with_what_to_do() -> None:
    made = accounts.zendesk()
    failed = Check("permissions", ok=False, detail="2 of 4", advice="give EDIT_ISSUES")
    systems._remember(made, [Check("login", ok=True, detail="Ann"), failed])
    found = lines(made)
    assert found["last ping"].detail == "just now: 1 of 2 checks hold"
    assert found["check: permissions"] == Line("check: permissions", Level.FAILED, "2 of 4", "give EDIT_ISSUES")
    assert health.access(made) == (Level.FAILED, "failing", "check: permissions")


def test_ready_accounts_are_pinged_once_an_hour_by_whoever_comes_first(monkeypatch: pytest.MonkeyPatch, noon: Any) -> None:
    pinged: list[tuple[str, bool]] = []
    monkeypatch.setattr(systems, "ping", lambda connection, *, insist: pinged.append((connection.slug, insist)))
    accounts.wave()
    Connection.objects.filter(pk=accounts.zendesk().pk).update(status="needs_reconnect")
    assert [health.check_due(budget=10), health.check_due(budget=10)] == [1, 0]
    noon.shift(timedelta(hours=1))
    assert (health.check_due(budget=10), health.check_due(budget=0)) == (1, 0)
    assert pinged == [("wave-main", False)] * 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (86_400 * 3 + 3600, "3 d 1 h"),
        (86_400 * 40, "40 d"),
    ],
)
def test_lengths_of_time_are_short(seconds: int, text: str) -> None:
    assert health.span(timedelta(seconds=seconds)) == text


def test_status_as_json_carries_every_line() -> None:
    told = health.as_json(health.of(accounts.zendesk()))
    assert (told["level"], told["word"]) == ("note", "healthy")
    assert told["lines"][0] == {"name": "connection", "level": "ok", "detail": "ready", "advice": ""}  # type: ignore[index]


# --- Reconcile -------------------------------------------------------------------------------------------------------


def reconciled(route: Any, *, hours_ago: float = 1, **values: Any) -> Sweep:
    at = NOW - timedelta(hours=hours_ago)
    given = {"source": route.source, "purpose": "reconcile", "state": "done", "created_at": at, "due_at": at, "ended_at": at}
    return Sweep.objects.create(**{**given, **values})


def told(route: Any) -> tuple[Level, str]:
    line = lines(route.source)["reconcile"]
    return line.level, line.detail


def test_the_last_reconcile_and_whether_it_agreed() -> None:
    route = accounts.route()
    assert told(route) == (Level.NOTE, "never yet")
    reconciled(route)
    assert told(route) == (Level.OK, "1 h ago: all agreed")
    sweep = reconciled(route, hours_ago=0.5)
    Disagreement.objects.create(sweep=sweep, customer_key="c", currency="EUR")
    assert told(route) == (Level.WARNING, "30 min ago: the money of 1 customer differed")


def test_a_reconcile_that_left_records_to_their_jobs_does_not_say_that_all_agreed() -> None:
    route = accounts.route()
    reconciled(route, figures={"left_to_jobs": 1})
    assert told(route) == (Level.OK, "1 h ago: what was compared agreed, 1 record was left to jobs that wait")


def test_a_reconcile_that_failed_left_something_out_or_is_overdue_is_a_warning() -> None:
    route = accounts.route()
    Connection.objects.filter(pk=route.source_id).update(created_at=NOW - timedelta(hours=27))
    assert told(route) == (Level.WARNING, "never yet")
    reconciled(route, hours_ago=27)
    assert told(route) == (Level.WARNING, "1 d 3 h ago")
    reconciled(route, hours_ago=25, left_out={"wave-to-zendesk": "dead"})
    assert told(route) == (Level.WARNING, "1 d 1 h ago; not looked at: wave-to-zendesk")
    alone = reconciled(route, hours_ago=24, left_out={"wave-to-zendesk": "dead"}, route_id=route.pk)
    assert told(route) == (Level.WARNING, "1 d 1 h ago; not looked at: wave-to-zendesk")
    Sweep.objects.filter(pk=alone.pk).update(left_out={})
    assert told(route) == (Level.OK, "1 d 1 h ago: all agreed"), "it has been looked at by itself since"
    reconciled(route, hours_ago=1, dry_run=True)
    reconciled(route, hours_ago=2, state="failed", problem="POST /graphql: 503", ended_at=None)
    assert told(route) == (Level.WARNING, "1 d 1 h ago; the newest failed: POST /graphql: 503")


def test_a_destination_has_no_line_of_reconciles() -> None:
    assert "reconcile" not in lines(accounts.route().destination)


# --- Polls --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "advice"),
    [
        ("POST /graphql: 503", "It is tried again by itself; nothing is missed meanwhile."),
        (polling.PASSED_OVER, "Nothing to do; look at the next reconcile's report."),
    ],
)
def test_only_what_is_tried_again_is_said_to_miss_nothing(problem: str, advice: str) -> None:
    now, wave = timezone.now(), accounts.wave()
    accounts.route(source=wave)
    Watermark.objects.create(connection=wave, kind="invoice", reached=now, due_at=now, polled_at=now, problem=problem)
    assert lines(wave)["poll: invoice"].advice == advice
