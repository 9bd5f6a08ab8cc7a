"""A backfill's process is killed with SIGKILL while the vendor is at work; what goes on finishes it: no twin, no gap."""

import subprocess
import sys
from datetime import timedelta

import pytest
from django.utils import timezone

from integrations import backfill, bindings, tasks
from integrations.models import Binding, Sweep
from tests.flows.backfilling import settled
from tests.flows.world import NO_WRITES, Held
from tests.processes.site import Site, let_leases_end, unbound, until

CUSTOMERS, EACH = 30, 4
PATIENCE = 90  # seconds, on a machine that is busy with other tests


@pytest.fixture(autouse=True)
def quick_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a create in doubt be looked for within the test's patience."""
    monkeypatch.setattr(bindings, "LOOKUPS", (0.2, 0.4))


@pytest.fixture
def history(site: Site) -> Site:
    """Return a site with customers and invoices from before anybody listened, some of them paid in part."""
    world = site.world
    world.zendesk.bulk_users = True
    for number in range(CUSTOMERS):
        customer = world.customer(f"Customer {number}", email=f"c{number}@example.com")
        for place in range(EACH):
            invoice = world.invoice(customer, f"INV-{number}-{place}", total="10.00", sent=number < 2)
            if number == 0:
                world.wave.pay(invoice, "4.00")
    return site


def start(site: Site, system: str, *more: str) -> subprocess.Popen[bytes]:
    """Start the command that runs a backfill, with a short lease of its jobs."""
    return site.start("backfill", sys.executable, "manage.py", "backfill", f"wave-to-{system}", *more, JOB_LEASE="61")


def let_all_leases_end() -> int:
    """Let the sweep's and the jobs' leases have ended, as some minutes would; return how many jobs were being run."""
    Sweep.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    return let_leases_end()


def killed(site: Site, system: str, method: str, path: str, *more: str, after: str = "") -> None:
    """Kill a backfill's process while the answer to such a call is on its way."""
    with Held(site.world.stand_ins[system], method, path, answered=True, after=after) as held:
        process = start(site, system, *more)
        until(lambda: held.reached.is_set() or process.poll() is not None, f"{system} has carried out {method} {path}", seconds=PATIENCE)
        assert held.reached.is_set(), site.log("backfill")
        site.kill(process)
    assert let_all_leases_end() > 0, "it was killed with a batch in its hands"


def shown(site: Site, system: str) -> dict[str, list[str]]:
    """Return what the objects at a destination go by, kind by kind; payments by their invoice."""
    if system == "jira":
        rows = [(row["summary"].split(" ")[0], row["worklogs"]) for row in site.world.jira.state()["issues"].values()]
        return {"issues": sorted(name for name, _ in rows), "payments": sorted(name for name, worklogs in rows for _ in worklogs)}
    state = site.world.zendesk.state()
    records = {row["key"]: row["records"] for row in state["custom_objects"]}
    invoices = {row["id"]: row["name"] for row in records["wave_invoice"]}
    return {
        "organizations": sorted(row["name"] for row in state["organizations"]),
        "users": sorted(row["email"] for row in state["users"] if row["role"] == "end-user"),
        "invoices": sorted(invoices.values()),
        "payments": sorted(invoices[row["custom_object_fields"]["invoice"]] for row in records["wave_payment"]),
    }


def everything(system: str) -> dict[str, list[str]]:
    """Return what the history makes at a destination: each record once."""
    numbers = range(CUSTOMERS)
    invoices = sorted(f"INV-{number}-{place}" for number in numbers for place in range(EACH))
    payments = [f"INV-0-{place}" for place in range(EACH)]
    if system == "jira":
        return {"issues": invoices, "payments": payments}
    people = {"organizations": sorted(f"Customer {one}" for one in numbers), "users": sorted(f"c{one}@example.com" for one in numbers)}
    return {**people, "invoices": invoices, "payments": payments}


def finish(site: Site, system: str) -> Sweep:
    """Let the workers' schedule carry it on to its end, and the ordinary way what is left to it."""
    sweep = Sweep.objects.latest("pk")
    for _ in range(20):
        site.world.clock.shift(timedelta(minutes=1))
        tasks.backfill()
        sweep.refresh_from_db()
        if sweep.state != Sweep.State.RUNNING:
            break
    assert (sweep.state, sweep.problem) == ("done", "")
    settled(site.world)
    return sweep


def check_whole(site: Site, system: str) -> None:
    """Compare everything that stands, and let a second backfill prove that it stands for good."""
    assert shown(site, system) == everything(system)
    assert (unbound(), site.world.zendesk.violations, site.world.jira.violations) == ([], [], [])
    with site.world.counting() as counted:
        backfill.begin(site.world.route(system), started_by="test")
        finish(site, system)
    assert counted.writes == NO_WRITES, "what stands already is not written again"
    assert shown(site, system) == everything(system)


def test_zendesk_has_every_record_once_although_the_process_died_at_three_jobs(history: Site) -> None:
    killed(history, "zendesk", "POST", "/organizations/create_many")
    sweep = Sweep.objects.get()
    assert not sweep.options.get("bulk"), "the vendor has accepted the job, and nobody knows its id"
    assert not history.world.zendesk.state()["organizations"], "which the vendor has not begun"

    killed(history, "zendesk", "GET", "/job_statuses/", "--resume", after="/wave_invoice/jobs")
    sweep.refresh_from_db()
    assert sweep.options["bulk"]["kind"] == "wave_invoice", "the job is under way, and its id is kept"

    killed(history, "zendesk", "POST", "/wave_invoice/jobs", "--resume")
    sweep.refresh_from_db()
    assert (sweep.options["bulk"], len(shown(history, "zendesk")["invoices"])) == ({}, 100), "the second job, which nobody knows"
    assert finish(history, "zendesk").figures["passed"] == CUSTOMERS * (EACH + 1)
    check_whole(history, "zendesk")


def test_jira_has_every_issue_once_although_the_process_died_at_two_of_its_calls(history: Site) -> None:
    for count in (50, 100):
        killed(history, "jira", "POST", "/issue/bulk", *(("--resume",) if count > 50 else ()))
        assert len(shown(history, "jira")["issues"]) == count, "made, and nobody knows it"
        assert Binding.objects.filter(kind="issue", state="creating").count() == 50
    finish(history, "jira")
    check_whole(history, "jira")
