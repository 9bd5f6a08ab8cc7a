"""Four bugs, put into production code on purpose: a simulation that does not find them proves nothing."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from unittest import mock
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from audit import ledger
from audit.ledger import Claim
from audit.models import Attempt, SyncJob
from audit.states import State
from integrations import bindings, polling, reading, systems
from integrations.bindings import Begun
from integrations.core.errors import ConnectorError
from integrations.core.paging import Turned
from integrations.core.records import CUSTOMER, INVOICE, PAYMENT, Listing, Snapshot, number_of
from integrations.models import Binding, Connection


@contextmanager
def no_intent() -> Iterator[None]:
    """Write without committing the intent first."""

    def begin(writer: Any, document: Any, *, parent: str, known: Any = None) -> Begun:
        if not ledger.renew(writer.attempt):
            raise bindings.ClaimLost
        found = Binding.objects.filter(route_id=writer.route_id, kind=document.kind, key=document.key).first()
        row = found or Binding(route_id=writer.route_id, kind=document.kind, key=document.key)
        before = row.state if found else None
        row.parent, row.title, row.claim, row.begun_at = parent, writer.job.title[:255], writer.attempt.claim, None
        return Begun(row, before)

    def done(row: Binding, document: Any, written: Any, digests: Mapping[str, str], writer: Any) -> None:
        row.remote_id, row.hashes, row.state = written.remote_id, dict(digests), Binding.State.BOUND
        row.facts, row.source_modified_at = {**row.facts, **written.facts}, document.modified_at
        with transaction.atomic():
            Binding.objects.filter(route_id=row.route_id, kind=row.kind, key=row.key).exclude(pk=row.pk).delete()
            row.save()

    def abandon(begun: Begun) -> None:
        """There is nothing to take back."""

    with mock.patch.multiple(bindings, begin=begin, done=done, abandon=abandon):
        yield


@contextmanager
def unchecked_settling() -> Iterator[None]:
    """Settle and renew whatever became of the claim meanwhile."""

    def standing(attempt: Attempt) -> QuerySet[SyncJob]:
        return SyncJob.objects.filter(pk=attempt.job_id)

    def unsettled(job: SyncJob) -> list[SyncJob]:
        same = Q(route_id=job.route_id, kind=job.kind, key=job.key, settled_at=None)
        return list(SyncJob.objects.filter(same | Q(pk=job.pk)).order_by())

    with mock.patch.multiple(ledger, _standing=standing, _unsettled=unsettled):
        yield


@contextmanager
def early_watermark() -> Iterator[None]:
    """Move the watermark before the jobs are stored, in a transaction of its own."""
    ordinary = polling._store

    def store(this: polling.Poll, turned: Turned[Listing]) -> None:
        now: datetime = timezone.now()
        records = turned.page.records
        reached = max([this.row.reached, *(min(one.modified_at, now) for one in records)])
        asked = polling._asked(this.row, records, polling._stale(this, records))
        mine = type(this.row).objects.filter(pk=this.row.pk, lease_owner=this.row.lease_owner)
        mine.update(reached=reached, asked=asked)
        ordinary(this, turned)

    with mock.patch.object(polling, "_store", store):
        yield


@contextmanager
def read_before_claim() -> Iterator[None]:
    """Read a record first and claim its jobs then, with what was read."""
    claim, read = ledger.claim, reading.read
    early: dict[int, tuple[str, Snapshot]] = {}

    def early_claim(job_ids: Collection[UUID] | None = None, **more: Any) -> Claim | None:
        due = SyncJob.objects.filter(state=State.PENDING, due_at__lte=timezone.now())
        job = (due if job_ids is None else due.filter(pk__in=job_ids)).order_by("due_at", "created_at").first()
        if job is None or job.kind == PAYMENT or more.get("beside") is not None:
            return claim(job_ids, **more)
        early.pop(threading.get_ident(), None)
        with suppress(ConnectorError):
            number = {job.kind: number_of(job.key)}
            customer = {"customer": number_of(job.customer_key)} if job.kind == INVOICE and job.customer_key else {}
            source = systems.source(Connection.objects.get(pk=job.source_id))
            early[threading.get_ident()] = (job.key, source.read(**number, **customer))
        return claim([job.pk], **more)

    def early_read(this: reading.Batch) -> list[reading.Read]:
        key, snapshot = early.pop(threading.get_ident(), ("", None))
        jobs = this.claims[0].jobs
        known = snapshot is not None and jobs[0].key == key and (snapshot.customer is not None or all(job.kind != CUSTOMER for job in jobs))
        return [snapshot] if snapshot is not None and known and len(this.claims) == 1 else read(this)

    with mock.patch.object(ledger, "claim", early_claim), mock.patch.object(reading, "read", early_read):
        yield


CALM: Mapping[str, Any] = {
    "fault": 0.0,
    "death": 0.0,
    "stall": 0.0,
    "refusal": 0.0,
    "outages": 0,
    "nights": 0,
    "rotations": 0,
    "reconciled": False,
    "page": 100,
    "shifts": 0.0,
    "remapped": False,
}


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug, the sort of story in which most seeds come upon it, and what the simulation says then."""

    put_in: Callable[[], AbstractContextManager[None]]
    traits: Mapping[str, Any]  # of the story, beside CALM
    says: str  # a pattern
    changes: int = 12


BUGS: Mapping[str, Bug] = {
    # Jira carries out what it does not answer, and its index is late.
    "no-intent": Bug(
        no_intent,
        {"fault": 0.5, "met": "jira write: a reset after", "index_lag": 60.0, "objects": 0.6},
        r"two remote objects carry|at the same time|worklogs should be",  # made twice, at once, or left behind unknown
    ),
    # Workers stand still for longer than their claims last.
    "unchecked-settling": Bug(unchecked_settling, {"stall": 0.03}, "settles a job that was given to another"),
    # No webhook tells of anything, and polls end half way.
    "early-watermark": Bug(
        early_watermark,
        {"death": 0.008, "mortal": "poll: after commit", "tells": 0.0, "between": 200.0, "objects": 1.5, "limited": False},
        "missing|should be",
        changes=16,
    ),
    "read-before-claim": Bug(read_before_claim, {}, "writes what was read before the job was claimed"),
}
