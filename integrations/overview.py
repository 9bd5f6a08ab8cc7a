"""One look at everything: jobs, deliveries, connections, holds, heartbeats; for `status` and for pages."""

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum
from django.utils import timezone
from django_q.models import Schedule

from audit import ledger, trail
from audit.models import Heartbeat, Hold, SyncJob
from audit.states import State
from integrations import capacity, health
from integrations.core.events import Decision
from integrations.models import Connection, Delivery, Intake

OVERDUE_AFTER = timedelta(minutes=15)
INTAKE_COUNTERS = ("unsigned", "bare", "forged", "stale_signed")


def overview(now: datetime | None = None) -> dict[str, Any]:
    """Return the state of the product as JSON values; times are ISO text, ages seconds.

    `jobs.dead` counts unresolved dead letters only. `oldest_due_seconds` and `overdue` leave out what a hold covers;
    overdue is a job due for more than 15 minutes. A machine whose workers fell silent counts as unhealthy until it is forgotten.
    """
    now = now or timezone.now()
    jobs = _jobs()
    due = _due_unheld(now)
    oldest = due.order_by("due_at").values_list("due_at", flat=True).first()
    overdue = due.filter(due_at__lt=now - OVERDUE_AFTER).count()
    workers = [_heartbeat(row, now) for row in Heartbeat.objects.order_by("name")]
    silent = [row for row in workers if row["state"] == "silent"]
    return {
        "healthy": not (jobs["dead"] or jobs["blocked"] or overdue or silent),
        "jobs": jobs,
        "overdue": overdue,
        "oldest_due_seconds": 0 if oldest is None else int((now - oldest).total_seconds()),
        "deliveries": _deliveries(),
        "intake": _intake(),
        "connections": [_connection(row, now) for row in Connection.objects.order_by("slug")],
        "holds": [_hold(row) for row in Hold.objects.filter(Q(until=None) | Q(until__gt=now)).order_by("scope")],
        "workers": workers,
        "schedules": [{"name": row.name, "next_run": _text(row.next_run)} for row in Schedule.objects.order_by("name")],
    }


def _jobs() -> dict[str, int]:
    live = SyncJob.objects.exclude(state=State.DEAD, resolved_by__isnull=False).order_by()
    counted = dict(live.values_list("state").annotate(Count("pk")))
    return {str(state): counted.get(str(state), 0) for state in State}


def _due_unheld(now: datetime) -> QuerySet[SyncJob]:
    return SyncJob.objects.filter(ledger.unheld(now, Hold.objects.all()), state=State.PENDING, due_at__lte=now)


def _deliveries() -> dict[str, int]:
    counted = dict(Delivery.objects.order_by().values_list("decision").annotate(Count("pk")))
    return {str(decision): counted.get(str(decision), 0) for decision in Decision}


def _intake() -> dict[str, int]:
    sums = Intake.objects.aggregate(**{name: Sum(name) for name in INTAKE_COUNTERS})
    return {name: sums[name] or 0 for name in INTAKE_COUNTERS}


def _connection(row: Connection, now: datetime) -> dict[str, Any]:
    return {
        "slug": row.slug,
        "system": row.system,
        "status": row.status,
        "reason": row.status_reason,
        "last_ok_at": _text(row.last_ok_at),
        "health": health.as_json(health.of(row, now)),
        "capacity": capacity.as_json(capacity.of(row, now)),
    }


def _hold(row: Hold) -> dict[str, Any]:
    return {"scope": row.scope, "reason": row.reason, "until": _text(row.until)}


def _heartbeat(row: Heartbeat, now: datetime) -> dict[str, Any]:
    age = int((now - row.beat_at).total_seconds())
    silent = now - row.beat_at > trail.HEARTBEAT_GAP
    state = "stopped" if row.stopped else "silent" if silent else "alive"
    return {"name": row.name, "state": state, "since": _text(row.since), "beat_at": _text(row.beat_at), "age_seconds": age}


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")
