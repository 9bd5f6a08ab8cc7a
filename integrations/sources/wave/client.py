"""Wave's GraphQL API: one method per question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from integrations.core import records
from integrations.core.errors import ConnectorError
from integrations.http import ApiClient
from integrations.sources.wave import queries
from integrations.sources.wave.graphql import Path, ask, ask_many, member, nodes

BUSINESS: Path = ("business",)
INVOICE: Path = ("business", "invoice")
CUSTOMER: Path = ("business", "customer")
OPEN_INVOICES: Path = ("business", "openInvoices")
PAYMENT: Path = ("business", "invoicePayment")
PAGE: Path = ("business", "page")


@dataclass(frozen=True, slots=True)
class WaveClient:
    """The questions we ask. Ids are GraphQL ids; answers are the JSON members of `data`, null for what does not exist.

    All raise Transient, Disconnected or Rejected("schema_drift").
    """

    api: ApiClient

    def business(self, business: str, *, invoice: str = "", customer: str = "") -> dict[str, Any] | None:
        """Return the business with an invoice (payments included), a customer and their first page of open invoices."""
        query, may_lack = {
            (False, False): (queries.BUSINESS, ()),
            (True, False): (queries.INVOICE, (INVOICE,)),
            (False, True): (queries.CUSTOMER, (CUSTOMER, OPEN_INVOICES)),
            (True, True): (queries.INVOICE_AND_CUSTOMER, (INVOICE, CUSTOMER, OPEN_INVOICES)),
        }[bool(invoice), bool(customer)]
        variables: dict[str, Any] = {"business": business}
        variables |= {"invoice": invoice} if invoice else {}
        variables |= {"customer": customer, "page": 1} if customer else {}
        return member(ask(self.api, query, variables, (BUSINESS, *may_lack)), "business")

    def many(
        self, business: str, invoices: Sequence[str], customers: Sequence[str]
    ) -> tuple[dict[str, Any] | None, dict[str, ConnectorError]]:
        """Return the business with invoices i0 ..., customers c0 ... and their open invoices o0 ..., and what failed of these."""
        variables = {"business": business, **_numbered("i", invoices), **_numbered("c", customers)}
        names = [*_numbered("i", invoices), *_numbered("c", customers), *_numbered("o", customers)]
        parts = {(*BUSINESS, name): name for name in names}
        found, failures = ask_many(self.api, queries.many(len(invoices), len(customers)), variables, (BUSINESS, *parts), parts)
        return member(found, "business"), failures

    def open_invoices(self, business: str, customer: str, page: int) -> dict[str, Any] | None:
        """Return one page of a customer's invoices, the largest amount due first."""
        found = ask(self.api, queries.OPEN_INVOICES, {"business": business, "customer": customer, "page": page})
        return member(member(found, "business"), "openInvoices")

    def changed_customers(self, business: str, after: str, page: int) -> tuple[dict[str, Any] | None, ConnectorError | None]:
        """Return one page of the customers modified after a moment (ISO 8601), the oldest change first; and what failed of it."""
        return self._changed(queries.CHANGED_CUSTOMERS, "customers", {"business": business, "after": after, "page": page})

    def changed_invoices(self, business: str, after: str, page: int) -> tuple[dict[str, Any] | None, ConnectorError | None]:
        """Return one page of the invoices modified after a moment, as `changed_customers`."""
        return self._changed(queries.CHANGED_INVOICES, "invoices", {"business": business, "after": after, "page": page})

    def listed(self, kind: str, business: str, after: str, page: int) -> dict[str, Any] | None:
        """Return that page of customers or invoices (our word) with ids and times only."""
        query, name = {
            records.CUSTOMER: (queries.LISTED_CUSTOMERS, "customers"),
            records.INVOICE: (queries.LISTED_INVOICES, "invoices"),
        }[kind]
        found = ask(self.api, query, {"business": business, "after": after, "page": page})
        return member(member(found, "business"), name)

    def sweep_customers(self, business: str, after: str, page: int) -> tuple[dict[str, Any] | None, ConnectorError | None]:
        """Return the business with one page of whole customers, in that order, and what stands just before it; and why there is no page."""
        return self._sweep(queries.SWEEP_CUSTOMERS, {"business": business, "after": after, "page": page})

    def sweep_invoices(self, business: str, after: str, page: int) -> tuple[dict[str, Any] | None, ConnectorError | None]:
        """Return the business with one page of whole invoices without payments, as `sweep_customers`."""
        return self._sweep(queries.SWEEP_INVOICES, {"business": business, "after": after, "page": page})

    def _sweep(self, query: str, variables: Mapping[str, Any]) -> tuple[dict[str, Any] | None, ConnectorError | None]:
        before = max(1, (variables["page"] - 1) * queries.PAGE_SIZE)  # as the number of a page of one
        found, failures = ask_many(self.api, query, {**variables, "before": before}, (), {PAGE: "page"})
        return member(found, "business"), failures.get("page")

    def counts(self, business: str, after: str) -> dict[str, Any] | None:
        """Return how many customers and invoices were modified after a moment, as `pageInfo` tells it."""
        return member(ask(self.api, queries.COUNTS, {"business": business, "after": after}), "business")

    def _changed(self, query: str, name: str, variables: Mapping[str, Any]) -> tuple[dict[str, Any] | None, ConnectorError | None]:
        found, failures = ask_many(self.api, query, variables, (), {(*BUSINESS, name): name})
        return member(member(found, "business"), name), failures.get(name)

    def invoice_of_payment(self, business: str, payment: str) -> str:
        """Return the GraphQL id of the invoice that a payment belongs to, empty when there is no such payment."""
        found = ask(self.api, queries.INVOICE_OF_PAYMENT, {"business": business, "payment": payment}, (PAYMENT,))
        invoice = member(member(member(found, "business"), "invoicePayment"), "invoice")
        return str((invoice or {}).get("id") or "")

    def user(self) -> dict[str, Any]:
        """Return the user behind the token."""
        return member(ask(self.api, queries.USER, {}), "user") or {}

    def businesses(self) -> list[dict[str, Any]]:
        """Return all businesses that the token reaches, archived ones too."""
        found: list[dict[str, Any]] = []
        page, pages = 1, 1
        while page <= pages:
            answer = member(ask(self.api, queries.BUSINESSES, {"page": page}), "businesses") or {}
            found += nodes(answer)
            page, pages = page + 1, (member(answer, "pageInfo") or {}).get("totalPages") or 1
        return found

    def first_customer(self, business: str) -> None:
        """Ask for one customer, to see whether we may (customer:read)."""
        ask(self.api, queries.CUSTOMERS_PAGE, {"business": business})

    def first_invoice(self, business: str) -> None:
        """Ask for one invoice, to see whether we may (invoice:read)."""
        ask(self.api, queries.INVOICES_PAGE, {"business": business})


def _numbered(letter: str, values: Sequence[str]) -> dict[str, str]:
    return {f"{letter}{place}": value for place, value in enumerate(values)}
