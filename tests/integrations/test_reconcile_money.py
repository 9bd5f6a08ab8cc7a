"""Money agrees to the cent: what Wave says, what the open invoices add up to, what each destination shows."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from audit.models import SyncJob
from integrations import repairing, report
from integrations.core.errors import Transient
from integrations.core.records import Money
from integrations.models import Connection, Disagreement, Route
from tests.admin.people import job_of
from tests.fakes import FakeRemote, FakeWave, euro
from tests.integrations.reconciling import LATER, begun, brought, found, run, turned, work

pytestmark = pytest.mark.django_db
Ready = tuple[FakeWave, FakeRemote, Route]


@pytest.fixture
def ready(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> Ready:
    """Two customers who owe 100 EUR twice and 100 EUR once, all at Zendesk."""
    for number, customer in (("1", "7"), ("2", "7"), ("3", "8")):
        wave.put_invoice(number, customer=customer)
    brought(wave, (to_zendesk, zendesk))
    return wave, zendesk, to_zendesk


def show(zendesk: FakeRemote, key: str, name: str, amount: str) -> None:
    """Let somebody edit an amount at Zendesk."""
    [item] = [one for one in zendesk.objects.values() if one.key == key]
    item.fields[name] = Decimal(amount)


def money(told: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return title, currency, whether it agrees, Wave's two sums and those of Zendesk."""
    names = ("title", "currency", "agrees", "outstanding", "open_sum")
    return [(*(one[name] for name in names), *one["held"]["wave-to-zendesk"].values()) for one in told["money"]]


def test_a_cent_less_in_one_record_is_found_and_shown(ready: Ready, source: Connection) -> None:
    wave, zendesk, _ = ready
    show(zendesk, wave.key("invoice", "2"), "due", "99.99")
    told = run(source)
    assert found(told) == [("zendesk", "INV-2", "drifted", ("due",))]
    assert money(told) == [("Customer 7", "EUR", False, "200.00", "200.00", "200.00", "199.99")]
    assert told["money"][0]["invoices"] == [wave.key("invoice", "2")]
    work()
    assert report.agrees(run(source))


def test_an_open_invoice_that_is_missing_there_is_named(ready: Ready, source: Connection) -> None:
    wave, zendesk, _ = ready
    [record] = zendesk.of_key("record", wave.key("invoice", "3"))
    del zendesk.objects[record]
    told = run(source)
    assert money(told) == [("Customer 8", "EUR", False, "100.00", "100.00", "100.00", "0")]
    assert told["money"][0]["invoices"] == [wave.key("invoice", "3")]


def test_where_no_mapping_shows_amounts_a_missing_invoice_is_no_difference_of_money(ready: Ready, source: Connection) -> None:
    wave, zendesk, _ = ready
    zendesk.shows_amounts = False
    [record] = zendesk.of_key("record", wave.key("invoice", "3"))
    del zendesk.objects[record]
    told = run(source)
    assert (found(told), money(told)) == ([("zendesk", "INV-3", "absent", ())], [])


def test_a_customers_balance_edited_by_hand_is_found(ready: Ready, source: Connection) -> None:
    wave, zendesk, _ = ready
    show(zendesk, wave.key("customer", "8"), "owed", "-100.00")
    assert money(run(source)) == [("Customer 8", "EUR", False, "100.00", "100.00", "-100.00", "100.00")]


def disagree(wave: FakeWave) -> None:
    """Let Wave's two answers about a customer differ."""
    wave.put_customer("8", outstanding=euro("100.01"), modified_at=LATER)


def test_where_wave_disagrees_with_itself_it_is_listed_once_a_second_read_confirms_it(ready: Ready, source: Connection) -> None:
    wave = ready[0]
    disagree(wave)
    told = run(source)
    assert [(one["title"], one["outstanding"], one["open_sum"]) for one in told["money"]] == [("Customer 8", "100.01", "100.00")]
    assert wave.batches == [[("", "8")]], "only who differs is read again"


def test_a_second_read_waits_for_a_free_slot(ready: Ready, source: Connection) -> None:
    wave = ready[0]
    disagree(wave)
    wave.failures = [Transient("no slot is free", code="limit", not_before=timezone.now(), counted=False, unsent=True)]
    told = run(source)
    assert (told["state"], [one["title"] for one in told["money"]]) == ("done", ["Customer 8"])
    assert [kind for kind, _, _ in wave.pages] == ["sweep invoice", "sweep customer"], "no page is asked for again"


def test_money_that_moved_between_two_pages_is_not_listed(ready: Ready, source: Connection) -> None:
    wave = ready[0]

    def pay() -> None:
        if wave.pages[-1][0] == "sweep invoice":
            wave.put_invoice("3", customer="8", due="40.00", modified_at=LATER)

    wave.after_page = pay
    assert run(source)["money"] == []


def test_a_customer_about_whom_a_job_waits_is_left_to_it(ready: Ready, source: Connection) -> None:
    wave, zendesk, route = ready
    show(zendesk, wave.key("invoice", "3"), "due", "1.00")
    job_of(route, 3, key=wave.key("invoice", "3"), customer_key=wave.key("customer", "8"), state="pending")
    assert run(source)["money"] == []


@pytest.mark.parametrize("state", ["pending", "blocked"])
def test_a_route_whose_own_job_waits_hides_the_money_of_no_other(
    ready: Ready, jira: FakeRemote, to_jira: Route, source: Connection, state: str
) -> None:
    wave, zendesk, _ = ready
    brought(wave, (to_jira, jira))
    show(zendesk, wave.key("customer", "8"), "owed", "1.00")
    for remote in (zendesk, jira):
        show(remote, wave.key("invoice", "3"), "due", "1.00")
    job_of(to_jira, 3, key=wave.key("invoice", "3"), customer_key=wave.key("customer", "8"), state=state)
    told = run(source)
    assert money(told) == [("Customer 8", "EUR", False, "100.00", "100.00", "1.00", "1.00")]
    assert (told["money"][0]["held"].keys(), told["money"][0]["invoices"]) == ({"wave-to-zendesk"}, [wave.key("invoice", "3")])


def test_mixed_currencies_are_listed_and_compared_invoice_by_invoice(ready: Ready, source: Connection) -> None:
    wave, zendesk, route = ready
    dollars = Money(Decimal("50.00"), "USD")
    for number in ("4", "5"):
        wave.put_invoice(number, customer="8", due="0.00")
        wave.invoices[number] = replace(wave.invoices[number], total=dollars, due=dollars)
    zendesk.objects.clear()
    route.bindings.all().delete()
    brought(wave, (route, zendesk))
    told = run(source)
    assert [(one["currency"], one["mixed"], one["agrees"], one["open_sum"]) for one in told["money"]] == [
        ("EUR", True, True, "100.00"),
        ("USD", True, True, "100.00"),
    ]
    assert (told["mixed"], told["disagreements"], report.agrees(told)) == (1, 0, True)
    show(zendesk, wave.key("invoice", "4"), "due", "50.01")
    told = run(source)
    assert [(one["currency"], one["agrees"], one["invoices"]) for one in told["money"]] == [
        ("EUR", True, []),
        ("USD", False, [wave.key("invoice", "4")]),
    ]


def test_a_page_that_is_read_twice_leaves_no_row_of_what_agrees_by_then(ready: Ready, source: Connection) -> None:
    wave, zendesk, _ = ready
    show(zendesk, wave.key("customer", "8"), "owed", "1.00")
    sweep = begun(source, dry_run=True)

    def twice() -> None:
        if wave.pages[-1][0] == "sweep customer" and not Disagreement.objects.exists():
            Disagreement.objects.create(sweep=sweep, customer_key=wave.key("customer", "7"), currency="EUR")

    wave.after_page = twice
    turned(sweep)
    assert [one["title"] for one in report.report(sweep)["money"]] == ["Customer 8"]


def test_the_repair_of_a_customers_money_writes_the_customer_and_what_differs(ready: Ready, source: Connection) -> None:
    wave, zendesk, _ = ready
    show(zendesk, wave.key("invoice", "2"), "due", "99.99")
    show(zendesk, wave.key("customer", "7"), "owed", "1.00")
    told = run(source, dry_run=True)
    assert (told["repairs"], SyncJob.objects.count()) == (0, 0)
    [row] = Disagreement.objects.all()
    assert repairing.states_of_money(row.sweep, [row]) == {row.pk: ""}
    assert repairing.repair_money(row) == 2
    assert repairing.states_of_money(row.sweep, [row]) == {row.pk: "pending"}
    work()
    assert repairing.states_of_money(row.sweep, [row]) == {row.pk: "succeeded"}
    assert [write.kind for write in zendesk.writes] == ["organization", "record"]
    assert report.agrees(run(source))


def test_what_a_destination_cannot_show_just_now_is_not_compared(ready: Ready, source: Connection) -> None:
    _, zendesk, _ = ready
    zendesk.unseen |= set(zendesk.objects)
    assert run(source)["money"] == []


# --- The show --------------------------------------------------------------------------------------------------------


def test_one_cent_in_one_of_a_thousand_records_is_found_at_both_ends_and_repaired(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route, source: Connection
) -> None:
    for number in range(1000):
        wave.put_invoice(str(number), customer=str(number % 100))
    brought(wave, (to_zendesk, zendesk), (to_jira, jira))
    show(zendesk, wave.key("invoice", "437"), "due", "100.01")
    show(jira, wave.key("invoice", "821"), "due", "99.99")
    told = run(source)
    assert told["records"] == {"customer": 100, "invoice": 1000}
    assert found(told) == [("jira", "INV-821", "drifted", ("due",)), ("zendesk", "INV-437", "drifted", ("due",))]
    assert [(one["title"], one["agrees"]) for one in told["money"]] == [("Customer 21", False), ("Customer 37", False)]
    work()
    told = run(source)
    assert (told["findings"], told["money"]) == ([], [])
    assert (len(zendesk.writes), len(jira.writes)) == (1, 1)
