"""Writes a batch of claimed records in bulk; what bulk leaves undone, the ordinary way brings one by one."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Protocol

from django.utils import timezone

from audit.ledger import Claim
from integrations import bindings, converge
from integrations.bindings import Begun, Intent, Outcome, Writer
from integrations.core.documents import Bound, Bulk, Document, Link, Observed, Written
from integrations.core.errors import ConnectorError, Missing, Rejected, Transient
from integrations.core.ports import Destination, Trace
from integrations.core.records import Snapshot
from integrations.models import Binding, Route

REFUSED = "bulk_refused"
POLLS = (0.5, 1.0, 2.0, 3.0, 5.0)  # seconds between looks at a bulk job, the last for ever
# A vendor's job that has no end after this is given up: what it was to do is looked at, and done one by one.
STUCK = timedelta(minutes=5)
NO_END = f"its bulk job did not come to an end within {STUCK.total_seconds() / 60:.0f} minutes"


class Following(Protocol):
    """Where a bulk job's id is kept while the vendor is at it, so that it is not forgotten with a worker."""

    def begun(self, bulk: Bulk) -> None:
        """Store the id before it is asked after."""

    def ended(self) -> None:
        """Forget it."""


@dataclass(slots=True)
class Batch:
    """Claimed jobs of one kind of record on one route, with what was read of them after the claim.

    created   keys of records whose own object this batch made; written: of which it wrote anything
    refused   document kinds that the account may not write in bulk, with its reason
    scanned   document kinds of which all that carries our keys was adopted before: what has no binding has no object either
    """

    route: Route
    adapter: Destination
    claim: Claim
    kind: str
    snapshots: Mapping[str, Snapshot]
    deadline: float
    following: Following
    scanned: frozenset[str] = frozenset()
    refused: dict[str, str] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    documents: dict[str, list[Document]] = field(default_factory=dict)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def writers(self) -> dict[str, Writer]:
        """Who writes what, by the record's key."""
        pairs = zip(self.claim.jobs, self.claim.attempts, strict=True)
        return {job.key: Writer(self.route.pk, job, attempt) for job, attempt in pairs}


@dataclass(frozen=True, slots=True)
class Lack:
    """A document that is not at the destination as it should be, with its links resolved; `row` is what is known of it."""

    record: str
    document: Document
    row: Binding | None
    digests: Mapping[str, str]
    parent_id: str = ""


def fill(batch: Batch) -> None:
    """Write in bulk what can be, kind after kind, parents first. Raises Transient, Disconnected.

    A refusal of bulk, a partly failed, stuck or vanished job leave rows that the ordinary way finishes.
    """
    batch.adapter.prepare()
    batch.documents = dict(_documents(batch))
    for kind in batch.adapter.bulk_most:
        if kind not in batch.refused:
            _fill(batch, kind)
        _learn_ids(batch, kind)


def whole(batch: Batch) -> dict[str, tuple[str, ...]]:
    """Return the notes of the records of which everything stands at the destination, by key: their jobs have nothing left to do.

    A few statements, however many they are.
    """
    forced = {job.key for job in batch.claim.jobs if job.force}
    found = [document for documents in batch.documents.values() for document in documents]
    rows = _known(batch, found)
    done = {key for key in batch.documents if key not in forced | _with_gone_children(batch)}
    done -= {key for key in done if not _stands(batch.documents[key], rows)}
    bindings.note_modified_many([(rows[one.kind, one.key], one) for key in done for one in batch.documents[key]])
    return {key: batch.notes.get(key, ()) for key in done}


def _stands(documents: Iterable[Document], rows: Mapping[tuple[str, str], Binding]) -> bool:
    return all((one.kind, one.key) in rows and _lack("", one, rows[one.kind, one.key], rows) is None for one in documents) and all(
        (link.kind, link.key) in rows for one in documents for link in _links(one)
    )


def _with_gone_children(batch: Batch) -> set[str]:
    """Return the records under which something is bound that they have no more."""
    wanted = {(one.kind, one.key) for found in batch.documents.values() for one in found}
    below = Binding.objects.filter(route=batch.route, parent__in=list(batch.documents), kind__in=list(batch.adapter.children))
    return {parent for parent, kind, key in below.values_list("parent", "kind", "key") if (kind, key) not in wanted}


def _documents(batch: Batch) -> Iterator[tuple[str, list[Document]]]:
    writers = batch.writers
    for key, snapshot in batch.snapshots.items():
        trace = Trace(timezone.now(), str(writers[key].job.pk))
        batch.adapter.notes.clear()
        with suppress(Exception):  # what cannot be mapped, or meets a defect of ours, holds no other up: its own run says why
            found = list(batch.adapter.documents(batch.kind, snapshot, trace))
            batch.notes[key] = tuple(dict.fromkeys(batch.adapter.notes))
            yield key, found


# --- One kind of document ----------------------------------------------------------------------------------------------


def _fill(batch: Batch, kind: str) -> None:
    lacks = list(_lacking(batch, kind))
    unsure = [lack for lack in lacks if _is_unsure(batch, kind, lack)]
    if unsure:
        left_out = _look(batch, kind, unsure)
        lacks = [lack for lack in _lacking(batch, kind) if lack.document.key not in left_out]
    creates = [lack for lack in lacks if not _remote_id(lack) and (lack.row is None or lack.document.upsert)]
    updates = [lack for lack in lacks if _remote_id(lack)] if kind in batch.adapter.bulk_updates else []
    most = batch.adapter.bulk_most[kind]
    for wanted in (creates, updates):
        for start in range(0, len(wanted), most):
            if kind not in batch.refused:
                _write(batch, kind, wanted[start : start + most])


def _is_unsure(batch: Batch, kind: str, lack: Lack) -> bool:
    """Whether the object may be there without our knowing: a write was left without an answer, or our memory is new."""
    if lack.row is None:
        return kind not in batch.scanned | batch.adapter.bulk_upserts
    return not lack.row.remote_id and lack.row.state == Binding.State.CREATING


def _learn_ids(batch: Batch, kind: str) -> None:
    """Look up the ids that other documents of the batch are to point at, where the bulk call did not tell them."""
    keys = {link.key for found in batch.documents.values() for document in found for link in _links(document) if link.kind == kind}
    rows = {row.key: row for row in Binding.objects.filter(route=batch.route, kind=kind, key__in=keys, state="bound", remote_id="")}
    seen = _observed(batch, kind, dict.fromkeys(rows, ""))
    bindings.learn_ids([(rows[key], one.remote_id) for key, one in seen.items() if one.remote_id])


def _lacking(batch: Batch, kind: str) -> Iterator[Lack]:
    """Yield what differs and can be written now: its parents are there, nobody else creates it, and it is not lost."""
    documents = {
        document.key: (record, document) for record, found in batch.documents.items() for document in found if document.kind == kind
    }
    rows = _known(batch, [document for _, document in documents.values()])
    for key, (record, document) in documents.items():
        row = rows.get((kind, key))
        if row is not None and row.state == Binding.State.LOST:
            continue
        lack = _lack(record, document, row, rows)
        if lack is not None:
            yield lack


def _known(batch: Batch, documents: Iterable[Document]) -> dict[tuple[str, str], Binding]:
    keys = {key for document in documents for key in (document.key, *(link.key for link in _links(document)))}
    return {(row.kind, row.key): row for row in Binding.objects.filter(route=batch.route, key__in=keys)}


def _links(document: Document) -> list[Link]:
    return [value for value in (*document.fields.values(), document.parent) if isinstance(value, Link)]


def _lack(record: str, document: Document, row: Binding | None, rows: Mapping[tuple[str, str], Binding]) -> Lack | None:
    ids = {link: rows[link.kind, link.key].remote_id for link in _links(document) if (link.kind, link.key) in rows}
    if any(not ids.get(link) for link in _links(document)):
        return None
    fields = {name: ids[value] if isinstance(value, Link) else value for name, value in document.fields.items()}
    resolved = replace(document, fields=fields)
    parent_id = ids[document.parent] if document.parent else ""
    digests = converge.digests(resolved, parent_id)
    if row is not None and row.state == Binding.State.BOUND and not converge.differing(resolved, row, digests):
        return None
    return Lack(record, resolved, row, digests, parent_id)


def _look(batch: Batch, kind: str, unsure: Sequence[Lack]) -> set[str]:
    """Take what carries our keys for ours, and return the keys that several carry: their own runs say so.

    What an earlier call of ours made and holds all that it should is done; the rest is written, not doubled.
    """
    by_key = {lack.document.key: lack for lack in unsure}
    seen = _observed(batch, kind, dict.fromkeys(by_key, ""))
    there = [by_key[key] for key, one in seen.items() if one.remote_id and key in by_key]
    done: list[Outcome] = []
    for intent, begun in _begin(batch, there):
        lack, found = by_key[intent.document.key], seen[intent.document.key]
        written = _confirmed(batch, lack, found) if begun.before == Binding.State.CREATING else None
        if written is None:
            bindings.adopt(begun.row, found.remote_id)
        else:
            done.append(_noted(batch, lack, intent, begun, written))
    bindings.done_many(done)
    return {key for key, one in seen.items() if not one.remote_id}


def _observed(batch: Batch, kind: str, wanted: Mapping[str, str]) -> dict[str, Observed]:
    if kind not in batch.adapter.observes.values():
        return {}
    found: dict[str, Observed] = {}
    keys = list(wanted)
    for start in range(0, len(keys), batch.adapter.observe_most):
        part = {key: wanted[key] for key in keys[start : start + batch.adapter.observe_most]}
        found |= batch.adapter.observe(kind, part)
    return found


def _begin(batch: Batch, lacks: Sequence[Lack]) -> list[tuple[Intent, Begun]]:
    writers = batch.writers
    return bindings.begin_many([Intent(writers[lack.record], lack.document, _parent_key(lack.document)) for lack in lacks])


def _parent_key(document: Document) -> str:
    return document.parent.key if document.parent and document.parent.key != document.key else ""


# --- One bulk call -----------------------------------------------------------------------------------------------------


def _write(batch: Batch, kind: str, lacks: Sequence[Lack]) -> None:
    begun = _begin(batch, lacks)
    if not begun:
        return
    by_key = {lack.document.key: lack for lack in lacks}
    try:
        bulk = batch.adapter.start_bulk(kind, [(intent.document, _bound(by_key[intent.document.key])) for intent, _ in begun])
    except ConnectorError as error:
        _after_failure(batch, kind, begun, error)
        return
    batch.following.begun(bulk)
    bulk = _followed(batch, bulk)
    batch.following.ended()
    _remember(batch, kind, begun, by_key, bulk)


def _bound(lack: Lack) -> Bound:
    return Bound(_remote_id(lack), lack.parent_id, lack.row.facts if lack.row else {})


def _after_failure(batch: Batch, kind: str, begun: Sequence[tuple[Intent, Begun]], error: ConnectorError) -> None:
    """A refusal leads to single calls, once or for good; all else concerns the batch. Doubt is kept only where there is one."""
    if not isinstance(error, Transient) or error.unsent:
        for _, one in begun:
            bindings.abandon(one)
    if not isinstance(error, Rejected):
        raise error
    if error.code == REFUSED:
        batch.refused[kind] = str(error)[:300]


def _followed(batch: Batch, bulk: Bulk) -> Bulk:
    """Ask after a bulk job until it has ended, vanished or proved to be stuck; what it does not tell is unknown.

    Raises Transient `budget` where the time did not suffice: its id is kept, and another turn asks after it.
    """
    looks, begun, keys = 0, timezone.now(), frozenset(bulk.sent)
    while not bulk.done:
        pause = POLLS[min(looks, len(POLLS) - 1)]
        if timezone.now() - begun >= STUCK:
            batch.refused[bulk.kind] = NO_END
            return replace(bulk, done=True, unknown=keys)
        if time.monotonic() + pause >= batch.deadline:
            raise Transient("the vendor's bulk job goes on beyond this turn", code="budget", counted=False)
        time.sleep(pause)
        looks += 1
        try:
            bulk = batch.adapter.follow_bulk(bulk)
        except Missing:
            return replace(bulk, done=True, unknown=keys)
    return bulk


def _remember(batch: Batch, kind: str, begun: Sequence[tuple[Intent, Begun]], lacks: Mapping[str, Lack], bulk: Bulk) -> None:
    """Remember what is surely written, and what is seen to be; what is refused or missing its own run finishes."""
    seen = _observed(batch, kind, {key: _remote_id(lacks[key]) for key in bulk.unknown if key in lacks})
    done: list[Outcome] = []
    for intent, one in begun:
        key = intent.document.key
        written = bulk.written.get(key) or _confirmed(batch, lacks[key], seen.get(key))
        if written is not None:
            done.append(_noted(batch, lacks[key], intent, one, written))
        elif key in bulk.refused:
            bindings.abandon(one)
    bindings.done_many(done)


def _noted(batch: Batch, lack: Lack, intent: Intent, begun: Begun, written: Written) -> Outcome:
    batch.written.add(lack.record)
    if begun.before in (None, Binding.State.CREATING) and intent.document.key == lack.record:
        batch.created.add(lack.record)
    return Outcome(intent, begun.row, written, lack.digests)


def _remote_id(lack: Lack) -> str:
    return lack.row.remote_id if lack.row else ""


def _confirmed(batch: Batch, lack: Lack, seen: Observed | None) -> Written | None:
    """Return an object that is there as it should be, whatever the bulk call said of it."""
    if seen is None or not seen.remote_id or not seen.held or batch.adapter.drift(lack.document, seen):
        return None
    return batch.adapter.confirmed(lack.document, _bound(lack), seen)
