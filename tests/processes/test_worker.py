"""manage.py worker and gunicorn as processes: woken by rows, restarted, stopped, and killed between a webhook and its work."""

import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
import requests
from django.utils import timezone

from audit import ledger
from audit.models import Attempt, Heartbeat, SyncJob
from audit.states import State
from integrations import asking
from integrations.demo.stage import free_port
from integrations.management.commands.run import web
from integrations.models import Delivery
from tests.flows.world import WEBHOOK_SECRET, key_of
from tests.processes.site import Site, children, descendants, held, let_leases_end, let_looks_end, unbound, unsettled, until

PATIENCE = 120  # seconds, on a machine that is busy with other tests


def ask_quietly(site: Site, invoice: str, *, seconds: float) -> SyncJob:
    """Ask for an invoice's job at Jira, due in so many seconds, without waking anybody."""
    route = site.world.route("jira")
    due_at = timezone.now() + timedelta(seconds=seconds)
    asked = ledger.request([asking.ask(route.source, route, "invoice", key_of(invoice), due_at=due_at)])
    return asked.jobs[0]


def is_done(job: SyncJob) -> bool:
    return SyncJob.objects.filter(pk=job.pk, state=State.SUCCEEDED).exists()


def test_the_supervisor_wakes_workers_for_due_rows_restarts_a_killed_cluster_and_stops_on_sigterm(site: Site) -> None:
    Heartbeat.objects.all().delete()
    customer = site.world.customer()
    supervisor = site.manage("worker")
    until(lambda: Heartbeat.objects.filter(stopped=False).exists(), "a worker has beaten", seconds=PATIENCE)

    first = ask_quietly(site, site.world.invoice(customer, "INV-1"), seconds=1)
    until(lambda: is_done(first), "the row alone has woken a worker", seconds=PATIENCE)
    assert list(Attempt.objects.filter(job=first).values_list("started_by", flat=True)) == ["worker"]

    cluster = list(descendants(supervisor.pid))
    site.kill_all(cluster)
    second = ask_quietly(site, site.world.invoice(customer, "INV-2"), seconds=0)
    until(lambda: is_done(second), "a new cluster has done what fell due", seconds=PATIENCE)
    assert not set(cluster) & set(descendants(supervisor.pid))
    assert supervisor.poll() is None

    left = list(descendants(supervisor.pid))
    supervisor.terminate()
    assert supervisor.wait(PATIENCE) == 0
    assert site.alive(left) == []
    assert Heartbeat.objects.filter(stopped=True).exists(), "nobody waits for a machine that was stopped in good order"


# The supervisor, which takes a silence of seconds for one of minutes.
HASTY = """
import sys
from datetime import UTC, datetime, timedelta
import django
django.setup()
from django.core.management import execute_from_command_line
from integrations.management.commands import worker
worker.ASK_AFTER, worker.STALE_AFTER = 4.0, timedelta(seconds=20)
sys.argv = ["manage.py", "worker"]
execute_from_command_line(sys.argv)
"""


def beats(since: float) -> bool:
    return Heartbeat.objects.filter(stopped=False, beat_at__gt=datetime.fromtimestamp(since, UTC)).exists()


def test_of_a_cluster_that_hangs_since_an_idle_worker_was_killed_no_process_is_left(site: Site) -> None:
    Heartbeat.objects.all().delete()
    supervisor = site.start("worker", sys.executable, "-c", HASTY, WORKERS="1", DJANGO_SETTINGS_MODULE="connector_site.settings")
    until(lambda: Heartbeat.objects.exists(), "the worker has beaten", seconds=PATIENCE)
    time.sleep(0.5)  # it waits for a task, and holds the lock that the next one will wait for
    [cluster] = children(supervisor.pid)
    [sentinel] = children(cluster)
    idle = children(sentinel)[0]
    os.kill(idle, signal.SIGKILL)
    until(lambda: idle not in children(sentinel) and len(children(sentinel)) == 3, "another worker is there, and waits", seconds=PATIENCE)
    hung, killed_at = [cluster, *descendants(cluster)], time.time()
    until(lambda: children(supervisor.pid) not in ([cluster], []), "another cluster is there", seconds=PATIENCE)
    until(lambda: beats(killed_at + 1), "and it beats", seconds=PATIENCE)
    assert site.alive(hung) == []


@pytest.mark.parametrize("command", ["worker", "run"])
def test_ctrl_c_ends_the_cluster_in_good_order(site: Site, command: str) -> None:
    Heartbeat.objects.all().delete()
    bind = ("--bind", f"127.0.0.1:{free_port(0)}") if command == "run" else ()
    supervisor = site.start(command, sys.executable, "manage.py", command, *bind)
    until(lambda: Heartbeat.objects.exists(), "a worker has beaten", seconds=PATIENCE)
    below = list(descendants(supervisor.pid))
    os.killpg(supervisor.pid, signal.SIGINT)  # as a terminal does
    assert supervisor.wait(PATIENCE) == 0, site.log(command)
    assert site.alive(below) == []
    assert Heartbeat.objects.filter(stopped=True).exists()
    assert "has stopped" in site.log(command), "the cluster was not killed"


@pytest.fixture
def address(site: Site) -> str:
    """Start gunicorn in `stored` mode and return its address."""
    return start_web(site)


def start_web(site: Site) -> str:
    """Start the web server on a free port and wait until it answers."""
    bind = f"127.0.0.1:{free_port(0)}"
    site.start("web", *web(bind), WEBHOOK_ACK="stored")
    until(lambda: answers(f"http://{bind}/healthz"), "the web server answers", seconds=PATIENCE)
    return f"http://{bind}"


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


def deliver(site: Site, address: str, invoice: str) -> int:
    """Send a signed delivery to the web server and return its status."""
    path = f"/webhooks/wave/{site.world.connection('wave').uuid}/"
    body = site.world.wave.event("invoice.sent", invoice=invoice)
    return site.world.wave.deliver(address + path, body, WEBHOOK_SECRET).status_code


def test_kill_9_of_web_and_worker_between_acknowledgement_and_work_loses_nothing(site: Site, address: str) -> None:
    customer = site.world.customer()
    invoices = [site.world.invoice(customer, f"INV-{number}", total="10.00") for number in range(1, 5)]
    assert [deliver(site, address, invoice) for invoice in invoices] == [200] * 4
    site.kill(site.started[0])
    assert (Delivery.objects.count(), Attempt.objects.count()) == (4, 0), "only stored so far"

    worker = site.manage("worker")
    until(lambda: site.world.jira.state()["issues"], "the worker has begun", seconds=PATIENCE)
    site.kill(worker)
    let_leases_end()
    let_looks_end()

    site.manage("worker")
    until(lambda: not unsettled(), "a later worker has done everything", seconds=PATIENCE, shown=unsettled)
    issues: list[tuple[str, str, list[int]]] = [(f"INV-{number} Northwind Bakery: 10.00 USD", "In Progress", []) for number in range(1, 5)]
    found = held(site.world)
    assert {**found, "issues": sorted(found["issues"])} == {
        "organizations": [("Northwind Bakery", "40.00")],
        "users": ["ada@northwind.example"],
        "invoices": [("10.00", "SENT")] * 4,
        "payments": [],
        "issues": issues,
        "violations": [],
    }
    assert unbound() == []
