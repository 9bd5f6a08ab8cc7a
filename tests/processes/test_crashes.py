"""A worker is killed with SIGKILL at every stage of its work; the next one finishes: nothing doubled, nothing lost."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from audit import ledger, replay
from audit.models import Attempt, SyncJob
from integrations import bindings, pipeline
from integrations.sandbox.server import Request, Response, StandIn
from tests.processes.crashing import REACHED
from tests.processes.site import Site, held, unbound, unsettled, until, writes_recorded, writes_seen

EXPECTED = {
    "organizations": [("Northwind Bakery", "70.00")],
    "users": ["ada@northwind.example"],
    "invoices": [("120.00", "PARTIAL")],
    "payments": [("50.00",)],
    "issues": [("INV-1 Northwind Bakery: 120.00 USD", "In Progress", [60])],
    "violations": [],
}
POINTS = [
    ("claimed", ""),
    ("read", ""),
    ("intended", "organization"),
    ("written", "wave_payment"),
    ("intended", "issue"),
    ("written", "issue"),
    ("written", "worklog"),
    ("settling", ""),
]
COMMITTED = [("zendesk", "PATCH", "/wave_invoice/records"), ("jira", "POST", "/rest/api/3/issue")]


@pytest.fixture(autouse=True)
def quick_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a create in doubt be looked for within the test's patience."""
    monkeypatch.setattr(bindings, "LOOKUPS", (0.2, 0.4))


@pytest.fixture
def asked(site: Site) -> Site:
    """Return a site with a partly paid invoice that was asked for on both routes and is not there yet."""
    invoice = site.world.invoice(site.world.customer())
    site.world.wave.pay(invoice, "50.00")
    site.ask_for(invoice)
    return site


def start(site: Site, *point: str) -> None:
    """Start a worker with a short lease that will stop at the point."""
    site.start("crashing", sys.executable, "-m", "tests.processes.crashing", *point, JOB_LEASE="1")


def finish() -> None:
    """Work like the next worker until every job has come to an end."""

    def worked() -> bool:
        ledger.reclaim()
        pipeline.drain(started_by="worker", budget=10)
        return not unsettled()

    until(worked, "all jobs succeeded")


def check_whole(site: Site) -> None:
    """Compare everything that stands after the repair, and let a replay prove that it stands for good."""
    zendesk, jira = site.world.zendesk, site.world.jira
    assert held(site.world) == EXPECTED
    assert unbound() == []
    assert writes_recorded() == writes_seen(zendesk, jira)
    before = writes_seen(zendesk, jira)
    replay.replay(SyncJob.objects.order_by("created_at"))
    finish()
    assert writes_seen(zendesk, jira) == before, "what stands already is not written again"


@pytest.mark.parametrize(("point", "kind"), POINTS, ids=lambda part: str(part) or "-")
def test_the_next_worker_finishes_what_a_killed_one_began(asked: Site, point: str, kind: str) -> None:
    start(asked, point, kind)
    until(lambda: REACHED in asked.log("crashing"), f"the worker is at {point} {kind}")
    asked.kill(asked.started[0])
    finish()
    check_whole(asked)
    assert "lost" in set(Attempt.objects.values_list("ending", flat=True)), "the attempt of the killed worker is closed as lost"


@contextmanager
def stopping(vendor: StandIn, method: str, path: str) -> Iterator[threading.Event]:
    """Let a vendor carry out such a request and answer it only at the end; the event says that it came so far."""
    committed, over, original = threading.Event(), threading.Event(), vendor.handle

    def handle(request: Request) -> Response:
        response = original(request)
        if request.method == method and request.path.endswith(path) and not committed.is_set():
            committed.set()
            over.wait(30)
        return response

    vendor.handle = handle  # type: ignore[method-assign]
    try:
        yield committed
    finally:
        over.set()
        vendor.handle = original  # type: ignore[method-assign]


@pytest.mark.parametrize(("system", "method", "path"), COMMITTED)
def test_what_a_vendor_committed_for_a_killed_worker_is_found_again(asked: Site, system: str, method: str, path: str) -> None:
    vendor: StandIn = getattr(asked.world, system)
    with stopping(vendor, method, path) as committed:
        start(asked, "none")
        until(committed.is_set, f"{system} has carried out {method} ...{path}")
        asked.kill(asked.started[0])
    finish()
    check_whole(asked)
