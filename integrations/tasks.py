"""Entry points for django-q2; no logic. A task may be lost or run twice: the job rows decide."""

from collections.abc import Sequence
from uuid import UUID

from django.conf import settings

from audit import ledger
from integrations import pipeline


def sync(job_ids: Sequence[str] = ()) -> None:
    """Give back the jobs of vanished workers, run the named jobs where they are due, then what else is."""
    ledger.reclaim()
    pipeline.run([UUID(pk) for pk in job_ids], started_by="worker")
    pipeline.drain(started_by="worker", budget=settings.JOB_BUDGET / 2)


def sweep() -> None:
    """Give back the jobs of vanished workers and run what is due."""
    ledger.reclaim()
    pipeline.drain(started_by="sweep", budget=settings.JOB_BUDGET / 2)


def beat() -> None:
    """Note that a worker lives."""
    ledger.beat()
