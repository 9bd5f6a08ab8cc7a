"""Brings a backfill's records batch by batch: adopt what is there, claim, read, write in bulk, run what bulk leaves."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TypeVar

from django.db import transaction
from django.utils import timezone

from audit import ledger
from audit.ledger import Claim
from audit.models import Exchange
from integrations import accounting, asking, bindings, changes, failing, filling, limits, pipeline, reading, sweeping, systems
from integrations.core import paging
from integrations.core.documents import Bulk, Carried
from integrations.core.errors import ConnectorError, Missing, Rejected, Transient
from integrations.core.records import CUSTOMER, INVOICE, PAYMENT, READ_MOST, Asked, Business, Customer, Snapshot, is_of, number_of
from integrations.models import Line
from integrations.passes import Halted, Pass, SourceFailed
from integrations.patience import patiently
from integrations.pipeline import Brought
from integrations.recording import AttemptRecorder, Turning

T = TypeVar("T")

EMPTY = Snapshot(Business("", "", "", ""), paging.BEGINNING, date(2000, 1, 1))
MOST = 100  # records of one batch
# A batch that has failed so often as a whole is brought one by one: one record may be the reason.
TRIES_TOGETHER = 3
LOOK_AGAIN = timedelta(seconds=5)


# --- Adopting ----------------------------------------------------------------------------------------------------------


def adopt(this: Pass) -> bool:
    """Take what carries our keys already for ours, page by page, where the destination can list it: it is not doubled.

    False where the time did not suffice; how far it has come is stored with each page.
    """
    this.adapter.prepare()
    for kind in this.adapter.bulk_most:
        while kind not in (this.sweep.options.get("scanned") or ()):
            if time.monotonic() >= this.deadline:
                return False
            _adopt_page(this, kind)
    return True


def _adopt_page(this: Pass, kind: str) -> None:
    options = this.sweep.options
    scan = options.get("scan") or {}
    page = _carrying(this, kind, scan.get("token", "") if scan.get("kind") == kind else "")
    scanned = list(options.get("scanned") or ())
    if page is None:  # objects are looked up by key as the batches go
        looked = {**options, "scanned": [*scanned, kind], "looked_up": [*(options.get("looked_up") or ()), kind]}
        sweeping.note(this.sweep, options=looked)
        return
    now = {"scan": {"kind": kind, "token": page.next}, "scanned": scanned if page.next else [*scanned, kind]}
    with transaction.atomic():
        twins = bindings.adopt_many(this.route.pk, kind, _own(this, page.found))
        figures = {**this.sweep.figures, **_left_to_a_person(this, twins)}
        figures["calls"] = figures.get("calls", 0) + this.calls.taken()
        sweeping.keep(this.sweep, options={**options, **now}, figures=figures)


def _own(this: Pass, carried: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out what other businesses have in the same place; what was listed says which business is ours."""
    listed = this.sweep.lines.order_by("pk").values_list("key", flat=True).first()
    return [pair for pair in carried if listed and is_of(listed.split(":")[1], pair[0])]


def _carrying(this: Pass, kind: str, token: str) -> Carried | None:
    try:
        return this.adapter.carrying(kind, token)
    except Rejected:
        if not token:
            raise
        # A place in a listing is not kept for ever; what was adopted before is known, and is adopted no second time.
        return this.adapter.carrying(kind, "")


def _left_to_a_person(this: Pass, twins: set[str]) -> dict[str, int]:
    """Ask for the runs of records of which several objects carry the key: they say so, and a person decides which it is."""
    lines = list(this.sweep.lines.filter(key__in=twins, wanted=True))
    asking.request(asking.ask(this.route.source, this.route, line.kind, line.key, customer_key=line.customer_key) for line in lines)
    this.sweep.lines.filter(pk__in=[line.pk for line in lines]).update(wanted=False)
    return {name: this.sweep.figures.get(name, 0) + len(lines) for name in ("passed", "failed")}


# --- One batch ---------------------------------------------------------------------------------------------------------


def bring(this: Pass) -> bool:
    """Claim the next records, read them, and write them in bulk; what bulk leaves is run one by one. True when none is left.

    Raises Halted, SourceFailed, ConnectorError: what was not reached stays on the list, and its jobs wait for it.
    """
    _follow_up(this)
    kind = this.sweep.phase
    lines = _next_lines(this, kind)
    if not lines:
        return True
    ask = [asking.ask(this.route.source, this.route, kind, line.key, customer_key=line.customer_key) for line in lines]
    claim = ledger.claim_records(ask, started_by="backfill")
    brought = _run(this, kind, lines, claim) if claim else Brought()
    _keep(this, lines, claim, brought)
    if brought.stopped_by is not None:
        raise Halted(brought.stopped_by)
    return False


def _next_lines(this: Pass, kind: str) -> list[Line]:
    size = min([*this.adapter.bulk_most.values(), MOST])
    rows = this.sweep.lines.filter(kind=kind, wanted=True)
    if this.sweep.reached is not None:
        rows = rows.filter(modified_at__gte=this.sweep.reached)  # those before have passed: they need not be gone through
    return list(rows.order_by("modified_at", "key")[:size])


def _keep(this: Pass, lines: Sequence[Line], claim: Claim | None, brought: Brought) -> None:
    """Take off the list what has passed; one whose job could not be claimed is left to that job."""
    passed = [line for line in lines if line.key not in brought.left]
    news = {"done": brought.done, "failed": brought.failed, "passed": len(passed), "calls": _calls(this, claim)}
    figures = {**this.sweep.figures, **{name: this.sweep.figures.get(name, 0) + count for name, count in news.items()}}
    first_left = min((line.modified_at for line in lines if line.key in brought.left and line.modified_at), default=lines[-1].modified_at)
    with transaction.atomic():
        this.sweep.lines.filter(pk__in=[line.pk for line in passed]).update(wanted=False)
        sweeping.keep(this.sweep, reached=first_left, figures=figures)


def _calls(this: Pass, claim: Claim | None) -> int:
    """Return how many calls a batch took at both ends; one that many attempts share was entered for all at one time."""
    written = (
        Exchange.objects.filter(attempt__claim=claim.token, system=this.route.destination.system) if claim else Exchange.objects.none()
    )
    return this.calls.taken() + written.values("sent_at", "path").distinct().count()


def _run(this: Pass, kind: str, lines: Sequence[Line], claim: Claim) -> Brought:
    keys = {job.key for job in claim.jobs}
    read = reading.Batch([claim], this.route.source, this.last, lane=limits.BULK)
    try:
        snapshots = _snapshots(this, kind, [line for line in lines if line.key in keys])
        reading.note_many(read, claim, list(snapshots.values()))
        turning = Turning(AttemptRecorder(claim.attempts, this.route.destination.system))
        batch = _batch(this, kind, claim, snapshots, turning)
        if this.sweep.failures < TRIES_TOGETHER:
            _fill(this, batch)
        whole = filling.whole(batch)
    except Exception:
        ledger.leave(claim.attempts)
        raise
    made = dict.fromkeys(batch.written, "updated") | dict.fromkeys(batch.created, "created")
    settled = pipeline.settle_whole(claim, whole, snapshots, made)
    # One adapter for all: its plan and what is known of the account are the same for each.
    sharing = replace(read, made=made, reaches={this.route.pk: reading.Reach(batch.adapter, turning)})
    rest = pipeline.bring(sharing, claim, snapshots, settled=whole)
    return replace(rest, done=rest.done + settled)


def _fill(this: Pass, batch: filling.Batch) -> None:
    try:
        filling.fill(batch)
    finally:
        if batch.refused != (this.sweep.options.get("refused") or {}):
            sweeping.note(this.sweep, options={**this.sweep.options, "refused": batch.refused})


def _batch(this: Pass, kind: str, claim: Claim, snapshots: Mapping[str, Snapshot], turning: Turning) -> filling.Batch:
    adapter = systems.destination(this.route, recorder=turning, deadline=this.last, auth=this.own_auth, lane=limits.BULK)
    options = this.sweep.options
    return filling.Batch(
        this.route,
        adapter,
        claim,
        kind,
        snapshots,
        this.last,
        Kept(this),
        scanned=frozenset(options.get("scanned") or ()) - frozenset(options.get("looked_up") or ()),
        refused=dict(options.get("refused") or {}),
    )


# --- The vendor's job under way ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """Keeps the id of the vendor's job under way in the sweep's row, for the next turn, or for whoever comes after a crash."""

    this: Pass

    def begun(self, bulk: Bulk) -> None:
        """Store it."""
        if bulk.id:
            self._keep({"id": bulk.id, "kind": bulk.kind, "at": timezone.now().isoformat()})

    def ended(self) -> None:
        """Forget it."""
        if self.this.sweep.options.get("bulk"):
            self._keep({})

    def _keep(self, bulk: dict[str, str]) -> None:
        sweeping.note(self.this.sweep, options={**self.this.sweep.options, "bulk": bulk})


def _follow_up(this: Pass) -> None:
    """Let a job that an earlier turn began come to its end, so that none is begun beside it; raises Halted while it has not."""
    kept = this.sweep.options.get("bulk") or {}
    if not kept:
        return
    if not _ended(this, Bulk(kept["id"], kept["kind"])):
        if timezone.now() - datetime.fromisoformat(kept["at"]) < filling.STUCK:
            not_before = timezone.now() + LOOK_AGAIN
            words = f"the bulk job for {kept['kind']} that was begun before is not at its end"
            raise Halted(Transient(words, code="budget", not_before=not_before, counted=False))
        # Each batch would else wait as long for one of its own.
        refused = {**(this.sweep.options.get("refused") or {}), kept["kind"]: filling.NO_END}
        sweeping.note(this.sweep, options={**this.sweep.options, "refused": refused})
    Kept(this).ended()


def _ended(this: Pass, bulk: Bulk) -> bool:
    try:
        return this.adapter.follow_bulk(bulk).done
    except Missing:
        return True


# --- Reading, after the claim ------------------------------------------------------------------------------------------


def _snapshots(this: Pass, kind: str, lines: Sequence[Line]) -> dict[str, Snapshot]:
    """Return the records by key; those that are not there any more are left out, for their own run to find out."""
    try:
        return _read(this, kind, lines) if lines else {}
    except SourceFailed as failure:
        if this.sweep.failures < TRIES_TOGETHER or failing.concerns_account(failure.why):
            raise
        return {}  # one of them may be the reason: each is read alone, by its own run


def _read(this: Pass, kind: str, lines: Sequence[Line]) -> dict[str, Snapshot]:
    shown = PAYMENT in this.route.kinds or CUSTOMER in this.route.kinds
    alone = [line for line in lines if kind == INVOICE and line.paid and shown]
    found = _page(this, kind, [line for line in lines if line not in alone])
    missed = [line for line in lines if line.key not in found]
    asked = [Asked(invoice=number_of(line.key)) if kind == INVOICE else Asked(customer=number_of(line.key)) for line in missed]
    for line, snapshot in zip(missed, _read_many(this, asked), strict=True):
        if (snapshot.invoice if kind == INVOICE else snapshot.customer) is not None:
            found[line.key] = snapshot
    return found if kind == INVOICE else _summed(this, found)


def _page(this: Pass, kind: str, lines: Sequence[Line]) -> dict[str, Snapshot]:
    """Read the page on which the records stood when they were listed; what has changed since stands further on."""
    first = lines[0].modified_at if lines else None
    if first is None:
        return {}
    keys = {line.key for line in lines}
    after = first - paging.STEP_BACK
    if kind == INVOICE:
        page = _asked(lambda: this.reader.sweep_invoices(after, 1))
        unpaid = [one for one in page.records if one.key in keys and not one.paid.amount]
        return {one.key: Snapshot(page.business, page.read_at, page.today, invoice=one) for one in unpaid}
    people = _asked(lambda: this.reader.sweep_customers(after, 1))
    wanted: list[Customer] = [one for one in people.records if one.key in keys]
    return {one.key: Snapshot(people.business, people.read_at, people.today, customer=one) for one in wanted}


def _summed(this: Pass, found: Mapping[str, Snapshot]) -> dict[str, Snapshot]:
    """Add the open invoices and the history, where the read itself brought none."""
    histories = changes.of_customers(this.route.source_id, list(found))
    lines: dict[str, list[Line]] = {}
    for line in this.sweep.lines.filter(customer_key__in=list(found)).order_by("key"):
        lines.setdefault(line.customer_key, []).append(line)
    return {
        key: replace(
            one,
            open_invoices=accounting.open_invoices(lines.get(key, ())) if one.open_invoices is None else one.open_invoices,
            history=histories[key],
        )
        for key, one in found.items()
    }


def _read_many(this: Pass, asked: Sequence[Asked]) -> list[Snapshot]:
    found: list[Snapshot] = []
    for start in range(0, len(asked), READ_MOST):
        part = asked[start : start + READ_MOST]
        read = _asked(lambda part=part: this.reader.read_many(part))  # type: ignore[misc]
        found += [one if isinstance(one, Snapshot) else _nothing(one) for one in read]
    return found


def _nothing(error: ConnectorError) -> Snapshot:
    """A record that cannot be read is left to its own run, which says why."""
    if failing.concerns_account(error):
        raise SourceFailed(error)
    return EMPTY


def _asked(ask: Callable[[], T]) -> T:
    try:
        return patiently(ask)
    except ConnectorError as error:
        raise SourceFailed(error) from None
