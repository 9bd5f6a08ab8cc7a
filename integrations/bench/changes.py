"""What one change in Wave costs, and fifty for the same invoice."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from django.test import override_settings

from integrations.bench import counts
from integrations.bench.counts import COLUMNS, Calls
from integrations.bench.scale import Bench
from integrations.bench.site import Site, standing
from integrations.bench.tables import Cell, Table

RAPID = 50
Story = Callable[[Site], Calls]


@dataclass(frozen=True, slots=True)
class Case:
    """One row: what changed, the least it can cost, and the story that is counted."""

    what: str
    least: Calls
    play: Story


def run(bench: Bench) -> list[Table]:
    """Play every row and return calls beside their minimum."""
    return [
        _table("changes", "What one change costs", CASES, bench),
        _table("rapid", f"{RAPID} deliveries for one invoice", RAPIDLY, bench),
    ]


def _table(name: str, title: str, cases: tuple[Case, ...], bench: Bench) -> Table:
    rows: list[tuple[Cell, ...]] = []
    wrong: list[str] = []
    for case in cases:
        with standing(bench.clock) as site:
            spent = case.play(site)
        rows.append((case.what, *(f"{calls} / {least}" for calls, least in zip(spent.cells(), case.least.cells(), strict=True))))
        if not spent.within(case.least):
            wrong.append(f"{case.what}: {spent.cells()} calls, {case.least.cells()} would do")
    return Table(name, f"{title} (calls / minimum)", ("what changed", *COLUMNS), rows, wrong)


# --- One change -----------------------------------------------------------------------------------------------------


def _cost(site: Site, invoice: str, event: str = "invoice.updated") -> Calls:
    mark = site.mark()
    site.deliver(event, invoice=invoice)
    site.work()
    return counts.since(site, mark)


def _brought(site: Site, **details: Any) -> tuple[str, str]:
    customer = site.customer()
    invoice = site.invoice(customer, **details)
    site.bring(invoice)
    return customer, invoice


def _viewed(site: Site) -> Calls:
    _, invoice = _brought(site)
    site.wave.view(invoice)
    site.bring(invoice)
    site.wave.view(invoice)
    return _cost(site, invoice, "invoice.viewed")


def _changed(**change: str) -> Story:
    def play(site: Site) -> Calls:
        _, invoice = _brought(site)
        site.wave.change_invoice(invoice, **change)
        return _cost(site, invoice)

    return play


def _paid(site: Site) -> Calls:
    """The second of two, for the first one teaches which transitions there are."""
    customer, first = _brought(site)
    second = site.invoice(customer, "INV-2", total="80.00")
    site.bring(second)
    site.wave.pay(first, "120.00")
    site.bring(first)
    site.wave.pay(second, "80.00")
    return _cost(site, second, "invoice.paid")


def _unnamed(site: Site) -> Calls:
    invoice = site.invoice(site.customer())
    mark = site.mark()
    site.deliver("invoice.sent", invoice=invoice, customer_id=None)
    site.work()
    return Calls(wave=len(site.since(mark, "wave")))


CASES = (
    Case("nothing that a document shows (viewed)", Calls(1), _viewed),
    Case("due date, no balance moved", Calls(1, 1, 1), _changed(due_date="2099-06-20")),
    Case("PO number", Calls(1, 1, 1), _changed(po_number="PO-77")),
    Case("total", Calls(1, 2, 1), _changed(total="150.00")),
    Case("paid in full: worklog, one hop", Calls(1, 3, 3), _paid),
    Case("new, its customer not named (Wave only)", Calls(2), _unnamed),
)

# --- Many for one ---------------------------------------------------------------------------------------------------


def _waiting(site: Site) -> Calls:
    """They come while the job waits for a worker."""
    _, invoice = _brought(site)
    site.wave.change_invoice(invoice, total="150.00")
    mark = site.mark()
    with override_settings(WEBHOOK_ACK="stored"):
        for _ in range(RAPID):
            site.deliver("invoice.updated", invoice=invoice)
    site.work()
    return counts.since(site, mark)


def _running(site: Site) -> Calls:
    """They come while the job is being run: Wave's answer is held back until the last is stored."""
    _, invoice = _brought(site)
    site.wave.change_invoice(invoice, total="150.00")
    mark = site.mark()
    ordinary = site.wave.handle
    held: list[bool] = []

    def handle(request: Any) -> Any:
        if not held and request.path.startswith("/graphql"):
            held.append(True)
            for _ in range(RAPID - 1):
                site.deliver("invoice.updated", invoice=invoice)
        return ordinary(request)

    with override_settings(WEBHOOK_ACK="stored"), patch.object(site.wave, "handle", handle):
        site.deliver("invoice.updated", invoice=invoice)
        site.work()
    site.work()
    return counts.since(site, mark)


RAPIDLY = (
    Case("while its job waits", Calls(1, 2, 1), _waiting),
    Case("while its job runs", Calls(2, 2, 1), _running),
)
