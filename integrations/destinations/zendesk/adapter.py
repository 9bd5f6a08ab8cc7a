"""Zendesk as a destination: customers become organizations, contacts users, invoices and payments linked records."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from integrations.core.documents import Bound, Document, Written
from integrations.core.errors import Missing, Rejected, Transient, Unmappable
from integrations.core.ports import AuthKind, Check, Plan, Setting, Shape, Step, System, Trace
from integrations.core.records import Customer, Invoice, Snapshot, number_of
from integrations.destinations.zendesk import contacts, mapping, ping, provision
from integrations.destinations.zendesk.client import Json, Saved, ZendeskClient
from integrations.destinations.zendesk.mapping import INVOICE, ORGANIZATION, ORGANIZATION_LOOKUP, PAYMENT, USER, Types
from integrations.destinations.zendesk.oauth import ACCESS, CONSENT, SUBDOMAIN
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
INDEX_LAG = timedelta(seconds=60)  # how long to wait for a search to see what was just written


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
            if error.code not in ("forbidden", "missing"):
                raise
            return {"plan": False, "fields": {}}
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
        writers = {ORGANIZATION: self._write_organization, USER: self._write_user}
        try:
            return writers.get(document.kind, self._write_record)(document, bound)
        except Rejected as error:
            # A field or object that was removed at Zendesk since we learned it: look again before giving up.
            if document.kind != USER and error.code in ("invalid", "missing") and self._outdated():
                raise Transient(f"{error}; the account's fields have changed", code="set_up_changed", words=error.words) from error
            raise

    def _write_organization(self, document: Document, bound: Bound) -> Written:
        wanted = str(document.fields.get("name") or "")
        content = mapping.organization_content(document, self._organization_fields)
        facts = _name_facts(bound, wanted)
        content |= {"name": facts["written_name"]} if facts else {}
        try:
            saved = self._save_organization(content, bound)
        except Rejected as error:
            if error.code != "name_taken":
                raise
            content["name"] = self._free_name(document, content["name"], error)
            facts = {"wanted_name": wanted, "written_name": content["name"]}
            saved = self._save_renamed(document, content, bound)
        return Written(saved.id, saved.created, facts, notes=("name_suffixed",) if facts else ())

    def _save_organization(self, content: Json, bound: Bound) -> Saved:
        if bound.remote_id:
            with suppress(Missing):  # deleted or merged away: the key finds or makes its successor
                return self.client.update_organization(bound.remote_id, content)
        return self.client.upsert_organization(content)

    def _save_renamed(self, document: Document, content: Json, bound: Bound) -> Saved:
        try:
            return self._save_organization(content, bound)
        except Rejected as error:
            raise self._name_taken(document, [], error) if error.code == "name_taken" else error from error

    def _free_name(self, document: Document, name: str, error: Rejected) -> str:
        """Return a free name where other Wave customers have this one; refuse to touch anybody else's organization."""
        holders = self.client.organizations_named(name)
        number = self._numbers.get(document.key) or number_of(document.key)
        ours = all(str(holder.get("external_id") or "").lower().startswith("wave:") for holder in holders)
        if not holders:
            # The search lags behind the check of the name: most likely we made the holder just now, for another customer.
            raise Transient(
                f"{error}; no search shows by whom yet",
                code="name_taken_unseen",
                words=error.words,
                not_before=datetime.now(UTC) + INDEX_LAG,
                unsent=True,
            ) from error
        if not ours:
            raise self._name_taken(document, holders, error)
        return mapping.suffixed(str(document.fields["name"]), number)

    def _name_taken(self, document: Document, holders: Sequence[Json], error: Rejected) -> Rejected:
        links = " ".join(f"{self.api.base_url}/agent/organizations/{holder.get('id')}" for holder in holders)
        advice = f"rename the customer in Wave or that organization in Zendesk, or set its external id to {document.key} to adopt it"
        return Rejected(f"{error}: {advice}", code="name_taken", words=f"{links} {error.words}".strip())

    def _write_record(self, document: Document, bound: Bound) -> Written:
        content = mapping.record_content(document, self._objects.get(document.kind, {}))
        try:
            saved = self._save_record(document, content, bound)
        except Rejected as error:
            organization = document.fields.get(ORGANIZATION_LOOKUP)
            if error.code == "invalid" and organization:
                self.client.require_organization(str(organization))
            raise
        return Written(saved.id, saved.created)

    def _save_record(self, document: Document, content: Json, bound: Bound) -> Saved:
        if bound.remote_id:
            with suppress(Missing):
                return self.client.update_record(document.kind, bound.remote_id, content)
        return self.client.upsert_record(document.kind, document.key, content)

    def _write_user(self, document: Document, bound: Bound) -> Written:
        return contacts.write(self.client, document, bound)

    # --- Looking up, removing, proving

    def find(self, document: Document, bound: Bound) -> list[str]:
        """Return the remote ids that carry the document's key."""
        if document.kind == ORGANIZATION:
            rows = self.client.organizations_keyed(document.key)
        elif document.kind == USER:
            rows = self.client.users_keyed(document.key)
        else:
            rows = self.client.records_keyed(document.kind, document.key)
        return [str(row["id"]) for row in rows]

    def remove(self, kind: str, bound: Bound) -> None:
        """Delete a record; organizations and users are never deleted."""
        if kind not in self.deletable:
            raise Rejected(f"{kind} is never deleted at Zendesk", code="not_deletable")
        if not bound.remote_id:
            return
        with suppress(Missing):
            self.client.delete_record(kind, bound.remote_id)

    def ping(self) -> list[Check]:
        """Prove who we are, that organizations can be read, and what the token was granted."""
        return ping.ping(self.client, self.plan)

    def provision(self, *, dry_run: bool) -> list[Step]:
        """Create the organization fields and custom objects that the route's mappings fill."""
        steps = provision.provision(self.client, self.plan, dry_run=dry_run)
        if not dry_run:
            self._forget()
        return steps


def _name_facts(bound: Bound, wanted: str) -> Json:
    """Return what we remember of a name that had to be changed, as long as the same one is wanted."""
    if bound.facts.get("wanted_name") != wanted:
        return {}
    return {"wanted_name": wanted, "written_name": bound.facts["written_name"]}
