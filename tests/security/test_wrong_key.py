"""With the wrong FERNET_KEYS nothing is lost: pages open, the error names the field, secrets stay as they are, jobs wait."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from cryptography.fernet import Fernet, MultiFernet
from django.apps import apps
from django.db import connection
from django.urls import reverse

from audit.models import SyncJob
from audit.states import State
from integrations.models import Connection, Credential, Delivery
from integrations.models.secrets import SecretTextField
from tests.flows.world import Setup, World
from tests.security.detector import as_bytes
from tests.security.pages import all_pages, superuser
from tests.security.test_canaries import printed

pytestmark = pytest.mark.django_db(transaction=True)

FIELDS = [field for model in apps.get_models() for field in model._meta.get_fields() if isinstance(field, SecretTextField)]
NAME = "integrations.Credential.secrets"


def lose_keys(monkeypatch: pytest.MonkeyPatch, fields: Sequence[Any] = FIELDS) -> None:
    """Let these fields know another key, as after a restore without the right .env; each has cached the old one."""
    for field in fields:
        monkeypatch.setattr(field, "fernet", MultiFernet([Fernet(Fernet.generate_key())]))


def stored() -> list[Any]:
    """Return every encrypted value as the database holds it."""
    with connection.cursor() as cursor:
        found: list[Any] = []
        for field in FIELDS:
            table = field.model._meta.db_table
            cursor.execute(f"SELECT {field.column} FROM {table} ORDER BY {field.model._meta.pk.column}")  # noqa: S608 - our own tables
            found += [(table, as_bytes(row[0])) for row in cursor.fetchall()]
    assert len(found) >= 4, "each account and the webhook has its secrets"
    return found


@pytest.fixture
def world(make_world: Callable[[Setup], World]) -> World:
    """Return a world in which an invoice is synced already."""
    made = make_world(Setup(oauth=True))
    made.synced()
    return made


def test_the_webhook_answers_503_and_stores_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Delivery.objects.count()
    lose_keys(monkeypatch)
    answer = world.deliver("invoice.updated", invoice=next(iter(world.wave.invoices)))
    assert (answer.status_code, answer["Retry-After"], Delivery.objects.count()) == (503, "60", known)


def test_every_page_opens_and_every_secret_stays_as_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stored()
    lose_keys(monkeypatch)
    client = superuser()
    statuses = {path: response.status_code for path, response in all_pages(client)}
    assert len(statuses) > 20
    assert {path: status for path, status in statuses.items() if status not in (200, 302, 405)} == {}
    pings = [client.post(reverse("admin:integrations_connection_ping", args=[row.pk])) for row in Connection.objects.all()]
    assert [NAME in answer.content.decode() for answer in pings] == [True, True, True]
    assert stored() == before


@pytest.mark.parametrize("command", [("ping",), ("provision",)])
def test_commands_name_the_field(world: World, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
    before = stored()
    lose_keys(monkeypatch)
    _, text = printed(*command)
    assert NAME in text.decode()
    assert stored() == before


def test_jobs_wait_until_the_right_key_is_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    invoice = next(iter(world.wave.invoices))
    world.wave.change_invoice(invoice, total="150.00")
    with monkeypatch.context() as wrong:
        lose_keys(wrong, [Credential._meta.get_field("secrets")])  # the webhook's own secret can be read
        assert world.deliver("invoice.updated", invoice=invoice).status_code == 503
        world.settle_later(minutes=20, rounds=8)
        assert not SyncJob.objects.filter(state__in=[State.DEAD, State.RUNNING]).exists()
        assert NAME in world.message(world.job("jira"))
    printed("ping")
    world.settle_later(minutes=20, rounds=2)
    assert not SyncJob.objects.exclude(state__in=[State.SUCCEEDED, State.SUPERSEDED]).exists()
    assert [issue["summary"] for issue in world.jira.state()["issues"].values()] == ["INV-1 Northwind Bakery: 150.00 USD"]
