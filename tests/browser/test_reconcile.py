"""Reconciles in the browser: run one, see a disagreement, repair it with one click, see it gone."""

from collections.abc import Callable

from django.urls import reverse
from playwright.sync_api import Page, expect

from integrations import tasks
from integrations.models import Disagreement, Finding, Sweep
from tests.flows.test_reconcile import edit_record, records
from tests.flows.world import World

LogIn = Callable[[str], Page]
LIST = "admin:integrations_reconcile_changelist"


def run_one(page: Page, *, dry_run: bool) -> None:
    """Run one by its form, and let a worker carry it to its end."""
    page.goto(reverse(LIST))
    if dry_run:
        page.get_by_label("Dry run").check()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#content")).to_contain_text("Under way")
    tasks.reconcile()
    page.reload()
    expect(page.locator(".facts-line .badge-done")).to_be_visible()


def test_a_disagreement_is_seen_repaired_with_one_click_and_gone(world: World, log_in: LogIn) -> None:
    edit_record(world, "INV-1", due="119.99")
    page = log_in("Operator")
    run_one(page, dry_run=True)
    expect(page.locator("#money tbody")).to_contain_text("119.99")
    expect(page.locator("#findings tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Repair INV-1 on wave-to-zendesk").click()
    expect(page.locator(".messagelist")).to_contain_text("1 record will be read again and mended.")
    world.settle()
    assert records(world)["INV-1"]["due"] == "120.00"
    run_one(page, dry_run=False)
    expect(page.locator("#money")).to_contain_text("It agrees to the cent")
    expect(page.locator("#findings")).to_contain_text("Every destination holds every record as it should be.")


def test_its_pages_fit_a_phone_and_their_rows_are_reached_by_key(world: World, log_in: LogIn) -> None:
    page = log_in("Operator")
    run_one(page, dry_run=True)
    sweep, route = Sweep.objects.latest("pk"), world.route("zendesk")
    name = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft mbH & Co. KG"
    rows = [Finding(sweep=sweep, route=route, kind="invoice", key=f"k{n}", title=f"{name} {n}", reason="drifted") for n in range(120)]
    Finding.objects.bulk_create(rows)
    held = {"wave-to-zendesk": {"customer": "-1234567.89", "invoices": "1234567.88"}, "wave-to-jira": {"customer": "", "invoices": "0.10"}}
    for currency in ("CAD", "EUR", "USD"):
        shown = {"outstanding": "1234567.89", "open_sum": "1234567.89", "held": held, "mixed": True, "agrees": currency == "EUR"}
        Disagreement.objects.create(sweep=sweep, customer_key="c", title=name, currency=currency, invoices=["k1"], **shown)
    page.set_viewport_size({"width": 400, "height": 800})
    for address in (reverse(LIST), reverse("admin:integrations_reconcile_change", args=[sweep.pk])):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, address
    page.get_by_role("link", name="Next").click()
    expect(page.locator("#findings .turner")).to_contain_text("51 to 100 of 120")
    page.get_by_role("link", name="Previous").focus()
    assert page.evaluate("document.activeElement.textContent") == "Previous"
