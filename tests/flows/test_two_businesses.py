"""Two businesses share a Jira project: each route keeps to the records of its own."""

import json
from collections.abc import Callable, Iterator

import pytest

from audit.models import SyncJob
from integrations import asking, configuration, remapping, tasks
from integrations.models import Binding, Connection, Credential, Delivery
from tests.flows.backfilling import bring, unhurried
from tests.flows.test_jira_webhooks import MOVED, deliver, sent_of
from tests.flows.world import BUSINESS, Setup, World, key_of

OTHER_BUSINESS = "4f9a7c10-5c1e-4d0c-9c57-2f1d5e5a0002"
OTHER = f"""
[[connection]]
slug = "wave-other"
system = "wave"
auth = "token"
business_id = "{OTHER_BUSINESS}"
access_token = "env:WAVE_OTHER"

[[route]]
slug = "other-to-jira"
source = "wave-other"
destination = "jira-main"
kinds = ["invoice", "payment"]
options = {{project = "BILL"}}
"""


@pytest.fixture
def world(make_world: Callable[[Setup], World]) -> Iterator[World]:
    """Yield the world with a second business whose invoices go to the same project; nobody waits."""
    made = make_world(Setup(oauth=True))
    tasks.keep_webhooks()
    configuration.apply(OTHER, {"WAVE_OTHER": made.wave.add_token()})
    with unhurried(made):
        yield made


@pytest.fixture
def neighbour(world: World) -> str:
    """Return the key of the other business's invoice, whose issue is BILL-1."""
    business = world.wave.add_business("Birch Studio", business=OTHER_BUSINESS)
    key = key_of(world.invoice(world.wave.add_customer(business, "Fernhill"), "INV-B"))
    source = Connection.objects.get(slug="wave-other")
    asking.request(asking.asks_for(source, asking.routes_of(source), "invoice", key))
    world.settle()
    assert bound(key) == ["other-to-jira"]
    return key


def bound(key: str) -> list[str]:
    """Return the routes on which the issue of an invoice is bound."""
    return list(Binding.objects.filter(kind="issue", key=key).order_by("pk").values_list("route__slug", flat=True))


def asked_elsewhere(world: World) -> list[str]:
    """Return the keys of other businesses that our route has jobs for."""
    jobs = SyncJob.objects.filter(route_id=world.route("jira").pk).exclude(key__startswith=f"wave:{BUSINESS}:")
    return list(jobs.values_list("key", flat=True))


def misbind(world: World, key: str) -> None:
    """Let our route hold the other business's issue, as backfills did once."""
    known = Binding.objects.get(kind="issue", key=key)
    Binding.objects.create(route=world.route("jira"), kind="issue", key=key, remote_id=known.remote_id, state="in_doubt")


def labels(world: World) -> list[str]:
    """Return the labels of the other business's issue after the time of a second look."""
    world.settle()
    world.settle_later(minutes=6, rounds=2)
    found: list[str] = world.jira.state()["issues"]["BILL-1"]["labels"]
    return found


def unname(world: World) -> None:
    """Let our connection not say which business is its own: its grant reaches only one."""
    Connection.objects.filter(slug="wave-main").update(settings={"client_id": "wave-client"})
    grant = world.wave.add_grant(business=world.business)
    Credential.objects.filter(connections__slug="wave-main").update(secrets=json.dumps(grant))


@pytest.mark.parametrize("named", [True, False], ids=["named", "the only one granted"])
def test_a_backfill_adopts_only_what_is_its_own_business(world: World, neighbour: str, named: bool) -> None:
    ours = key_of(world.invoice(world.customer(), "INV-A"))
    bring(world, "jira")
    Binding.objects.filter(route=world.route("jira")).delete()
    if not named:
        unname(world)
    bring(world, "jira")
    assert (bound(neighbour), bound(ours)) == (["other-to-jira"], ["wave-to-jira"])
    assert (len(world.jira.state()["issues"]), asked_elsewhere(world)) == (2, []), "our own was adopted"


@pytest.mark.parametrize("named", [True, False], ids=["named", "the only one granted"])
def test_run_again_asks_for_nothing_of_another_business(world: World, neighbour: str, named: bool) -> None:
    world.sync(world.invoice(world.customer(), "INV-A"))
    misbind(world, neighbour)
    if not named:
        unname(world)
    assert remapping.run_again(world.route("jira"), ["invoice"]) == 1
    assert "wave-deleted" not in labels(world)
    assert asked_elsewhere(world) == []


def test_what_jira_says_of_an_issue_concerns_the_business_whose_it_is(world: World, neighbour: str) -> None:
    misbind(world, neighbour)
    assert deliver(sent_of(world, MOVED)).status_code == 200
    [delivery] = Delivery.objects.filter(connection__system="jira")
    [job] = SyncJob.objects.filter(pk__in=delivery.job_ids)
    assert (job.route_slug, job.key) == ("other-to-jira", neighbour)
    assert "wave-deleted" not in labels(world)
    assert asked_elsewhere(world) == []
