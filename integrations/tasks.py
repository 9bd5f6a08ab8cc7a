"""Entry points for django-q2; no logic. A task may be lost or run twice: the job rows decide."""

import time
from collections.abc import Sequence
from uuid import UUID

from django.conf import settings

from audit import holds, ledger, trail
from integrations import backfill as backfilling
from integrations import health, keys, pipeline, polling, refreshing, remote_webhooks, sweeping
from integrations import reconcile as reconciling

BEAT_EVERY = 30.0  # seconds
_beaten_at = -BEAT_EVERY


def _begin() -> None:
    """Check the keys, and note that this machine works: any machine may take the task that is called heartbeat."""
    global _beaten_at
    keys.check_once()
    if time.monotonic() - _beaten_at >= BEAT_EVERY:
        _beaten_at = time.monotonic()
        trail.beat()


def sync(job_ids: Sequence[str] = ()) -> None:
    """Give back the jobs of vanished workers, run the named jobs where they are due, then what else is."""
    _begin()
    ledger.reclaim()
    pipeline.run([UUID(pk) for pk in job_ids], started_by="worker")
    pipeline.drain(started_by="worker", budget=settings.JOB_BUDGET / 2)


def sweep() -> None:
    """Give back the jobs of vanished workers, free what nothing blocks any more, and run what is due."""
    _begin()
    ledger.reclaim()
    holds.drop_ended_holds()
    trail.forget_machines()
    holds.unblock()
    pipeline.drain(started_by="sweep", budget=settings.JOB_BUDGET / 2)


def poll() -> None:
    """Ask the sources whose poll is due for what changed."""
    _begin()
    polling.poll_due(budget=settings.JOB_BUDGET / 2)


def reconcile() -> None:
    """Begin the reconciles that are due, and carry on what is running, in turns well under the queue's time-out."""
    _begin()
    if reconciling.run_due(budget=settings.JOB_BUDGET / 2):
        sweeping.wake("reconcile")


def backfill() -> None:
    """Carry on the backfills that are running, in turns well under the queue's time-out."""
    _begin()
    if backfilling.run_due(budget=settings.JOB_BUDGET / 2):
        sweeping.wake("backfill")


def refresh() -> None:
    """Renew the access tokens that end soon."""
    _begin()
    refreshing.refresh_due(budget=settings.JOB_BUDGET / 2)


def ping() -> None:
    """Ping the connections whose last ping is an hour old, so that a dying account is seen before it is needed."""
    _begin()
    health.check_due(budget=settings.JOB_BUDGET / 2)


def keep_webhooks() -> None:
    """Look after our own webhooks at destinations where a day has gone by, the end is near or something is missing."""
    _begin()
    remote_webhooks.keep_due(budget=settings.JOB_BUDGET / 2)


def beat() -> None:
    """Note that this machine's cluster lives."""
    trail.beat()
