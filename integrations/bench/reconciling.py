"""What a reconcile costs where nothing has changed: reads by the page, no write."""

import math
import time

from integrations import reconcile
from integrations.bench import counts
from integrations.bench.counts import Calls
from integrations.bench.plans import caught
from integrations.bench.scale import Bench
from integrations.bench.site import Site, standing
from integrations.bench.tables import Table

INVOICES, PER_CUSTOMER, PAGE = 200, 5, 100


def run(bench: Bench) -> list[Table]:
    """Bring a number of records, reconcile them, and count."""
    number = bench.most(INVOICES)
    with standing(bench.clock) as site:
        customers = _bring(site, number)
        mark, began = site.mark(), time.process_time()
        with caught() as statements:
            sweep, _ = reconcile.begin(site.source, started_by="bench")
            reconcile.carry_on(sweep, deadline=math.inf)
        seconds, calls = time.process_time() - began, counts.since(site, mark)
        pages = [math.ceil(number / PAGE), math.ceil(customers / PAGE)]
    # Of an invoice Zendesk has a record, Jira an issue; of a customer Zendesk an organization and a person.
    least = Calls(wave=sum(pages), looked=2 * pages[0] + 2 * pages[1])
    title = f"Reconcile of {number:,} unchanged invoices of {customers:,} customers (calls / minimum)"
    rows = [
        ("Wave reads", f"{calls.wave} / {least.wave}"),
        ("reads at both destinations", f"{calls.looked} / {least.looked}"),
        ("writes", f"{calls.zendesk + calls.jira} / 0"),
        ("statements", f"{len(statements):,}"),
        ("CPU ms per record, the stand-ins' included", f"{1000 * seconds / (number + customers):.2f}"),
    ]
    wrong = [f"{calls.zendesk + calls.jira} writes"] if calls.zendesk + calls.jira else []
    return [Table("reconcile", title, ("what", "number"), [*rows], wrong)]


def _bring(site: Site, number: int) -> int:
    """Bring so many invoices to both destinations; return how many customers they have."""
    customer = ""
    for place in range(number):
        if place % PER_CUSTOMER == 0:
            customer = site.customer(f"Customer {place}")
        site.bring(site.invoice(customer, f"INV-{place}"))
    return math.ceil(number / PER_CUSTOMER)
