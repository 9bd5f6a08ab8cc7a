"""Zendesk as a destination: customers become organizations, contacts users, invoices and payments linked records."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from integrations.core.documents import Bound, Bulk, Document, Observed, Written
from integrations.core.errors import Missing, Rejected, Transient, Unmappable
from integrations.core.observing import amount_target
from integrations.core.ports import AuthKind, Check, FieldRule, Plan, Setting, Shape, Step, System, Trace
from integrations.core.records import Customer, Invoice, Snapshot, number_of
from integrations.destinations.zendesk import bulk, contacts, mapping, observing, ping, provision
from integrations.destinations.zendesk.bulk import BulkWriter
from integrations.destinations.zendesk.client import Json, Saved, ZendeskClient
from integrations.destinations.zendesk.mapping import INVOICE, ORGANIZATION, ORGANIZATION_LOOKUP, PAYMENT, USER, Types
from integrations.destinations.zendesk.oauth import ACCESS, CONSENT, SUBDOMAIN
from integrations.destinations.zendesk.organizations import Organizations
from integrations.destinations.zendesk.places import places
from integrations.http import Answer, ApiClient

__all__ = ["ACCESS", "CONSENT", "SYSTEM", "ZendeskDestination", "places", "unauthorized"]

_SUBDOMAIN = Setting("subdomain", required=True, pattern=SUBDOMAIN, advice="Enter acme for acme.zendesk.com.", place=True)
_CLIENT = (
    Setting("client_id", required=True, advice="Admin Center > Apps and integrations > APIs > OAuth clients: the unique identifier."),
    Setting("scope", pattern=r"[a-z_]+(:[a-z]+)?( [a-z_]+(:[a-z]+)?)*", advice='Scopes with blanks between; empty means "read write".'),
)
SYSTEM = System(
    name="zendesk",
    label="Zendesk",
    role="destination",
    summarises=True,
    auths=(
        AuthKind(
            "client_credentials",
            (_SUBDOMAIN, *_CLIENT),
            ("client_secret",),
            ("access_token",),
            advice="The usual way: a confidential OAuth client, nothing to click. The connection acts as the user who owns the client.",
        ),
        AuthKind(
            "oauth",
            (_SUBDOMAIN, *_CLIENT),
            (),
            ("client_secret", "access_token", "refresh_token"),
            advice="Save client id and secret, then press Connect: the connection acts as the person who consents.",
        ),
        # https://developer.zendesk.com/api-reference/introduction/security-and-auth/ : no new tokens since 2026-10-27.
        AuthKind(
            "api_token",
            (_SUBDOMAIN, Setting("email", required=True, pattern=r"[^\s:/@]+@[^\s:/@]+", advice="The e-mail address of the token's user.")),
            ("api_token",),
            advice="Only for a token that you have already: no new ones can be made, and one that rests for 30 days is switched off.",
            ends_on=date(2027, 4, 30),
        ),
    ),
    options=(
        Setting("invoice_storage", choices=("auto", "custom_object", "organization_fields"), default="auto"),
        Setting("contacts", default=True, of=bool),
        Setting("on_delete", choices=("mark", "delete"), default="mark"),
    ),
    defaults=mapping.DEFAULTS,
    targets=mapping.STANDARD,
)
SHAPES = ("organization_fields", "objects", "storage")
HAD_RECORDS = "had_records"


def unauthorized(answer: Answer) -> bool:
    """Say whether the credentials were refused, so that the request was surely not carried out."""
    return answer.status == 401


@dataclass(slots=True)
class ZendeskDestination:
    """One route's Zendesk account during one run."""

    api: ApiClient
    plan: Plan
    shape: Shape
    client: ZendeskClient = field(init=False)
    children: frozenset[str] = field(default=frozenset({PAYMENT}), init=False)
    deletable: frozenset[str] = field(default=frozenset({INVOICE, PAYMENT}), init=False)
    observes: Mapping[str, str] = field(default_factory=lambda: observing.OBSERVES, init=False)
    observe_most: int = field(default=observing.MOST, init=False)
    bulk_most: Mapping[str, int] = field(default_factory=lambda: bulk.MOST, init=False)
    bulk_updates: frozenset[str] = field(default=bulk.UPDATES, init=False)
    bulk_upserts: frozenset[str] = field(default=bulk.UPSERTS, init=False)
    notes: list[str] = field(default_factory=list, init=False)
    _organization_fields: Types = field(default_factory=dict, init=False)
    _objects: Mapping[str, Types] = field(default_factory=dict, init=False)
    _storage: Mapping[str, str] = field(default_factory=dict, init=False)
    _numbers: dict[str, str] = field(default_factory=dict, init=False)  # customer key -> what tells equal names apart

    def __post_init__(self) -> None:
        self.client = ZendeskClient(self.api)

    # --- What the account has

    def prepare(self) -> None:
        """Learn the account's fields and objects, and where invoices go; no calls while that is remembered."""
        self._organization_fields = self._learned("organization_fields", self.client.organization_fields)
        wanted = self._option("invoice_storage", "auto") != "organization_fields"
        found = self._learned("objects", self._read_objects) if wanted else {}
        self._objects = found.get("fields", {})
        self._storage = self._chosen_storage(found)
        if self.shape.get("storage") != self._storage:
            self.shape.put("storage", dict(self._storage))

    def _option(self, name: str, default: Any) -> Any:
        return self.plan.options.get(name, default)

    def _learned(self, name: str, read: Callable[[], Any]) -> Any:
        found = self.shape.get(name)
        if found is None:
            found = read()
            self.shape.put(name, found)
        return found

    def _read_objects(self) -> Json:
        """Return whether the plan has custom objects, and the fields of ours that exist."""
        try:
            present = self.client.objects()
            fields = {kind: self.client.object_fields(kind) for kind in (INVOICE, PAYMENT) if kind in present}
        except Rejected as error:
            # An account that has had records has not lost its plan by one refusal: what to do then a person decides.
            if error.code not in ("forbidden", "missing") or self.shape.ever(HAD_RECORDS):
                raise
            return {"plan": False, "fields": {}}
        if INVOICE in fields and not self.shape.ever(HAD_RECORDS):
            self.shape.put(HAD_RECORDS, True)
        return {"plan": True, "fields": fields}

    def _chosen_storage(self, found: Mapping[str, Any]) -> dict[str, str]:
        if not found:
            return {"mode": "organization_fields", "note": "chosen on the route"}
        if INVOICE in found["fields"]:
            return {"mode": "custom_object", "note": ""}
        if found["plan"]:
            return {"mode": "organization_fields", "note": "there is no custom object wave_invoice: run provision to get linked records"}
        return {"mode": "organization_fields", "note": "the account's plan or the token's scope has no custom objects"}

    def _outdated(self) -> bool:
        """Learn the account's set-up anew and say whether it differs from what was remembered."""
        before = (self._organization_fields, self._objects)
        self._forget()
        self.prepare()
        return before != (self._organization_fields, self._objects)

    def _forget(self) -> None:
        for name in SHAPES:
            self.shape.put(name, None)

    # --- What should exist

    def documents(self, kind: str, snapshot: Snapshot, trace: Trace) -> Sequence[Document]:
        """Return organization and user of a customer, or the records of an invoice and its payments."""
        self.notes.clear()
        if kind == "customer" and snapshot.customer is not None:
            return self._of_customer(snapshot, snapshot.customer, trace)
        if kind == "invoice" and snapshot.invoice is not None and self._keeps_records():
            return self._of_invoice(snapshot, snapshot.invoice, trace)
        return []

    def _of_customer(self, snapshot: Snapshot, customer: Customer, trace: Trace) -> list[Document]:
        self._remember_number(customer)
        found = [mapping.organization(self.plan, snapshot, customer, trace, self._organization_fields)]
        contact = mapping.contact(self.plan, snapshot, customer, trace) if self._option("contacts", True) else None
        return [*found, contact] if contact else found

    def _of_invoice(self, snapshot: Snapshot, invoice: Invoice, trace: Trace) -> list[Document]:
        found = [mapping.invoice(self.plan, snapshot, invoice, trace, self._objects[INVOICE])]
        if "payment" not in self.plan.kinds or PAYMENT not in self._objects:
            return found
        types = self._objects[PAYMENT]
        return [*found, *(mapping.payment(self.plan, snapshot, invoice, paid, trace, types) for paid in invoice.payments)]

    def _keeps_records(self) -> bool:
        if self._storage.get("mode") == "custom_object":
            return True
        if self._option("invoice_storage", "auto") == "custom_object":
            # A person insisted on records: to leave them out silently would hide that they do not exist.
            raise Unmappable(f"invoice_storage is custom_object, but {self._storage.get('note')}; or choose auto", code="no_custom_objects")
        self.notes.append("kept_in_organization_fields")
        return False

    def _remember_number(self, customer: Customer) -> None:
        self._numbers[customer.key] = mapping.number(customer.key, customer.display_id)

    def stub(self, snapshot: Snapshot, trace: Trace) -> Document | None:
        """Return the invoice's customer as an organization with name and key only."""
        customer = snapshot.invoice.customer if snapshot.invoice else snapshot.customer
        if customer is None:
            return None
        self._remember_number(customer)
        return mapping.stub(customer)

    def gone(self, kind: str, key: str, trace: Trace) -> Sequence[Document]:
        """Return what marks an invoice's record as deleted; organizations stay as they are."""
        if kind != "invoice" or INVOICE not in self._objects:
            return []
        mark = mapping.gone_invoice(self.plan, key, trace, self._objects[INVOICE])
        return [mark] if mark else []

    # --- Writing

    def write(self, document: Document, bound: Bound) -> Written:
        """Create or replace one organization, user or record."""
        writers = {ORGANIZATION: self._organizations.write, USER: self._write_user}
        try:
            return writers.get(document.kind, self._write_record)(document, bound)
        except Rejected as error:
            # A field or object that was removed at Zendesk since we learned it: look again before giving up.
            if document.kind != USER and error.code in ("invalid", "missing") and self._outdated():
                raise Transient(f"{error}; the account's fields have changed", code="set_up_changed", words=error.words) from error
            raise

    def _write_record(self, document: Document, bound: Bound) -> Written:
        content = mapping.record_content(document, self._objects.get(document.kind, {}))
        if document.partial:
            return self._mark_record(document, content, bound)
        try:
            saved = self._save_record(document, content, bound)
        except Rejected as error:
            organization = document.fields.get(ORGANIZATION_LOOKUP)
            if error.code == "invalid" and organization:
                self.client.require_organization(str(organization))
            raise
        return Written(saved.id, saved.created)

    def _mark_record(self, document: Document, content: Json, bound: Bound) -> Written:
        """Mark the record of an invoice that left Wave; where somebody has deleted it, there is nothing to mark."""
        for remote_id in [bound.remote_id] if bound.remote_id else self.find(document, bound):
            with suppress(Missing):
                saved = self.client.update_record(document.kind, remote_id, content)
                return Written(saved.id, saved.created)
        return Written("", withheld=True)

    def _save_record(self, document: Document, content: Json, bound: Bound) -> Saved:
        if bound.remote_id:
            with suppress(Missing):
                return self.client.update_record(document.kind, bound.remote_id, content)
        return self.client.upsert_record(document.kind, document.key, content)

    def _write_user(self, document: Document, bound: Bound) -> Written:
        return contacts.write(self.client, document, bound)

    @property
    def _organizations(self) -> Organizations:
        return Organizations(self.client, self._organization_fields, self._numbers)

    # --- Looking up, removing, proving

    def find(self, document: Document, bound: Bound) -> list[str]:
        """Return the remote ids that carry the document's key."""
        if document.kind == ORGANIZATION:
            rows = self.client.organizations_keyed(document.key)
        elif document.kind == USER:
            rows = self.client.users_keyed(document.key)
        else:
            rows = self.client.records_keyed(document.kind, [document.key])
        return [str(row["id"]) for row in rows]

    def remove(self, kind: str, bound: Bound) -> None:
        """Delete a record; organizations and users are never deleted."""
        if kind not in self.deletable:
            raise Rejected(f"{kind} is never deleted at Zendesk", code="not_deletable")
        if not bound.remote_id:
            return
        with suppress(Missing):
            self.client.delete_record(kind, bound.remote_id)

    # --- Many at once

    def observe(self, kind: str, wanted: Mapping[str, str]) -> Mapping[str, Observed]:
        """Read up to 100 organizations, users or records; twins of one key come without an id."""
        return observing.observe(self.client, kind, wanted, self._rules(kind))

    def shows_amount(self, kind: str) -> bool:
        """Return whether a field that the account has shows what is due."""
        return bool(amount_target(self._rules(kind), observing.FILLED_BY[kind]))

    def _rules(self, kind: str) -> Sequence[FieldRule]:
        return mapping.usable(self.plan, observing.FILLED_BY[kind], self._types(kind))

    def drift(self, document: Document, seen: Observed) -> frozenset[str]:
        """Return the fields that Zendesk holds otherwise; `prepare` has told their types, links are ids by now."""
        numbers = {self._numbers.get(document.key, ""), number_of(document.key)} - {""}
        return observing.drift(document, seen, self._types(document.kind), numbers)

    def carrying(self, kind: str, page: str) -> None:
        """Return None: what carries our keys is looked up by key, a hundred to a call."""

    def confirmed(self, document: Document, bound: Bound, seen: Observed) -> Written | None:
        """Return what to remember of an object that a job has written; of users only those that it made."""
        if document.kind != USER:
            return Written(seen.remote_id, created=not bound.remote_id)
        if bound.remote_id:
            return None
        # Nobody carried the key before, and the job only makes new users.
        return Written(seen.remote_id, created=True, facts={"ours": True, "organization": bound.parent_id})

    def bulk_calls(self, kind: str, count: int, refused: frozenset[str]) -> int:
        """Return the calls for organizations with their contacts, or for records: a look before, a job, two polls, a look after.

        One by one an organization takes one call, a contact four: looked for by key and by address, made, put into it.
        """
        batches = -(-count // bulk.MOST[ORGANIZATION])
        if kind == "customer":
            contacts = (4 * count if USER in refused else 5 * batches) if self._option("contacts", True) else 0
            return contacts + (count if ORGANIZATION in refused else 5 * batches)
        if self._option("invoice_storage", "auto") == "organization_fields":
            return 0
        # Paid ones have payments, which need the ids of their records; how many there are nobody knows before.
        payments = 4 * batches if PAYMENT in self.plan.kinds else 0
        return count if INVOICE in refused else 3 * batches + payments

    def start_bulk(self, kind: str, items: Sequence[tuple[Document, Bound]]) -> Bulk:
        """Start a job for up to 100 documents; of users only new ones, and only where Zendesk has enabled imports.

        What a job made comes back as unknown, for its results name no keys. A user found then is finished by `write`.
        """
        return self._bulk.start(kind, items)

    def follow_bulk(self, bulk: Bulk) -> Bulk:
        """Ask how a job stands. Raises Missing a day after it began: its results are gone, so observe."""
        return self._bulk.follow(bulk)

    @property
    def _bulk(self) -> BulkWriter:
        return BulkWriter(self.client, self._organizations, self._objects)

    def _types(self, kind: str) -> Types:
        return self._organization_fields if kind == ORGANIZATION else self._objects.get(kind, {})

    def ping(self) -> list[Check]:
        """Prove who we are, that organizations can be read, and what the token was granted."""
        return ping.ping(self.client, self.plan)

    def provision(self, *, dry_run: bool) -> list[Step]:
        """Create the organization fields and custom objects that the route's mappings fill."""
        steps = provision.provision(self.client, self.plan, dry_run=dry_run)
        if not dry_run:
            self._forget()
            self._remember_records({step.what: step.change for step in steps})
        return steps

    def _remember_records(self, found: Mapping[str, str]) -> None:
        """Remember whether there are records: the word of a person who has looked, which no single refusal takes back."""
        if found.get(f"custom object {INVOICE}") in ("exists", "created"):
            self.shape.put(HAD_RECORDS, True)
        elif "invoice storage" in found:
            self.shape.put(HAD_RECORDS, None)
