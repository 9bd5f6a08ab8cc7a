"""Eight processes and a hundred expiries at each of three vendors: one token call per expiry, and no call is lost."""

import contextlib
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from integrations.models import Connection, Credential
from integrations.sandbox.server import Request, Response, StandIn
from tests.flows.world import Setup
from tests.processes.site import Site

PROCESSES, EXPIRIES = 8, 100
CALLS = EXPIRIES + 1  # of each process at each vendor
PATIENCE = 60  # seconds, on a machine that is busy with other tests


@contextlib.contextmanager
def short_lived(vendor: StandIn, expire: Callable[[str], Any]) -> Iterator[None]:
    """Let an access token end as soon as every process has used it once, until there were enough ends.

    The answers wait for that, so that all processes go on with a dead token at the same moment.
    """
    ordinary, met = vendor.handle, threading.Barrier(PROCESSES)
    ended: list[str] = []

    def handle(request: Request) -> Response:
        response = ordinary(request)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and response.status < 400 and "UNAUTHENTICATED" not in json.dumps(response.body):
            last = met.wait(PATIENCE) == 0
            if last and len(ended) < EXPIRIES:
                ended.append(token)
                expire(token)
            met.wait(PATIENCE)
        return response

    vendor.__dict__["handle"] = handle
    try:
        yield
    finally:
        met.abort()
        del vendor.__dict__["handle"]


def token_calls(vendor: StandIn) -> Counter[int]:
    """Return how often the token endpoint gave which status."""
    return Counter(call.status for call in vendor.calls if call.method == "POST" and "oauth" in call.path)


def called(site: Site) -> list[dict[str, Any]]:
    """Start the processes, wait for them, and return what each reports."""
    command = (sys.executable, "-m", "tests.processes.calling", str(PROCESSES), str(CALLS), str(site.folder))
    started = site.start("calling", *command, HTTP_TIMEOUT="30")  # answers wait for the slowest process
    assert started.wait(PATIENCE * 5) == 0, site.log("calling")
    assert site.log("calling") == ""
    return [json.loads((site.folder / f"{number}.json").read_text()) for number in range(PROCESSES)]


def test_each_expiry_costs_one_token_call_and_no_write_fails(site: Site) -> None:
    wave, zendesk, jira = site.world.wave, site.world.zendesk, site.world.jira
    site.world.reconnect(Setup(oauth=True))
    assert wave.grants.rotate_refresh is False  # Wave: no refresh token in the answer, the old one stays
    assert jira.omit_refresh_token is False  # Jira: it rotates, and the old one works for ten minutes more
    jira.writes_per_issue, zendesk.organization_limit = 0, False
    for vendor in (wave, zendesk, jira):
        vendor.calls.clear()
    assert _written(site) == {"organizations": [], "issues": []}

    def end_at_jira(token: str) -> None:
        del jira.grants.access[token]

    # Zendesk: each refresh kills the old pair.
    with short_lived(wave, wave.grants.expire), short_lived(zendesk, zendesk.tokens.expire), short_lived(jira, end_at_jira):
        told = called(site)

    assert told == [{"well": 3 * CALLS, "failed": []}] * PROCESSES
    assert [token_calls(vendor) for vendor in (wave, zendesk, jira)] == [{200: EXPIRIES}] * 3
    names = sorted(f"{number}-{count}" for number in range(PROCESSES) for count in range(CALLS))
    assert _written(site) == {"organizations": names, "issues": names}
    rows = Credential.objects.filter(connections__isnull=False).values_list("refresh_owner", "refresh_lease_until")
    assert set(rows) == {("", None)}
    assert set(Connection.objects.values_list("status", flat=True)) == {"ready"}


def _written(site: Site) -> dict[str, list[str]]:
    shown = site.world.zendesk.state()["organizations"]
    issues = site.world.jira.state()["issues"].values()
    return {"organizations": sorted(row["name"] for row in shown), "issues": sorted(row["summary"] for row in issues)}
