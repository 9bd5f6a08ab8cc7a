"""Entry points for django-q2; no logic. A task may be lost or run twice: the job rows decide."""

from collections.abc import Sequence
from uuid import UUID

from django.conf import settings

from audit import ledger
from integrations import health, keys, pipeline, polling, refreshing, remote_webhooks


def sync(job_ids: Sequence[str] = ()) -> None:
    """Give back the jobs of vanished workers, run the named jobs where they are due, then what else is."""
    keys.check_once()
    ledger.reclaim()
    pipeline.run([UUID(pk) for pk in job_ids], started_by="worker")
    pipeline.drain(started_by="worker", budget=settings.JOB_BUDGET / 2)


def sweep() -> None:
    """Give back the jobs of vanished workers, free what nothing blocks any more, and run what is due."""
    keys.check_once()
    ledger.reclaim()
    ledger.drop_ended_holds()
    ledger.unblock()
    pipeline.drain(started_by="sweep", budget=settings.JOB_BUDGET / 2)


def poll() -> None:
    """Ask the sources whose poll is due for what changed."""
    keys.check_once()
    polling.poll_due(budget=settings.JOB_BUDGET / 2)


def refresh() -> None:
    """Renew the access tokens that end soon."""
    keys.check_once()
    refreshing.refresh_due(budget=settings.JOB_BUDGET / 2)


def ping() -> None:
    """Ping the connections whose last ping is an hour old, so that a dying account is seen before it is needed."""
    keys.check_once()
    health.check_due(budget=settings.JOB_BUDGET / 2)


def keep_webhooks() -> None:
    """Look after our own webhooks at destinations where a day has gone by, the end is near or something is missing."""
    keys.check_once()
    remote_webhooks.keep_due(budget=settings.JOB_BUDGET / 2)


def beat() -> None:
    """Note that a worker lives."""
    ledger.beat()
