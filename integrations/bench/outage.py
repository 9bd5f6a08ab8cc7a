"""An hour without a vendor: what a thousand due jobs cost meanwhile, how they come home, and what the other destination notices."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from unittest.mock import patch

from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from audit import ledger, outages
from audit.models import Hold, SyncJob
from audit.states import State
from integrations import asking, pausing, tasks
from integrations.bench.pacing import LOOK_EVERY, Place, Watched, story
from integrations.bench.scale import Bench
from integrations.bench.site import standing
from integrations.bench.still import Shift, Still, unhurried
from integrations.bench.tables import Cell, Table
from integrations.core.records import INVOICE, record_key
from integrations.models import Route
from integrations.sandbox.server import Fault
from integrations.sandbox.wave_ledger import split_id

DUE, HOUR, MOST = 1000, timedelta(hours=1), 200
LIMIT, LATENCY, LEAST_USED = 200, 0.1, 0.9  # calls a minute; seconds that each call takes; of the quota
SLOW, EVERY, LEAST_DONE = 4.0, 14, 0.95  # seconds that each call takes; seconds from event to event; of what is done otherwise


def run(bench: Bench) -> list[Table]:
    """Let Zendesk be down for an hour with so many jobs due, and count what is called; then let it be back."""
    due, clock = bench.most(DUE), Still()
    with standing(clock) as site:
        invoices = [story(site, clock.shift, f"INV-{place}", 1) for place in range(due)]
        mark = site.mark()
        ask(site.route("zendesk"), invoices)
        untried = wait(site, clock.shift, HOUR)
        calls = {name: len(site.since(mark, name)) for name in ("zendesk", "wave")}
        used, minutes = drain(site, clock.shift, limit=LIMIT, latency=LATENCY)
    rows: list[tuple[Cell, ...]] = [
        ("calls at Zendesk", calls["zendesk"]),
        ("reads of Wave", calls["wave"]),
        ("jobs that have spent no try", untried),
        (f"of the quota used afterwards, at {LIMIT} calls a minute (at least 90 %)", f"{used:.1%}"),
        ("minutes until nothing is due", minutes),
    ]
    wrong = [f"{sum(calls.values())} calls"] if sum(calls.values()) > MOST else []
    wrong += [f"{used:.1%} of the quota used"] if used < LEAST_USED else []
    return [Table("outage", f"One hour without Zendesk, {due:,} jobs due (the bound is {MOST} calls)", ("what", "number"), rows, wrong)]


def ask(route: Route, invoices: Sequence[str]) -> None:
    """Make due jobs for invoices, as a stream of deliveries leaves them."""
    keys = [record_key(business, INVOICE, number) for business, _, number in map(split_id, invoices)]
    with transaction.atomic():
        asking.request(asking.ask(route.source, route, INVOICE, key) for key in keys)


def wait(place: Place, shift: Shift, time: timedelta) -> int:
    """Let Zendesk answer 503 for so long while a worker does what it can; return how many jobs have spent no try."""
    ends = timezone.now() + time
    place.zendesk.faults.append(Fault("status", times=0, status=503, path="^/api/"))
    with unhurried(shift):
        tasks.sync([])
        while (probe := _next_probe()) is not None and probe < ends:
            shift(max(timedelta(0), probe - timezone.now()))
            tasks.sync([])
    place.zendesk.faults.clear()
    return SyncJob.objects.filter(kind=INVOICE, tries=0, state=State.PENDING).count()


def _next_probe() -> datetime | None:
    """Return when the vendor is looked at next; None where nothing takes it for down."""
    return Hold.objects.filter(reason=outages.REASON).values_list("until", flat=True).first()


def drain(place: Place, shift: Shift, *, limit: int, latency: float) -> tuple[float, float]:
    """Let Zendesk be back, with a limit, and a worker do what is due; return the share of the quota used, and the minutes it took."""
    place.zendesk.limit_per_minute = limit
    began, watched = timezone.now(), Watched(place.zendesk)
    with unhurried(shift, latency=latency), patch.object(place.zendesk, "handle", watched.handle):
        while SyncJob.objects.filter(state=State.PENDING).exists():
            _work(shift)
    return watched.used, (timezone.now() - began).total_seconds() / 60


def _work(shift: Shift) -> None:
    """Let a worker do what is due, or a second pass, as `manage.py worker` looks."""
    if ledger.anything_due():
        tasks.sync([])
    else:
        shift(LOOK_EVERY)


# --- What does not -----------------------------------------------------------------------------------------------------


def run_neighbour(bench: Bench) -> list[Table]:
    """Let Jira answer nothing for an hour, and count what Zendesk gets meanwhile."""
    time, done = timedelta(minutes=bench.most(60)), []
    for silent in (False, True):
        clock = Still()
        with standing(clock) as site:
            done.append(neighbour(site, clock.shift, time, silent=silent))
    without, beside = done
    share = beside / without if without else 0.0
    rows: list[tuple[Cell, ...]] = [
        ("brought to Zendesk while Jira is paused", without),
        ("the same while Jira does not answer (at least 95 %)", f"{beside} ({share:.1%})"),
    ]
    wrong = [f"{share:.1%} of what is brought otherwise"] if share < LEAST_DONE else []
    title = f"{time.total_seconds() / 60:.0f} minutes without Jira, a new invoice every {EVERY} s, a call taking {SLOW:.0f} s, one worker"
    return [Table("neighbour", title, ("what", "number"), rows, wrong)]


def neighbour(place: Place, shift: Shift, time: timedelta, *, silent: bool, every: int = EVERY) -> int:
    """Return how many invoices one worker, who has hardly time for more, brings to Zendesk while Jira is silent, or else paused.

    Every so many seconds a new one is sent.
    """
    if not silent:
        pausing.pause(place.route("jira"))
    ends, next_event, number = timezone.now() + time, timezone.now(), 0
    with unhurried(shift, latency=SLOW, silent=["/jira"] if silent else []), override_settings(WEBHOOK_ACK="stored"):
        while timezone.now() < ends:
            while next_event <= timezone.now():
                number += 1
                place.deliver("invoice.sent", invoice=story(place, lambda by: None, f"NEW-{number}", 1))
                next_event += timedelta(seconds=every)
            _work(shift)
    return SyncJob.objects.filter(route_slug="wave-to-zendesk", kind=INVOICE, state=State.SUCCEEDED, settled_at__lt=ends).count()
