"""The three stand-ins with a configured connector between them, and the story that a test plays in it."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any, TypeVar

import time_machine
from django.core.management import call_command
from django.db import connections
from django.http import HttpResponseBase
from django.test import Client

from audit import trail
from audit.models import Attempt, Heartbeat, Hold, SyncJob
from integrations import configuration, systems, tasks
from integrations.models import Binding, Connection, Route
from integrations.sandbox.jira import SCOPES, Jira
from integrations.sandbox.server import Call, Request, Response, StandIn
from integrations.sandbox.wave import Wave
from integrations.sandbox.wave_ledger import split_id
from integrations.sandbox.zendesk import Zendesk
from tests.straight import straight

Result = TypeVar("Result")

BUSINESS = "4f9a7c10-5c1e-4d0c-9c57-2f1d5e5a0001"
WEBHOOK_SECRET = "the-webhook-secret-of-the-tests"
NOW = datetime(2026, 5, 4, 16, 0, tzinfo=UTC)  # noon in Toronto, where the business is
KINDS = {"Customer": "customer", "Invoice": "invoice", "InvoicePayment": "payment"}


def key_of(node: str) -> str:
    """Return the key that the record of a GraphQL id has in our words."""
    business, kind, number = split_id(node)
    return f"wave:{business}:{KINDS[kind]}:{number}"


def number_of(node: str) -> str:
    """Return the numeric part of a GraphQL id."""
    return split_id(node)[2]


def label_of(node: str) -> str:
    """Return the label of the issue that mirrors an invoice or customer."""
    prefix = {"Invoice": "wave-inv-", "Customer": "wave-cus-"}[split_id(node)[1]]
    return prefix + hashlib.sha256(key_of(node).encode()).hexdigest()[:20]


def marker_of(node: str) -> str:
    """Return the word by which a worklog shows its payment."""
    return "wave-pay-" + hashlib.sha256(key_of(node).encode()).hexdigest()[:20]


@dataclass(frozen=True, slots=True)
class Setup:
    """What a test's configuration file says beyond the ordinary; `oauth` takes the OAuth way into all three systems."""

    oauth: bool = False
    zendesk_options: Mapping[str, Any] = field(default_factory=dict)
    jira_options: Mapping[str, Any] = field(default_factory=dict)
    jira_kinds: tuple[str, ...] = ("invoice", "payment")
    statuses: Mapping[str, str] = field(default_factory=dict)
    zendesk_fields: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    jira_fields: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counted:
    """The calls that were made since a mark: `METHOD kind-of-path`, in their order."""

    wave: list[str]
    zendesk: list[str]
    jira: list[str]

    @property
    def writes(self) -> tuple[list[str], list[str]]:
        """What changed something at Zendesk and at Jira."""
        return _writes(self.zendesk), _writes(self.jira)


NO_WRITES: tuple[list[str], list[str]] = ([], [])


def _writes(calls: list[str]) -> list[str]:
    return [call for call in calls if not call.startswith("GET") and not any(word in call for word in ("search", "token", "fetch"))]


# The first row whose word is in the path names the call.
PLACES = (
    ("oauth", "token"),
    ("search", "search"),
    ("bulkfetch", "fetch"),
    ("organization_memberships", "membership"),
    ("organization_fields", "organization_fields"),
    ("/organizations", "organization"),
    ("/users", "user"),
    ("/job_statuses", "poll"),
    ("/custom_objects/wave_payment/jobs", "wave_payment jobs"),
    ("/custom_objects/wave_invoice/jobs", "wave_invoice jobs"),
    ("/custom_objects/wave_payment/records", "wave_payment"),
    ("/custom_objects/wave_invoice/records", "wave_invoice"),
    ("/custom_objects", "custom_objects"),
    ("/transitions", "transition"),
    ("/worklog", "worklog"),
    ("/comment", "comment"),
    ("/statuses", "statuses"),
    ("/configuration", "configuration"),
    ("/field", "fields"),
    ("/rest/api/3/issue", "issue"),
    ("/graphql/public", "read"),
)


def told(call: Call) -> str:
    """Return a call as method and what it was about."""
    place = next((name for part, name in PLACES if part in call.path), call.path)
    return f"{call.method} {place}"


@dataclass
class World:
    """Everything a flow needs: the stand-ins, the configured connector, the clock."""

    wave: Wave
    zendesk: Zendesk
    jira: Jira
    clock: time_machine.Traveller
    business: str = ""
    tokens: dict[str, str] = field(default_factory=dict)
    client: Client = field(default_factory=Client)
    baseline: dict[str, Any] = field(default_factory=dict)

    @property
    def stand_ins(self) -> dict[str, StandIn]:
        """The stand-ins by their names."""
        return {"wave": self.wave, "zendesk": self.zendesk, "jira": self.jira}

    # --- Setting up

    def configure(self, setup: Setup = Setup()) -> None:
        """Apply a configuration file, create what the routes need, and let a worker have lived for a day."""
        self.business = self.wave.add_business("Maple Consulting", timezone="America/Toronto", currency="USD", business=BUSINESS)
        self.apply(setup)
        self.provision()
        self.live_since(NOW - timedelta(days=1))
        self.baseline = {"fields": self.zendesk.state()["organization_fields"], "jira": self.jira.state()["fields"]}

    def apply(self, setup: Setup = Setup()) -> list[dict[str, Any]]:
        """Apply the configuration file; missing tokens are made first."""
        self.tokens = self.tokens or self._new_tokens(setup)
        return configuration.apply(_file(setup, self.tokens), self.tokens)

    def reconnect(self, setup: Setup) -> None:
        """Apply the file with new tokens, as after a new consent."""
        self.tokens = self._new_tokens(setup)
        self.apply(setup)

    def _new_tokens(self, setup: Setup) -> dict[str, str]:
        ordinary = {"ZENDESK_SECRET": self.zendesk.client_secret, "JIRA_TOKEN": self.jira.api_token, "WEBHOOK_SECRET": WEBHOOK_SECRET}
        if not setup.oauth:
            return ordinary | {"WAVE_ACCESS": self.wave.add_token()}
        wave, zendesk, jira = self.wave.add_grant(), self.zendesk.issue(), self.jira.grant(SETUP_SCOPES)
        access = {"WAVE_ACCESS": wave["access_token"], "ZENDESK_ACCESS": zendesk.access, "JIRA_ACCESS": jira["access_token"]}
        refresh = {"WAVE_REFRESH": wave["refresh_token"], "ZENDESK_REFRESH": zendesk.refresh or "", "JIRA_REFRESH": jira["refresh_token"]}
        return ordinary | access | refresh | {"WAVE_SECRET": self.wave.client_secret, "JIRA_SECRET": self.jira.client_secret}

    def provision(self) -> None:
        """Create the remote fields and objects."""
        with straight(self.stand_ins):
            call_command("provision", stdout=StringIO())

    def live_since(self, since: datetime) -> None:
        """Let the worker's heartbeat say that our memory is whole since then."""
        Heartbeat.objects.update_or_create(name="worker", defaults={"since": since, "beat_at": datetime.now(UTC)})

    # --- Rows

    def route(self, system: str) -> Route:
        """Return the route to a system."""
        return Route.objects.get(slug=f"wave-to-{system}")

    def connection(self, system: str) -> Connection:
        """Return a system's connection."""
        return Connection.objects.get(slug=f"{system}-main")

    def job(self, system: str, kind: str = "invoice") -> SyncJob:
        """Return the newest job of a kind on the route to a system."""
        return SyncJob.objects.filter(route_slug=f"wave-to-{system}", kind=kind).latest("created_at")

    def jobs(self) -> list[tuple[str, str, str, str]]:
        """Return route, kind, state and what came of it, for all jobs, the oldest first."""
        rows = SyncJob.objects.order_by("created_at", "route_slug", "kind")
        return [(job.system, job.kind, job.state, job.error_code or job.result) for job in rows]

    def binding(self, kind: str) -> Binding:
        """Return the only binding of a kind."""
        return Binding.objects.get(kind=kind)

    def message(self, job: SyncJob) -> str:
        """Return what the newest attempt of a job says."""
        return Attempt.objects.filter(job=job).latest("number").message

    # --- The story

    def customer(self, name: str = "Northwind Bakery", **details: Any) -> str:
        """Add the customer that most stories are about."""
        ordinary = {"first_name": "Ada", "last_name": "Miller", "email": "ada@northwind.example", "phone": "+1 416 555 0100"}
        return self.wave.add_customer(self.business, name, **{**ordinary, **details})

    def invoice(self, customer: str, number: str = "INV-1", *, total: str = "120.00", sent: bool = True, **details: Any) -> str:
        """Add an invoice, approved and sent unless it is to stay a draft."""
        invoice = self.wave.add_invoice(customer, number, total=total, **details)
        if sent:
            self.wave.approve(invoice)
            self.wave.send(invoice)
        return invoice

    def deliver(self, event: str, **about: Any) -> HttpResponseBase:
        """Post one signed delivery as Wave words it."""
        return self.post(self.wave.event(event, **about))

    def deliver_now(self, event: str, invoice: str) -> HttpResponseBase:
        """Post one signed delivery about an invoice, for threads."""
        return self.deliver(event, invoice=invoice)

    def post(self, body: bytes, client: Client | None = None) -> HttpResponseBase:
        """Post a signed body to the webhook."""
        signed = self.wave.signed_headers(body, WEBHOOK_SECRET)
        url = f"/webhooks/wave/{self.connection('wave').uuid}/"
        headers = {"x-wave-signature": signed["x-wave-signature"]}
        return (client or self.client).post(url, data=body, content_type="application/json", headers=headers)

    def settle(self) -> None:
        """Let a worker run what is due."""
        trail.beat()
        tasks.sync([])

    def settle_later(self, *, minutes: float = 2, rounds: int = 1) -> None:
        """Let time pass and a worker run what is due then, a few times."""
        for _ in range(rounds):
            self.clock.shift(timedelta(minutes=minutes))
            trail.beat()
            tasks.sweep()

    def sync(self, invoice: str) -> None:
        """Bring an invoice and its customer to both destinations by an ordinary delivery."""
        assert self.deliver("invoice.updated", invoice=invoice).status_code == 200
        self.settle()

    def synced(self, **details: Any) -> tuple[str, str]:
        """Return a customer and an invoice that both destinations hold already."""
        customer = self.customer()
        invoice = self.invoice(customer, **details)
        self.sync(invoice)
        return customer, invoice

    # --- Counting

    @contextmanager
    def counting(self) -> Iterator[Counted]:
        """Yield what will hold the calls that the block makes."""
        counted = Counted([], [], [])
        marks = {name: len(one.calls) for name, one in self.stand_ins.items()}
        try:
            yield counted
        finally:
            for name, mark in marks.items():
                getattr(counted, name).extend(told(call) for call in self.stand_ins[name].calls[mark:])

    def holds(self) -> list[tuple[str, str]]:
        """Return scope and reason of what is held."""
        return list(Hold.objects.order_by("scope").values_list("scope", "reason"))


@dataclass
class Held:
    """The first matching request to a stand-in, held up until the test lets it go on.

    `answered` says where: before the stand-in looks at it, or after that, with the answer on its way back.
    `after` lets pass what comes before a call to such a path.
    """

    stand_in: StandIn
    method: str
    path: str
    answered: bool = False
    after: str = ""
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Held":
        ordinary = self.stand_in.handle

        def handle(request: Request) -> Response:
            mine = not self.reached.is_set() and request.method == self.method and self.path in request.path
            if not mine or (self.after and not any(self.after in call.path for call in self.stand_in.calls)):
                return ordinary(request)
            self.reached.set()
            if not self.answered:
                self.released.wait(PATIENCE)
            response = ordinary(request)
            if self.answered:
                self.released.wait(PATIENCE)
            return response

        self.stand_in.__dict__["handle"] = handle
        return self

    def __exit__(self, *exc: object) -> None:
        del self.stand_in.__dict__["handle"]
        self.released.set()

    def wait(self) -> None:
        """Wait until the request has come as far as it may."""
        assert self.reached.wait(PATIENCE)


PATIENCE = 25  # seconds
SETUP_SCOPES = (*SCOPES, "manage:jira-configuration", "manage:jira-project")


class Apart(ThreadPoolExecutor):
    """Threads that give their sockets and database connections back after each piece of work."""

    def __init__(self) -> None:
        super().__init__(max_workers=64)

    def run(self, work: Callable[..., Result], *args: Any) -> Future[Result]:
        """Run it in a thread of its own."""
        return self.submit(_cleanly, work, *args)


def _cleanly(work: Callable[..., Result], *args: Any) -> Result:
    try:
        return work(*args)
    finally:
        close_sessions()
        connections.close_all()


def wait_until(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def close_sessions() -> None:
    """Close this thread's sockets to stand-ins that are gone."""
    sessions = systems._sessions.__dict__.pop("by_connection", {})
    for session in sessions.values():
        session.close()


# --- The configuration file ---------------------------------------------------------------------------------------


def _file(setup: Setup, tokens: Mapping[str, str]) -> str:
    accounts = [_wave(oauth=setup.oauth), _zendesk(oauth=setup.oauth), _jira(oauth=setup.oauth)]
    options = {"zendesk": setup.zendesk_options, "jira": {"project": "BILL", **setup.jira_options}}
    kinds = {"zendesk": ("customer", "invoice", "payment"), "jira": setup.jira_kinds}
    fields = {"zendesk": setup.zendesk_fields, "jira": setup.jira_fields}
    statuses = {"zendesk": {}, "jira": setup.statuses}
    routes = [
        {
            "slug": f"wave-to-{name}",
            "source": "wave-main",
            "destination": f"{name}-main",
            "kinds": list(kinds[name]),
            "options": options[name],
            "statuses": statuses[name],
            "fields": fields[name],
        }
        for name in ("zendesk", "jira")
    ]
    return "".join([*(_table("connection", one) for one in accounts), *(_table("route", one) for one in routes)])


def _wave(*, oauth: bool) -> dict[str, Any]:
    way: dict[str, Any] = {"auth": "token"}
    if oauth:
        way = {"auth": "oauth", "client_id": "wave-client", "client_secret": "env:WAVE_SECRET", "refresh_token": "env:WAVE_REFRESH"}
    shared = {"business_id": BUSINESS, "access_token": "env:WAVE_ACCESS", "webhook_secrets": ["env:WEBHOOK_SECRET"]}
    return {"slug": "wave-main", "system": "wave", **way, **shared}


def _zendesk(*, oauth: bool) -> dict[str, Any]:
    way = {"auth": "oauth", "access_token": "env:ZENDESK_ACCESS", "refresh_token": "env:ZENDESK_REFRESH"}
    shared = {"subdomain": "acme", "client_id": "sandbox-client", "client_secret": "env:ZENDESK_SECRET"}
    return {"slug": "zendesk-main", "system": "zendesk", **(way if oauth else {"auth": "client_credentials"}), **shared}


def _jira(*, oauth: bool) -> dict[str, Any]:
    if not oauth:
        way = {"auth": "api_token", "site": "acme", "email": "ops@example.com", "api_token": "env:JIRA_TOKEN"}
    else:
        way = {"auth": "oauth", "cloud_id": "11111111-2222-4333-8444-555555555555", "client_id": "jira-client"}
        way |= {"client_secret": "env:JIRA_SECRET", "access_token": "env:JIRA_ACCESS", "refresh_token": "env:JIRA_REFRESH"}
    return {"slug": "jira-main", "system": "jira", **way}


def _table(name: str, values: Mapping[str, Any]) -> str:
    """Write a table as TOML; its scalar values are JSON, which is TOML too, and tables are written inline."""
    lines = [f"{key} = {_inline(value)}" for key, value in values.items()]
    return "\n".join([f"[[{name}]]", *lines, "", ""])


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)
