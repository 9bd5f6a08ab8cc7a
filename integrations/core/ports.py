"""What a source and a destination must offer, and what the product hands to them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Protocol

from integrations.core.documents import Bound, Bulk, Carried, Document, Observed, Written
from integrations.core.errors import ConnectorError
from integrations.core.records import Asked, Customer, Invoice, Listing, Snapshot, Swept


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One field mapping: the template fills the target field of what mirrors records of this kind.

    `remote` is the destination's own id for the field where that differs from `target` (Jira: customfield_10101).
    `problem` is the destination's reason for refusing the field; such a rule rests until provision clears it.
    """

    kind: str
    target: str
    template: str
    remote: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class StatusRule:
    """An invoice state and the status it means; `via` lists statuses that may be passed through on the way."""

    state: str
    status: str
    via: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A route as a value: what is wanted at the destination; `quiet`: nobody needs to be told, where the vendor lets us choose."""

    route: str
    kinds: tuple[str, ...]
    options: Mapping[str, Any]
    fields: tuple[FieldRule, ...]
    statuses: tuple[StatusRule, ...] = ()
    quiet: bool = False

    def rules(self, kind: str) -> list[FieldRule]:
        """Return the field rules for one kind of record that are not resting."""
        return [rule for rule in self.fields if rule.kind == kind and not rule.problem]


@dataclass(frozen=True, slots=True)
class Trace:
    """The audit trail that a synced record carries."""

    synced_at: datetime
    job_id: str


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a ping; `advice` says what to do when it failed."""

    name: str
    ok: bool
    detail: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a provision plan.

    change   exists | create | created | by_hand (the account may not: `detail` tells an admin exactly what to add)
    """

    what: str
    change: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FieldDefault:
    """A field mapping that every new route gets."""

    kind: str
    target: str
    template: str


class Shape(Protocol):
    """What is known of the account's own set-up (fields, workflow), remembered per route between runs."""

    def get(self, name: str) -> Any:
        """Return the remembered JSON value, or None when there is none or it is too old."""

    def ever(self, name: str) -> Any:
        """Return the remembered JSON value however old it is, or None."""

    def put(self, name: str, value: Any) -> None:
        """Remember a JSON value."""


class Source(Protocol):
    """A system that records are read from."""

    def read(self, *, invoice: str = "", customer: str = "") -> Snapshot:
        """Read the named invoice and/or customer (Wave numbers) as they are now, in one request.

        A record that does not exist is None in the snapshot. Raises ConnectorError.
        """

    def read_many(self, asked: Sequence[Asked]) -> list[Snapshot | ConnectorError]:
        """Read up to `READ_MOST` invoices and customers in one request; the results run parallel to what was asked.

        What fails for one record stands in its place; what fails for all is raised as ConnectorError.
        """

    def invoice_of_payment(self, payment: str) -> str:
        """Return the number of the invoice a payment belongs to, "" when there is no such payment."""

    def changed_customers(self, after: datetime, page: int) -> Listing:
        """Return a page (from 1) of the customers modified after a moment, the oldest change first. Raises ConnectorError."""

    def changed_invoices(self, after: datetime, page: int) -> Listing:
        """Return a page (from 1) of the invoices modified after a moment, the oldest change first. Raises ConnectorError."""

    def sweep_customers(self, after: datetime, page: int) -> Swept[Customer]:
        """Return whole customers as `changed_customers` does; one request."""

    def sweep_invoices(self, after: datetime, page: int) -> Swept[Invoice]:
        """Return whole invoices as `changed_invoices` does; their payments are left out, for lists have none."""

    def counts(self, after: datetime) -> Mapping[str, int]:
        """Return how many customers and invoices there are that were modified after a moment, by kind; one request."""

    def ping(self) -> list[Check]:
        """Prove the credentials against real resources; a failed check is returned, not raised."""


class Destination(Protocol):
    """A system that documents are written to. One object serves one route for one run."""

    children: frozenset[str]  # document kinds that are removed when their record has gone from its parent
    deletable: frozenset[str]  # document kinds that on_delete="delete" may delete
    notes: list[str]  # codes of what `documents` left undone on purpose, e.g. status_unmapped

    def prepare(self) -> None:
        """Learn what `documents` needs to know of the account, unless it is remembered. Calls only when it is not."""

    def documents(self, kind: str, snapshot: Snapshot, trace: Trace) -> Sequence[Document]:
        """Return what should exist for the snapshot's customer or invoice, parents first. Makes no calls.

        Raises Unmappable.
        """

    def stub(self, snapshot: Snapshot, trace: Trace) -> Document | None:
        """Return the least document of the invoice's customer (name and key), for when it has no binding yet."""

    def gone(self, kind: str, key: str, trace: Trace) -> Sequence[Document]:
        """Return what marks a record that no longer exists at the source; nothing when that is left alone."""

    def write(self, document: Document, bound: Bound) -> Written:
        """Create or replace one remote object. Every call sends all fields, empty ones as null. Raises ConnectorError."""

    def find(self, document: Document, bound: Bound) -> list[str]:
        """Return the remote ids that carry the document's key (only asked for documents without upsert)."""

    def remove(self, kind: str, bound: Bound) -> None:
        """Delete one child object; one that is gone already is no error."""

    # --- Many at once

    observes: Mapping[str, str]  # document kind -> the kind of object under which `observe` reads it (Jira: status -> issue)
    observe_most: int  # objects that one `observe` takes

    def observe(self, kind: str, wanted: Mapping[str, str]) -> Mapping[str, Observed]:
        """Read what remote objects of a kind hold, in one call: key -> remote id ("" where none is known) in, key -> what was seen out.

        What does not exist there is left out. Where ids are empty, objects are looked up by the key planted in them.
        """

    def drift(self, document: Document, seen: Observed) -> frozenset[str]:
        """Return the names of the document's fields that the remote object holds otherwise. Pure, tolerant of the vendor's own forms."""

    def shows_amount(self, kind: str) -> bool:
        """Return whether objects of this kind of document show what is due, as their mapping stands; `prepare` was called before."""

    def carrying(self, kind: str, page: str) -> Carried | None:
        """Return a page of all that carries our keys, the first one for ""; one call. None where objects are looked up by key in bulk.

        Raises Rejected for a page that the destination does not know any more.
        """

    def confirmed(self, document: Document, bound: Bound, seen: Observed) -> Written | None:
        """Return what to remember of an object that a bulk call was to write and that is seen to hold the document.

        None: more is to be found out, so it is written alone.
        """

    def bulk_calls(self, kind: str, count: int, refused: frozenset[str]) -> int:
        """Return how many calls it takes at most to bring so many new records of a kind, for people who are about to.

        `refused` are document kinds that the account does not take in bulk.
        """

    bulk_most: Mapping[str, int]  # document kinds that can be created in bulk -> documents that one call takes
    bulk_updates: frozenset[str]  # those of which what exists can be changed in bulk, too
    bulk_upserts: frozenset[str]  # those that a bulk call finds by their key itself, so that nobody needs to look before

    def start_bulk(self, kind: str, items: Sequence[tuple[Document, Bound]]) -> Bulk:
        """Write many documents of one kind in one call, all with a remote id or all without. Raises ConnectorError.

        Any refusal leads to single writes; Rejected `bulk_refused` says that the account may not, so that it is not tried again.
        Transient where it is not known what was done: then all are looked up before they are written again.
        """

    def follow_bulk(self, bulk: Bulk) -> Bulk:
        """Ask how a bulk call that the vendor carries out later stands. Raises Missing when the vendor knows nothing of it (any more)."""

    def ping(self) -> list[Check]:
        """Prove the credentials against real resources; a failed check is returned, not raised."""

    def provision(self, *, dry_run: bool) -> list[Step]:
        """Create the remote fields and objects that the route needs; safe to repeat."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value a connection or route of a system takes, with the rule it must keep."""

    name: str
    required: bool = False
    pattern: str = ""  # full match, case-sensitive
    choices: tuple[str, ...] = ()
    default: Any = None
    advice: str = ""
    of: type = str
    place: bool = False  # chooses where the account is, so it is fixed once records are bound


@dataclass(frozen=True, slots=True)
class AuthKind:
    """One way into a system: the account settings and the secrets it needs.

    advice    what a person should know before choosing it
    ends_on   the day from which the vendor takes it no more
    lives     how long a secret lasts at most, from the day it was made
    """

    name: str
    settings: tuple[Setting, ...] = ()
    secrets: tuple[str, ...] = ()  # required
    optional_secrets: tuple[str, ...] = ()
    advice: str = ""
    ends_on: date | None = None
    lives: timedelta | None = None


@dataclass(frozen=True, slots=True)
class System:
    """A system's entry in the registry: everything the product must know to offer it."""

    name: str
    label: str
    role: str  # source | destination
    auths: tuple[AuthKind, ...]
    options: tuple[Setting, ...] = ()  # of a route to this destination
    summarises: bool = False  # a destination that sums invoices up on the customer's document: an invoice asks for its customer
    defaults: tuple[FieldDefault, ...] = ()
    statuses: Mapping[str, str] = field(default_factory=dict)  # defaults; empty: the system has no workflow
    targets: Mapping[str, frozenset[str]] = field(default_factory=dict)  # fixed target names per kind, for hints

    def auth(self, name: str) -> AuthKind | None:
        """Return the way in of that name."""
        return next((kind for kind in self.auths if kind.name == name), None)


@dataclass(frozen=True, slots=True)
class Account:
    """A connection as a value: which way in, and the settings it needs. No secrets."""

    slug: str
    system: str
    auth: str
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TokenCall:
    """A request to a token endpoint; one of `form` and `json` is given. Its repr shows neither."""

    url: str
    form: Mapping[str, str] | None = field(default=None, repr=False)
    json: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Access:
    """How a system's ways in work, as pure functions; `urls` maps setting names (WAVE_GRAPHQL_URL ...) to their values.

    base_url      where the account's API is; raises Misconfigured for a subdomain, site or id that is no bare label
    headers       what proves who we are; raises Misconfigured when a secret is missing
    token_call    how to get a new access token, None when this way in has no such thing
    """

    base_url: Callable[[Account, Mapping[str, str]], str]
    headers: Callable[[Account, Mapping[str, Any]], dict[str, str]]
    token_call: Callable[[Account, Mapping[str, Any], Mapping[str, str]], TokenCall | None]


# --- Consent in the browser ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Going:
    """What goes along to the vendor's consent page. `challenge` is PKCE's S256 one, "" where the vendor takes none."""

    redirect_uri: str
    state: str
    challenge: str = ""


@dataclass(frozen=True, slots=True)
class Back:
    """What came back, with what proves that we asked. Its repr shows neither."""

    redirect_uri: str
    code: str = field(repr=False)
    verifier: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Revocation:
    """A request that ends a grant at the vendor. Its repr shows no token."""

    method: str
    url: str
    form: Mapping[str, str] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """What a grant reaches and one connection is for: a Wave business, a Jira site, a Zendesk account.

    id              lower case, compared when the connection is connected again
    settings        the connection's settings that choose it
    person          who granted, where another person would be another account ("" where that makes no difference)
    """

    id: str
    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    person: str = ""
    person_name: str = ""


@dataclass(frozen=True, slots=True)
class Consent:
    """How a person's consent is got in the browser, as pure functions; registered beside `Access`.

    authorize       the address of the consent page
    exchange        the request that turns the code into tokens
    revoke          the request that ends the grant, None where the vendor has none for what we hold
    scopes          the scopes that must be granted
    place           the id of the place that the settings choose, "" while they choose none
    place_word      what a place is called: business, site, account
    one_grant       the vendor keeps one grant per app and person, so that connections share one pair of tokens
    steps           what to do at the vendor before: words, and what to copy (redirect_uri | webhook_url | scopes | "")
    note            the vendor's plan or policy where it matters
    """

    authorize: Callable[[Account, Mapping[str, str], Going], str]
    exchange: Callable[[Account, Mapping[str, Any], Mapping[str, str], Back], TokenCall]
    revoke: Callable[[Account, Mapping[str, Any], Mapping[str, str]], Revocation | None]
    scopes: Callable[[Account], tuple[str, ...]]
    place: Callable[[Account], str]
    place_word: str
    pkce: bool = False
    one_grant: bool = False
    code_lives: str = "10 minutes"
    steps: tuple[tuple[str, str], ...] = ()
    note: str = ""
