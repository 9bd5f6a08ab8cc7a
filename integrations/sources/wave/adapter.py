"""Wave as a source: its entry in the registry, and the reads that bring snapshots."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeVar

from integrations.core.errors import ConnectorError, Disconnected, Misconfigured, Rejected, Transient
from integrations.core.ports import Account, AuthKind, Check, Setting, System
from integrations.core.records import (
    CUSTOMER,
    INVOICE,
    READ_MOST,
    Asked,
    Changed,
    Customer,
    Dated,
    Invoice,
    Listing,
    Snapshot,
    Swept,
    number_of,
)
from integrations.http import ApiClient
from integrations.sources.wave import mapping
from integrations.sources.wave.client import WaveClient
from integrations.sources.wave.graphql import unauthorized
from integrations.sources.wave.oauth import ACCESS, CONSENT, business_of
from integrations.sources.wave.pages import listing, parsed, pieced, previous, swept
from integrations.sources.wave.places import places
from integrations.sources.wave.snapshots import Reading

__all__ = ["ACCESS", "CONSENT", "SYSTEM", "WaveSource", "business_of", "places", "unauthorized"]

R = TypeVar("R", bound=Dated)

_BUSINESS_ID = Setting(
    "business_id",
    # A uuid, or base64 of "Business:<uuid>".
    pattern=r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|QnVzaW5lc3M6[A-Za-z0-9+/]{48}",
    advice="Give the business's GraphQL id (QnVzaW5lc3M6...) or its uuid; it may be left out while only one business is granted.",
    place=True,
)
_CLIENT_ID = Setting("client_id", required=True, advice="Copy the Client ID from Manage Applications in Wave's developer portal.")

SYSTEM = System(
    name="wave",
    label="Wave",
    role="source",
    auths=(
        AuthKind(
            "oauth",
            settings=(_CLIENT_ID, _BUSINESS_ID),
            secrets=("client_secret",),
            optional_secrets=("access_token", "refresh_token"),
            advice="Save client id and secret, then press Connect: Wave asks for your consent. Webhooks come this way only.",
        ),
        AuthKind(
            "token",
            settings=(_BUSINESS_ID,),
            secrets=("access_token",),
            advice=(
                "A full-access token from Wave's developer portal. Polling only: do not count on webhooks. It reaches every business of "
                "its user, has no scopes, and Wave means it for personal use."
            ),
        ),
    ),
)


@dataclass(slots=True)
class WaveSource:
    """Reads one business of a Wave account; it never writes."""

    api: ApiClient
    account: Account
    fallback_time_zone: str
    _granted: str = field(default="", init=False)

    @property
    def _client(self) -> WaveClient:
        return WaveClient(self.api)

    def read(self, *, invoice: str = "", customer: str = "") -> Snapshot:
        """Read the named invoice and/or customer in one request; more only for more than 100 invoices with money due."""
        uuid = self._business()
        wanted = {"invoice": _node(uuid, "Invoice", invoice), "customer": _node(uuid, "Customer", customer)}
        asked = frozenset(name for name, node in wanted.items() if node)
        # Taken before the request: the state is at least as new as this time says.
        read_at = datetime.now(UTC)
        found = self._client.business(mapping.node_id(uuid), **wanted)
        if found is None:
            raise _no_business()
        return Reading(self._client, uuid, read_at, self.fallback_time_zone).snapshot(found, asked)

    def read_many(self, asked: Sequence[Asked]) -> list[Snapshot | ConnectorError]:
        """Read up to READ_MOST invoices and customers in one request, each once even where several ask for it."""
        uuid = self._business()
        invoices, customers = _once(one.invoice for one in asked), _once(one.customer for one in asked)
        nodes = ([_node(uuid, "Invoice", one) for one in invoices], [_node(uuid, "Customer", one) for one in customers])
        read_at = datetime.now(UTC)
        found, failures = self._client.many(mapping.node_id(uuid), *nodes)
        if found is None:
            raise _no_business()
        reading = Reading(self._client, uuid, read_at, self.fallback_time_zone)
        places = [_names(one, invoices, customers) for one in asked]
        return [reading.part(found, failures, names) for names in places]

    def invoice_of_payment(self, payment: str) -> str:
        """Return the number of the invoice a payment belongs to, "" when there is no such payment."""
        uuid = self._business()
        found = self._client.invoice_of_payment(mapping.node_id(uuid), _node(uuid, "InvoicePayment", payment))
        return mapping.record_number(found, "Invoice")

    def changed_customers(self, after: datetime, page: int) -> Listing:
        """Return a page of the customers modified after a moment, the oldest change first; one request, two where a record fails."""
        uuid = self._business()
        found, failure = self._client.changed_customers(mapping.node_id(uuid), after.isoformat(), page)
        if failure is not None:
            return self._listed(CUSTOMER, after, page)
        return parsed(lambda: listing(found, CUSTOMER, mapping.changed_customer, uuid))

    def changed_invoices(self, after: datetime, page: int) -> Listing:
        """Return a page of the invoices modified after a moment, as `changed_customers`."""
        uuid = self._business()
        found, failure = self._client.changed_invoices(mapping.node_id(uuid), after.isoformat(), page)
        if failure is not None:
            return self._listed(INVOICE, after, page)
        return parsed(lambda: listing(found, INVOICE, mapping.changed_invoice, uuid))

    def _listed(self, kind: str, after: datetime, page: int) -> Listing:
        """Return a page of ids and times: what fails inside one record is found by the read of that record."""
        uuid = self._business()
        found = self._client.listed(kind, mapping.node_id(uuid), after.isoformat(), page)
        return parsed(lambda: listing(found, kind, lambda node, business: mapping.changed_record(node, kind, business), uuid))

    def sweep_customers(self, after: datetime, page: int) -> Swept[Customer]:
        """Return a page of whole customers modified after a moment, the oldest change first; one request."""
        uuid, read_at = self._business(), datetime.now(UTC)
        found, failure = self._client.sweep_customers(mapping.node_id(uuid), after.isoformat(), page)
        before = previous(found, page, CUSTOMER, uuid)
        if failure is not None:
            lines = self._listed(CUSTOMER, after, page)
            return self._read_apart(lines, failure, lambda line: Asked(customer=number_of(line.key)), lambda seen: seen.customer, before)
        zone = self.fallback_time_zone
        return parsed(lambda: swept(found, page, CUSTOMER, mapping.customer, uuid=uuid, read_at=read_at, fallback=zone))

    def sweep_invoices(self, after: datetime, page: int) -> Swept[Invoice]:
        """Return a page of whole invoices without their payments, as `sweep_customers`; one request."""
        uuid, read_at = self._business(), datetime.now(UTC)
        found, failure = self._client.sweep_invoices(mapping.node_id(uuid), after.isoformat(), page)
        before = previous(found, page, INVOICE, uuid)
        if failure is not None:
            lines = self._listed(INVOICE, after, page)
            return self._read_apart(lines, failure, lambda line: Asked(invoice=number_of(line.key)), _without_payments, before)
        zone = self.fallback_time_zone
        return parsed(lambda: swept(found, page, INVOICE, mapping.listed_invoice, uuid=uuid, read_at=read_at, fallback=zone))

    def _read_apart(
        self,
        listed: Listing,
        failure: ConnectorError,
        ask: Callable[[Changed], Asked],
        pick: Callable[[Snapshot], R | None],
        before: str | None,
    ) -> Swept[R]:
        """Return a page of which something fails at Wave, read in smaller parts: the schema lets one invoice take its page with it.

        Where nothing can be read, it is not the record's fault: the failure is raised.
        """
        asked = [ask(line) for line in listed.records]
        parts = [self.read_many(asked[start : start + READ_MOST]) for start in range(0, len(asked), READ_MOST)]
        reads = [read for part in parts for read in part]
        seen = next((read for read in reads if isinstance(read, Snapshot)), None)
        if seen is None:
            raise failure
        records, unreadable = pieced(listed.records, reads, pick)
        return Swept(tuple(records), listed.more, seen.business, seen.read_at, seen.today, (*unreadable, *listed.unreadable), before)

    def counts(self, after: datetime) -> Mapping[str, int]:
        """Return how many customers and invoices were modified after a moment, by kind; one request."""
        found = self._client.counts(mapping.node_id(self._business()), after.isoformat()) or {}
        lists = {CUSTOMER: "customers", INVOICE: "invoices"}
        return parsed(lambda: {kind: int(found[name]["pageInfo"]["totalCount"]) for kind, name in lists.items()})

    def ping(self) -> list[Check]:
        """Ask for the user, the business, a customer and an invoice; after a dead grant nothing more is asked."""
        checks = [self._check_user()]
        for check in (self._check_business, self._check_customers, self._check_invoices):
            if checks[-1].detail == Disconnected.code:
                break
            checks.append(check())
        return checks

    # -- which business --------------------------------------------------------------------------------------------------------------

    def _business(self) -> str:
        """Return the uuid of the configured business, else of the only one that is granted."""
        configured = self.account.settings.get("business_id", "")
        uuid = mapping.business_uuid(configured) if configured else self._granted or self._only_business()
        if not uuid:
            raise Rejected("business_id is neither a uuid nor a GraphQL id of a business", code="business_missing")
        self._granted = uuid
        return uuid

    def _only_business(self) -> str:
        found = [business for business in self._client.businesses() if not business.get("isArchived")]
        if len(found) != 1:
            raise Rejected(f"the token reaches {len(found)} businesses: set business_id to say which one", code="business_missing")
        return mapping.business_uuid(found[0].get("id"))

    # -- ping ------------------------------------------------------------------------------------------------------------------------

    def _check_user(self) -> Check:
        return _checked("user", "Grant user:read and press Connect again.", lambda: str(self._client.user().get("defaultEmail") or ""))

    def _check_business(self) -> Check:
        return _checked("business", "Set business_id to a business that the token reaches, or press Connect again.", self._named_business)

    def _check_customers(self) -> Check:
        advice = "Grant customer:read and press Connect again."
        return _checked("customers", advice, lambda: self._client.first_customer(mapping.node_id(self._business())))

    def _check_invoices(self) -> Check:
        advice = "Grant invoice:read and press Connect again."
        return _checked("invoices", advice, lambda: self._client.first_invoice(mapping.node_id(self._business())))

    def _named_business(self) -> str:
        uuid = self._business()
        found = next((node for node in self._client.businesses() if mapping.business_uuid(node.get("id")) == uuid), None)
        if found is None:
            raise Rejected("the token does not reach this business", code="business_missing")
        if found.get("isArchived"):
            raise Rejected("the business is archived", code="business_archived")
        return f"{found.get('name')} ({uuid})"


def _node(business: str, kind: str, number: str) -> str:
    return mapping.node_id(business, kind, number) if number else ""


def _without_payments(seen: Snapshot) -> Invoice | None:
    return replace(seen.invoice, payments=()) if seen.invoice else None


def _once(numbers: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(number for number in numbers if number))


def _names(one: Asked, invoices: Sequence[str], customers: Sequence[str]) -> dict[str, str]:
    """Return under which names of the batch the members of a single read stand."""
    names = {"invoice": f"i{invoices.index(one.invoice)}"} if one.invoice else {}
    if one.customer:
        place = customers.index(one.customer)
        names |= {"customer": f"c{place}", "openInvoices": f"o{place}"}
    return names


def _no_business() -> Transient:
    return Transient("POST graphql: the business cannot be found with this token", code="business_missing")


def _checked(name: str, advice: str, ask: Callable[[], str | None]) -> Check:
    try:
        return Check(name, True, ask() or "")
    except Disconnected:
        return Check(name, False, Disconnected.code, "The grant is dead: press Connect again, or give a new token.")
    except (ConnectorError, Misconfigured) as error:
        return Check(name, False, str(error), "Try again later." if isinstance(error, Transient) else advice)
