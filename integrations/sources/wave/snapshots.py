"""Snapshots, from the answer to a read of one or of many."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from integrations.core.errors import ConnectorError, Transient
from integrations.core.records import OpenInvoice, Snapshot
from integrations.core.zones import zone_of
from integrations.sources.wave import mapping
from integrations.sources.wave.client import WaveClient
from integrations.sources.wave.graphql import nodes
from integrations.sources.wave.pages import has_more, parsed

T = TypeVar("T")
MOST_PAGES = 50  # of open invoices: 5,000


@dataclass(frozen=True, slots=True)
class Reading:
    """One request and its answer: the business (uuid), when it was asked, and the zone of a business that has none."""

    client: WaveClient
    uuid: str
    read_at: datetime
    fallback: str

    def snapshot(self, found: Mapping[str, Any], asked: Collection[str]) -> Snapshot:
        """Return what a read of `invoice` and/or `customer` brought; more is read for more than 100 invoices with money due."""
        return parsed(lambda: self._snapshot(found, asked))

    def part(self, found: Mapping[str, Any], failures: Mapping[str, ConnectorError], names: Mapping[str, str]) -> Snapshot | ConnectorError:
        """Return one part of a read of many, or why it has none; `names` say where the members of a single read stand."""
        failure = next((failures[name] for name in names.values() if name in failures), None)
        if failure is not None:
            return failure
        try:
            return self.snapshot({**found, **{member: found[name] for member, name in names.items() if name in found}}, names)
        except ConnectorError as error:
            return error

    def _snapshot(self, found: Mapping[str, Any], asked: Collection[str]) -> Snapshot:
        business = mapping.business(found, self.uuid, self.fallback)
        return Snapshot(
            business=business,
            read_at=self.read_at,
            today=self.read_at.astimezone(zone_of(business.timezone)).date(),
            customer=_record(mapping.customer, found, "customer", asked, self.uuid),
            open_invoices=self._open_invoices(found),
            invoice=_record(mapping.invoice, found, "invoice", asked, self.uuid),
        )

    def _open_invoices(self, found: Mapping[str, Any]) -> tuple[OpenInvoice, ...] | None:
        """Return all invoices with money due, drafts left out; offset pages shift while we turn them, hence by id."""
        customer = found.get("customer")
        if customer is None:
            return None
        by_id: dict[str, OpenInvoice] = {}
        page, pages = 1, found.get("openInvoices")
        while True:
            if pages is None:
                raise Transient("POST graphql: the customer came without invoices", code="bad_answer")
            lines = {str(node["id"]): mapping.open_invoice(node) for node in nodes(pages)}
            news = lines.keys() - by_id.keys()
            by_id |= lines
            page += 1
            if not news or not _goes_on(pages, list(lines.values())) or page > MOST_PAGES:
                return tuple(line for line in by_id.values() if line.due.amount > 0 and line.status != "DRAFT")
            pages = self.client.open_invoices(mapping.node_id(self.uuid), str(customer["id"]), page)


def _record(read: Callable[[dict[str, Any], str], T], found: Mapping[str, Any], name: str, asked: Collection[str], uuid: str) -> T | None:
    """Return a record that was asked for, None where Wave says null; an answer that leaves it out is no such word."""
    if name not in asked or found[name] is None:
        return None
    return read(found[name], uuid)


def _goes_on(page: Mapping[str, Any], lines: list[OpenInvoice]) -> bool:
    """Tell whether the next page may hold money due: the amounts fall, and this page has not reached 0."""
    if not lines or lines[-1].due.amount <= 0:
        return False
    return has_more(page, len(lines))
