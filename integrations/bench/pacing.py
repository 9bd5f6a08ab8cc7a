"""How much of Zendesk's minute a backfill uses that has to write one by one, and what a live event notices of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol
from unittest.mock import patch

from django.db.models import Max, Q
from django.utils import timezone

from audit import ledger
from audit.models import SyncJob
from audit.states import OPEN, State
from integrations import backfill, tasks
from integrations.bench.scale import Bench
from integrations.bench.site import standing
from integrations.bench.still import Shift, Still, unhurried
from integrations.bench.tables import Cell, Table
from integrations.core.records import record_key
from integrations.models import Route, Sweep
from integrations.sandbox.server import Request, Response
from integrations.sandbox.wave import Wave
from integrations.sandbox.wave_ledger import split_id
from integrations.sandbox.zendesk import Zendesk

INVOICES, LIMIT, LATENCY = 1_000, 200, 0.1  # records; calls a minute; seconds that each call takes
EVENTS = 12  # live ones, spread over the run; none in the minute that somebody else uses up
IDLE = 3  # events before the backfill begins
PER_CUSTOMER = 5
LOOK_EVERY = timedelta(seconds=1)  # as `manage.py worker` does
LEAST_USED, MOST_REFUSED, MOST_SLOWER = 0.9, 0.01, 2.0
NOBODY = {"first_name": "", "last_name": "", "email": ""}  # users are written once a second, whatever else there is room for


class Place(Protocol):
    """A configured connector with its stand-ins: the bench's own or a test's."""

    wave: Wave
    zendesk: Zendesk

    def route(self, system: str) -> Route:
        """Return the route to a system."""

    def customer(self, name: str = "", **details: Any) -> str:
        """Add a customer at Wave."""

    def invoice(self, customer: str, number: str = "", *, total: str = "") -> str:
        """Add an invoice at Wave, approved and sent."""

    def deliver(self, event: str, **about: Any) -> object:
        """Hand in one signed delivery."""


@dataclass(slots=True)
class Paced:
    """What was measured; times are virtual seconds.

    used      calls that Zendesk answered, by whoever, for each it would have answered in that time
    refused   calls of ours that were answered 429; early: calls before its Retry-After had passed
    idle      from an event to the last of its writes while nothing else runs; busy: the same during the backfill
    """

    seconds: float
    calls: int
    used: float
    refused: int
    early: int
    idle: list[float]
    busy: list[float]

    @property
    def wrong(self) -> list[str]:
        """What is beyond its bound."""
        found = [f"{self.used:.1%} of the quota used"] if self.used < LEAST_USED else []
        found += [f"{self.refused} of {self.calls} calls answered 429"] if self.refused >= MOST_REFUSED * self.calls else []
        found += [f"{self.early} calls before a Retry-After"] if self.early else []
        slow = max(self.busy) > MOST_SLOWER * max(self.idle)
        return found + ([f"a live event took {max(self.busy):.1f} s, {max(self.idle):.1f} s while idle"] if slow else [])


def run(bench: Bench) -> list[Table]:
    """Let a backfill find bulk refused and a limit of so many calls a minute, with live events and another tool beside it."""
    invoices, clock = bench.most(INVOICES), Still()
    with standing(clock) as site:
        told = play(site, clock.shift, invoices=invoices, limit=LIMIT, latency=LATENCY, events=EVENTS)
    rows: list[tuple[Cell, ...]] = [
        ("calls at Zendesk", told.calls),
        ("minutes", told.seconds / 60),
        ("of the quota used (at least 90 %)", f"{told.used:.1%}"),
        ("answered 429 (under 1 %)", f"{told.refused} ({told.refused / told.calls:.2%})"),
        ("sent before a Retry-After had passed", told.early),
        ("live event to last write, idle, seconds", max(told.idle)),
        (f"the same during it, longest of {len(told.busy)} (at most twice)", max(told.busy)),
    ]
    title = f"Backfill of {invoices:,} invoices one by one, Zendesk at {LIMIT} calls a minute, a call taking {LATENCY} s"
    return [Table("quota", title, ("what", "number"), rows, told.wrong)]


def play(place: Place, shift: Shift, *, invoices: int, limit: int, latency: float, events: int) -> Paced:
    """Bring so many invoices to Zendesk within a limit, on a clock that `shift` moves, and measure."""
    place.zendesk.bulk = False
    desk = _Desk(place, shift, [story(place, shift, f"LIVE-{number}", 1) for number in range(events + IDLE)])
    with unhurried(shift, latency=latency, between=desk.other_worker):
        for invoice in desk.live:
            place.deliver("invoice.updated", invoice=invoice)
            tasks.sync([])
        for number in range(invoices // PER_CUSTOMER):
            story(place, shift, f"OLD-{number}", PER_CUSTOMER)
        shift(timedelta(minutes=5))
        for _ in range(IDLE):
            desk.one_event()
        idle, desk.took = desk.took, []
        place.zendesk.limit_per_minute = limit
        watched = Watched(place.zendesk)
        with patch.object(place.zendesk, "handle", watched.handle):
            desk.carry_on(watched, every=timedelta(seconds=invoices / limit * 60 / (events + 1)), events=events)
    return watched.told(idle, desk.took)


def story(place: Place, shift: Shift, name: str, invoices: int) -> str:
    """Add a customer with invoices, a second between any two changes, and return the last invoice."""
    customer = place.customer(f"Customer {name}", **NOBODY)
    made = ""
    for number in range(invoices):
        shift(timedelta(seconds=1))
        made = place.invoice(customer, f"{name}-{number}", total="10.00")
    return made


@dataclass(slots=True)
class Watched:
    """Zendesk, with what it answered when; `others` are calls that another tool has made."""

    vendor: Zendesk
    calls: list[tuple[datetime, int, float]] = field(default_factory=list)  # when, status, Retry-After
    windows: list[datetime] = field(default_factory=list)  # when each began, with a call
    others: int = 0

    def handle(self, request: Request) -> Response:
        """Answer, and note it."""
        at, before = self.vendor.clock(), self.vendor.minute.ends
        answer = type(self.vendor).handle(self.vendor, request)
        if self.vendor.minute.ends != before:
            self.windows.append(at)
        self.calls.append((at, answer.status, float(answer.headers.get("Retry-After", 0))))
        return answer

    def another_tool(self, since: datetime) -> None:
        """Let another tool, once, make all the calls that are left in a minute of which we have used a quarter."""
        minute, limit = self.vendor.minute, self.vendor.limit_per_minute
        if not self.others and self.windows and timezone.now() >= max(since, self.windows[-1]) and limit // 4 <= minute.used < limit // 2:
            self.others, minute.used = limit - minute.used, limit

    @property
    def used(self) -> float:
        """The share of the quota that was used, in all minutes but the last, which has not come to its end; 1 where there was but one."""
        seconds = (self.windows[-1] - self.windows[0]).total_seconds() if self.windows else 0.0
        if not seconds:
            return 1.0
        answered = sum(status != 429 and at < self.windows[-1] for at, status, _ in self.calls) + self.others
        return answered / (self.vendor.limit_per_minute * seconds / 60)

    def told(self, idle: list[float], busy: list[float]) -> Paced:
        """Return the measure."""
        ends = [(at, at + timedelta(seconds=wait)) for at, status, wait in self.calls if status == 429]
        early = sum(any(since < at < until for since, until in ends) for at, _, _ in self.calls)
        seconds = (self.calls[-1][0] - self.windows[0]).total_seconds()
        return Paced(seconds, len(self.calls), self.used, len(ends), early, idle, busy)


@dataclass(slots=True)
class _Desk:
    """A machine with two workers: one carries the backfill on, the other does what else falls due, between any two calls."""

    place: Place
    shift: Shift
    live: list[str]  # invoices that change one by one
    due: list[datetime] = field(default_factory=list)  # when the next ones change
    took: list[float] = field(default_factory=list)  # seconds from each event to the end of its jobs
    waiting: tuple[str, datetime] | None = None  # the invoice under way, since when
    another: Callable[[], object] = lambda: None  # what is not ours and goes on too
    busy: bool = False

    def other_worker(self) -> None:
        """Let the next invoice change where it is time, and run what is due."""
        if self.busy:
            return
        self.busy = True
        if self.waiting is None and self.due and timezone.now() >= self.due[0]:
            self.due.pop(0)
            self._change(self.live.pop())
        if ledger.anything_due():
            tasks.sync([])
        self._note_end()
        self.another()
        self.busy = False

    def one_event(self) -> None:
        """Let an invoice change, and what that asks for be done."""
        self.due = [timezone.now()]
        while self.due or self.waiting:
            self.other_worker()
            self.shift(LOOK_EVERY)
        self.shift(timedelta(minutes=2))

    def _change(self, invoice: str) -> None:
        self.waiting = (invoice, timezone.now())
        self.place.wave.change_invoice(invoice, total="20.00")
        self.place.deliver("invoice.updated", invoice=invoice)

    def _note_end(self) -> None:
        if self.waiting is None:
            return
        invoice, since = self.waiting
        jobs = SyncJob.objects.filter(Q(key=_key(invoice)) | Q(key=_key(self.place.wave.invoices[invoice].customer)), created_at__gte=since)
        if not jobs.filter(state__in=(*OPEN, State.RUNNING)).exists():
            ends = jobs.aggregate(last=Max("settled_at"))["last"]
            self.took.append((ends - since).total_seconds())
            self.waiting = None

    def carry_on(self, watched: Watched, *, every: timedelta, events: int) -> None:
        """Run a backfill to its end, with events on the way; after the last one another tool uses up a minute."""
        sweep, _ = backfill.begin(self.place.route("zendesk"), started_by="bench")
        self.due = [timezone.now() + every * (number + 1) for number in range(events)]
        self.another = partial(watched.another_tool, self.due[-1] + every / 2)
        while sweep.state == Sweep.State.RUNNING:
            if backfill.anything_due():
                tasks.backfill()
            self.shift(LOOK_EVERY)
            self.other_worker()
            sweep.refresh_from_db()


def _key(node: str) -> str:
    business, kind, number = split_id(node)
    return record_key(business, kind.lower(), number)
