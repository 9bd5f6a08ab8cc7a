"""The books behind Wave's stand-in: businesses, customers, invoices and payments, and the story that changes them."""

import base64
import functools
import itertools
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar, cast
from zoneinfo import ZoneInfo

from integrations.sandbox.server import StandIn

Method = TypeVar("Method", bound=Callable[..., Any])
Row = TypeVar("Row", "Business", "Customer", "Invoice")

FIRST_NUMBER = 2496756670638588934  # Wave's numbers have 19 digits: too long for a JavaScript number
DRAFTS = ("DRAFT",)


def story(method: Method) -> Method:
    """Run the method under the stand-in's lock and offer it to other processes as POST /story/<its name>."""

    @functools.wraps(method)
    def locked(self: StandIn, *args: Any, **kwargs: Any) -> Any:
        with self.lock:
            return method(self, *args, **kwargs)

    locked.__dict__["is_story"] = True
    return cast(Method, locked)


def node_id(business: str, kind: str = "", number: str = "") -> str:
    """Return a GraphQL id: base64 of `Business:<uuid>`, or of `Business:<uuid>;<kind>:<number>`."""
    text = f"Business:{business}" + (f";{kind}:{number}" if kind else "")
    return base64.b64encode(text.encode()).decode()


def split_id(node: str) -> tuple[str, str, str]:
    """Return business uuid, kind and number of a GraphQL id, the last two empty for a business; raise ValueError for anything else."""
    scope, _, rest = base64.b64decode(node, validate=True).decode().partition(";")
    label, _, business = scope.partition(":")
    if label != "Business" or not business:
        raise ValueError("not an id of Wave's")
    kind, _, number = rest.partition(":")
    return business, kind, number


def to_date(value: date | str) -> date:
    """Return a date given as one or as YYYY-MM-DD."""
    return date.fromisoformat(value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Address:
    """A postal address; `province` is Wave's code such as US-CA, `country` the code of two letters."""

    line1: str | None = None
    line2: str | None = None
    city: str | None = None
    postal_code: str | None = None
    province: str | None = None
    country: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One line of an invoice."""

    description: str
    unit_price: Decimal
    quantity: Decimal = Decimal(1)
    product: str = "Services"

    @property
    def subtotal(self) -> Decimal:
        """Return quantity times unit price, before tax."""
        return self.quantity * self.unit_price


@dataclass(slots=True)
class Business:
    """One business of the user's."""

    id: str
    uuid: str
    name: str
    timezone: str | None
    currency: str
    created_at: datetime
    modified_at: datetime
    is_archived: bool = False


@dataclass(slots=True)
class Customer:
    """One customer; `business` is a uuid, `shipping_details` is in GraphQL's own shape."""

    id: str
    number: str
    business: str
    name: str
    created_at: datetime
    modified_at: datetime
    currency: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    display_id: str | None = None
    email: str | None = None
    mobile: str | None = None
    phone: str | None = None
    fax: str | None = None
    toll_free: str | None = None
    website: str | None = None
    internal_notes: str | None = None
    is_archived: bool = False
    address: Address | None = None
    shipping_details: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Payment:
    """One payment of an invoice, in the invoice's currency."""

    id: str
    number: str
    amount: Decimal
    payment_date: date
    payment_method: str
    created_at: datetime
    modified_at: datetime
    memo: str = ""
    state: str = "SUCCEEDED"


@dataclass(slots=True)
class Invoice:
    """One invoice; `business` is a uuid, `customer` a GraphQL id, `status` any text, as Wave's list has grown before."""

    id: str
    number: str
    business: str
    customer: str
    invoice_number: str
    currency: str
    invoice_date: date
    due_date: date
    created_at: datetime
    modified_at: datetime
    status: str = "DRAFT"
    title: str = "Invoice"
    po_number: str | None = None
    memo: str | None = None
    footer: str | None = None
    subhead: str | None = None
    exchange_rate: Decimal = Decimal(1)
    items: tuple[Item, ...] = ()
    tax_total: Decimal = Decimal(0)
    discount_total: Decimal = Decimal(0)
    last_sent_at: datetime | None = None
    last_viewed_at: datetime | None = None
    payments: list[Payment] = field(default_factory=list)

    @property
    def subtotal(self) -> Decimal:
        """Return the sum of the lines."""
        return sum((item.subtotal for item in self.items), Decimal(0))

    @property
    def total(self) -> Decimal:
        """Return what is asked for, with taxes and discounts."""
        return self.subtotal + self.tax_total - self.discount_total

    @property
    def amount_paid(self) -> Decimal:
        """Return the sum of the payments."""
        return sum((payment.amount for payment in self.payments), Decimal(0))

    @property
    def amount_due(self) -> Decimal:
        """Return what is left to pay; below zero when too much was paid."""
        return self.total - self.amount_paid


FIXED = {"id", "number", "business", "created_at", "modified_at"}
BUSINESS_FIELDS = frozenset({"name", "timezone", "currency", "is_archived"})
CUSTOMER_FIELDS = frozenset(part.name for part in fields(Customer)) - FIXED
INVOICE_FIELDS = frozenset(part.name for part in fields(Invoice)) - FIXED - {"payments", "last_sent_at", "last_viewed_at"}


class Ledger(StandIn):
    """The state of the stand-in and its story: every method takes and returns GraphQL ids, and raises KeyError for an unknown one.

    Amounts may be Decimal or str, dates date or str. Wave does not say whether a payment moves `Customer.modifiedAt`: here it does not.
    """

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__(clock)
        self.businesses: dict[str, Business] = {}
        self.customers: dict[str, Customer] = {}
        self.invoices: dict[str, Invoice] = {}
        self._numbers = itertools.count(FIRST_NUMBER)
        self._last = datetime.min.replace(tzinfo=UTC)

    @story
    def add_business(self, name: str, *, timezone: str | None = "America/Toronto", currency: str = "USD", business: str = "") -> str:
        """Add a business; `business` is its uuid, made from its place in the list when left out."""
        if timezone is not None:
            ZoneInfo(timezone)
        number = business or str(uuid.uuid5(uuid.NAMESPACE_URL, f"wave-sandbox/{len(self.businesses)}"))
        now = self._tick()
        self.businesses[node_id(number)] = Business(node_id(number), number, name, timezone, currency, now, now)
        return node_id(number)

    @story
    def change_business(self, business: str, **changes: Any) -> None:
        """Change any of BUSINESS_FIELDS."""
        self._change(self.businesses[business], changes, BUSINESS_FIELDS)

    @story
    def add_customer(self, business: str, name: str, **details: Any) -> str:
        """Add a customer with any of CUSTOMER_FIELDS; `address` may be a mapping, the currency is the business's unless given."""
        owner = self.businesses[business]
        number, now = str(next(self._numbers)), self._tick()
        customer = Customer(node_id(owner.uuid, "Customer", number), number, owner.uuid, name, now, now, owner.currency)
        self._assign(customer, _customer_values(details), CUSTOMER_FIELDS)
        self.customers[customer.id] = customer
        return customer.id

    @story
    def change_customer(self, customer: str, **changes: Any) -> None:
        """Change any of CUSTOMER_FIELDS."""
        self._change(self.customers[customer], _customer_values(changes), CUSTOMER_FIELDS)

    @story
    def delete_customer(self, customer: str) -> None:
        """Delete a customer; raise ValueError while invoices exist, as Wave refuses too."""
        if any(invoice.customer == customer for invoice in self.invoices.values()):
            raise ValueError("a customer with invoices cannot be deleted")
        del self.customers[customer]

    @story
    def add_invoice(
        self,
        customer: str,
        number: str,
        *,
        total: Decimal | str | None = None,
        items: Iterable[Item | Mapping[str, Any]] = (),
        due_date: date | str | None = None,
        invoice_date: date | str | None = None,
        status: str = "DRAFT",
        **details: Any,
    ) -> str:
        """Add an invoice of the given lines, or of one line that makes the `total`; due 30 days after its date unless given."""
        owner = self.customers[customer]
        issued = to_date(invoice_date) if invoice_date else self.today(owner.business)
        due = to_date(due_date) if due_date else issued + timedelta(days=30)
        key, now = str(next(self._numbers)), self._tick()
        currency = owner.currency or self.businesses[node_id(owner.business)].currency
        invoice_id = node_id(owner.business, "Invoice", key)
        invoice = Invoice(invoice_id, key, owner.business, customer, number, currency, issued, due, now, now, status)
        lines = {"items": items} if total is None else {"total": total}
        self._assign(invoice, _invoice_values(details | lines), INVOICE_FIELDS)
        self.invoices[invoice.id] = invoice
        return invoice.id

    @story
    def change_invoice(self, invoice: str, **changes: Any) -> None:
        """Change any of INVOICE_FIELDS, `number` or `total`; a new sum moves the status of a paid invoice unless one is given."""
        changed = self.invoices[invoice]
        if changes.get("customer", changed.customer) not in self.customers:
            raise KeyError(changes["customer"])
        due = changed.amount_due
        self._change(changed, _invoice_values(changes), INVOICE_FIELDS)
        if changed.payments and changed.amount_due != due and "status" not in changes:
            changed.status = _paid_status(changed)

    @story
    def approve(self, invoice: str) -> None:
        """Approve a draft; Wave has no status APPROVED, it becomes SAVED."""
        if self.invoices[invoice].status not in DRAFTS:
            raise ValueError("only a draft can be approved")
        self._change(self.invoices[invoice], {"status": "SAVED"}, INVOICE_FIELDS)

    @story
    def send(self, invoice: str) -> None:
        """Send an approved invoice; one that is already further keeps its status."""
        sent = self._approved(invoice)
        if sent.status in ("SAVED", "UNPAID"):
            sent.status = "SENT"
        sent.last_sent_at = sent.modified_at = self._tick()

    @story
    def view(self, invoice: str) -> None:
        """Let the customer look: moves lastViewedAt always, the status only from SENT."""
        viewed = self.invoices[invoice]
        if viewed.status == "SENT":
            viewed.status = "VIEWED"
        viewed.last_viewed_at = viewed.modified_at = self._tick()

    @story
    def pay(
        self, invoice: str, amount: Decimal | str, method: str = "BANK_TRANSFER", date: date | str | None = None, *, memo: str = ""
    ) -> str:
        """Add a payment and return its id; the invoice becomes PARTIAL, PAID or OVERPAID."""
        paid = self._approved(invoice)
        key, day, now = str(next(self._numbers)), to_date(date) if date else self.today(paid.business), self._tick()
        payment = Payment(node_id(paid.business, "InvoicePayment", key), key, Decimal(amount), day, method, now, now, memo)
        paid.payments.append(payment)
        paid.status, paid.modified_at = _paid_status(paid), now
        return payment.id

    @story
    def remove_payment(self, payment: str) -> None:
        """Remove a payment; the invoice's status falls back to what it was before."""
        invoice = self.invoice_of(payment)
        invoice.payments = [kept for kept in invoice.payments if kept.id != payment]
        invoice.status = _paid_status(invoice) if invoice.payments else self._unpaid_status(invoice)
        invoice.modified_at = self._tick()

    @story
    def mark_overdue(self, invoice: str) -> None:
        """Let the invoice roll over to OVERDUE, whatever its due date."""
        self._approved(invoice)
        self._change(self.invoices[invoice], {"status": "OVERDUE"}, INVOICE_FIELDS)

    @story
    def delete_invoice(self, invoice: str) -> None:
        """Delete an invoice with its payments; it just vanishes, Wave leaves no tombstone."""
        del self.invoices[invoice]

    def invoice_of(self, payment: str) -> Invoice:
        """Return the invoice that holds the payment; raise KeyError when there is none."""
        for invoice in self.invoices.values():
            if any(held.id == payment for held in invoice.payments):
                return invoice
        raise KeyError(payment)

    def today(self, business: str) -> date:
        """Return the date in the time zone of the business, given by uuid."""
        return self.clock().astimezone(ZoneInfo(self.businesses[node_id(business)].timezone or "UTC")).date()

    def customer_currency(self, customer: str) -> str:
        """Return the code in which the balances of a customer are told."""
        found = self.customers[customer]
        return found.currency or self.businesses[node_id(found.business)].currency

    def outstanding(self, customer: str) -> Decimal:
        """Return what the customer owes in their own currency, drafts left out."""
        return sum((invoice.amount_due for invoice in self._open(customer)), Decimal(0))

    def overdue(self, customer: str) -> Decimal:
        """Return the part of `outstanding` whose due date has passed, or that was marked as overdue."""
        return sum((invoice.amount_due for invoice in self._open(customer) if self._is_late(invoice)), Decimal(0))

    def state(self) -> dict[str, Any]:
        """Return businesses, customers with balances and invoices with payments, ordered by id; tokens are left out."""
        with self.lock:
            customers = [
                _plain(row) | {"outstanding": str(self.outstanding(row.id)), "overdue": str(self.overdue(row.id))}
                for row in _by_id(self.customers)
            ]
            invoices = [_plain(row) | {"total": str(row.total), "amount_due": str(row.amount_due)} for row in _by_id(self.invoices)]
            return {"businesses": [_plain(row) for row in _by_id(self.businesses)], "customers": customers, "invoices": invoices}

    def _open(self, customer: str) -> list[Invoice]:
        # One currency only: sums are never added across, and which rate Wave would use is not known.
        currency = self.customer_currency(customer)
        own = (invoice for invoice in self.invoices.values() if invoice.customer == customer and invoice.currency == currency)
        return [invoice for invoice in own if invoice.status not in DRAFTS and invoice.amount_due > 0]

    def _is_late(self, invoice: Invoice) -> bool:
        return invoice.status == "OVERDUE" or invoice.due_date < self.today(invoice.business)

    def _unpaid_status(self, invoice: Invoice) -> str:
        if invoice.due_date < self.today(invoice.business):
            return "OVERDUE"
        if invoice.last_sent_at is None:
            return "SAVED"
        return "VIEWED" if invoice.last_viewed_at else "SENT"

    def _approved(self, invoice: str) -> Invoice:
        if self.invoices[invoice].status in DRAFTS:
            raise ValueError("a draft has to be approved first")
        return self.invoices[invoice]

    def _change(self, row: Row, changes: Mapping[str, Any], allowed: frozenset[str]) -> None:
        self._assign(row, changes, allowed)
        row.modified_at = self._tick()

    def _assign(self, row: Row, changes: Mapping[str, Any], allowed: frozenset[str]) -> None:
        unknown = sorted(changes.keys() - allowed)
        if unknown:
            raise TypeError(f"{type(row).__name__} has no {', '.join(unknown)}")
        for name, value in changes.items():
            setattr(row, name, value)

    def _tick(self) -> datetime:
        # Wave tells milliseconds. Two changes never share one, so that `modifiedAt` moves even while a test's clock stands still.
        now = self.clock().astimezone(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        self._last = max(now, self._last + timedelta(milliseconds=1))
        return self._last


def _paid_status(invoice: Invoice) -> str:
    if invoice.amount_due > 0:
        return "PARTIAL"
    return "PAID" if invoice.amount_due == 0 else "OVERPAID"


def _customer_values(changes: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(changes)
    if isinstance(values.get("address"), Mapping):
        values["address"] = Address(**values["address"])
    return values


def _invoice_values(changes: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(changes)
    if "number" in values:
        values["invoice_number"] = values.pop("number")
    if "total" in values:
        values["items"] = (Item("Services", Decimal(values.pop("total"))),)
    if "items" in values:
        values["items"] = tuple(item if isinstance(item, Item) else _item(**item) for item in values["items"])
    for name in ("invoice_date", "due_date"):
        if name in values:
            values[name] = to_date(values[name])
    for name in ("tax_total", "discount_total", "exchange_rate"):
        if name in values:
            values[name] = Decimal(values[name])
    return values


def _item(description: str, unit_price: Decimal | str, quantity: Decimal | str = "1", product: str = "Services") -> Item:
    return Item(description, Decimal(unit_price), Decimal(quantity), product)


def _by_id(rows: Mapping[str, Row]) -> list[Row]:
    return [rows[key] for key in sorted(rows)]


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {part.name: _plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value
