"""The clock on the wall, on whatever machine this is: deliveries a second by clients, and from the event to the last write."""

import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import requests
from django.conf import settings
from django.db import connection

from audit.models import SyncJob
from audit.states import State
from integrations.bench import counts, ground
from integrations.bench.scale import Bench
from integrations.bench.site import Site, standing
from integrations.bench.tables import Cell, Table
from integrations.configuration import webhook_url
from integrations.demo import stage as stages
from integrations.sandbox.wave_webhooks import signed_headers

CLIENTS = (1, 10, 50)
SENT = {"stored": 300, "processed": 60}  # deliveries in all, shared by the clients
ALONE, PATIENCE = 20, 30.0  # deliveries one after the other; seconds


def run(bench: Bench) -> list[Table]:
    """Serve the site with its ordinary web server, send deliveries from this process, and tell what the clock says."""
    rates: list[tuple[Cell, ...]] = []
    delays: list[tuple[Cell, ...]] = []
    for mode, sent in SENT.items():
        with standing(bench.clock) as site, _served(bench, mode) as stage:
            url = webhook_url(site.source)
            rates.append((mode, *(_rate(site, url, clients, bench.most(sent)) for clients in CLIENTS)))
            _clear_work()
            stage.start("worker", [sys.executable, "manage.py", "worker"])
            _delay(site, url, "while it starts")
            delays.append((mode, *_delays(site, url, bench.most(ALONE))))
    columns = ("WEBHOOK_ACK", *(f"{number} client{'s' if number > 1 else ''}" for number in CLIENTS))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # KiB on Linux
    return [
        Table("rate", f"Deliveries acknowledged a second, on {connection.display_name}", columns, rates),
        Table("delay", "From a new invoice's event to the last of its writes, seconds", ("WEBHOOK_ACK", "median", "longest"), delays),
        Table("memory", "Largest process of web and workers meanwhile", ("what", "MiB"), [("peak memory", peak)]),
    ]


@contextmanager
def _served(bench: Bench, mode: str) -> Iterator[stages.Stage]:
    with patch.dict(os.environ, WEBHOOK_ACK=mode), stages.standing(ground.folder() or Path()) as stage:
        stage.start("web", bench.web(settings.PUBLIC_URL.removeprefix("http://")))
        stage.wait_for(f"{settings.PUBLIC_URL}/healthz")
        yield stage


def _rate(site: Site, url: str, clients: int, number: int) -> str:
    """Send so many deliveries, each of a new invoice; return how many were acknowledged with 200 in a second, and what was not."""
    bodies = [_new(site, f"{clients}-{place}") for place in range(number)]
    began = time.monotonic()
    with ThreadPoolExecutor(clients) as threads:
        answers = list(threads.map(lambda body: _send(url, body), bodies))
    rate, others = answers.count(200) / (time.monotonic() - began), number - answers.count(200)
    return f"{rate:.1f}" + (f" ({others} of {number} not)" if others else "")


def _new(site: Site, name: str) -> bytes:
    """Return the event of a new invoice of a new customer, without a person: Zendesk takes one of those a second."""
    customer = site.customer(f"Customer {name}", first_name="", last_name="", email="")
    return site.wave.event("invoice.created", invoice=site.invoice(customer, f"INV-{name}"))


def _send(url: str, body: bytes) -> int:
    """Return the status of the answer, 0 for none: Wave delivers such a one again."""
    headers = signed_headers(body, os.environ["WAVE_WEBHOOK_SECRET"])
    try:
        return requests.post(url, data=body, headers=headers, timeout=PATIENCE, allow_redirects=False).status_code
    except requests.RequestException:
        return 0


def _clear_work() -> None:
    """Leave no work of the deliveries before: the next ones are to be alone."""
    SyncJob.objects.filter(state=State.PENDING).delete()


def _delays(site: Site, url: str, number: int) -> tuple[float, float]:
    """Send deliveries one after the other, each when all is quiet; return the median and the longest delay in seconds."""
    found = [delay for place in range(number) if (delay := _delay(site, url, f"alone-{place}")) is not None]
    return (statistics.median(found), max(found)) if found else (float("nan"), float("nan"))


def _delay(site: Site, url: str, name: str) -> float | None:
    body = _new(site, name)
    mark, sent = site.mark(), site.clock.now()
    _send(url, body)
    end = time.monotonic() + PATIENCE
    while SyncJob.objects.filter(state__in=(State.PENDING, State.RUNNING)).exists() and time.monotonic() < end:
        time.sleep(0.02)
    written = [call.at for name in ("zendesk", "jira") for call in counts.writes(site.since(mark, name))]
    return (max(written) - sent).total_seconds() if written else None
