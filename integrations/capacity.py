"""How much of an account is used up, what waits for it, and how long that will take."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone

from audit import outages
from audit.models import Attempt, Exchange, Hold, SyncJob
from audit.states import State
from integrations import breaker, registry
from integrations.core.errors import Misconfigured
from integrations.health import moment, span
from integrations.models import Budget, Connection

SHOWN = timedelta(hours=1)  # endpoints that were used since; the account's own budget is always shown
PER = {1: "a second", 60: "a minute", 3600: "an hour"}
LOOKED_AT = 200  # runs, to see what one costs


@dataclass(frozen=True, slots=True)
class Use:
    """One budget as it stands now; `resets` says in words when all of it is there again."""

    bucket: str
    limit: int
    used: int
    window: int
    resets: str
    resets_at: datetime

    @property
    def per(self) -> str:
        """The window in words."""
        return PER.get(self.window, f"in {self.window} s")


@dataclass(frozen=True, slots=True)
class Capacity:
    """What an account can take.

    budgets     the whole account's first
    is_open     the breaker stops all calls but probes
    breaker     the same in words
    waiting     pending jobs, held or not
    drain       an estimate of the time that they take at the present budget, None where it is not known
    """

    budgets: tuple[Use, ...]
    is_open: bool
    breaker: str
    waiting: int
    drain: timedelta | None

    @property
    def drains(self) -> str:
        """The time to drain in words."""
        if not self.waiting:
            return "nothing waits"
        if self.drain is None:
            return "unknown: no limit is known, or no run has shown what a job costs"
        return f"about {span(self.drain)}" if self.drain >= timedelta(minutes=1) else "less than a minute"


def of(connection: Connection, now: datetime | None = None) -> Capacity:
    """Return what is known of an account's capacity, from rows alone."""
    now = now or timezone.now()
    whole = _whole(connection)
    rows = list(Budget.objects.filter(Q(resets_at__gt=now - SHOWN) | Q(bucket=whole), connection=connection))
    uses = tuple(_use(row, now) for row in sorted(rows, key=lambda row: (row.bucket != whole, row.bucket)))
    jobs = SyncJob.objects.filter(Q(source_id=connection.pk) | Q(destination_id=connection.pk), state=State.PENDING)
    waiting = jobs.count()
    hold = Hold.objects.filter(scope=breaker.scope_of(connection), reason=outages.REASON).first()
    account = next((use for use in uses if use.bucket == whole and use.limit), None)
    drain = _drain(waiting * _calls_per_job(connection), account, now) if waiting and account else None
    return Capacity(uses, hold is not None, _in_words(connection, hold, now), waiting, drain)


def as_json(capacity: Capacity) -> Mapping[str, Any]:
    """Return the capacity as JSON values; the drain is in seconds, None where it is not known."""
    return {
        "budgets": [
            {
                "bucket": use.bucket,
                "limit": use.limit,
                "used": use.used,
                "window_seconds": use.window,
                "resets_at": use.resets_at.isoformat(timespec="seconds"),
            }
            for use in capacity.budgets
        ],
        "breaker": "open" if capacity.is_open else "closed",
        "waiting": capacity.waiting,
        "drain_seconds": None if capacity.drain is None else int(capacity.drain.total_seconds()),
    }


def _whole(connection: Connection) -> str:
    try:
        rates = registry.entry(connection.system).rates
    except Misconfigured:
        return ""
    return rates.whole if rates else ""


def _use(row: Budget, now: datetime) -> Use:
    over = row.resets_at <= now
    resets = "all there" if over else moment(row.resets_at, now)
    return Use(row.bucket, row.limit, 0 if over else min(row.used, row.limit), row.window, resets, row.resets_at)


def _calls_per_job(connection: Connection) -> float:
    """Return how many calls to this account a run made lately, 0 where none was."""
    jobs = SyncJob.objects.filter(Q(source_id=connection.pk) | Q(destination_id=connection.pk))
    runs: Sequence[int] = list(
        Attempt.objects.filter(job__in=jobs, ending="success").order_by("-pk").values_list("pk", flat=True)[:LOOKED_AT]
    )
    return Exchange.objects.filter(attempt__in=runs, system=connection.system).count() / len(runs) if runs else 0.0


def _drain(calls: float, account: Use, now: datetime) -> timedelta | None:
    """Return how long so many calls take: what is left now, then a whole budget per window."""
    if not calls:
        return None
    missing = calls - (account.limit - account.used)
    if missing <= 0:
        return timedelta()
    until_reset = max(account.resets_at - now, timedelta())
    return until_reset + timedelta(seconds=(math.ceil(missing / account.limit) - 1) * account.window)


def _in_words(connection: Connection, hold: Hold | None, now: datetime) -> str:
    if hold is None:
        return f"the last {connection.failures} calls got no answer" if connection.failures > 1 else "the vendor answers"
    vain = f", after {hold.probes} in vain" if hold.probes else ""
    if hold.probing or hold.until is None:
        when = "one call is under way to see"
    else:
        when = f"one call is tried {moment(hold.until, now)}" if hold.until > now else "one call is tried with the next job"
    return f"the vendor has not answered for {span(now - hold.created_at)}: {when}{vain}; all else waits"
