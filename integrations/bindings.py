"""The intent before every write and the memory after it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
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


@dataclass(frozen=True, slots=True)
class Known:
    """What was written before: the bindings of documents by (kind, key), and those of a record's children."""

    bound: dict[tuple[str, str], Binding] = field(default_factory=dict)
    children: list[Binding] = field(default_factory=list)


def of(route_id: int, documents: Collection[tuple[str, str]], *, parent: str = "", kinds: Iterable[str] = ()) -> Known:
    """Return the bindings of these (kind, key) pairs, and what of some kinds is bound under a record; one statement."""
    below = list(kinds)
    wanted = Q(key__in={key for _, key in documents})
    rows = Binding.objects.filter(wanted | Q(parent=parent, kind__in=below) if below else wanted, route_id=route_id).order_by("pk")
    found = {(row.kind, row.key): row for row in rows}
    return Known(
        {pair: row for pair, row in found.items() if pair in documents},
        [row for row in found.values() if row.parent == parent and row.kind in below],
    )


def children(route_id: int, parent: str, kinds: Iterable[str]) -> list[Binding]:
    """Return what is bound under a record."""
    return list(Binding.objects.filter(route_id=route_id, parent=parent, kind__in=list(kinds)).order_by("pk"))


def of_record(route_id: int, key: str) -> list[Binding]:
    """Return everything bound to a record itself."""
    return list(Binding.objects.filter(route_id=route_id, key=key).order_by("pk"))


def begin(writer: Writer, document: Document, *, parent: str, known: Binding | None = None) -> Begun:
    """Commit the intent to write and renew the lease, in one short transaction.

    A new binding starts as `creating`; a bound one is `in_doubt` until `done`. `known` is the row as it was read since
    the claim, looked at anew only if it is not so any more. Raises ClaimLost when the job was given away, Transient when
    a live claim of another job is creating the same object just now.
    """
    now = timezone.now()
    with transaction.atomic():
        if not ledger.renew(writer.attempt):
            raise ClaimLost
        begun = _begin_known(known, Intent(writer, document, parent), now) if known is not None and known.remote_id else None
        if begun is not None:
            return begun
        row, created = Binding.objects.get_or_create(
            route_id=writer.route_id,
            kind=document.kind,
            key=document.key,
            defaults={"parent": parent, "title": writer.job.title[:255], "claim": writer.attempt.claim, "begun_at": now},
        )
        if created:
            return Begun(row, None)
        intent = Intent(writer, document, parent)
        if not _is_free(row, intent):
            raise Transient("another job is creating the same object", code="creating_elsewhere", not_before=now + ELSEWHERE, counted=False)
        begun = _begin_again(row, intent, now)
        row.save()
    return begun


def _begin_known(row: Binding, intent: "Intent", now: datetime) -> Begun | None:
    """Commit the intent on a row that has its object and is as it was read; None when something has happened to it since."""
    as_read = Binding.objects.filter(pk=row.pk, state=row.state, claim=row.claim, remote_id=row.remote_id)
    begun = _begin_again(copy(row), intent, now)
    return begun if as_read.update(**{name: getattr(begun.row, name) for name in BEGUN}) else None


def _lives(claim: UUID | None) -> bool:
    """Whether a worker still holds this claim."""
    if claim is None:
        return False
    alive = Attempt.objects.filter(claim=claim, closed_at=None, job__state=State.RUNNING, job__lease_until__gt=timezone.now())
    return alive.exists()


@dataclass(frozen=True, slots=True)
class Intent:
    """One write among many of a kind: who writes which document, and what it hangs on."""

    writer: Writer
    document: Document
    parent: str = ""


def begin_many(intents: Sequence[Intent]) -> list[tuple[Intent, Begun]]:
    """Commit many intents of one kind and renew their leases, in one short transaction.

    What was given to another worker, or is being created by one, is left out.
    """
    try:
        return _begin_many(intents)
    except IntegrityError:  # an invoice's job has just begun to make the customer's object: now it is in sight
        return _begin_many(intents)


def _begin_many(intents: Sequence[Intent]) -> list[tuple[Intent, Begun]]:
    now = timezone.now()
    with transaction.atomic():
        standing = ledger.renew_all([intent.writer.attempt for intent in intents])
        mine = [intent for intent in intents if intent.writer.job.pk in standing]
        known = _rows_of(mine)
        fresh = [(intent, Begun(_new(intent, now), None)) for intent in mine if intent.document.key not in known]
        Binding.objects.bulk_create([begun.row for _, begun in fresh])
        old = [(intent, known[intent.document.key]) for intent in mine if intent.document.key in known]
        again = [(intent, _begin_again(row, intent, now)) for intent, row in old if _is_free(row, intent)]
        Binding.objects.bulk_update([begun.row for _, begun in again], BEGUN)
    return fresh + again


def _rows_of(intents: Sequence[Intent]) -> dict[str, Binding]:
    if not intents:
        return {}
    first = intents[0]
    keys = [intent.document.key for intent in intents]
    return {row.key: row for row in Binding.objects.filter(route_id=first.writer.route_id, kind=first.document.kind, key__in=keys)}


def _new(intent: Intent, now: datetime) -> Binding:
    return Binding(
        route_id=intent.writer.route_id,
        kind=intent.document.kind,
        key=intent.document.key,
        parent=intent.parent,
        title=intent.writer.job.title[:255],
        claim=intent.writer.attempt.claim,
        begun_at=now,
    )


BEGUN = ("state", "claim", "begun_at", "parent", "title")


def _is_free(row: Binding, intent: Intent) -> bool:
    return row.claim == intent.writer.attempt.claim or row.state != Binding.State.CREATING or not _lives(row.claim)


def _begin_again(row: Binding, intent: Intent, now: datetime) -> Begun:
    begun = Begun(row, row.state, row.begun_at)
    row.state = Binding.State.IN_DOUBT if row.remote_id else Binding.State.CREATING
    row.claim, row.begun_at = intent.writer.attempt.claim, now
    row.parent, row.title = intent.parent, intent.writer.job.title[:255]
    return begun


def done(row: Binding, document: Document, written: Written, digests: Mapping[str, str], writer: Writer) -> None:
    """Remember what was written, as soon as the call has answered.

    A worker that was taken for dead may come here late: what another claim has begun since is newer, and left alone.
    """
    _remember(row, document, written, digests, writer)
    remembered = {name: getattr(row, name) for name in REMEMBERED}
    rows = Binding.objects.filter(pk=row.pk)
    if rows.filter(claim=row.claim).update(state=Binding.State.BOUND, **remembered):
        row.state = Binding.State.BOUND
        return
    row.state = Binding.State.IN_DOUBT  # put in doubt since the write began: what was written is remembered, the doubt stays
    rows.filter(claim=None).update(**remembered)


REMEMBERED = ["remote_id", "hashes", "facts", "source_modified_at", "written_at", "job_id", "gone_at"]


def _remember(row: Binding, document: Document, written: Written, digests: Mapping[str, str], writer: Writer) -> None:
    row.remote_id = written.remote_id or row.remote_id
    kept = {name: digest for name, digest in digests.items() if name not in written.dropped}
    row.hashes = {**row.hashes, **kept} if document.partial else kept
    row.facts = {**row.facts, **written.facts}
    # A part says nothing of the rest: an organization that an invoice made with its name only is not up to date yet.
    row.source_modified_at = (None if document.partial else document.modified_at) or row.source_modified_at
    row.written_at, row.job_id, row.gone_at = timezone.now(), writer.job.pk, None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one write among many."""

    intent: Intent
    row: Binding
    written: Written
    digests: Mapping[str, str]


def done_many(outcomes: Sequence[Outcome]) -> None:
    """Do as `done` does with what one bulk call wrote; three statements."""
    for one in outcomes:
        _remember(one.row, one.intent.document, one.written, one.digests, one.intent.writer)
    rows = [one.row for one in outcomes]
    with transaction.atomic():
        locked = Binding.objects.select_for_update().filter(pk__in=[row.pk for row in rows]).order_by("pk")
        claims = dict(locked.values_list("pk", "claim"))
        mine = [row for row in rows if row.pk in claims and claims[row.pk] == row.claim]
        doubted = [row for row in rows if row.pk in claims and claims[row.pk] is None]
        Binding.objects.bulk_update(mine + doubted, REMEMBERED)
        Binding.objects.filter(pk__in=[row.pk for row in mine]).update(state=Binding.State.BOUND)


def learn_ids(found: Sequence[tuple[Binding, str]]) -> None:
    """Remember the ids of objects that were written by their keys."""
    for row, remote_id in found:
        row.remote_id = remote_id
    Binding.objects.bulk_update([row for row, _ in found], ["remote_id"])


def note_modified(pairs: Iterable[tuple[Binding, Document]]) -> None:
    """Remember that a record's newest change left these objects as they are, so that no poll asks for it again.

    One statement for each time that differs: the objects of one record share it.
    """
    for modified_at, rows in _modified(pairs).items():
        Binding.objects.filter(pk__in=[row.pk for row in rows]).update(source_modified_at=modified_at)


def note_modified_many(pairs: Iterable[tuple[Binding, Document]]) -> None:
    """Do as `note_modified` does with many records; one statement where any differs."""
    moved = [row for rows in _modified(pairs).values() for row in rows]
    Binding.objects.bulk_update(moved, ["source_modified_at"])


def _modified(pairs: Iterable[tuple[Binding, Document]]) -> dict[datetime, list[Binding]]:
    """Set the times of the rows in memory and return, by time, those that had another one."""
    moved: dict[datetime, list[Binding]] = {}
    for row, document in pairs:
        if document.modified_at and not document.partial and row.source_modified_at != document.modified_at:
            row.source_modified_at = document.modified_at
            moved.setdefault(document.modified_at, []).append(row)
    return moved


def note_withheld(row: Binding, kind: str, digests: Mapping[str, str]) -> None:
    """Remember which state a part of an object could not be brought to, so that no reconcile asks for the same each day."""
    row.facts = {**row.facts, "withheld": {**row.facts.get("withheld", {}), kind: dict(digests)}}
    Binding.objects.filter(pk=row.pk).update(facts=row.facts)


def withheld(row: Binding, kind: str) -> Mapping[str, str]:
    """Return the digests of what a part of an object could not be brought to, empty where there is no such thing."""
    return dict(row.facts.get("withheld", {}).get(kind, {}))


def _settle(row: Binding, state: str) -> None:
    """Set the state, unless the object was put in doubt since its write began: then it stays so."""
    row.state = state if Binding.objects.filter(pk=row.pk, claim=row.claim).update(state=state) else Binding.State.IN_DOUBT


def doubt(rows: Iterable[Binding]) -> None:
    """Have remote objects written whole by the next run, whatever a write under way says of them; lost ones stay lost.

    Call inside a transaction, with the request for the job.
    """
    suspected = Binding.objects.filter(pk__in=[row.pk for row in rows], state__in=(Binding.State.BOUND, Binding.State.IN_DOUBT))
    suspected.update(state=Binding.State.IN_DOUBT, claim=None)


def adopt(row: Binding, remote_id: str) -> None:
    """Take a remote object that carries our key for ours; what it holds is in doubt, so that it is written whole."""
    row.remote_id, row.state, row.hashes = remote_id, Binding.State.IN_DOUBT, {}
    row.save()


def adopt_many(route_id: int, kind: str, carrying: Iterable[tuple[str, str]]) -> set[str]:
    """Take a page of what carries our keys and is not bound for ours, in doubt, so that it is written whole.

    Returns the keys of which a second object was met, on this page or since an earlier one; what was adopted of them and
    not written since is forgotten, so that their own runs find both. Call inside a transaction.
    """
    pairs = list(dict.fromkeys(carrying))
    known = {row.key: row for row in Binding.objects.filter(route_id=route_id, kind=kind, key__in=[key for key, _ in pairs])}
    fresh: dict[str, str] = {}
    twins: set[str] = set()
    for key, remote_id in pairs:
        held = known[key].remote_id if key in known else fresh.setdefault(key, remote_id)
        if held not in ("", remote_id):
            twins.add(key)
    Binding.objects.filter(pk__in=[known[key].pk for key in twins if key in known], written_at=None).delete()
    doubt = Binding.State.IN_DOUBT
    rows = [Binding(route_id=route_id, kind=kind, key=key, remote_id=one, state=doubt) for key, one in fresh.items() if key not in twins]
    Binding.objects.bulk_create(rows, ignore_conflicts=True)
    return {key for key in twins if key not in known or known[key].written_at is None}


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
    """Take the intent back: the write was surely not carried out, so all is as it was before.

    A worker that was taken for dead may come here late: what another claim has begun since is left alone.
    """
    row = begun.row
    if begun.before is None:
        Binding.objects.filter(pk=row.pk, claim=row.claim).delete()
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


def forget_unmade(route_id: int, kind: str, key: str) -> None:
    """Remove the intent of something that was never made, and has nothing left that it could be made at."""
    Binding.objects.filter(route_id=route_id, kind=kind, key=key, remote_id="").delete()


def forget_unless_written(row: Binding, writer: Writer) -> None:
    """Remove the memory of an object that is gone; raise Transient while another job's live claim is writing it."""
    with transaction.atomic():
        now = Binding.objects.select_for_update().filter(pk=row.pk).first()
        if now is not None and now.state != Binding.State.BOUND and now.claim != writer.attempt.claim and _lives(now.claim):
            raise Transient(
                "another job is writing the object that this one hangs on",
                code="written_elsewhere",
                not_before=timezone.now() + ELSEWHERE,
                counted=False,
            )
        forget(row)


def note_gone(route_id: int, key: str) -> None:
    """Remember that the end of a record was carried out, so that no sweep asks for it again; what is written later ends that.

    What was under way when it ended is in doubt no more, as nobody will write it; should the record come back, all is written.
    """
    Binding.objects.filter(route_id=route_id, key=key).update(gone_at=timezone.now())
    unsure = Binding.objects.filter(Q(key=key) | Q(parent=key), route_id=route_id, state=Binding.State.IN_DOUBT)
    unsure.update(state=Binding.State.BOUND, hashes={})


def facts(row: Binding | None) -> Mapping[str, Any]:
    """Return the remembered facts of a binding, if any."""
    return row.facts if row else {}
