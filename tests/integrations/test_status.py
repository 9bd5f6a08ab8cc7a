"""`manage.py status`: one object for machines, a table for people, and an exit code that a cron job can watch."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core.management import call_command

from audit import holds
from audit.models import Heartbeat, Hold, SyncJob
from audit.states import State
from integrations.models import Delivery, Intake, Route
from integrations.overview import overview
from tests.integrations import accounts

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]


@pytest.fixture
def noon() -> Any:
    with time_machine.travel(NOW, tick=False) as clock:
        yield clock


def job(route: Route, number: int, state: str, *, due: datetime = NOW, resolved_by: SyncJob | None = None) -> SyncJob:
    return SyncJob.objects.create(
        route_id=route.pk,
        route_slug=route.slug,
        source_id=route.source_id,
        destination_id=route.destination_id,
        system="zendesk",
        kind="invoice",
        key=f"wave:b:invoice:{number}",
        state=state,
        created_at=NOW,
        due_at=due,
        resolved_by=resolved_by,
    )


def delivery(route: Route, decision: str, number: int) -> None:
    Delivery.objects.create(
        connection=route.source, event_hash=str(number), body_hash="b", body=b"{}", decision=decision, received_at=NOW, last_seen_at=NOW
    )


def exit_code(*arguments: str) -> int:
    try:
        call_command("status", *arguments)
    except SystemExit as ended:
        return int(str(ended.code))
    return 0


def test_the_object_tells_everything() -> None:
    route = accounts.route()
    done = job(route, 1, State.SUCCEEDED)
    job(route, 1, State.DEAD, resolved_by=done)
    job(route, 2, State.DEAD)
    job(route, 3, State.RUNNING)
    job(route, 4, State.PENDING, due=NOW - timedelta(minutes=20))
    job(route, 5, State.PENDING, due=NOW - timedelta(minutes=1))
    job(route, 6, State.PENDING, due=NOW + timedelta(hours=1))
    for number, decision in enumerate(("accepted", "accepted", "ignored")):
        delivery(route, decision, number)
    Intake.objects.filter(connection=route.source).update(forged=2, stale_signed=1)
    holds.hold("object:99:invoice:x", reason="rate_limited", until=NOW + timedelta(minutes=5))
    holds.hold("object:99:invoice:y", reason="rate_limited", until=NOW - timedelta(minutes=5))
    Heartbeat.objects.create(name="worker", since=NOW - timedelta(hours=1), beat_at=NOW - timedelta(seconds=40))
    seen = overview()
    schedules = seen.pop("schedules")
    words = [row.pop("health")["word"] for row in seen["connections"]]
    capacities = [row.pop("capacity") for row in seen["connections"]]
    assert seen == {
        "healthy": False,
        "jobs": {"pending": 3, "running": 1, "blocked": 0, "succeeded": 1, "superseded": 0, "dead": 1},
        "overdue": 1,
        "oldest_due_seconds": 1200,
        "deliveries": {"accepted": 2, "ignored": 1, "unknown": 0, "quarantined": 0},
        "intake": {"unsigned": 0, "bare": 0, "forged": 2, "stale_signed": 1},
        "connections": [
            {"slug": "wave-main", "system": "wave", "status": "ready", "reason": "", "last_ok_at": None},
            {"slug": "zendesk-acme", "system": "zendesk", "status": "ready", "reason": "", "last_ok_at": None},
        ],
        "holds": [{"scope": "object:99:invoice:x", "reason": "rate_limited", "until": "2026-11-20T12:05:00+00:00"}],
        "workers": [
            {
                "name": "worker",
                "state": "alive",
                "since": "2026-11-20T11:00:00+00:00",
                "beat_at": "2026-11-20T11:59:20+00:00",
                "age_seconds": 40,
            }
        ],
    }
    assert words == ["failing", "look at it"]
    assert capacities == [{"budgets": [], "breaker": "closed", "waiting": 3, "drain_seconds": None}] * 2
    assert {row["name"] for row in schedules} >= {"heartbeat", "ping accounts"}


def test_nothing_at_all_is_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--json") == 0
    seen = json.loads(capsys.readouterr().out)
    assert (seen["healthy"], seen["oldest_due_seconds"], set(seen["jobs"].values())) == (True, 0, {0})


@pytest.mark.parametrize(
    ("state", "due", "code"),
    [
        (State.SUCCEEDED, NOW - timedelta(days=1), 0),
        (State.SUPERSEDED, NOW - timedelta(days=1), 0),
        (State.RUNNING, NOW - timedelta(days=1), 0),
        (State.PENDING, NOW + timedelta(days=1), 0),
        (State.PENDING, NOW - timedelta(minutes=15), 0),
        (State.PENDING, NOW - timedelta(minutes=15, seconds=1), 1),
        (State.BLOCKED, NOW, 1),
        (State.DEAD, NOW, 1),
    ],
)
def test_the_exit_code_watches_what_is_dead_blocked_or_overdue(state: str, due: datetime, code: int) -> None:
    job(accounts.route(), 1, state, due=due)
    assert (exit_code(), exit_code("--json")) == (code, code)


@pytest.mark.parametrize(
    ("seconds", "stopped", "state", "code"), [(149, False, "alive", 0), (151, False, "silent", 1), (151, True, "stopped", 0)]
)
def test_a_machine_that_fell_silent_is_no_good_unless_it_was_stopped(seconds: int, stopped: bool, state: str, code: int) -> None:
    Heartbeat.objects.create(name="one", since=NOW - timedelta(hours=1), beat_at=NOW - timedelta(seconds=seconds), stopped=stopped)
    assert ([row["state"] for row in overview()["workers"]], exit_code()) == ([state], code)


def test_a_resolved_dead_letter_is_healthy() -> None:
    route = accounts.route()
    job(route, 1, State.DEAD, resolved_by=job(route, 1, State.SUCCEEDED))
    assert exit_code() == 0


@pytest.mark.parametrize("scope", ["route:{route.pk}", "connection:{route.source_id}", "object:{route.pk}:invoice:wave:b:invoice:1"])
def test_what_a_hold_covers_is_not_overdue_until_it_ends(scope: str) -> None:
    route = accounts.route()
    job(route, 1, State.PENDING, due=NOW - timedelta(hours=1))
    holds.hold(scope.format(route=route), reason="paused")
    assert (exit_code(), overview()["oldest_due_seconds"]) == (0, 0)
    Hold.objects.update(until=NOW - timedelta(seconds=1))
    assert (exit_code(), overview()["oldest_due_seconds"]) == (1, 3600)


def test_the_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    route = accounts.route()
    job(route, 1, State.DEAD)
    holds.hold(f"route:{route.pk}", reason="paused")
    exit_code()
    assert [line for line in capsys.readouterr().out.splitlines() if not line.startswith("schedule")] == [
        "needs attention",
        "jobs         0 pending, 0 running, 0 blocked, 0 succeeded, 0 superseded, 1 dead, 0 overdue (oldest due 0 s)",
        "deliveries   0 accepted, 0 ignored, 0 unknown, 0 quarantined",
        "turned away  0 unsigned, 0 bare, 0 forged, 0 stale_signed",
        "connection   wave-main (wave): look at it; ready, last ok never",
        "connection   zendesk-acme (zendesk): look at it; ready, last ok never",
        f"hold         route:{route.pk}: paused until somebody lifts it",
        "worker       none has ever run: start manage.py worker",
    ]


def test_no_secret_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    accounts.route()
    exit_code("--json")
    exit_code()
    assert "canary" not in capsys.readouterr().out
