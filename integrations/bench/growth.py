"""Whether the hot paths stay as cheap after years: processor time per delivery and per claim, with few rows and with many."""

import itertools
import os
from collections.abc import Callable, Iterator
from datetime import timedelta

from django.db import connection
from django.test import override_settings
from django.utils import timezone

from audit import ledger
from audit.models import SyncJob
from audit.states import State
from integrations import inbox
from integrations.bench import cpu, filling, plans
from integrations.bench.cpu import Spent
from integrations.bench.scale import Bench
from integrations.bench.site import BUSINESS, Site, standing
from integrations.bench.tables import Table
from integrations.sandbox.wave_webhooks import envelope, signed_headers

FEW, TIMES, ALLOWED = 100, 30, 1.2  # a hundredth of the rows; pieces of work in a round; growth


def run(bench: Bench) -> list[Table]:
    """Measure at a hundredth of the rows and at all of them, in the same database."""
    small = max(100, bench.rows // FEW)
    large = max(2 * small, bench.rows)
    with standing(bench.clock) as site, override_settings(WEBHOOK_ACK="stored"):
        routes = [site.route("zendesk"), site.route("jira")]
        with filling.in_haste():
            filling.fill(routes, 1, small)
        first, scans = _measure(site, small, bench)
        with filling.in_haste():
            filling.fill(routes, small + 1, large)
        last, more = _measure(site, large, bench)
    rows = [(what, *_cells(first[what], last[what])) for what in first]
    growth = {what: last[what].relative / first[what].relative for what in first}
    wrong = [f"{what} grows {times:.2f} times" for what, times in growth.items() if times > ALLOWED]
    title = f"Growth on {connection.display_name}, CPU ms each (bound: {ALLOWED} times)"
    columns = ("what", f"at {small:,} jobs", f"at {large:,} jobs", "growth, by the machine's pace", "of it the server at first", "at last")
    return [Table("growth", title, columns, [*rows], wrong + scans + more)]


def _cells(first: Spent, last: Spent) -> tuple[float | str, ...]:
    server = ["-" if one.server is None else one.server for one in (first, last)]
    return (first.whole, last.whole, last.relative / first.relative, *server)


def _measure(site: Site, rows: int, bench: Bench) -> tuple[dict[str, Spent], list[str]]:
    """Return what each piece of work takes, and which statements of them read a growing table in great part."""
    acknowledge = _acknowledging(site, rows)
    times = bench.most(TIMES)
    found = {"acknowledge, stored": cpu.spent(acknowledge, times), "claim and settle": cpu.spent(_claim_and_settle, times // 3)}
    with plans.caught() as statements:
        acknowledge()
        _claim_and_settle()
    _put_off()
    return found, plans.full_scans(statements)


def _acknowledging(site: Site, rows: int) -> Callable[[], object]:
    """Return what hands in one delivery: of records with a history and of new ones, in turns, some of one great customer."""
    uuid, secret, bodies = site.source.uuid, os.environ["WAVE_WEBHOOK_SECRET"], _bodies(rows)

    def acknowledge() -> None:
        body = next(bodies)
        reply = inbox.receive("wave", uuid, signed_headers(body, secret), body)
        if reply.status != 200:
            raise RuntimeError(f"the delivery was answered {reply.status}: {reply.text}")

    return acknowledge


def _bodies(rows: int) -> Iterator[bytes]:
    records = rows // filling.JOBS_PER_RECORD
    for number in itertools.count(1):
        record = number * 37 % records if number % 2 else rows * 10 + number
        customer = record if number % 10 else 0
        data = {"invoice_id": str(filling.FIRST + record), "customer_id": str(filling.FIRST + customer)}
        yield envelope("invoice.updated", event_id=f"{rows}-{number}", business_id=BUSINESS, data=data)


def _claim_and_settle() -> None:
    claim = ledger.claim(started_by="bench")
    if claim is None:
        raise RuntimeError("nothing is left to claim")
    for attempt in claim.attempts:
        ledger.settle(attempt, ledger.outcome_of_success("updated"))


def _put_off() -> None:
    """Leave no due jobs to the next measurement: it has its own."""
    SyncJob.objects.filter(state=State.PENDING).update(due_at=timezone.now() + timedelta(days=30))
