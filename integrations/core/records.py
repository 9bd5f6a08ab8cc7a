"""Records: the current state of the source, in our words."""

import hashlib
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Generic, Protocol, TypeVar

CUSTOMER, INVOICE, PAYMENT = "customer", "invoice", "payment"
KINDS = (CUSTOMER, INVOICE, PAYMENT)
STATES = ("DRAFT", "SAVED", "UNPAID", "SENT", "VIEWED", "PARTIAL", "OVERDUE", "PAID", "OVERPAID")


def record_key(business: str, kind: str, number: str) -> str:
    """Return the key of a record, e.g. `wave:<business uuid>:invoice:123`; lower case, for Zendesk folds case."""
    return f"wave:{business}:{kind}:{number}".lower()


def is_of(business: str, key: str) -> bool:
    """Whether a key names a record of this business."""
    return key.startswith(f"wave:{business}:".lower())


def key_digest(key: str) -> str:
    """Return the 20 hex digits that stand for a key where a label must be short and plain."""
    return hashlib.sha256(key.encode()).hexdigest()[:20]


def shown_digest(name: str, email: str, display_id: str) -> str:
    """Return a digest of what other records' documents show of a customer."""
    return hashlib.sha256("\0".join((name, email, display_id)).encode()).hexdigest()[:20]


def kind_of(key: str) -> str:
    """Return the kind of record that a key names."""
    return key.split(":")[2]


def number_of(key: str) -> str:
    """Return the Wave number at the end of a key."""
    return key.rsplit(":", 1)[-1]


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in major units, with its currency; amounts of different currencies are never added."""

    amount: Decimal
    currency: str

    def __str__(self) -> str:
        return f"{self.amount} {self.currency}"


@dataclass(frozen=True, slots=True)
class Business:
    """A Wave business; `timezone` is an IANA name."""

    uuid: str
    name: str
    timezone: str
    currency: str


@dataclass(frozen=True, slots=True)
class Address:
    """A postal address; parts that Wave lacks are empty."""

    line1: str = ""
    line2: str = ""
    city: str = ""
    province: str = ""
    postal_code: str = ""
    country: str = ""

    def __str__(self) -> str:
        place = " ".join(part for part in (self.postal_code, self.city) if part)
        return ", ".join(part for part in (self.line1, self.line2, place, self.province, self.country) if part)


@dataclass(frozen=True, slots=True)
class Customer:
    """A Wave customer; `modified_at` is aware UTC."""

    key: str
    name: str
    modified_at: datetime
    first_name: str = ""
    last_name: str = ""
    display_id: str = ""
    email: str = ""
    phone: str = ""
    mobile: str = ""
    website: str = ""
    currency: str = ""
    address: Address = Address()
    archived: bool = False
    outstanding: Money | None = None
    overdue: Money | None = None
    created_at: datetime | None = None

    @property
    def number(self) -> str:
        """The numeric part of Wave's id."""
        return number_of(self.key)

    @property
    def shown(self) -> str:
        """A digest of what the documents of invoices show of the customer."""
        return shown_digest(self.name, self.email, self.display_id)

    @property
    def contact_name(self) -> str:
        """The contact person's name, or the customer's when none is given."""
        return " ".join(part for part in (self.first_name, self.last_name) if part) or self.name


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment of an invoice; `paid_on` is the date in the business's own zone."""

    key: str
    amount: Money
    paid_on: date | None
    method: str = ""
    state: str = ""
    memo: str = ""
    created_at: datetime | None = None

    @property
    def number(self) -> str:
        """The numeric part of Wave's id, or the id itself where Wave gives another form."""
        return number_of(self.key)


@dataclass(frozen=True, slots=True)
class Invoice:
    """A Wave invoice with its payments; `status` may be a word that Wave invented after this was written."""

    key: str
    number: str  # the invoice number people see; never a key, for people change it
    status: str
    customer: Customer
    total: Money
    due: Money
    paid: Money
    issued_on: date | None
    due_on: date | None
    modified_at: datetime
    created_at: datetime | None = None
    title: str = ""
    po_number: str = ""
    memo: str = ""
    url: str = ""
    pdf_url: str = ""
    payments: tuple[Payment, ...] = ()

    @property
    def id(self) -> str:
        """The numeric part of Wave's id."""
        return number_of(self.key)


@dataclass(frozen=True, slots=True)
class OpenInvoice:
    """A line of a customer's account: an invoice that is no draft and has money due."""

    number: str
    status: str
    due: Money
    due_on: date | None


@dataclass(frozen=True, slots=True)
class Changed:
    """A line of a source's listing: a record, and when it changed last.

    `customer` is the key of an invoice's customer; `shown` a customer's digest of what documents of others show of it;
    both are empty where the source could not say.
    """

    key: str
    modified_at: datetime
    customer: str = ""
    shown: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a listing, and whether there are more; `previous` and `unreadable` as in `Swept`."""

    records: tuple[Changed, ...]
    more: bool
    previous: str | None = None
    unreadable: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of what is on the page, read or not."""
        return (*(one.key for one in self.records), *self.unreadable)


class Dated(Protocol):
    """A record or a line of a listing: what it is, and when it changed last."""

    @property
    def key(self) -> str:
        """The record's key."""

    @property
    def modified_at(self) -> datetime:
        """When it changed last, aware UTC."""


R_co = TypeVar("R_co", bound=Dated, covariant=True)


@dataclass(frozen=True, slots=True)
class Swept(Generic[R_co]):
    """One page of whole records, when it was read, and whether there are more; `today` is in the business's zone.

    unreadable  keys of what stood on the page in another form than ours, "" where not even the id could be read
    previous    the key of the record just before this page, "" on the first, None where the source does not say
    """

    records: tuple[R_co, ...]
    more: bool
    business: Business
    read_at: datetime
    today: date
    unreadable: tuple[str, ...] = ()
    previous: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of what is on the page, read or not."""
        return (*(one.key for one in self.records), *self.unreadable)


READ_MOST = 20  # invoices in one request


@dataclass(frozen=True, slots=True)
class Asked:
    """What one snapshot of a read of many is about: Wave numbers, empty for none."""

    invoice: str = ""
    customer: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """What earlier reads told about a customer: the newest changes first, one line each, and the last payment."""

    changes: tuple[str, ...] = ()
    last_payment: Payment | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one read of the source brought.

    `invoice` and `customer` are None when they were not asked for or do not exist; `open_invoices` belongs to
    `customer`, all currencies, and is None when the customer was not asked for. `today` is in the business's zone.
    """

    business: Business
    read_at: datetime
    today: date
    customer: Customer | None = None
    open_invoices: tuple[OpenInvoice, ...] | None = None
    invoice: Invoice | None = None
    history: History = History()
