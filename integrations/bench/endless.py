"""A source whose records are made as they are asked for, and a destination that keeps nothing: what grows is the product's own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TypeVar
from unittest.mock import patch

from integrations import registry
from integrations.core.documents import Bound, Bulk, Document, Observed, Written
from integrations.core.errors import ConnectorError
from integrations.core.ports import Account
from integrations.core.records import (
    CUSTOMER,
    INVOICE,
    Asked,
    Business,
    Changed,
    Customer,
    Dated,
    Invoice,
    Listing,
    Money,
    Snapshot,
    Swept,
    number_of,
    record_key,
)
from integrations.destinations.zendesk.adapter import ZendeskDestination
from integrations.http import ApiClient
from integrations.sources.wave.adapter import WaveSource

R = TypeVar("R", bound=Dated)
BUSINESS = Business("4f9a7c10-5c1e-4d0c-9c57-2f1d5e5a0001", "Maple Consulting", "America/Toronto", "USD")
FIRST, APART = datetime(2025, 1, 1, tzinfo=UTC), timedelta(seconds=1)
PAGE, EACH = 100, 5  # records of a page; invoices of a customer
DUE, NOTHING = Money(Decimal("120.00"), "USD"), Money(Decimal("0.00"), "USD")


def customer(number: int) -> Customer:
    """Return a customer of the endless business."""
    return Customer(
        record_key(BUSINESS.uuid, CUSTOMER, str(number)),
        f"Customer {number}",
        FIRST + number * APART,
        first_name="Ada",
        last_name="Miller",
        email=f"c{number}@customers.example",
        phone="+1 416 555 0100",
        currency="USD",
        outstanding=Money(DUE.amount * EACH, "USD"),
        overdue=NOTHING,
    )


def invoice(number: int) -> Invoice:
    """Return an invoice of the endless business; five in a row are of one customer."""
    return Invoice(
        record_key(BUSINESS.uuid, INVOICE, str(number)),
        f"INV-{number}",
        "SENT",
        customer(number // EACH),
        total=DUE,
        due=DUE,
        paid=NOTHING,
        issued_on=date(2025, 1, 1),
        due_on=date(2099, 1, 1),
        modified_at=FIRST + number * APART,
    )


def page_of(make: Callable[[int], R], total: int, after: datetime, page: int) -> tuple[list[R], bool, str]:
    """Return a page of the records modified after a moment, whether there are more, and the key before it."""
    first = max(0, (after - FIRST) // APART + 1) + (page - 1) * PAGE
    last = min(total, first + PAGE)
    return [make(number) for number in range(first, last)], last < total, make(first - 1).key if page > 1 and first else ""


class Endless(WaveSource):
    """So many invoices, and a customer for each five of them."""

    total = 0
    pages: Callable[[], object] = staticmethod(lambda: None)  # called for each page

    def _swept(self, make: Callable[[int], R], total: int, after: datetime, page: int) -> Swept[R]:
        type(self).pages()
        records, more, before = page_of(make, total, after, page)
        return Swept(tuple(records), more, BUSINESS, datetime.now(UTC), date(2026, 1, 1), (), before)

    def sweep_invoices(self, after: datetime, page: int) -> Swept[Invoice]:
        """Return a page of whole invoices."""
        return self._swept(invoice, self.total, after, page)

    def sweep_customers(self, after: datetime, page: int) -> Swept[Customer]:
        """Return a page of whole customers."""
        return self._swept(customer, -(-self.total // EACH), after, page)

    def changed_customers(self, after: datetime, page: int) -> Listing:
        """Return a page of the list of customers."""
        swept = self.sweep_customers(after, page)
        return Listing(tuple(Changed(one.key, one.modified_at, shown=one.shown) for one in swept.records), swept.more, swept.previous)

    def read_many(self, asked: Sequence[Asked]) -> list[Snapshot | ConnectorError]:
        """Return invoices and customers by their numbers."""
        return [
            Snapshot(
                BUSINESS,
                datetime.now(UTC),
                date(2026, 1, 1),
                customer=customer(int(one.customer)) if one.customer else None,
                invoice=invoice(int(one.invoice)) if one.invoice else None,
            )
            for one in asked
        ]


class Sink(ZendeskDestination):
    """Takes everything in bulk at once; what it takes is gone, but for an id that is made of the key."""

    def start_bulk(self, kind: str, items: Sequence[tuple[Document, Bound]]) -> Bulk:
        """Say that all was written."""
        written = {document.key: Written(bound.remote_id or number_of(document.key), created=True) for document, bound in items}
        return Bulk("", kind, done=True, written=written, sent=dict.fromkeys(written, ""))

    def observe(self, kind: str, wanted: Mapping[str, str]) -> Mapping[str, Observed]:
        """Show nothing."""
        return {}


@contextmanager
def registered(invoices: int) -> Iterator[type[Endless]]:
    """Let both stand in the registry, in place of Wave and Zendesk, with so many invoices; yields the source."""

    class Source(Endless):
        total = invoices

    def source(client: ApiClient, account: Account, zone: str) -> Source:
        return Source(client, account, zone)

    wave, zendesk = registry.SOURCES["wave"], registry.DESTINATIONS["zendesk"]
    with (
        patch.dict(registry.SOURCES, wave=replace(wave, build=source)),
        patch.dict(registry.DESTINATIONS, zendesk=replace(zendesk, build=Sink)),
    ):
        yield Source
