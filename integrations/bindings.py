"""The intent before every write and the memory after it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from audit import ledger
from audit.models import Attempt, SyncJob
from audit.states import State
from integrations.core.documents import Document, Written
from integrations.core.errors import Transient
from integrations.models import Binding

# After a create without a clear answer the destination is searched this long after it, in seconds, and only when the
# last look-up shows nothing either is it created again. Jira's index lags "a few seconds to minutes".
LOOKUPS = (5, 15, 35, 75, 135)
ELSEWHERE = timedelta(seconds=2)


class ClaimLost(Exception):  # noqa: N818 - not an error: another worker has the job now
    """The lease ran out and the job was given to somebody else: stop without writing."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes: the route, the job and its attempt."""

    route_id: int
    job: SyncJob
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Begun:
    """An intent that was committed, and what stood before it: None when there was no binding at all."""

    row: Binding
    before: str | None
    began_before: datetime | None = None


def of(route_id: int, documents: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Binding]:
    """Return the bindings of these (kind, key) pairs; one statement."""
    wanted = Q(pk__in=[])
    for kind, key in documents:
        wanted |= Q(kind=kind, key=key)
    return {(row.kind, row.key): row for row in Binding.objects.filter(wanted, route_id=route_id)}


def children(route_id: int, parent: str, kinds: Iterable[str]) -> list[Binding]:
    """Return what is bound under a record."""
    return list(Binding.objects.filter(route_id=route_id, parent=parent, kind__in=list(kinds)).order_by("pk"))


def of_record(route_id: int, key: str) -> list[Binding]:
    """Return everything bound to a record itself."""
    return list(Binding.objects.filter(route_id=route_id, key=key).order_by("pk"))


def begin(writer: Writer, document: Document, *, parent: str, title: str) -> Begun:
    """Commit the intent to write and renew the lease, in one short transaction.

    A new binding starts as `creating`; a bound one is `in_doubt` until `done`. Raises ClaimLost when the job was
    given away, Transient when a live claim of another job is creating the same object just now.
    """
    now = timezone.now()
    with transaction.atomic():
        if not ledger.renew(writer.attempt):
            raise ClaimLost
        row, created = Binding.objects.get_or_create(
            route_id=writer.route_id,
            kind=document.kind,
            key=document.key,
            defaults={"parent": parent, "title": title[:255], "claim": writer.attempt.claim, "begun_at": now},
        )
        if created:
            return Begun(row, None)
        if row.claim != writer.attempt.claim and row.state == Binding.State.CREATING and _lives(row.claim):
            raise Transient("another job is creating the same object", code="creating_elsewhere", not_before=now + ELSEWHERE, counted=False)
        begun = Begun(row, row.state, row.begun_at)
        row.state = Binding.State.IN_DOUBT if row.remote_id else Binding.State.CREATING
        row.claim, row.begun_at = writer.attempt.claim, now
        row.parent, row.title = parent, title[:255]
        row.save()
    return begun


def _lives(claim: UUID | None) -> bool:
    """Whether a worker still holds this claim."""
    if claim is None:
        return False
    alive = Attempt.objects.filter(claim=claim, closed_at=None, job__state=State.RUNNING, job__lease_until__gt=timezone.now())
    return alive.exists()


def done(row: Binding, document: Document, written: Written, digests: Mapping[str, str], writer: Writer) -> None:
    """Remember what was written, as soon as the call has answered."""
    row.remote_id = written.remote_id
    kept = {name: digest for name, digest in digests.items() if name not in written.dropped}
    row.hashes = {**row.hashes, **kept} if document.partial else kept
    row.facts = {**row.facts, **written.facts}
    # A part says nothing of the rest: an organization that an invoice made with its name only is not up to date yet.
    row.source_modified_at = (None if document.partial else document.modified_at) or row.source_modified_at
    row.written_at, row.job_id = timezone.now(), writer.job.pk
    with transaction.atomic():
        row.save(update_fields=["remote_id", "hashes", "facts", "source_modified_at", "written_at", "job_id"])
        _settle(row, Binding.State.BOUND)


def note_modified(row: Binding, document: Document) -> None:
    """Remember that the record's newest change left this object as it is, so that no poll asks for it again."""
    if document.modified_at and not document.partial and row.source_modified_at != document.modified_at:
        row.source_modified_at = document.modified_at
        Binding.objects.filter(pk=row.pk).update(source_modified_at=document.modified_at)


def _settle(row: Binding, state: str) -> None:
    """Set the state, unless the object was put in doubt since its write began: then it stays so."""
    row.state = state if Binding.objects.filter(pk=row.pk, claim=row.claim).update(state=state) else Binding.State.IN_DOUBT


def doubt(rows: Iterable[Binding]) -> None:
    """Have remote objects written whole by the next run, whatever a write under way says of them; lost ones stay lost.

    Call inside a transaction, with the request for the job.
    """
    suspected = Binding.objects.filter(pk__in=[row.pk for row in rows]).exclude(state=Binding.State.LOST)
    suspected.exclude(remote_id="").update(state=Binding.State.IN_DOUBT, claim=None)


def adopt(row: Binding, remote_id: str) -> None:
    """Take a remote object that carries our key for ours; what it holds is in doubt, so that it is written whole."""
    row.remote_id, row.state, row.hashes = remote_id, Binding.State.IN_DOUBT, {}
    row.save()


def next_look(row: Binding) -> datetime | None:
    """Return when to look next for a create in doubt that was not found; None when it is time to create again."""
    if row.begun_at is None:
        return None
    now = timezone.now()
    looks = [row.begun_at + timedelta(seconds=seconds) for seconds in LOOKUPS]
    return next((look for look in looks if look > now), None)


def look_at_once(row: Binding) -> None:
    """Let the next run create again after one fruitless look-up: the vendor answered, and its look-up does not lag."""
    Binding.objects.filter(pk=row.pk, state=Binding.State.CREATING).update(begun_at=None)


def abandon(begun: Begun) -> None:
    """Take the intent back: the write was surely not carried out, so all is as it was before."""
    row = begun.row
    if begun.before is None:
        row.delete()
    else:
        row.begun_at = begun.began_before
        with transaction.atomic():
            row.save(update_fields=["begun_at"])
            _settle(row, begun.before)


def lose(row: Binding) -> None:
    """Mark a remote object as vanished; a person decides."""
    row.state = Binding.State.LOST
    row.save(update_fields=["state"])


def forget(row: Binding) -> None:
    """Remove the memory of an object that is gone."""
    row.delete()


def facts(row: Binding | None) -> Mapping[str, Any]:
    """Return the remembered facts of a binding, if any."""
    return row.facts if row else {}
