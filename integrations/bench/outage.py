"""An hour without a vendor: what a thousand due jobs cost meanwhile, and what brings them home."""

from datetime import datetime, timedelta

from django.db import transaction

from audit import outages
from audit.models import Hold, SyncJob
from audit.states import State
from integrations import asking
from integrations.bench.scale import Bench
from integrations.bench.site import Site, standing
from integrations.bench.tables import Table
from integrations.core.records import INVOICE, record_key
from integrations.sandbox.server import Fault
from integrations.sandbox.wave_ledger import split_id

DUE, HOUR, MOST = 1000, timedelta(hours=1), 200


def run(bench: Bench) -> list[Table]:
    """Let Zendesk be down for an hour of the bench's clock, with so many jobs due, and count what is called."""
    due = bench.most(DUE)
    with standing(bench.clock) as site:
        _ask(site, due)
        mark, ends = site.mark(), site.clock.now() + HOUR
        site.zendesk.faults.append(Fault("status", times=0, status=503, path="^/api/"))
        site.work()
        while (probe := _next_probe()) is not None and probe < ends:
            site.clock.move_to(probe)
            site.work()
        calls = {name: len(site.since(mark, name)) for name in ("zendesk", "wave")}
        untried = SyncJob.objects.filter(kind=INVOICE, tries=0, state=State.PENDING).count()
    title = f"One hour without Zendesk, {due:,} jobs due (the bound is {MOST} calls)"
    rows = [("calls at Zendesk", calls["zendesk"]), ("reads of Wave", calls["wave"]), ("jobs that have spent no try", untried)]
    wrong = [f"{sum(calls.values())} calls"] if sum(calls.values()) > MOST else []
    return [Table("outage", title, ("what", "number"), [*rows], wrong)]


def _ask(site: Site, number: int) -> None:
    """Make due jobs for so many invoices, each of a customer of its own, as a stream of deliveries leaves them."""
    source, route = site.source, site.route("zendesk")
    invoices = [site.invoice(site.customer(f"Customer {place}"), f"INV-{place}") for place in range(number)]
    keys = [record_key(business, INVOICE, number) for business, _, number in map(split_id, invoices)]
    with transaction.atomic():
        asking.request(asking.ask(source, route, INVOICE, key) for key in keys)


def _next_probe() -> datetime | None:
    """Return when the vendor is looked at next; None where nothing takes it for down."""
    return Hold.objects.filter(reason=outages.REASON).values_list("until", flat=True).first()
