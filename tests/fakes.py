"""An in-memory source and an in-memory destination, which count calls and fail at will."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from integrations.core.documents import Bound, Document, Link, Value, Written
from integrations.core.errors import Missing
from integrations.core.ports import Account, Check, Plan, Shape, Step, Trace
from integrations.core.records import Business, Changed, Customer, Invoice, Listing, Money, Payment, Snapshot, number_of, record_key
from integrations.http import ApiClient
from integrations.registry import DestinationEntry, SourceEntry

MODIFIED = datetime(2026, 5, 4, 12, tzinfo=UTC)
Hook = Callable[[], None]


def nothing() -> None:
    """Do nothing, where a test hangs no hook."""


# --- The source ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class FakeWave:
    """Records of one business; `reads` lists what was asked for, `failures` are raised one per read."""

    uuid: str
    customers: dict[str, Customer] = field(default_factory=dict)
    invoices: dict[str, Invoice] = field(default_factory=dict)
    reads: list[tuple[str, str]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    down: Exception | None = None
    after_read: Hook = nothing
    pages: list[tuple[str, datetime, int]] = field(default_factory=list)
    page_size: int = 100
    after_page: Hook = nothing

    def page(self, kind: str, after: datetime, page: int) -> Listing:
        """Return a page of what was modified after a moment, as it stands now; `pages` lists what was asked for."""
        self.pages.append((kind, after, page))
        if self.down is not None:
            raise self.down
        records: list[Changed] = [Changed(one.key, one.modified_at, shown=one.shown) for one in self.customers.values()]
        if kind == "invoice":
            records = [Changed(one.key, one.modified_at, customer=one.customer.key) for one in self.invoices.values()]
        found = sorted((one for one in records if one.modified_at > after), key=lambda one: one.modified_at)
        start = (page - 1) * self.page_size
        shown = Listing(tuple(found[start : start + self.page_size]), len(found) > start + self.page_size)
        self.after_page()
        return shown

    def key(self, kind: str, number: str) -> str:
        """Return the key of a record of this business."""
        return record_key(self.uuid, kind, number)

    def put_customer(self, number: str = "7", **more: Any) -> Customer:
        """Store a customer, or change one."""
        known = self.customers.get(number) or Customer(self.key("customer", number), f"Customer {number}", MODIFIED)
        self.customers[number] = replace(known, **more)
        return self.customers[number]

    def put_invoice(
        self, number: str = "1", *, customer: str = "7", due: str = "100.00", payments: Mapping[str, str] | None = None, **more: Any
    ) -> Invoice:
        """Store an invoice of a customer, with payments by their number; the customer's balance follows."""
        owner = self.customers.get(customer) or self.put_customer(customer)
        paid = tuple(Payment(self.key("payment", key), euro(amount), date(2026, 5, 4)) for key, amount in (payments or {}).items())
        self.invoices[number] = Invoice(
            **{
                "key": self.key("invoice", number),
                "number": f"INV-{number}",
                "status": "SENT",
                "customer": owner,
                "total": euro("100.00"),
                "due": euro(due),
                "paid": euro("0.00"),
                "issued_on": date(2026, 5, 1),
                "due_on": date(2026, 6, 1),
                "modified_at": MODIFIED,
                "created_at": MODIFIED,
                "payments": paid,
                **more,
            }
        )
        self._sum_up(customer)
        return self.invoices[number]

    def _sum_up(self, customer: str) -> None:
        key = self.key("customer", customer)
        dues = [invoice.due.amount for invoice in self.invoices.values() if invoice.customer.key == key]
        self.customers[customer] = replace(self.customers[customer], outstanding=Money(sum(dues, Decimal(0)), "EUR"))

    def entry(self, original: SourceEntry) -> SourceEntry:
        """Return the registry's line with this source in place of the real one; signatures and bodies stay real."""
        return replace(original, build=self._build)

    def _build(self, client: ApiClient, account: Account, zone: str) -> "FakeWaveSource":
        return FakeWaveSource(self, client)

    def snapshot(self, invoice: str, customer: str) -> Snapshot:
        """Return what a read shows now."""
        business = Business(self.uuid, "Acme", "Europe/Berlin", "EUR")
        return Snapshot(
            business, datetime.now(UTC), date(2026, 5, 4), customer=self.customers.get(customer), invoice=self.invoices.get(invoice)
        )


@dataclass(slots=True)
class FakeWaveSource:
    """The source of one run."""

    wave: FakeWave
    client: ApiClient

    def read(self, *, invoice: str = "", customer: str = "") -> Snapshot:
        """Return the records as they are now."""
        token = self.client.recorder.sending("POST", "/graphql")
        self.wave.reads.append((invoice, customer))
        failure = self.wave.failures.pop(0) if self.wave.failures else self.wave.down
        self.client.recorder.answered(token, None if failure else 200, 1, "")
        if failure is not None:
            raise failure
        seen = self.wave.snapshot(invoice, customer)
        self.wave.after_read()
        return seen

    def invoice_of_payment(self, payment: str) -> str:
        """Return the number of the invoice that has the payment."""
        key = self.wave.key("payment", payment)
        owners = [number for number, invoice in self.wave.invoices.items() if key in [paid.key for paid in invoice.payments]]
        return owners[0] if owners else ""

    def changed_customers(self, after: datetime, page: int) -> Listing:
        """Return a page of the customers that changed."""
        return self.wave.page("customer", after, page)

    def changed_invoices(self, after: datetime, page: int) -> Listing:
        """Return a page of the invoices that changed."""
        return self.wave.page("invoice", after, page)

    def ping(self) -> list[Check]:
        """Report that all is well."""
        return [Check("read", True)]


def euro(amount: str) -> Money:
    """Return an amount in euros."""
    return Money(Decimal(amount), "EUR")


# --- The destination ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Write:
    """One write as it was sent."""

    kind: str
    key: str
    remote_id: str
    fields: Mapping[str, Value]


@dataclass(slots=True)
class Remote:
    """One object at the destination."""

    kind: str
    key: str
    fields: dict[str, Value]
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """One write that fails: before anything was changed, or, when `committed`, after it was."""

    error: Exception
    committed: bool = False
    kind: str = ""


@dataclass(slots=True)
class FakeRemote:
    """What a destination holds. `writes` lists what was sent, `events` every call in its order.

    faults  raised by the next writes of their kind, one each; `down` is raised by every write, before it
    hidden_when_made  look-ups do not show what is created from now on, as with an index that lags
    refused  fields that are left out of a write, with the destination's reason
    """

    system: str
    upsert: bool
    summarises: bool
    find_lags: bool = True
    objects: dict[str, Remote] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    down: Exception | None = None
    defect_of: str = ""
    hidden_when_made: bool = False
    refused: dict[str, str] = field(default_factory=dict)
    before_write: Callable[[Document], None] = lambda document: None
    made: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def entry(self, original: DestinationEntry) -> DestinationEntry:
        """Return the registry's line with this destination in place of the real one."""
        return replace(original, build=self._build, system=replace(original.system, summarises=self.summarises))

    def _build(self, client: ApiClient, plan: Plan, shape: Shape) -> "FakeDestination":
        return FakeDestination(self, client, plan)

    def holds(self) -> dict[str, list[dict[str, Value]]]:
        """Return the fields of everything it holds, by kind, oldest first."""
        found: dict[str, list[dict[str, Value]]] = {}
        for item in self.objects.values():
            found.setdefault(item.kind, []).append(item.fields)
        return found

    def of_key(self, kind: str, key: str) -> list[str]:
        """Return the ids of the objects that carry a key."""
        return [remote_id for remote_id, item in self.objects.items() if (item.kind, item.key) == (kind, key)]

    def make(self, kind: str, key: str, fields: Mapping[str, Value]) -> str:
        """Create an object and return its id."""
        with self.lock:
            self.made += 1
            remote_id = f"{self.system}-{self.made}"
        self.objects[remote_id] = Remote(kind, key, dict(fields), hidden=self.hidden_when_made)
        return remote_id


@dataclass(slots=True)
class FakeDestination:
    """The destination of one route in one run."""

    remote: FakeRemote
    client: ApiClient
    plan: Plan
    children: frozenset[str] = frozenset({"payment"})
    deletable: frozenset[str] = frozenset({"record", "payment"})
    notes: list[str] = field(default_factory=list)

    @property
    def summarises(self) -> bool:
        """Whether invoices are summed up on the customer's document."""
        return self.remote.summarises

    def prepare(self) -> None:
        """Learn nothing."""

    def documents(self, kind: str, snapshot: Snapshot, trace: Trace) -> Sequence[Document]:
        """Return the customer's organization, or the invoice's record with its payments."""
        if kind == self.remote.defect_of:
            raise ZeroDivisionError("a defect with somebody's name in it")
        if kind == "customer":
            assert snapshot.customer is not None
            return [self._organization(snapshot.customer, trace)]
        assert snapshot.invoice is not None
        return [self._record(snapshot.invoice, trace), *self._payments(snapshot.invoice, trace)]

    def _organization(self, customer: Customer, trace: Trace) -> Document:
        owed = customer.outstanding.amount if customer.outstanding else None
        fields = {"name": customer.name, "owed": owed, **self._mapped("customer")}
        return Document("organization", customer.key, fields, _sent_along(trace), modified_at=customer.modified_at)

    def _record(self, invoice: Invoice, trace: Trace) -> Document:
        owner = Link("organization", invoice.customer.key) if self.remote.summarises else None
        fields = {"number": invoice.number, "status": invoice.status, "due": invoice.due.amount, **self._mapped("invoice")}
        if owner:
            fields["organization"] = owner
        return self._document("record", invoice.key, fields, trace, owner, invoice.created_at, invoice.modified_at)

    def _payments(self, invoice: Invoice, trace: Trace) -> list[Document]:
        if "payment" not in self.plan.kinds:
            return []
        parent = Link("record", invoice.key)
        return [
            self._document("payment", paid.key, {"amount": paid.amount.amount}, trace, parent, paid.created_at, invoice.modified_at)
            for paid in invoice.payments
        ]

    def _document(
        self,
        kind: str,
        key: str,
        fields: Mapping[str, Value],
        trace: Trace,
        parent: Link | None,
        born: datetime | None,
        modified_at: datetime,
    ) -> Document:
        lags, upsert = self.remote.find_lags, self.remote.upsert
        return Document(
            kind, key, fields, _sent_along(trace), parent=parent, upsert=upsert, find_lags=lags, modified_at=modified_at, created_at=born
        )

    def _mapped(self, kind: str) -> dict[str, str]:
        return {rule.target: rule.template for rule in self.plan.rules(kind)}

    def stub(self, snapshot: Snapshot, trace: Trace) -> Document | None:
        """Return the organization with its name only."""
        if snapshot.invoice is None or not self.remote.summarises:
            return None
        customer = snapshot.invoice.customer
        return Document("organization", customer.key, {"name": customer.name}, _sent_along(trace), partial=True)

    def gone(self, kind: str, key: str, trace: Trace) -> Sequence[Document]:
        """Return the mark of a deleted invoice."""
        return [Document("record", key, {"status": "DELETED"}, _sent_along(trace), partial=True)] if kind == "invoice" else []

    def write(self, document: Document, bound: Bound) -> Written:
        """Create or change one object, and fail where the test wants it."""
        remote = self.remote
        remote.events.append(f"write {document.kind} {number_of(document.key)}")
        token = self.client.recorder.sending("PUT", f"/{document.kind}")
        remote.before_write(document)
        remote.writes.append(Write(document.kind, document.key, bound.remote_id, dict(document.fields)))
        fault = self._fault(document.kind)
        if fault is not None and not fault.committed:
            self.client.recorder.answered(token, None, 1, "")
            raise fault.error
        written = self._commit(document, bound)
        self.client.recorder.answered(token, None if fault else 200, 1, "")
        if fault is not None:
            raise fault.error
        return written

    def _fault(self, kind: str) -> Fault | None:
        if self.remote.down is not None:
            return Fault(self.remote.down)
        fault = next((fault for fault in self.remote.faults if fault.kind in ("", kind)), None)
        if fault is not None:
            self.remote.faults.remove(fault)
        return fault

    def _commit(self, document: Document, bound: Bound) -> Written:
        remote = self.remote
        fields = {name: value for name, value in document.fields.items() if name not in remote.refused}
        dropped = {name: reason for name, reason in remote.refused.items() if name in document.fields}
        known = [bound.remote_id] if bound.remote_id else remote.of_key(document.kind, document.key) if document.upsert else []
        if bound.remote_id and bound.remote_id not in remote.objects:
            raise Missing(f"PUT /{document.kind}: 404")
        if known:
            remote.objects[known[0]].fields |= fields
            return Written(known[0], dropped=dropped)
        return Written(remote.make(document.kind, document.key, fields), created=True, dropped=dropped)

    def find(self, document: Document, bound: Bound) -> list[str]:
        """Return what carries the document's key and is not hidden."""
        self.remote.events.append(f"find {document.kind} {number_of(document.key)}")
        self.client.recorder.answered(self.client.recorder.sending("GET", "/search"), 200, 1, "")
        return [found for found in self.remote.of_key(document.kind, document.key) if not self.remote.objects[found].hidden]

    def remove(self, kind: str, bound: Bound) -> None:
        """Delete one object."""
        self.remote.events.append(f"remove {kind}")
        self.remote.objects.pop(bound.remote_id, None)

    def ping(self) -> list[Check]:
        """Report that all is well."""
        return [Check("write", True)]

    def provision(self, *, dry_run: bool) -> list[Step]:
        """Create nothing."""
        return []


def _sent_along(trace: Trace) -> dict[str, Value]:
    return {"synced_at": trace.synced_at.isoformat(), "job_id": trace.job_id}
