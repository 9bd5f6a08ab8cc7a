"""Asks sources what changed since the watermark, and makes the jobs that no webhook has asked for."""

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from operator import itemgetter
from typing import Any

from django.conf import settings
from django.db import Error, transaction
from django.db.models import Q
from django.utils import timezone

from audit import outages
from audit.ledger import Ask
from audit.models import Hold
from integrations import asking, breaker, dependants, failing, registry, systems
from integrations.core import paging
from integrations.core.errors import ConnectorError, Transient
from integrations.core.paging import Mark, Place, Turned
from integrations.core.ports import Source
from integrations.core.records import CUSTOMER, INVOICE, Changed, Listing
from integrations.models import Binding, Connection, Intake, Route, Watermark
from integrations.patience import patiently

log = logging.getLogger(__name__)

NEVER = paging.BEGINNING
OVERLAP = timedelta(minutes=5)
LEASE = timedelta(minutes=5)  # more than a poll may take; renewed with each page that is stored
PASSED_OVER = "lines of the list that show no id were passed over; the reconcile looks at them again"
SLACK = timedelta(seconds=5)  # the minute's tick comes a little early or late

AskPage = Callable[[datetime, int], Listing]


class LeaseLost(Exception):  # noqa: N818 - not an error: another worker polls now
    """The lease ran out and another worker took it: nothing more is stored."""


@dataclass(frozen=True, slots=True)
class Reader:
    """An account that is polled; its adapter is made once for all kinds, for it may have to ask which business it reads."""

    source: Connection
    auth: systems.ConnectionAuth
    adapter: Callable[[], Source]


@dataclass(slots=True)
class Poll:
    """One poll of one kind of record, under its lease."""

    source: Connection
    row: Watermark
    routes: list[Route]
    list_page: AskPage
    passed_over: bool = False  # lines that show no id


# --- By schedule ---------------------------------------------------------------------------------------------------


def poll_due(*, budget: float) -> int:
    """Poll the accounts whose poll is due, for so many seconds; return how many were polled.

    What the time does not suffice for goes on with the next tick, after those that it did not suffice for before.
    Many may run it at once: each account is polled once. What the database says of one account is raised after all others' turns.
    """
    end, done = time.monotonic() + budget, 0
    broken: list[Error] = []
    for source in _in_turn():
        if time.monotonic() >= end:
            break
        try:
            done += poll(source, deadline=end)
        except Error as error:
            log.error("the poll of %s met %s", source.slug, type(error).__name__)
            broken.append(error)
    if broken:
        raise broken[0]
    return done


def _in_turn() -> list[Connection]:
    """Return the accounts, the one whose turn is the longest ago first."""
    wanted = Connection.objects.filter(system__in=list(registry.SOURCES), pk__in=Route.objects.values("source"))
    # A dead grant waits for a person; its watermarks stand, so that nothing is missed meanwhile.
    connected = wanted.exclude(status=Connection.Status.NEEDS_RECONNECT).order_by("pk")
    return sorted(connected, key=lambda source: min((tried for tried, _ in _turns(source)), default=NEVER))


def poll(source: Connection, *, deadline: float | None = None) -> bool:
    """Poll what is due of one account; False when nothing is, or another worker is at it.

    `deadline` is a time.monotonic(). Failures are stored and held as those of jobs are, not raised, but for those of our database.
    """
    auth = systems.ConnectionAuth(source)
    reader = Reader(source, auth, cache(lambda: systems.source(source, deadline=deadline, auth=auth)))
    return sum(_has_time(deadline) and not _is_held(source) and _poll(reader, kind) for _, kind in _turns(source)) > 0


def _has_time(deadline: float | None) -> bool:
    return deadline is None or time.monotonic() < deadline


def _turns(source: Connection) -> list[tuple[datetime, str]]:
    """Return what is polled and when it was tried last, the longest ago first, so that a burst of one kind holds up no other."""
    tried = dict(Watermark.objects.filter(connection=source).values_list("kind", "tried_at"))
    return sorted(((tried.get(kind) or NEVER, kind) for kind in _kinds(source)), key=itemgetter(0))


def _kinds(source: Connection) -> list[str]:
    """Return what is polled: customers for every route, because invoices show of them what may have changed."""
    kinds = {kind for kinds in Route.objects.filter(source=source).values_list("kinds", flat=True) for kind in kinds}
    return [kind for kind in (CUSTOMER, INVOICE) if kinds and (kind == CUSTOMER or kind in kinds)]


def _is_held(source: Connection) -> bool:
    """Whether nothing may be asked there; of one that is only slow the jobs alone go one after the other."""
    lasting = Q(until=None) | Q(until__gt=timezone.now())
    return Hold.objects.filter(lasting, scope=breaker.scope_of(source)).exclude(reason=outages.SLOW).exists()


def _poll(reader: Reader, kind: str) -> bool:
    row = _take(reader.source, kind)
    if row is None:
        return False
    values: dict[str, Any] = {"due_at": timezone.now()}  # after a crash of ours, at the next tick
    try:
        values = _read_on(reader, row)
    except LeaseLost:
        values = {}
    finally:
        mine = Watermark.objects.filter(pk=row.pk, lease_owner=row.lease_owner)
        mine.update(lease_until=None, lease_owner="", **values)
    return True


# --- Whose turn ----------------------------------------------------------------------------------------------------


def _take(source: Connection, kind: str) -> Watermark | None:
    """Take the lease where the poll is due: a conditional UPDATE whose row count decides.

    The first poll begins where the account was entered here: what changed before that is history.
    """
    now = timezone.now()
    row, _ = Watermark.objects.get_or_create(connection=source, kind=kind, defaults={"reached": source.created_at, "due_at": now})
    if row.due_at > now and not _is_called_for(source, row):
        return None
    free = Q(lease_until=None) | Q(lease_until__lte=now)
    values = {
        "lease_until": now + LEASE,
        "lease_owner": str(uuid.uuid4()),
        "tried_at": now,
        "due_at": now + timedelta(seconds=settings.POLL_SECONDS) - SLACK,
    }
    # As it was read: who comes after another's poll finds nothing left to do.
    if not Watermark.objects.filter(free, pk=row.pk, tried_at=row.tried_at, due_at=row.due_at).update(**values):
        return None
    row.refresh_from_db()
    return row


def _is_called_for(source: Connection, row: Watermark) -> bool:
    """Whether a delivery that could not be taken has called for a poll since the last one; the inbox limits how often."""
    called = Intake.objects.filter(connection=source).values_list("poll_due_at", flat=True).first()
    return called is not None and called <= timezone.now() and (row.tried_at is None or called > row.tried_at)


# --- One poll ------------------------------------------------------------------------------------------------------


def _read_on(reader: Reader, row: Watermark) -> dict[str, Any]:
    """Read and store what changed; return what the row shall say then, also after a failure."""
    source = reader.source
    if not outages.is_free(breaker.scope_of(source)):  # the source is down, and another probes
        return {"due_at": timezone.now()}
    try:
        this = Poll(source, row, list(asking.routes_of(source)), _pages_of(reader.adapter(), row.kind))
        for turned in paging.go_on(this.list_page, _place(row), _known(row)):
            _store(this, turned)
    except LeaseLost:
        raise
    except Exception as error:
        known = failing.told(error, f"the poll of {source.slug}")
        return {"problem": str(known)[:500], **_after_failure(reader, known)}
    return {"problem": PASSED_OVER if this.passed_over else "", "polled_at": timezone.now(), "place": None}


def _place(row: Watermark) -> Place:
    """Return where to read on: where the last poll ended half way, else some time back, for changes may show late.

    Not for ever: once a complete poll has been made so much later, by our clock, it has seen what showed late.
    """
    if row.place:
        return Place(**{**row.place, "after": datetime.fromisoformat(row.place["after"])})
    is_past = row.polled_at is not None and row.moved_at is not None and row.polled_at - row.moved_at >= OVERLAP
    return Place(row.reached + paging.STEP_BACK if is_past else row.reached - OVERLAP)


def _known(row: Watermark) -> set[Mark]:
    """Return what was asked for of late; of what cannot be read no time is known."""
    return {(key, time) for key, at in row.asked.items() for time in (datetime.fromisoformat(at), None)}


def _after_failure(reader: Reader, error: ConnectorError) -> dict[str, Any]:
    """Hold what the error says it covers; what may pass is tried again with the next tick, or when the vendor says."""
    if reader.source.status == Connection.Status.INCOMPLETE and error.code in ("incomplete", "misconfigured"):
        return {}  # nobody has connected it yet
    known = failing.stop(reader.source, reader.auth, error)
    return {"due_at": known.not_before or timezone.now()} if isinstance(known, Transient) else {}


def _pages_of(adapter: Source, kind: str) -> AskPage:
    ask = adapter.changed_customers if kind == CUSTOMER else adapter.changed_invoices
    return lambda after, page: patiently(lambda: ask(after, page))


def _store(this: Poll, turned: Turned[Listing]) -> None:
    """Ask for the jobs of what is new and move the watermark, in one transaction; raise LeaseLost without the lease."""
    records, now = turned.page.records, timezone.now()
    with transaction.atomic():
        row = this.row
        stale = _stale(this, records)
        _move(row, turned, now)
        odd = _unread(this, turned.page)
        news = [one for one in stale if row.asked.get(one.key) != _stamp(one.modified_at)]
        news += [one for one in odd if one.key not in row.asked]
        # Within a dense moment all that was seen is told apart from what was not.
        row.asked = _asked(row, records, [*(records if turned.dense else stale), *odd])
        mine = Watermark.objects.filter(pk=row.pk, lease_owner=row.lease_owner)
        moved = {"reached": row.reached, "moved_at": row.moved_at, "place": row.place, "asked": row.asked}
        if not mine.update(**moved, lease_until=now + LEASE):
            raise LeaseLost
        asking.request([ask for one in news for ask in _asks(this, one)] + _dependants(this, records))


def _unread(this: Poll, page: Listing) -> list[Changed]:
    """Return what could not be read, for its own job says what is wrong with it; note what shows not even an id."""
    this.passed_over |= "" in page.unreadable
    return [Changed(key, this.row.reached) for key in page.unreadable if key]


def _move(row: Watermark, turned: Turned[Listing], now: datetime) -> None:
    """Move the watermark and the place, never beyond our own clock: one record with a time in the future would hide all others."""
    reached = max(row.reached, min(turned.reached, now)) if turned.page.keys else row.reached
    row.moved_at = now if reached > row.reached else row.moved_at
    row.reached = reached
    row.place = {"after": min(turned.place.after, now).isoformat(), "number": turned.place.number, "news": turned.place.news}


def _stale(this: Poll, records: Sequence[Changed]) -> list[Changed]:
    """Return the records that some route wants and does not hold as they are now."""
    wanting = [route.pk for route in this.routes if this.row.kind in route.kinds]
    bound = Binding.objects.filter(route__in=wanting, key__in=[one.key for one in records])
    held: dict[tuple[int, str], set[datetime | None]] = {}
    for route_id, key, modified_at in bound.values_list("route_id", "key", "source_modified_at"):
        held.setdefault((route_id, key), set()).add(modified_at)
    return [one for one in records if any(held.get((pk, one.key)) != {one.modified_at} for pk in wanting)]


def _asked(row: Watermark, records: Iterable[Changed], stale: Iterable[Changed]) -> dict[str, str]:
    """Return what the next poll, which looks at the overlap again, need not ask for: the jobs decide what comes of it."""
    floor = _stamp(row.reached - OVERLAP - paging.STEP_BACK)
    listed = {one.key for one in records}
    kept = {key: at for key, at in row.asked.items() if at >= floor and key not in listed}
    return kept | {one.key: _stamp(one.modified_at) for one in stale}


def _stamp(at: datetime) -> str:
    """Return a time as text that sorts as times do."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _asks(this: Poll, one: Changed) -> list[Ask]:
    kind = this.row.kind
    routes = asking.routes_of(this.source, invoice_key=one.key) if kind == INVOICE else this.routes
    return asking.asks_for(this.source, routes, kind, one.key, customer_key=one.customer)


def _dependants(this: Poll, records: Iterable[Changed]) -> list[Ask]:
    return dependants.note(this.source, [one for one in records if one.shown]) if this.row.kind == CUSTOMER else []
