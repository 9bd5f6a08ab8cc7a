"""What a reconcile finds at the vendors themselves: worklogs, payments, fields and issues that people deleted or edited."""

from collections.abc import Callable

from audit import replay
from integrations import report
from tests.flows.test_reconcile import edit_record, found, issues, organizations, records, repaired, run, settled
from tests.flows.world import Setup, World


def test_a_deleted_worklog_and_a_deleted_payment_record_are_found_and_made_again(world: World) -> None:
    _, invoice = world.synced()
    world.wave.pay(invoice, "50.00")
    settled(world)
    [issue] = world.jira.issues.values()
    issue.worklogs.clear()
    [payments] = [entry for key, entry in world.zendesk.objects.rows.items() if key == "wave_payment"]
    payments.records.clear()
    told = run(world)
    assert found(told) == [("jira", "INV-1", "absent"), ("zendesk", "INV-1", "absent")]
    repaired(world)
    assert [count for _, count, _ in issues(world).values()] == [1]
    assert len(records(world, "wave_payment")) == 1
    assert report.agrees(run(world))


def test_a_deleted_issue_is_lost_and_a_forced_replay_makes_it_whole_again(world: World) -> None:
    _, invoice = world.synced()
    world.wave.pay(invoice, "120.00")
    settled(world)
    before = list(issues(world).values())
    world.jira.issues.clear()
    run(world)
    world.settle()
    assert (world.job("jira").state, world.job("jira").error_code) == ("dead", "lost")
    replay.replay([world.job("jira")], force=True)
    world.settle()
    assert list(issues(world).values()) == before  # where it stands, too: what is remembered of the old one says nothing of this


def test_a_cent_of_drift_in_a_zendesk_record_and_in_a_jira_issue_is_found_and_repaired(make_world: Callable[[Setup], World]) -> None:
    world = make_world(Setup())
    customer = world.customer()
    for number in range(3):
        world.invoice(customer, f"INV-{number}")
    settled(world)
    edit_record(world, "INV-1", due="120.01")
    issue = next(one for one in world.jira.issues.values() if "INV-2" in one.values["summary"])
    issue.values["summary"] = issue.values["summary"].replace("120.00", "119.99")
    told = run(world)
    assert found(told) == [("jira", "INV-2", "drifted"), ("zendesk", "INV-1", "drifted")]
    with world.counting() as counted:
        repaired(world)
    assert (len(counted.writes[0]), len(counted.writes[1])) == (1, 1)
    assert records(world)["INV-1"]["due"] == "120.00"
    assert report.agrees(run(world))


def test_where_the_plan_has_no_custom_objects_the_organizations_fields_are_compared(make_world: Callable[[Setup], World]) -> None:
    world = make_world(Setup(zendesk_options={"invoice_storage": "organization_fields"}))
    world.synced()
    settled(world)
    next(row for row in world.zendesk.organizations.rows.values() if row.name == "Northwind Bakery").values["wave_outstanding"] = "119.99"
    told = run(world)
    assert found(told) == [("zendesk", "Northwind Bakery", "drifted")]
    assert [one["held"]["wave-to-zendesk"]["customer"] for one in told["money"]] == ["119.99"]
    repaired(world)
    assert organizations(world)["Northwind Bakery"]["wave_outstanding"] == "120.00"
    assert report.agrees(run(world))


def test_customers_as_issues_are_compared_too(make_world: Callable[[Setup], World]) -> None:
    world = make_world(Setup(jira_kinds=("customer", "invoice", "payment"), jira_options={"customer_issue_type": "Task"}))
    world.synced()
    settled(world)
    assert report.agrees(run(world))
    issue = next(one for one in world.jira.issues.values() if "INV-1" not in one.values["summary"])
    issue.values["summary"] = "somebody's own words"
    assert found(run(world)) == [("jira", "Northwind Bakery", "drifted")]
    repaired(world)
    assert report.agrees(run(world))


def test_a_status_that_cannot_be_reached_is_asked_for_when_another_is_mapped_and_not_before(make_world: Callable[[Setup], World]) -> None:
    world = make_world(Setup(statuses={"SENT": "Awaiting approval"}))
    world.synced()
    settled(world)
    for _ in range(2):
        assert report.agrees(told := run(world)), told
    world.apply(Setup(statuses={"SENT": "In Progress"}))
    assert found(run(world)) == [("jira", "INV-1", "unbound")]
    repaired(world)
    assert [status for status, _, _ in issues(world).values()] == ["In Progress"]
    assert report.agrees(run(world))


def test_a_state_without_a_status_is_asked_for_when_one_is_mapped(make_world: Callable[[Setup], World]) -> None:
    world = make_world(Setup())
    _, invoice = world.synced()
    world.wave.change_invoice(invoice, status="DISPUTED")
    settled(world)
    assert world.job("jira").notes == ["status_unmapped"]
    assert report.agrees(told := run(world)), told
    world.apply(Setup(statuses={"DISPUTED": "Done"}))
    assert [one[0] for one in found(run(world))] == ["jira"]
    repaired(world)
    assert [status for status, _, _ in issues(world).values()] == ["Done"]


def test_the_new_name_of_a_customer_comes_to_paid_invoices_with_the_reconcile(make_world: Callable[[Setup], World]) -> None:
    world = make_world(Setup())
    customer, invoice = world.synced()
    world.wave.pay(invoice, "120.00")
    settled(world)
    world.wave.change_customer(customer, name="Southwind Bakery")
    settled(world)
    assert [one for one in issues(world) if "Southwind" in one] == [], "only open invoices are asked for at once"
    assert ("jira", "INV-1", "aged") in found(told := run(world)), told
    repaired(world)
    assert [one for one in issues(world) if "Southwind" not in one] == []
    assert report.agrees(run(world))


def test_an_organization_that_had_to_take_a_suffix_is_no_drift(world: World) -> None:
    for number in (1, 2):
        world.invoice(world.customer("Ada", email=f"ada{number}@example.com"), f"INV-{number}")
    settled(world)
    assert len({name for name in organizations(world) if name.startswith("Ada")}) == 2
    assert report.agrees(run(world))
