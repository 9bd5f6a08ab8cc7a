"""Shared fixtures: accounts and routes as rows, signed webhook requests, fakes in the registry, no network."""

import hashlib
import hmac
import ipaddress
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from cryptography.fernet import Fernet

# Before anything reads them: fresh keys per run. Processes that a test starts, and pytest's own workers, inherit them.
os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe(50))
os.environ.setdefault("FERNET_KEYS", Fernet.generate_key().decode())

import pytest
from django.conf import settings as django_settings

from integrations import inbox, registry
from integrations.models import Connection, Credential, Intake, Route
from tests.fakes import FakeRemote, FakeWave

# pytest-django has loaded the settings before it comes to this file.
django_settings.SECRET_KEY = os.environ["SECRET_KEY"]
django_settings.FERNET_KEYS = os.environ["FERNET_KEYS"].split(",")
django_settings.AXES_ENABLED = False  # its own tests switch it on

BUSINESS = "4f9a7c10-5c1e-4d0c-9c57-2f1d5e5a0001"
WEBHOOK_SECRET = "the-webhook-secret-of-the-tests"


# --- Order --------------------------------------------------------------------------------------------------------

# Where single tests take long, or wait: begun first, so that no worker is left alone with them at the end.
SLOW = ("processes", "simulation", "browser", "flows", "security")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes long first; the order is else as it was."""
    items.sort(key=lambda item: next((place for place, name in enumerate(SLOW) if f"tests/{name}/" in item.nodeid), len(SLOW)))


# --- The network is off -------------------------------------------------------------------------------------------


class NetworkRefusedError(RuntimeError):
    """A test tried to leave this machine."""


def _is_here(host: Any) -> bool:
    name = host.decode() if isinstance(host, bytes) else str(host or "")
    try:
        return name in ("", "localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def network_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection and every look-up of a name except on loopback."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def checked(address: Any) -> Any:
        if isinstance(address, tuple) and not _is_here(address[0]):
            raise NetworkRefusedError(f"a test connects to {address[0]}: use a fake, responses, or the sandbox on 127.0.0.1")
        return address

    def looked_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        checked((host,))
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", lambda sock, address: connect(sock, checked(address)))
    monkeypatch.setattr(socket.socket, "connect_ex", lambda sock, address: connect_ex(sock, checked(address)))
    monkeypatch.setattr(socket, "getaddrinfo", looked_up)


# --- The database -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Put SQLite's test database on disk, as in production: in memory it is another engine, and no other process sees it."""
    database = django_settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        database["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")


# --- Rows ---------------------------------------------------------------------------------------------------------


def _connection(slug: str, system: str, auth: str, settings: dict[str, Any], secret: dict[str, str]) -> Connection:
    credential = Credential.objects.create(secrets=json.dumps(secret))
    return Connection.objects.create(
        slug=slug, system=system, auth=auth, settings=settings, credential=credential, status=Connection.Status.READY
    )


@pytest.fixture
def wave_connection() -> Callable[..., Connection]:
    """Return a maker of Wave connections with a webhook that knows WEBHOOK_SECRET."""

    def make(slug: str = "wave-main", *, business: str = BUSINESS, webhook_secrets: tuple[str, ...] = (WEBHOOK_SECRET,)) -> Connection:
        settings = {"business_id": business} if business else {}
        connection = _connection(slug, "wave", "token", settings, {"access_token": "wave-token"})
        Intake.objects.create(connection=connection, secrets=json.dumps(webhook_secrets))
        return connection

    return make


def _route(slug: str, source: Connection, destination: Connection, kinds: tuple[str, ...], options: dict[str, Any]) -> Route:
    return Route.objects.create(slug=slug, source=source, destination=destination, kinds=list(kinds), options=options)


@pytest.fixture
def zendesk_route() -> Callable[..., Route]:
    """Return a maker of routes from a Wave connection to a Zendesk account of its own."""

    def make(
        source: Connection, slug: str = "wave-to-zendesk", *, kinds: tuple[str, ...] = ("customer", "invoice", "payment"), **options: Any
    ) -> Route:
        settings = {"subdomain": slug, "email": "ops@example.com"}
        destination = _connection(f"{slug}-account", "zendesk", "api_token", settings, {"api_token": "zendesk-token"})
        return _route(slug, source, destination, kinds, options)

    return make


@pytest.fixture
def jira_route() -> Callable[..., Route]:
    """Return a maker of routes from a Wave connection to a Jira site of its own."""

    def make(
        source: Connection,
        slug: str = "wave-to-jira",
        *,
        kinds: tuple[str, ...] = ("invoice", "payment"),
        project: str = "BILL",
        **options: Any,
    ) -> Route:
        settings = {"site": slug, "email": "ops@example.com"}
        destination = _connection(f"{slug}-account", "jira", "api_token", settings, {"api_token": "jira-token"})
        return _route(slug, source, destination, kinds, {"project": project, **options})

    return make


# --- Webhooks -----------------------------------------------------------------------------------------------------


@pytest.fixture
def signed() -> Callable[..., dict[str, str]]:
    """Return a maker of Wave's signature header for a raw body; `at` is in Unix seconds."""

    def make(body: bytes, *, secret: str = WEBHOOK_SECRET, at: float | None = None) -> dict[str, str]:
        stamp = int(time.time() if at is None else at)
        digest = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
        return {"X-Wave-Signature": f"t={stamp},v1={digest}"}

    return make


@pytest.fixture
def no_counts() -> Iterator[None]:
    """Forget what was counted in memory, for rows of other tests had the same ids."""
    inbox._uncounted.clear()
    yield
    inbox._uncounted.clear()


# --- Fakes --------------------------------------------------------------------------------------------------------


@pytest.fixture
def wave(monkeypatch: pytest.MonkeyPatch) -> FakeWave:
    """Return an in-memory Wave that the registry builds its source from."""
    fake = FakeWave(BUSINESS)
    monkeypatch.setitem(registry.SOURCES, "wave", fake.entry(registry.SOURCES["wave"]))
    return fake


@pytest.fixture
def zendesk(monkeypatch: pytest.MonkeyPatch) -> FakeRemote:
    """Return an in-memory destination in Zendesk's place: it finds our key itself and sums invoices up."""
    fake = FakeRemote("zendesk", upsert=True, summarises=True)
    monkeypatch.setitem(registry.DESTINATIONS, "zendesk", fake.entry(registry.DESTINATIONS["zendesk"]))
    return fake


@pytest.fixture
def jira(monkeypatch: pytest.MonkeyPatch) -> FakeRemote:
    """Return an in-memory destination in Jira's place: creates are no upserts, look-ups lag, nothing is summed up."""
    fake = FakeRemote("jira", upsert=False, summarises=False)
    monkeypatch.setitem(registry.DESTINATIONS, "jira", fake.entry(registry.DESTINATIONS["jira"]))
    return fake
