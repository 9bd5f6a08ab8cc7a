"""A dead vendor costs probes, not a call per job; a full one costs nothing, and is used to the last call."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import requests
import time_machine
from requests.structures import CaseInsensitiveDict

from audit import ledger, outages
from audit.models import Hold, SyncJob
from integrations import asking, breaker, limits, pipeline, polling, registry, systems
from integrations.core.documents import Document
from integrations.core.ports import Plan, Shape
from integrations.destinations.zendesk.refusals import refusal
from integrations.http import Answer, ApiClient
from integrations.models import Connection, Route
from tests.fakes import FakeDestination, FakeRemote, FakeWave

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
PATH = "/api/v2/organizations/1"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


@dataclass
class Vendor:
    """What answers on the wire: up, silent or in error, with a fixed window of calls where `limit` is set."""

    state: int | str = 200  # a status, "silent" or "html"
    limit: int = 0
    used: int = 0
    ends: datetime = NOON
    calls: list[tuple[datetime, int]] = field(default_factory=list)
    tells: bool = True
    wait: Callable[[], object] = lambda: None  # what happens while a call is under way

    def request(self, method: str, url: str, **more: Any) -> requests.Response:
        """Answer one request, as a session would."""
        if self.state == "silent":
            self.calls.append((datetime.now(UTC), 0))
            raise requests.ReadTimeout
        self.wait()
        response = requests.Response()
        response.status_code, response._content, response.headers = self._answer()
        self.calls.append((datetime.now(UTC), response.status_code))
        return response

    def _answer(self) -> tuple[int, bytes, CaseInsensitiveDict[str]]:
        if self.state == "html":
            return 200, b"<html>Down for maintenance</html>", CaseInsensitiveDict()
        if self.state != 200 or not self.limit:
            return int(self.state), b"{}", CaseInsensitiveDict()
        now = datetime.now(UTC)
        if now >= self.ends:
            self.used, self.ends = 0, now + timedelta(seconds=60)
        left = str(math.ceil((self.ends - now).total_seconds()))
        if self.used >= self.limit:
            return 429, b"Number of allowed API requests per minute exceeded", CaseInsensitiveDict({"Retry-After": left})
        self.used += 1
        told = {"x-rate-limit": str(self.limit), "x-rate-limit-remaining": str(self.limit - self.used)}
        headers = told | {"ratelimit-reset": left} if self.tells else told
        return 200, b"{}", CaseInsensitiveDict(headers)


Wire = dict[str, Vendor]


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch, zendesk: FakeRemote, jira: FakeRemote) -> Wire:
    """Let every write of both destinations cost one call on the wire; return who answers there, by system."""
    vendors = {"wave": Vendor(), "zendesk": Vendor(), "jira": Vendor()}
    sessions: dict[int, Vendor] = {}

    def session(connection_id: int) -> Vendor:
        if connection_id not in sessions:
            sessions[connection_id] = vendors[Connection.objects.get(pk=connection_id).system]
        return sessions[connection_id]

    def build(remote: FakeRemote, client: ApiClient, plan: Plan, shape: Shape) -> FakeDestination:
        remote.before_write = lambda document: send(client, document)
        return FakeDestination(remote, client, plan)

    monkeypatch.setattr(systems, "_session", session)
    for name, remote in (("zendesk", zendesk), ("jira", jira)):
        entry = replace(registry.DESTINATIONS[name], build=partial(build, remote))
        monkeypatch.setitem(registry.DESTINATIONS, name, entry)
    return vendors


def send(client: ApiClient, document: Document) -> None:
    answer = client.send("PUT", PATH)
    if not answer.ok or answer.data is None:
        raise refusal("PUT", PATH, answer)


@pytest.fixture
def to_zendesk(wave_connection: Callable[..., Connection], zendesk_route: Callable[..., Route]) -> Route:
    return zendesk_route(wave_connection(), kinds=("invoice",))


def ask(wave: FakeWave, route: Route, count: int, *, first: int = 1) -> None:
    """Make due jobs for so many invoices, each of a customer of its own."""
    asks = []
    for number in range(first, first + count):
        wave.put_customer(str(number))
        wave.put_invoice(str(number), customer=str(number))
        asks.append(asking.ask(route.source, route, "invoice", wave.key("invoice", str(number))))
    for start in range(0, count, 100):
        ledger.request(asks[start : start + 100])


def work(most: int = 10_000) -> int:
    """Run what is due, as workers would, and return how many groups were run."""
    done = 0
    while done < most and pipeline.run(started_by="worker"):
        done += 1
    return done


def states(route: Route) -> dict[str, int]:
    found: dict[str, int] = {}
    for state in SyncJob.objects.filter(route_id=route.pk, kind="invoice").values_list("state", flat=True):
        found[state] = found.get(state, 0) + 1
    return found


def failures(route: Route) -> int:
    return Connection.objects.values_list("failures", flat=True).get(pk=route.destination_id)


@pytest.mark.parametrize(
    ("answer", "down"),
    [
        (Answer(200, {}, ""), False),
        (Answer(204, None, ""), False),
        (Answer(200, None, "<html>"), True),
        (Answer(200, None, '{"cut'), True),
        (Answer(404, None, "<html>"), False),
        (Answer(401, None, ""), False),
        (Answer(429, None, "too many"), False),
        (Answer(500, {}, ""), True),
        (Answer(503, None, "<html>"), True),
    ],
)
def test_only_a_server_that_is_not_at_home_is_down(answer: Answer, down: bool) -> None:
    assert breaker.is_down(answer) == down


@pytest.mark.parametrize(("state", "calls"), [(503, 5), ("html", 5), ("silent", 3)])
def test_so_many_failures_in_a_row_open_it_and_nothing_more_is_called(
    wave: FakeWave, to_zendesk: Route, wire: Wire, state: int | str, calls: int
) -> None:
    ask(wave, to_zendesk, 20)
    wire["zendesk"].state = state
    assert (work(), len(wire["zendesk"].calls)) == (calls, calls)
    assert list(Hold.objects.values_list("scope", "reason", "until")) == [
        (f"connection:{to_zendesk.destination_id}", "vendor_down", NOON + timedelta(seconds=15))
    ]


@pytest.mark.parametrize("state", [200, 404, 422])
def test_any_other_answer_ends_the_row(to_zendesk: Route, wire: Wire, state: int) -> None:
    client = systems.client(to_zendesk.destination)
    for _ in range(3):
        wire["zendesk"].state = 500
        for _ in range(4):
            client.send("GET", PATH)
        wire["zendesk"].state = state
        client.send("GET", PATH)
    assert (failures(to_zendesk), Hold.objects.count()) == (0, 0)


def test_failures_of_all_workers_count_together(to_zendesk: Route, wire: Wire) -> None:
    wire["zendesk"].state = 500
    for _ in range(5):
        systems.client(Connection.objects.get(pk=to_zendesk.destination_id)).send("GET", PATH)
    assert Hold.objects.count() == 1


def test_a_persons_call_is_not_stopped_and_its_success_frees_everything(wave: FakeWave, to_zendesk: Route, wire: Wire) -> None:
    ask(wave, to_zendesk, 20)
    wire["zendesk"].state = 500
    work()
    client = systems.client(Connection.objects.get(pk=to_zendesk.destination_id))
    client.send("GET", PATH)
    assert Hold.objects.values_list("until", flat=True).get() == NOON + timedelta(seconds=15), "a ping in vain makes it no longer"
    wire["zendesk"].state = 200
    client.send("GET", PATH)
    assert (Hold.objects.count(), failures(to_zendesk)) == (0, 0)
    assert work() == 15, "the five that failed wait for their own time"


def test_a_healthy_connection_pays_no_statement_for_it(to_zendesk: Route, wire: Wire, django_assert_num_queries: Any) -> None:
    limiter = limits.gate_of(to_zendesk.destination)
    with django_assert_num_queries(0), limiter("GET", PATH) as tell:
        tell(Answer(200, {}, ""))


def test_a_sibling_that_was_not_tried_spends_no_try(wave: FakeWave, to_zendesk: Route, wire: Wire) -> None:
    wave.put_customer("1")
    wave.put_invoice("1", customer="1")
    key = {"customer_key": wave.key("customer", "1")}
    invoice = asking.ask(to_zendesk.source, to_zendesk, "invoice", wave.key("invoice", "1"), **key)
    customer = asking.ask(to_zendesk.source, to_zendesk, "customer", wave.key("customer", "1"), **key)
    ledger.request([invoice, customer])
    Connection.objects.filter(pk=to_zendesk.destination_id).update(failures=4)
    wire["zendesk"].state = 500
    assert (work(), len(wire["zendesk"].calls)) == (1, 1)
    assert sorted(SyncJob.objects.values_list("tries", flat=True)) == [0, 1]


def test_the_source_has_a_breaker_too_and_one_poll_may_be_its_probe(
    wave: FakeWave, to_zendesk: Route, wire: Wire, clock: time_machine.Traveller
) -> None:
    outages.begin(f"connection:{to_zendesk.source_id}")
    assert not polling.poll(to_zendesk.source)
    clock.shift(15)
    polling.poll(to_zendesk.source)
    assert len(wave.pages) == 1, "customers only: invoices wait for what comes of the probe"


def test_one_dead_account_leaves_the_others_95_percent_of_their_throughput(
    wave: FakeWave, to_zendesk: Route, jira_route: Callable[..., Route], wire: Wire
) -> None:
    to_jira = jira_route(to_zendesk.source)
    ask(wave, to_zendesk, 100)
    ask(wave, to_jira, 100, first=101)
    wire["zendesk"].state = "silent"
    groups = work()
    assert (states(to_jira), len(wire["jira"].calls)) == ({"succeeded": 100}, 100)
    assert 100 / groups >= 0.95
    assert len(wire["zendesk"].calls) == 3


@pytest.fixture
def slow(wire: Wire, clock: time_machine.Traveller) -> Vendor:
    """Let Zendesk take seven seconds for each call."""
    wire["zendesk"].wait = lambda: clock.shift(7)
    return wire["zendesk"]


def test_a_slow_account_has_one_worker_and_all_others_do_what_others_wait_for(
    wave: FakeWave, to_zendesk: Route, jira_route: Callable[..., Route], wire: Wire, slow: Vendor, clock: time_machine.Traveller
) -> None:
    to_jira = jira_route(to_zendesk.source)
    ask(wave, to_zendesk, 1)
    work()
    assert Hold.objects.values_list("reason", flat=True).get() == outages.SLOW
    ask(wave, to_zendesk, 20, first=2)
    ask(wave, to_jira, 20, first=101)

    def another_worker() -> None:
        slow.wait = lambda: clock.shift(7)
        assert work() == 20, "all of Jira's, and none of Zendesk's"

    slow.wait = another_worker
    assert pipeline.run(started_by="worker")
    assert states(to_jira) == {"succeeded": 20}
    assert states(to_zendesk) == {"succeeded": 2, "pending": 19}
    work()
    assert states(to_zendesk) == {"succeeded": 21}


def test_an_invoice_does_not_wait_at_one_account_for_the_other_that_is_slow(
    wave: FakeWave, to_zendesk: Route, jira_route: Callable[..., Route], wire: Wire, slow: Vendor, clock: time_machine.Traveller
) -> None:
    to_jira = jira_route(to_zendesk.source)
    ask(wave, to_zendesk, 1)
    work()
    ask(wave, to_zendesk, 5, first=2)
    ask(wave, to_jira, 5, first=2)

    def another_worker() -> None:
        slow.wait = lambda: clock.shift(7)
        work()
        assert states(to_jira) == {"succeeded": 4, "running": 1}
        assert states(to_zendesk) == {"succeeded": 1, "pending": 4, "running": 1}

    slow.wait = another_worker
    assert pipeline.run(started_by="worker")


def test_what_waits_for_a_slow_account_is_still_read_many_at_once(wave: FakeWave, to_zendesk: Route, slow: Vendor) -> None:
    ask(wave, to_zendesk, 1)
    work()
    ask(wave, to_zendesk, 5, first=2)
    pipeline.drain(started_by="worker", budget=60)
    assert (states(to_zendesk), [len(batch) for batch in wave.batches]) == ({"succeeded": 6}, [5])


def test_a_minute_without_a_slow_call_ends_it(wave: FakeWave, to_zendesk: Route, slow: Vendor, clock: time_machine.Traveller) -> None:
    ask(wave, to_zendesk, 1)
    work()
    slow.wait = lambda: None
    ask(wave, to_zendesk, 1, first=2)
    work()
    assert Hold.objects.exists(), "one fast call proves little"
    clock.shift(outages.CALM)
    ask(wave, to_zendesk, 1, first=3)
    work()
    assert (Hold.objects.count(), failures(to_zendesk)) == (0, 0)


def test_a_slow_account_that_falls_silent_is_down(wave: FakeWave, to_zendesk: Route, slow: Vendor) -> None:
    ask(wave, to_zendesk, 5)
    pipeline.run(started_by="worker")
    slow.state = "silent"
    work()
    assert Hold.objects.values_list("reason", flat=True).get() == outages.REASON


def test_bulk_calls_may_take_their_time(to_zendesk: Route, slow: Vendor) -> None:
    systems.destination(to_zendesk, lane=limits.BULK).client.send("GET", PATH)  # type: ignore[attr-defined]
    assert not Hold.objects.exists()


def next_probe(clock: time_machine.Traveller, route: Route) -> None:
    until = Hold.objects.values_list("until", flat=True).get(scope=f"connection:{route.destination_id}")
    assert until is not None
    clock.move_to(until)


def test_an_hours_outage_with_a_thousand_due_jobs_costs_23_calls(
    wave: FakeWave, to_zendesk: Route, wire: Wire, clock: time_machine.Traveller
) -> None:
    ask(wave, to_zendesk, 1000)
    wire["zendesk"].state = 503
    work()
    while datetime.now(UTC) < NOON + timedelta(hours=1):
        next_probe(clock, to_zendesk)
        assert work() == 1
    assert (len(wire["zendesk"].calls), len(wave.reads)) == (24, 24), "the last one after the hour"
    assert SyncJob.objects.filter(attempt_number=0, tries=0).count() >= 976, "what never ran has lost nothing"


def test_after_an_outage_what_is_due_drains_at_90_percent_of_the_quota_without_a_429(
    wave: FakeWave, to_zendesk: Route, wire: Wire, clock: time_machine.Traveller
) -> None:
    ask(wave, to_zendesk, 60)  # two writes each
    vendor = wire["zendesk"]
    vendor.state = 503
    work()
    vendor.state, vendor.limit = 200, 40
    next_probe(clock, to_zendesk)
    began, before = datetime.now(UTC), len(vendor.calls)
    while SyncJob.objects.filter(state="pending").exists() and datetime.now(UTC) < began + timedelta(minutes=5):
        work()
        clock.shift(timedelta(seconds=2))
    minutes = (datetime.now(UTC) - began).total_seconds() / 60
    after = [status for _, status in vendor.calls[before:]]
    assert (Counter(after), round(minutes)) == ({200: 120}, 2), "all 40 of each of three minutes"
    assert (states(to_zendesk), Hold.objects.filter(reason=outages.REASON).count()) == ({"succeeded": 60}, 0)
