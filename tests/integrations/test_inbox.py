import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection as database
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit import holds, ledger
from audit.models import SyncJob
from audit.states import State
from integrations import asking
from integrations.core.errors import Disconnected, Rejected, Transient, Unmappable
from integrations.models import Connection, Delivery, Intake, Route
from tests.fakes import FakeRemote, FakeWave, Fault

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_counts")]

Maker = Callable[..., Any]
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
OTHER_BUSINESS = "5f9a7c10-5c1e-4d0c-9c57-2f1d5e5a0002"


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def event(event_type: str = "invoice.paid", *, event_id: str = "e-1", business: str = "", **data: str) -> bytes:
    payload: dict[str, Any] = {"event_id": event_id, "event_type": event_type, "data": data or {"invoice_id": "1"}}
    if business:
        payload["business_id"] = business
    return json.dumps(payload).encode()


def path_of(source: Connection) -> str:
    return f"/webhooks/wave/{source.uuid}/"


def post(source: Connection, body: bytes, headers: dict[str, str]) -> HttpResponse:
    response = Client().generic("POST", path_of(source), body, content_type="application/json", headers=headers)
    assert isinstance(response, HttpResponse)
    return response


@pytest.fixture
def deliver(source: Connection, signed: Maker) -> Callable[..., HttpResponse]:
    """Return a sender of rightly signed deliveries to the Wave connection."""

    def send(body: bytes | None = None) -> HttpResponse:
        body = event() if body is None else body
        return post(source, body, signed(body))

    return send


def wait_of(response: HttpResponse) -> int:
    return int(response["Retry-After"])


def unavailable() -> Transient:
    return Transient("PUT /record: 503", code="unavailable")


# --- Only what is verified ------------------------------------------------------------------------------------------

GOOD = "0" * 64
HOSTILE_HEADERS = {
    "none": "",
    "spaces": "   ",
    "no grammar": "hello",
    "only a time": "t=1777896000",
    "no time": f"v1={GOOD}",
    "forged": f"t=1777896000,v1={GOOD}",
    "doubled": f"t=1777896000,v1={GOOD},t=1777896000,v1={GOOD}",
    "six digests": "t=1777896000," + ",".join([f"v1={GOOD}"] * 6),
    "time of 13 digits": f"t=1777896000000,v1={GOOD}",
    "time of 5,000 digits": f"t={'9' * 5000},v1={GOOD}",
    "negative time": f"t=-1,v1={GOOD}",
    "foreign digits": f"t=\u00b2,v1={GOOD}",
    "hex too short": f"t=1777896000,v1={GOOD[1:]}",
    "no hex": f"t=1777896000,v1={'z' * 64}",
    "bytes above 127": "t=1777896000,v1=\u00ff\u00fe" + GOOD[2:],
    "10,000 commas": "," * 10_000,
    "NUL": f"t=1777896000\x00,v1={GOOD}",
}


@pytest.mark.parametrize("header", HOSTILE_HEADERS.values(), ids=HOSTILE_HEADERS.keys())
def test_a_request_with_a_hostile_signature_is_refused_and_leaves_nothing(source: Connection, header: str) -> None:
    response = post(source, event(), {"X-Wave-Signature": header})
    assert (response.status_code, Delivery.objects.count(), SyncJob.objects.count()) == (401, 0, 0)


def test_a_body_changed_by_one_byte_is_refused(source: Connection, signed: Maker) -> None:
    body = event()
    assert post(source, body + b" ", signed(body)).status_code == 401
    assert post(source, body, signed(body, secret="another")).status_code == 401
    assert post(source, body, signed(body)).status_code == 200


def test_the_old_and_the_new_secret_are_both_taken_while_they_rotate(wave_connection: Maker, signed: Maker) -> None:
    rotating = wave_connection("wave-two", webhook_secrets=("old", "new"))
    answers = [
        post(rotating, body, signed(body, secret=secret)).status_code for secret in ("old", "new") for body in [event(event_id=secret)]
    ]
    assert answers == [200, 200]


@pytest.mark.parametrize(("seconds", "status"), [(-301, 401), (-299, 200), (299, 200), (301, 401)])
def test_a_signature_holds_five_minutes_either_way(source: Connection, signed: Maker, seconds: int, status: int) -> None:
    with time_machine.travel(NOON, tick=False):
        body = event()
        assert post(source, body, signed(body, at=NOON.timestamp() + seconds)).status_code == status


def test_a_stale_but_rightly_signed_delivery_stores_nothing_and_brings_the_next_poll_forward(source: Connection, signed: Maker) -> None:
    with time_machine.travel(NOON, tick=False):
        body = event()
        assert post(source, body, signed(body, at=NOON.timestamp() - 3600)).status_code == 401
    intake = Intake.objects.get()
    assert (Delivery.objects.count(), intake.stale_signed, intake.poll_due_at) == (0, 1, NOON)


def test_a_flood_of_forgeries_is_counted_whole_and_written_at_most_once_in_ten_seconds(
    source: Connection, clock: time_machine.Traveller
) -> None:
    with CaptureQueriesContext(database) as captured:
        for _ in range(20):
            post(source, event(), {"X-Wave-Signature": f"t=1777896000,v1={GOOD}"})
            clock.shift(0.4)
    assert sum(query["sql"].startswith("UPDATE") for query in captured) == 1
    clock.shift(10)
    post(source, event(), {})
    intake = Intake.objects.get()
    assert (intake.forged, intake.unsigned) == (20, 1)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_only_post_is_taken(source: Connection, method: str) -> None:
    response = Client().generic(method, path_of(source))
    assert (response.status_code, response["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "path", ["/webhooks/wave/6f1f6a5e-0000-4000-8000-000000000000/", "/webhooks/jira/{uuid}/", "/webhooks/nobody/{uuid}/"]
)
def test_an_unknown_connection_is_not_found(source: Connection, signed: Maker, path: str) -> None:
    body = event()
    response = Client().generic("POST", path.replace("{uuid}", str(source.uuid)), body, headers=signed(body))
    assert response.status_code == 404


@pytest.mark.parametrize("size", [262_145, 10_000_000])
def test_a_body_larger_than_the_cap_is_refused_even_when_signed(source: Connection, signed: Maker, size: int) -> None:
    body = b" " * size
    assert (post(source, body, signed(body)).status_code, Delivery.objects.count()) == (413, 0)


def test_set_up_mode_lets_an_unsigned_probe_pass_and_stores_nothing(source: Connection) -> None:
    Intake.objects.update(setup_until=timezone.now() + timedelta(minutes=10))
    assert post(source, b"ping", {}).status_code == 200
    assert (Delivery.objects.count(), Intake.objects.get().probed_at is not None) == (0, True)
    assert post(source, event(), {"X-Wave-Signature": f"t=1777896000,v1={GOOD}"}).status_code == 401
    Intake.objects.update(setup_until=timezone.now() - timedelta(seconds=1))
    assert post(source, b"ping", {}).status_code == 401


# --- Stored byte for byte, whatever it is ---------------------------------------------------------------------------

HOSTILE_BODIES = {
    "empty": b"",
    "bad UTF-8": b'{"event_type": "invoice.paid\xff"}',
    "NUL in a text": b'{"event_id": "a\\u0000b", "event_type": "invoice.paid", "data": {"invoice_id": "1"}}',
    "NUL as a byte": b'{"event_type": "invoice.paid", "x": "\x00"}',
    "lone surrogate": b'{"event_type": "\\ud800", "data": {"invoice_id": "\\udfff"}}',
    "NaN": b'{"event_type": "invoice.paid", "amount": NaN}',
    "Infinity": b'{"event_type": "invoice.paid", "amount": -Infinity}',
    "depth 100,000": b"[" * 100_000 + b"]" * 100_000,
    "objects 10,000 deep": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "an integer of 5,000 digits": b'{"event_type": "invoice.paid", "data": {"invoice_id": ' + b"9" * 5000 + b"}}",
    "a list": b"[1, 2, 3]",
    "null": b"null",
    "a text": b'"invoice.paid"',
    "no JSON": b"event=invoice.paid",
    "no event": b'{"data": {"invoice_id": "1"}}',
    "type is a number": b'{"event_type": 7, "data": {"invoice_id": "1"}}',
    "no record": b'{"event_type": "invoice.paid", "data": {}}',
    "data is a list": b'{"event_type": "invoice.paid", "data": [1]}',
    "id is an object": b'{"event_type": "invoice.paid", "data": {"invoice_id": {"id": 1}}}',
    "id is a sentence": b'{"event_type": "invoice.paid", "data": {"invoice_id": "1; DROP TABLE"}}',
    "id of 200,000 letters": b'{"event_type": "invoice.paid", "data": {"invoice_id": "' + b"a" * 200_000 + b'"}}',
    "BOM": b"\xef\xbb\xbf" + b'{"event_type": "invoice.paid", "data": {"invoice_id": "1"}}',
}
ODD_BODIES = {
    "type of 10,000 letters": b'{"event_type": "' + b"x" * 10_000 + b'", "data": {"invoice_id": "1"}}',
    "event id of 10,000 letters": b'{"event_id": "' + b"x" * 10_000 + b'", "event_type": "odd", "data": {"invoice_id": "1"}}',
    "event id is an object": b'{"event_id": {}, "event_type": "odd", "data": {"invoice_id": "1"}}',
    "type of astral letters": '{"event_type": "\U0001f4b8", "data": {"invoice_id": "1"}}'.encode(),
}


@pytest.mark.parametrize("body", HOSTILE_BODIES.values(), ids=HOSTILE_BODIES.keys())
def test_a_signed_body_that_says_nothing_is_kept_as_it_came_and_answered_200(
    deliver: Callable[..., HttpResponse], wave: FakeWave, to_zendesk: Route, body: bytes
) -> None:
    response = deliver(body)
    [delivery] = Delivery.objects.all()
    assert (response.status_code, bytes(delivery.body), delivery.decision) == (200, body, "quarantined")
    assert (SyncJob.objects.count(), wave.reads) == (0, [])


@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES.keys())
def test_a_signed_body_with_odd_names_is_kept_as_it_came_and_answered_200(deliver: Callable[..., HttpResponse], body: bytes) -> None:
    response = deliver(body)
    [delivery] = Delivery.objects.all()
    assert (response.status_code, bytes(delivery.body), delivery.decision) == (200, body, "unknown")


@pytest.mark.parametrize("body", HOSTILE_BODIES.values(), ids=HOSTILE_BODIES.keys())
def test_an_unsigned_body_is_refused_whatever_it_says(source: Connection, body: bytes) -> None:
    assert (post(source, body, {}).status_code, Delivery.objects.count()) == (401, 0)


@pytest.mark.parametrize(
    ("event_type", "decision", "reason"),
    [
        ("estimate.accepted", "ignored", "by_name"),
        ("invoice.invented", "unknown", "unknown_event"),
        ("invoice.paid", "accepted", "no_route"),
    ],
)
def test_what_intake_decided_is_kept(deliver: Callable[..., HttpResponse], event_type: str, decision: str, reason: str) -> None:
    assert deliver(event(event_type)).status_code == 200
    assert list(Delivery.objects.values_list("event_type", "decision", "reason")) == [(event_type, decision, reason)]


@pytest.mark.parametrize(
    ("event_type", "data", "subject"),
    [
        ("invoice.viewed", {"invoice_id": "1", "customer_id": "7"}, "invoice:1"),
        ("customer.updated", {"customer_id": "7"}, "customer:7"),
        ("payment.created", {"payment_id": "9", "invoice_id": "1"}, "invoice:1"),
        ("payment.created", {"payment_id": "9"}, "payment:9"),
    ],
)
def test_an_event_points_at_its_record(
    deliver: Callable[..., HttpResponse], wave: FakeWave, event_type: str, data: dict[str, str], subject: str
) -> None:
    deliver(event(event_type, **data))
    kind, number = subject.split(":")
    assert Delivery.objects.get().subject == wave.key(kind, number)


# --- Which business -------------------------------------------------------------------------------------------------


def test_a_delivery_of_another_connected_business_is_handed_to_its_connection(
    deliver: Callable[..., HttpResponse], wave_connection: Maker, jira_route: Maker, jira: FakeRemote, wave: FakeWave, to_jira: Route
) -> None:
    other = wave_connection("wave-other", business=OTHER_BUSINESS)
    its_route = jira_route(other, "other-to-jira")
    deliver(event(business=OTHER_BUSINESS))
    assert Delivery.objects.get().connection == other
    assert [(job.route_id, job.key) for job in SyncJob.objects.all()] == [(its_route.pk, f"wave:{OTHER_BUSINESS}:invoice:1")]


def test_a_delivery_of_a_business_that_is_not_connected_is_kept_and_ignored(
    deliver: Callable[..., HttpResponse], source: Connection, to_jira: Route
) -> None:
    assert deliver(event(business=OTHER_BUSINESS)).status_code == 200
    delivery = Delivery.objects.get()
    assert (delivery.connection, delivery.decision, delivery.reason, SyncJob.objects.count()) == (
        source,
        "ignored",
        "business_not_connected",
        0,
    )


def test_who_knows_the_secret_of_one_connection_only_speaks_for_no_other(
    deliver: Callable[..., HttpResponse], source: Connection, wave_connection: Maker, jira_route: Maker
) -> None:
    jira_route(wave_connection("wave-other", business=OTHER_BUSINESS, webhook_secrets=("another-webhook-secret",)), "other-to-jira")
    assert deliver(event(business=OTHER_BUSINESS)).status_code == 200
    delivery = Delivery.objects.get()
    assert (delivery.connection, delivery.decision, delivery.reason, SyncJob.objects.count()) == (
        source,
        "ignored",
        "business_not_connected",
        0,
    )


# --- The same again -------------------------------------------------------------------------------------------------


def test_the_same_delivery_twice_leads_to_no_further_read_or_write(
    deliver: Callable[..., HttpResponse], wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route
) -> None:
    wave.put_invoice()
    first = deliver()
    calls = (list(wave.reads), list(zendesk.events), list(jira.events), SyncJob.objects.count())
    second = deliver()
    assert [first.status_code, second.status_code] == [200, 200]
    assert (wave.reads, zendesk.events, jira.events, SyncJob.objects.count()) == calls
    assert [delivery.seen for delivery in Delivery.objects.all()] == [2]


def test_the_same_event_id_with_another_body_is_another_delivery(
    deliver: Callable[..., HttpResponse], wave: FakeWave, jira: FakeRemote, to_jira: Route
) -> None:
    wave.put_invoice("1")
    wave.put_invoice("2")
    deliver(event(invoice_id="1"))
    deliver(event(invoice_id="2"))
    assert (Delivery.objects.count(), len(jira.objects)) == (2, 2)


def test_a_redelivery_runs_what_is_unfinished_on_every_route(
    deliver: Callable[..., HttpResponse], wave: FakeWave, jira: FakeRemote, to_jira: Route, jira_route: Maker, source: Connection
) -> None:
    jira_route(source, "second-to-jira")
    wave.put_invoice()
    jira.find_lags, jira.down = False, unavailable()
    assert deliver().status_code == 503
    jira.down = None
    assert deliver().status_code == 200
    assert [job.state for job in SyncJob.objects.all()] == [State.SUCCEEDED] * 2


def test_a_redelivery_leaves_alone_what_is_done(
    deliver: Callable[..., HttpResponse], wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route
) -> None:
    jira.find_lags, jira.down = False, unavailable()
    wave.put_invoice()
    deliver(event(invoice_id="1", customer_id="7"))
    jira.down = None
    zendesk.events.clear()
    assert deliver(event(invoice_id="1", customer_id="7")).status_code == 200
    assert zendesk.events == []


def test_a_redelivery_before_the_vendors_own_time_costs_no_call_and_says_when(
    deliver: Callable[..., HttpResponse], wave: FakeWave, jira: FakeRemote, to_jira: Route
) -> None:
    wave.put_invoice()
    until = timezone.now() + timedelta(seconds=120)
    jira.faults = [Fault(Transient("PUT /record: 429", code="rate_limited", not_before=until, unsent=True))]
    deliver()
    calls = (len(wave.reads), len(jira.events))
    response = deliver()
    assert (response.status_code, (len(wave.reads), len(jira.events))) == (503, calls)
    assert 118 <= wait_of(response) <= 120


# --- The answer, row by row -----------------------------------------------------------------------------------------


def test_succeeded_then_unchanged_answer_200(
    deliver: Callable[..., HttpResponse], wave: FakeWave, jira: FakeRemote, to_jira: Route
) -> None:
    wave.put_invoice()
    answers = [deliver(event(event_id=event_id)).status_code for event_id in ("e-1", "e-2")]
    assert (answers, [job.result for job in SyncJob.objects.order_by("created_at")]) == ([200, 200], ["created", "unchanged"])


@pytest.mark.parametrize(
    "error", [Rejected("PUT /record: 422", code="invalid"), Unmappable("invoice due: no date")], ids=["refused", "unmappable"]
)
def test_what_no_redelivery_can_mend_answers_200_and_is_kept(
    deliver: Callable[..., HttpResponse], wave: FakeWave, jira: FakeRemote, to_jira: Route, error: Exception
) -> None:
    wave.put_invoice()
    jira.faults = [Fault(error)]
    assert deliver().status_code == 200
    assert [job.state for job in SyncJob.objects.all()] == [State.DEAD]


def test_not_found_at_wave_answers_200(deliver: Callable[..., HttpResponse], wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    assert deliver().status_code == 200
    assert [(job.result, job.reason) for job in SyncJob.objects.all()] == [("ignored", "not_found")]


def test_not_found_at_wave_with_a_binding_answers_200_and_looks_again(
    deliver: Callable[..., HttpResponse], wave: FakeWave, jira: FakeRemote, to_jira: Route
) -> None:
    wave.put_invoice()
    deliver()
    wave.invoices.clear()
    assert deliver(event("invoice.viewed", event_id="e-2")).status_code == 200
    look = SyncJob.objects.get(state=State.PENDING)
    assert (look.second_look, 295 < (look.due_at - timezone.now()).total_seconds() <= 300) == (True, True)


def test_a_paused_route_answers_200_and_costs_no_call(
    deliver: Callable[..., HttpResponse], wave: FakeWave, jira: FakeRemote, to_jira: Route
) -> None:
    Route.objects.update(paused_at=timezone.now())
    holds.hold(f"route:{to_jira.pk}", reason=holds.PAUSED_REASON)
    assert (deliver().status_code, wave.reads, jira.events) == (200, [], [])
    assert [job.state for job in SyncJob.objects.all()] == [State.PENDING]


def test_a_destination_that_is_down_answers_503_and_when_to_come_again(
    deliver: Callable[..., HttpResponse], wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route
) -> None:
    wave.put_invoice()
    zendesk.down = unavailable()
    response = deliver()
    [job] = SyncJob.objects.filter(kind="invoice")
    assert (response.status_code, job.state, zendesk.events) == (503, State.PENDING, ["write organization 7"])
    assert abs(wait_of(response) - (job.due_at - timezone.now()).total_seconds()) < 2


@pytest.mark.parametrize("code", ["unavailable", "bad_answer"], ids=["down", "HTML or a cut body"])
def test_wave_in_trouble_answers_503(
    deliver: Callable[..., HttpResponse], wave: FakeWave, jira: FakeRemote, to_jira: Route, code: str
) -> None:
    wave.down = Transient("POST /graphql", code=code)
    assert (deliver().status_code, jira.events) == (503, [])


def test_one_route_that_is_down_answers_503_although_the_other_is_done(
    deliver: Callable[..., HttpResponse], wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route
) -> None:
    wave.put_invoice()
    jira.find_lags, jira.down = False, unavailable()
    assert (deliver().status_code, len(zendesk.holds()["record"])) == (503, 1)


def test_a_huge_retry_after_is_told_as_an_hour(
    deliver: Callable[..., HttpResponse], wave: FakeWave, jira: FakeRemote, to_jira: Route
) -> None:
    wave.put_invoice()
    until = timezone.now() + timedelta(hours=20)
    jira.faults = [Fault(Transient("PUT /record: 429", code="rate_limited", not_before=until, unsent=True))]
    assert wait_of(deliver()) == 3600


def test_a_grant_that_dies_now_answers_503(deliver: Callable[..., HttpResponse], wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    wave.put_invoice()
    jira.faults = [Fault(Disconnected("PUT /record: 401"))]
    assert deliver().status_code == 503
    assert [job.state for job in SyncJob.objects.all()] == [State.BLOCKED]


def test_a_blocked_account_answers_503_at_once_without_a_call(
    deliver: Callable[..., HttpResponse], wave: FakeWave, jira: FakeRemote, to_jira: Route
) -> None:
    Connection.objects.filter(pk=to_jira.destination_id).update(status=Connection.Status.NEEDS_RECONNECT)
    holds.block(to_jira.destination_id)
    started = time.monotonic()
    response = deliver()
    assert (response.status_code, 1 <= wait_of(response) <= 3600, wave.reads, jira.events) == (503, True, [], [])
    assert time.monotonic() - started < 2


def test_an_account_on_hold_answers_503_at_once_and_when_the_hold_ends(
    deliver: Callable[..., HttpResponse], wave: FakeWave, jira: FakeRemote, to_jira: Route, settings: Any
) -> None:
    settings.WEBHOOK_DEADLINE = 1.0
    holds.hold(f"connection:{to_jira.destination_id}", reason="rate_limited", until=timezone.now() + timedelta(seconds=600))
    started = time.monotonic()
    response = deliver()
    assert (response.status_code, wave.reads, jira.events) == (503, [], [])
    assert time.monotonic() - started < 1
    assert 590 <= wait_of(response) <= 600


@pytest.mark.parametrize("code", ["gave_up", "crashed"])
def test_a_job_that_gave_up_answers_503_for_a_redelivery_may_find_better_weather(
    deliver: Callable[..., HttpResponse], wave: FakeWave, jira: FakeRemote, to_jira: Route, code: str
) -> None:
    jira.find_lags, jira.down = False, unavailable()
    wave.put_invoice()
    deliver()
    SyncJob.objects.update(state=State.DEAD, error_code=code, settled_at=timezone.now())
    assert deliver().status_code == 503


def test_a_job_that_another_worker_runs_is_waited_for_until_the_deadline(
    deliver: Callable[..., HttpResponse], wave: FakeWave, jira: FakeRemote, to_jira: Route, settings: Any
) -> None:
    settings.WEBHOOK_DEADLINE = 0.3
    wave.put_invoice()
    jira.find_lags, jira.down = False, unavailable()
    deliver()
    [job] = SyncJob.objects.all()
    assert ledger.claim([job.pk], started_by="worker", redelivery=True) is not None
    calls, started = len(wave.reads), time.monotonic()
    response = deliver()
    assert (response.status_code, len(wave.reads)) == (503, calls)
    assert 0.3 <= time.monotonic() - started < 3


def test_the_customers_job_does_not_decide_the_answer(
    deliver: Callable[..., HttpResponse], wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route
) -> None:
    wave.put_invoice()
    deliver(event(invoice_id="1", customer_id="7"))
    wave.put_invoice(due="60.00")
    zendesk.faults = [Fault(unavailable(), kind="organization")]
    assert deliver(event("invoice.updated", event_id="e-2", invoice_id="1", customer_id="7")).status_code == 200
    assert SyncJob.objects.get(state=State.PENDING).kind == "customer"


def test_a_superseded_job_is_answered_for_by_the_one_that_took_its_place(
    deliver: Callable[..., HttpResponse], wave: FakeWave, jira: FakeRemote, to_jira: Route, source: Connection
) -> None:
    wave.put_invoice()
    jira.find_lags, jira.faults = False, [Fault(unavailable())]

    def newer(document: Any) -> None:
        jira.before_write = lambda document: None
        ledger.request([asking.ask(source, to_jira, "invoice", wave.key("invoice", "1"))])

    jira.before_write = newer
    assert deliver().status_code == 503
    assert deliver().status_code == 200
    assert sorted(SyncJob.objects.values_list("state", flat=True)) == [State.SUCCEEDED, State.SUPERSEDED]


# --- The other way of answering -------------------------------------------------------------------------------------


def test_with_ack_stored_the_answer_is_200_before_anything_is_read(
    deliver: Callable[..., HttpResponse], wave: FakeWave, jira: FakeRemote, to_jira: Route, settings: Any
) -> None:
    settings.WEBHOOK_ACK = "stored"
    wave.down = unavailable()
    assert (deliver().status_code, wave.reads) == (200, [])
    assert [str(job.pk) for job in SyncJob.objects.all()] == Delivery.objects.get().job_ids


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("routes", [2, 5])
def test_with_ack_stored_a_delivery_costs_six_statements_and_one_commit_however_many_routes(
    deliver: Callable[..., HttpResponse], source: Connection, zendesk_route: Maker, jira_route: Maker, settings: Any, routes: int
) -> None:
    settings.WEBHOOK_ACK = "stored"
    for number in range(routes):
        (zendesk_route if number % 2 else jira_route)(source, f"route-{number}")
    for event_id in ("first", "joins", "joins too"):
        with CaptureQueriesContext(database) as captured:
            assert deliver(event(event_id=event_id, invoice_id="1", customer_id="7")).status_code == 200
        words = [query["sql"].split()[0].rstrip(";") for query in captured]
        assert words.count("COMMIT") == 1
        assert len([word for word in words if word not in ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")]) <= 6, words
    assert SyncJob.objects.filter(kind="invoice").count() == routes


@pytest.mark.django_db(transaction=True)
def test_a_delivery_and_its_jobs_and_its_wake_up_commit_together_or_not_at_all(
    deliver: Callable[..., HttpResponse], to_jira: Route, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEBHOOK_ACK = "stored"

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Delivery, "save", full)
    with pytest.raises(OSError, match="no space"):
        deliver()
    assert (Delivery.objects.count(), SyncJob.objects.count()) == (0, 0)
