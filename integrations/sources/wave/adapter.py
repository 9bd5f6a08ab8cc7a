"""Wave as a source: its entry in the registry, and the reads that bring snapshots."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from integrations.core.errors import ConnectorError, Disconnected, Misconfigured, Rejected, Transient
from integrations.core.ports import Account, AuthKind, Check, Setting, System
from integrations.core.records import Changed, Listing, OpenInvoice, Snapshot
from integrations.core.zones import zone_of
from integrations.http import ApiClient
from integrations.sources.wave import mapping, queries
from integrations.sources.wave.client import WaveClient, nodes, unauthorized
from integrations.sources.wave.oauth import ACCESS, CONSENT, business_of
from integrations.sources.wave.places import places

__all__ = ["ACCESS", "CONSENT", "SYSTEM", "WaveSource", "business_of", "places", "unauthorized"]

T = TypeVar("T")
MOST_PAGES = 50  # of open invoices: 5,000

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
            raise Transient("POST graphql: the business cannot be found with this token", code="business_missing")
        return _parsed(lambda: self._snapshot(found, uuid, read_at, asked))

    def invoice_of_payment(self, payment: str) -> str:
        """Return the number of the invoice a payment belongs to, "" when there is no such payment."""
        uuid = self._business()
        found = self._client.invoice_of_payment(mapping.node_id(uuid), _node(uuid, "InvoicePayment", payment))
        return mapping.record_number(found, "Invoice")

    def changed_customers(self, after: datetime, page: int) -> Listing:
        """Return a page of the customers modified after a moment, the oldest change first; one request."""
        uuid = self._business()
        found = self._client.changed_customers(mapping.node_id(uuid), after.isoformat(), page)
        return _parsed(lambda: _listing(found, mapping.changed_customer, uuid))

    def changed_invoices(self, after: datetime, page: int) -> Listing:
        """Return a page of the invoices modified after a moment, the oldest change first; one request."""
        uuid = self._business()
        found = self._client.changed_invoices(mapping.node_id(uuid), after.isoformat(), page)
        return _parsed(lambda: _listing(found, mapping.changed_invoice, uuid))

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

    # -- reading ---------------------------------------------------------------------------------------------------------------------

    def _snapshot(self, found: dict[str, Any], uuid: str, read_at: datetime, asked: frozenset[str]) -> Snapshot:
        business = mapping.business(found, uuid, self.fallback_time_zone)
        return Snapshot(
            business=business,
            read_at=read_at,
            today=read_at.astimezone(zone_of(business.timezone)).date(),
            customer=_record(mapping.customer, found, "customer", asked, uuid),
            open_invoices=self._open_invoices(found, uuid),
            invoice=_record(mapping.invoice, found, "invoice", asked, uuid),
        )

    def _open_invoices(self, found: dict[str, Any], uuid: str) -> tuple[OpenInvoice, ...] | None:
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
            pages = self._client.open_invoices(mapping.node_id(uuid), str(customer["id"]), page)

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


def _record(read: Callable[[dict[str, Any], str], T], found: dict[str, Any], name: str, asked: frozenset[str], uuid: str) -> T | None:
    """Return a record that was asked for, None where Wave says null; an answer that leaves it out is no such word."""
    if name not in asked or found[name] is None:
        return None
    return read(found[name], uuid)


def _goes_on(page: dict[str, Any], lines: list[OpenInvoice]) -> bool:
    """Tell whether the next page may hold money due: the amounts fall, and this page has not reached 0."""
    if not lines or lines[-1].due.amount <= 0:
        return False
    return _has_more(page, len(lines))


def _has_more(page: dict[str, Any], lines: int) -> bool:
    """Tell whether another page follows; where Wave does not say, a full one is followed by another."""
    info = page.get("pageInfo") or {}
    if info.get("totalPages") is None:
        return lines >= queries.PAGE_SIZE
    return bool(info["currentPage"] < info["totalPages"])


def _listing(page: dict[str, Any] | None, read: Callable[[dict[str, Any], str], Changed], uuid: str) -> Listing:
    if page is None:
        raise Transient("POST graphql: the business came without a list", code="bad_answer")
    records = tuple(read(node, uuid) for node in nodes(page))
    return Listing(records, bool(records) and _has_more(page, len(records)))


def _parsed(read: Callable[[], T]) -> T:
    """Run the parsing; values in another form than the schema's are drift, and the record itself is not quoted."""
    try:
        return read()
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise Rejected(f"POST graphql: the answer has another form than ours ({type(error).__name__})", code="schema_drift") from None


def _checked(name: str, advice: str, ask: Callable[[], str | None]) -> Check:
    try:
        return Check(name, True, ask() or "")
    except Disconnected:
        return Check(name, False, Disconnected.code, "The grant is dead: press Connect again, or give a new token.")
    except (ConnectorError, Misconfigured) as error:
        return Check(name, False, str(error), "Try again later." if isinstance(error, Transient) else advice)
