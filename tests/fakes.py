"""An in-memory source and an in-memory destination, which count calls and fail at will."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeVar

from integrations.core.documents import Bound, Bulk, Carried, Document, Link, Observed, Value, Written
from integrations.core.errors import ConnectorError, Missing, Rejected, Transient, Unmappable
from integrations.core.ports import Account, Check, Plan, Shape, Step, Trace
from integrations.core.records import (
    Asked,
    Business,
    Changed,
    Customer,
    Dated,
    Invoice,
    Listing,
    Money,
    OpenInvoice,
    Payment,
    Snapshot,
    Swept,
    number_of,
    record_key,
)
from integrations.http import ApiClient
from integrations.registry import DestinationEntry, SourceEntry

MODIFIED = datetime(2026, 5, 4, 12, tzinfo=UTC)
Hook = Callable[[], None]
R = TypeVar("R", bound=Dated)
AMOUNTS = {"organization": "owed", "record": "due", "payment": "amount"}  # the field that shows the amount due, by document kind


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
    batches: list[list[tuple[str, str]]] = field(default_factory=list)
    batches_fail: Exception | None = None
    odd: dict[str, ConnectorError] = field(default_factory=dict)  # invoices that cannot be read, by number
    failures: list[Exception] = field(default_factory=list)
    down: Exception | None = None
    after_read: Hook = nothing
    pages: list[tuple[str, datetime, int]] = field(default_factory=list)
    page_size: int = 100
    after_page: Hook = nothing
    unreadable: set[str] = field(default_factory=set)  # keys

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
        lines = found[start : start + self.page_size]
        read = tuple(one for one in lines if one.key not in self.unreadable)
        odd = tuple(one.key for one in lines if one.key in self.unreadable)
        shown = Listing(read, len(found) > start + self.page_size, unreadable=odd)
        self.after_page()
        return shown

    def sweep(self, records: Iterable[R], kind: str, after: datetime, page: int) -> Swept[R]:
        """Return a page of whole records, and what stands before it; `pages` lists what was asked for."""
        self.pages.append((f"sweep {kind}", after, page))
        if self.down is not None:
            raise self.down
        found = sorted((one for one in records if one.modified_at > after), key=lambda one: one.modified_at)
        start = (page - 1) * self.page_size
        shown, read = found[start : start + self.page_size], self.snapshot("", "")
        swept = Swept(
            records=tuple(one for one in shown if one.key not in self.unreadable),
            more=len(found) > start + self.page_size,
            business=read.business,
            read_at=read.read_at,
            today=read.today,
            unreadable=tuple(one.key for one in shown if one.key in self.unreadable),
            previous=found[start - 1].key if 0 < start <= len(found) else "" if page == 1 else None,
        )
        self.after_page()
        return swept

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
            business,
            datetime.now(UTC),
            date(2026, 5, 4),
            customer=self.customers.get(customer),
            open_invoices=self._open_of(customer) if customer else None,
            invoice=self.invoices.get(invoice),
        )

    def _open_of(self, customer: str) -> tuple[OpenInvoice, ...]:
        theirs = [one for one in self.invoices.values() if one.customer.key == self.key("customer", customer)]
        return tuple(OpenInvoice(one.number, one.status, one.due, one.due_on) for one in theirs if one.due.amount and one.status != "DRAFT")


@dataclass(slots=True)
class FakeWaveSource:
    """The source of one run."""

    wave: FakeWave
    client: ApiClient

    def read(self, *, invoice: str = "", customer: str = "") -> Snapshot:
        """Return the records as they are now."""
        self.wave.reads.append((invoice, customer))
        self._send()
        if invoice in self.wave.odd:
            raise self.wave.odd[invoice]
        seen = self.wave.snapshot(invoice, customer)
        self.wave.after_read()
        return seen

    def read_many(self, asked: Sequence[Asked]) -> list[Snapshot | ConnectorError]:
        """Return many records as they are now; `batches` lists what was asked for."""
        self.wave.batches.append([(one.invoice, one.customer) for one in asked])
        self._send()
        if self.wave.batches_fail is not None:
            raise self.wave.batches_fail
        seen = [self.wave.odd.get(one.invoice) or self.wave.snapshot(one.invoice, one.customer) for one in asked]
        self.wave.after_read()
        return seen

    def _send(self) -> None:
        if self.client.deadline is not None and time.monotonic() >= self.client.deadline:
            raise Transient("POST /graphql: the run's time is used up", code="budget", counted=False, unsent=True)
        token = self.client.recorder.sending("POST", "/graphql")
        failure = self.wave.failures.pop(0) if self.wave.failures else self.wave.down
        self.client.recorder.answered(token, None if failure else 200, 1, "")
        if failure is not None:
            raise failure

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

    def sweep_customers(self, after: datetime, page: int) -> Swept[Customer]:
        """Return a page of whole customers."""
        return self.wave.sweep(self.wave.customers.values(), "customer", after, page)

    def sweep_invoices(self, after: datetime, page: int) -> Swept[Invoice]:
        """Return a page of whole invoices, without payments as in all lists."""
        return self.wave.sweep([replace(one, payments=()) for one in self.wave.invoices.values()], "invoice", after, page)

    def counts(self, after: datetime) -> Mapping[str, int]:
        """Return how many records there are that were modified after a moment."""
        held: dict[str, Iterable[Dated]] = {"customer": self.wave.customers.values(), "invoice": self.wave.invoices.values()}
        return {kind: sum(one.modified_at > after for one in records) for kind, records in held.items()}

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
    unseen  remote ids that exist and that bulk reads cannot show
    scan_pages  objects on a page of a scan, 0 = it cannot be scanned
    bulk_refused  the account may not write in bulk; bulk_later  a bulk call ends at its second poll
    bulk_unknown  keys of which a bulk call does not tell what became, although it wrote them; jobs  bulk calls by id
    bulk calls spend `faults` too, one per document: it is then refused, or unknown when it was `committed`
    shows_amounts  whether anything shows what is due
    unmappable  keys of records that no mapping can turn into what is taken; defects: keys that a defect of ours meets
    before_bulk  called before a bulk call is carried out
    marks_apart  what marks a deletion is a document of its own, as Jira's label and comment
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
    unseen: set[str] = field(default_factory=set)
    bulk_refused: bool = False
    scan_pages: int = 0
    bulk_later: bool = False
    bulk_unknown: set[str] = field(default_factory=set)
    jobs: dict[str, Bulk] = field(default_factory=dict)
    shows_amounts: bool = True
    unmappable: set[str] = field(default_factory=set)
    defects: set[str] = field(default_factory=set)
    before_bulk: Hook = nothing
    marks_apart: bool = False
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
    observes: Mapping[str, str] = field(default_factory=lambda: {kind: kind for kind in AMOUNTS})
    observe_most: int = 100
    bulk_most: Mapping[str, int] = field(default_factory=lambda: {"organization": 100, "record": 100})
    bulk_updates: frozenset[str] = frozenset({"organization", "record"})
    bulk_upserts: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)

    @property
    def summarises(self) -> bool:
        """Whether invoices are summed up on the customer's document."""
        return self.remote.summarises

    def prepare(self) -> None:
        """Learn nothing."""

    def documents(self, kind: str, snapshot: Snapshot, trace: Trace) -> Sequence[Document]:
        """Return the customer's organization, or the invoice's record with its payments."""
        keys = {one.key for one in (snapshot.customer, snapshot.invoice) if one}
        if kind == self.remote.defect_of or keys & self.remote.defects:
            raise ZeroDivisionError("a defect with somebody's name in it")
        if keys & self.remote.unmappable:
            raise Unmappable("the mapping gives nothing that a date could be")
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
        if kind != "invoice":
            return []
        parent = Link("record", key) if self.remote.marks_apart else None
        kind = "mark" if self.remote.marks_apart else "record"
        return [Document(kind, key, {"status": "DELETED"}, _sent_along(trace), parent=parent, partial=True)]

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

    # --- Many at once

    def observe(self, kind: str, wanted: Mapping[str, str]) -> Mapping[str, Observed]:
        """Return what is there, by id where one is known, else by key unless it is hidden; twins without an id."""
        assert len(wanted) <= self.observe_most
        self.remote.events.append(f"observe {kind} {len(wanted)}")
        self.client.recorder.answered(self.client.recorder.sending("GET", f"/{kind}/many"), 503 if self.remote.down else 200, 1, "")
        if self.remote.down is not None:
            raise self.remote.down
        found = {key: self._found(kind, key, remote_id) for key, remote_id in wanted.items()}
        return {key: self._seen(ids) for key, ids in found.items() if ids}

    def _found(self, kind: str, key: str, remote_id: str) -> list[str]:
        objects = self.remote.objects
        if remote_id:
            return [remote_id] if remote_id in objects else []
        return [one for one in self.remote.of_key(kind, key) if not objects[one].hidden]

    def _seen(self, ids: list[str]) -> Observed:
        if len(ids) > 1:
            return Observed("", twins=tuple(ids))
        if ids[0] in self.remote.unseen:
            return Observed(ids[0])
        item = self.remote.objects[ids[0]]
        return Observed(ids[0], dict(item.fields), item.fields.get(AMOUNTS[item.kind]) if self.remote.shows_amounts else None)

    def shows_amount(self, kind: str) -> bool:
        """Return whether a test wants amounts to be shown."""
        return self.remote.shows_amounts

    def drift(self, document: Document, seen: Observed) -> frozenset[str]:
        """Return the fields that are there with another value; links that are not resolved yet are not compared."""
        wanted = {name: value for name, value in document.fields.items() if not isinstance(value, Link) and name in seen.held}
        return frozenset(name for name, value in wanted.items() if seen.held[name] != value)

    def carrying(self, kind: str, page: str) -> Carried | None:
        """Return pages of what is there, where a test wants them; else leave it to look-ups by key."""
        if not self.remote.scan_pages:
            return None
        start, size = int(page or 0), self.remote.scan_pages
        held = [(item.key, remote_id) for remote_id, item in self.remote.objects.items() if item.kind == kind and not item.hidden]
        self.remote.events.append(f"scan {kind} {start}")
        return Carried(tuple(held[start : start + size]), str(start + size) if len(held) > start + size else "")

    def confirmed(self, document: Document, bound: Bound, seen: Observed) -> Written:
        """Remember what was seen."""
        return Written(seen.remote_id, created=not bound.remote_id)

    def bulk_calls(self, kind: str, count: int, refused: frozenset[str]) -> int:
        """Reckon two calls for each batch."""
        return 2 * -(-count // 100)

    def start_bulk(self, kind: str, items: Sequence[tuple[Document, Bound]]) -> Bulk:
        """Write all, and tell of each what became, at once or at the second poll."""
        assert len(items) <= self.bulk_most[kind] and len({bool(bound.remote_id) for _, bound in items}) == 1
        remote = self.remote
        remote.events.append(f"bulk {kind} {len(items)}")
        self.client.recorder.answered(self.client.recorder.sending("POST", f"/{kind}/bulk"), 503 if remote.down else 200, 1, "")
        if remote.down is not None:
            raise remote.down
        if remote.bulk_refused:
            raise Rejected(f"POST /{kind}/bulk: 403", code="bulk_refused")
        remote.before_bulk()
        done = self._all_written(kind, items)
        if not remote.bulk_later:
            return done
        job = f"job-{len(remote.jobs) + 1}"
        remote.jobs[job] = replace(done, id=job)
        return Bulk(job, kind, sent=done.sent, progress=0)

    def _all_written(self, kind: str, items: Sequence[tuple[Document, Bound]]) -> Bulk:
        written: dict[str, Written] = {}
        refused: dict[str, ConnectorError] = {}
        unknown = set(self.remote.bulk_unknown)
        for document, bound in items:
            fault = self._fault(kind)
            if fault is not None and not fault.committed:
                assert isinstance(fault.error, ConnectorError)
                refused[document.key] = fault.error
                continue
            self.remote.writes.append(Write(kind, document.key, bound.remote_id, dict(document.fields)))
            written[document.key] = self._commit(document, bound)
            unknown |= {document.key} if fault else set()
        told = {key: one for key, one in written.items() if key not in unknown}
        sent = {document.key: bound.remote_id for document, bound in items}
        return Bulk("", kind, done=True, written=told, refused=refused, unknown=frozenset(unknown & written.keys()), sent=sent)

    def follow_bulk(self, bulk: Bulk) -> Bulk:
        """Tell how a bulk call stands: done when it is asked for the second time."""
        self.remote.events.append(f"follow {bulk.kind}")
        self.client.recorder.answered(self.client.recorder.sending("GET", "/jobs"), 200 if bulk.id in self.remote.jobs else 404, 1, "")
        if bulk.id not in self.remote.jobs:
            raise Missing("GET /jobs: 404")
        if bulk.progress == 0:
            return replace(bulk, progress=len(bulk.sent))
        return self.remote.jobs[bulk.id]

    def ping(self) -> list[Check]:
        """Report that all is well."""
        return [Check("write", True)]

    def provision(self, *, dry_run: bool) -> list[Step]:
        """Create nothing."""
        return []


def _sent_along(trace: Trace) -> dict[str, Value]:
    return {"synced_at": trace.synced_at.isoformat(), "job_id": trace.job_id}
