"""All of history in bulk: nothing doubled, nothing forgotten, and next to no call too many."""

from collections.abc import Iterator

import pytest

from audit.models import SyncJob
from integrations.models import Binding
from tests.flows.backfilling import SET_UP, agrees, bring, settled, story, unhurried
from tests.flows.test_reconcile import issues, organizations, records
from tests.flows.world import NO_WRITES, World


@pytest.fixture(autouse=True)
def no_hurry(empty_world: World) -> Iterator[None]:
    """Let nobody wait."""
    with unhurried(empty_world):
        yield


def test_what_was_there_before_reaches_zendesk_in_bulk(world: World) -> None:
    world.zendesk.bulk_users = True
    story(world)
    with world.counting() as counted:
        sweep = bring(world, "zendesk")
    assert [call for call in counted.zendesk if call not in SET_UP] == [
        *("GET organization", "POST organization", "GET poll", "GET poll", "GET organization"),
        *("GET user", "POST user", "GET poll", "GET poll", "GET user"),
        *("POST wave_invoice jobs", "GET poll", "GET poll"),
    ]
    assert (sweep.figures["done"], sweep.figures["total"]) == (15, 15)
    assert {name: (row["wave_outstanding"], row["wave_open_count"]) for name, row in organizations(world).items()} == {
        f"Customer {number}": ("0.00", 0) for number in range(3)
    }
    assert len(records(world)) == 12
    assert set(SyncJob.objects.values_list("state", "result")) == {("succeeded", "created")}
    assert not Binding.objects.exclude(state="bound").exists()


def test_again_it_writes_nothing(world: World) -> None:
    story(world, paid=1)
    bring(world, "zendesk")
    bring(world, "jira")
    settled(world)
    before = world.zendesk.state(), world.jira.state()
    with world.counting() as counted:
        bring(world, "zendesk")
        bring(world, "jira")
        settled(world)
    assert counted.writes == NO_WRITES
    assert (world.zendesk.state(), world.jira.state()) == before


def test_paid_invoices_come_with_their_payments_and_statuses(world: World) -> None:
    story(world, customers=2, invoices=3, paid=2)
    bring(world, "zendesk")
    bring(world, "jira")
    settled(world)
    assert len(records(world, "wave_payment")) == 4
    assert organizations(world)["Customer 0"]["wave_outstanding"] == "200.00"
    assert sorted(issues(world).values()) == [("In Progress", 1, False)] * 4 + [("To Do", 0, False)] * 2
    agrees(world)


def test_what_was_there_before_reaches_jira_in_bulk(world: World) -> None:
    story(world, customers=2, invoices=60)
    with world.counting() as counted:
        bring(world, "jira")
    assert [call for call in counted.jira if call not in SET_UP] == ["POST search", "POST issue", "POST fetch", "POST issue", "POST issue"]
    assert len(issues(world)) == 120


@pytest.mark.parametrize("admin", [True, False])
def test_issues_that_exist_are_brought_up_to_date_without_a_mail_where_jira_allows_it(world: World, admin: bool) -> None:
    """Jira refuses a quiet edit by who is no administrator: it is made all the same, and the watchers are told."""
    world.jira.admin = admin
    story(world, customers=1, invoices=3)
    bring(world, "jira")
    settled(world)
    Binding.objects.all().delete()
    SyncJob.objects.all().delete()
    with world.counting() as counted:
        bring(world, "jira")
        settled(world)
    assert counted.jira.count("PUT issue") == 3
    assert len(world.jira.notified) == (0 if admin else 3)
    assert 403 not in {call.status for call in world.jira.calls}


def test_who_is_no_administrator_any_more_edits_all_the_same(world: World) -> None:
    story(world, customers=1, invoices=2)
    for _ in range(2):
        bring(world, "jira")
        settled(world)
        Binding.objects.all().delete()
        SyncJob.objects.all().delete()
    world.jira.admin = False
    bring(world, "jira")
    settled(world)
    assert [call.status for call in world.jira.calls].count(403) == 1
    assert len(world.jira.notified) == 2


def test_what_changes_now_tells_the_watchers(world: World) -> None:
    _, invoice = world.synced()
    world.wave.change_invoice(invoice, total="150.00")
    world.sync(invoice)
    assert len(world.jira.notified) == 1


def test_what_carries_our_keys_already_is_adopted(world: World) -> None:
    story(world)
    bring(world, "zendesk")
    bring(world, "jira")
    settled(world)
    before = [len(world.zendesk.state()["organizations"]), len(records(world)), len(issues(world))]
    Binding.objects.all().delete()
    SyncJob.objects.all().delete()
    bring(world, "zendesk")
    bring(world, "jira")
    settled(world)
    assert [len(world.zendesk.state()["organizations"]), len(records(world)), len(issues(world))] == before
    assert not Binding.objects.exclude(state="bound").exists()
