"""What a backfill costs: calls against the least possible, batch by batch; and nothing when it is run again."""

import math
import time
from collections.abc import Iterable
from datetime import timedelta
from unittest.mock import patch

from integrations import backfill, filling
from integrations.bench import counts
from integrations.bench.scale import Bench
from integrations.bench.site import Site, standing
from integrations.bench.tables import Table
from integrations.sandbox.server import Call

INVOICES, PER_CUSTOMER = 5_000, 5  # one in five records is a customer
ZENDESK_BATCH, JIRA_BATCH = 100, 50
LEAST_SHARE, ONCE_MORE = 0.95, 2  # what a route's first batch looks at does not grow with the records
ONCE = ("oauth", "organization_fields", "/fields", "/custom_objects.json", "/custom_objects", "/field", "/configuration", "/statuses")


def run(bench: Bench) -> list[Table]:
    """Bring history to both destinations in bulk, count, and do it again."""
    number = bench.most(INVOICES)
    with standing(bench.clock) as site, patch.object(filling, "POLLS", (0.0,)):  # the stand-in ends its jobs at the second poll
        site.zendesk.bulk_users = True
        customers = _story(site, number)
        mark, began = site.mark(), time.process_time()
        _bring(site, "zendesk")
        zendesk = _counted(site.since(mark, "zendesk"))
        _bring(site, "jira")
        seconds, jira = time.process_time() - began, _counted(site.since(mark, "jira"))
        reads, mark = len(site.since(mark, "wave")), site.mark()
        _bring(site, "zendesk")
        _bring(site, "jira")
        again = sum(len(counts.writes(site.since(mark, system))) for system in ("zendesk", "jira"))
    return [_table(number, customers, (zendesk, jira, reads), again, seconds)]


def _table(number: int, customers: int, calls: tuple[int, int, int], again: int, seconds: float) -> Table:
    zendesk, jira, reads = calls
    batches, records = math.ceil(customers / ZENDESK_BATCH), math.ceil(number / ZENDESK_BATCH)
    # Organizations and contacts: a look, a job with two polls, a look for the ids. Records: a job with two polls.
    least_zendesk = batches * (5 + 5) + records * 3
    # One scan, the creates, and a POST for each invoice whose status is not the first one.
    least_jira = 1 + math.ceil(number / JIRA_BATCH) + number
    rows = [
        ("calls at Zendesk", _ratio(zendesk, least_zendesk)),
        ("calls at Jira", _ratio(jira, least_jira)),
        ("reads of Wave", f"{reads:,}"),
        ("writes when it is run again", f"{again:,} / 0"),
        ("CPU ms per record and destination, the stand-ins' included", f"{1000 * seconds / (2 * number + customers):.1f}"),
    ]
    title = f"Backfill of {customers:,} customers and {number:,} invoices (calls / minimum)"
    wrong = [f"{again} writes when run again"] if again else []
    for place, made, least in (("Zendesk", zendesk, least_zendesk), ("Jira", jira, least_jira)):
        wrong += [f"{made} calls at {place}, {least} would do"] if LEAST_SHARE * (made - ONCE_MORE) > least else []
    return Table("backfill", title, ("what", "number"), [*rows], wrong)


def _ratio(calls: int, least: int) -> str:
    return f"{calls:,} / {least:,} ({100 * least / calls:.1f} %)" if calls else "0"


def _counted(calls: Iterable[Call]) -> int:
    """Count what a backfill asks and writes; what is learnt of an account once a day is left out."""
    return sum(not any(call.path.endswith(part) or f"{part}/" in call.path for part in ONCE if part != "/custom_objects") for call in calls)


def _story(site: Site, number: int) -> int:
    """Add so many invoices, a second between any two, and return how many customers they have."""
    customer = ""
    for place in range(number):
        site.clock.shift(timedelta(seconds=1))
        if place % PER_CUSTOMER == 0:
            customer = site.customer(f"Customer {place}")
        site.invoice(customer, f"INV-{place}")
    return math.ceil(number / PER_CUSTOMER)


def _bring(site: Site, system: str) -> None:
    sweep, _ = backfill.begin(site.route(system), started_by="bench")
    while sweep.state == "running":
        backfill.carry_on(sweep, deadline=time.monotonic() + 3600)
        sweep.refresh_from_db()
        site.clock.move_to(sweep.due_at)
