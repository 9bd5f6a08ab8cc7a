"""What the hot paths ask of the database: how many statements, and none that reads a growing table from end to end."""

from collections.abc import Callable, Iterator

import pytest
from django.db import connection
from pytest_django import Settings

from audit import ledger
from audit.models import SyncJob
from integrations import asking, inbox, pipeline
from integrations.bench import filling, plans
from integrations.bench.plans import Statement
from integrations.models import Connection, FieldMapping, Route
from integrations.sandbox.wave_webhooks import envelope
from tests.conftest import BUSINESS
from tests.fakes import FakeRemote, FakeWave

pytestmark = pytest.mark.django_db
Signed = Callable[..., dict[str, str]]
WORK = ("SELECT", "INSERT", "UPDATE", "DELETE")
TABLE_AT = {"SELECT": 1, "INSERT": 2, "UPDATE": 1, "DELETE": 2}  # the word that names it; of a SELECT its first column


@pytest.fixture(autouse=True)
def stored(settings: Settings) -> None:
    settings.WEBHOOK_ACK = "stored"


@pytest.fixture
def routes(to_zendesk: Route, to_jira: Route) -> list[Route]:
    return [to_zendesk, to_jira]


def work(statements: list[Statement]) -> list[str]:
    """Return the statements but for transactions, each as its verb and table."""
    found = [sql.replace('"', "").replace(" OR IGNORE", "").split() for sql, _ in statements if sql.startswith(WORK)]
    return [f"{words[0]} {words[TABLE_AT[words[0]]].partition('.')[0]}" for words in found]


def deliver(source: Connection, signed: Signed, number: str = "1000000001") -> None:
    body = envelope("invoice.updated", event_id=number, business_id=BUSINESS, data={"invoice_id": number, "customer_id": "1000000000"})
    assert inbox.receive("wave", source.uuid, signed(body), body).status == 200


def claim() -> ledger.Claim:
    found = ledger.claim(started_by="worker")
    assert found is not None
    return found


def test_a_delivery_costs_six_statements(source: Connection, routes: list[Route], signed: Signed) -> None:
    with plans.caught() as statements:
        deliver(source, signed)
    assert work(statements) == [
        "SELECT integrations_connection",
        "SELECT integrations_route",
        "INSERT audit_syncjob",
        "SELECT audit_syncjob",
        "INSERT django_q_ormq",
        "INSERT integrations_delivery",
    ]


def test_whether_customers_show_sums_costs_no_statement(source: Connection, jira_route: Callable[..., Route], signed: Signed) -> None:
    for slug, template in (("telling", "{{ customer.overdue }}"), ("silent", "{{ customer.name }}")):
        route = jira_route(source, slug, kinds=("customer", "invoice"))
        FieldMapping.objects.create(route=route, kind="customer", target="description", template=template)
    with plans.caught() as statements:
        deliver(source, signed)
    assert len(work(statements)) == 6
    jobs = SyncJob.objects.order_by("route_slug", "kind").values_list("route_slug", "kind")
    assert list(jobs) == [("silent", "invoice"), ("telling", "customer"), ("telling", "invoice")]


def test_a_claim_takes_all_its_jobs_in_one_statement(source: Connection, routes: list[Route], signed: Signed) -> None:
    deliver(source, signed)
    with plans.caught() as statements:
        assert len(claim().jobs) == 3
    assert work(statements) == [
        "SELECT %s",  # whether anything is due at all
        "SELECT audit_hold",
        "SELECT audit_syncjob",
        "SELECT audit_syncjob",
        "UPDATE audit_syncjob",
        "INSERT audit_attempt",
    ]


def test_where_nothing_is_due_a_claim_costs_one_look_and_no_lock(routes: list[Route]) -> None:
    with plans.caught() as statements:
        assert ledger.claim(started_by="worker") is None
    assert [sql.split()[0] for sql, _ in statements] == ["SELECT"]


def test_a_run_is_settled_in_four_statements(source: Connection, routes: list[Route], signed: Signed) -> None:
    deliver(source, signed)
    claimed = claim()
    with plans.caught() as statements:
        assert ledger.settle(claimed.attempts[0], ledger.outcome_of_success("updated")) is not None
    assert work(statements) == ["SELECT audit_syncjob", "UPDATE audit_syncjob", "UPDATE audit_attempt", "UPDATE audit_syncjob"]


def test_a_hundred_records_are_taken_in_one_statement(source: Connection, to_zendesk: Route) -> None:
    asks = [asking.ask(source, to_zendesk, "invoice", f"wave:{BUSINESS}:invoice:{number}") for number in range(100)]
    with plans.caught() as statements:
        taken = ledger.claim_records(asks, started_by="worker")
    assert taken is not None
    assert len(taken.jobs) == 100
    assert [one for one in work(statements) if one.startswith("UPDATE")] == ["UPDATE audit_syncjob"]


def test_a_run_reads_the_mappings_of_its_routes_once(
    source: Connection, routes: list[Route], signed: Signed, wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote
) -> None:
    wave.put_customer("1000000000")
    wave.put_invoice("1000000001", customer="1000000000")
    deliver(source, signed)
    with plans.caught() as statements:
        assert pipeline.run(started_by="worker")
    mappings = [one for one in work(statements) if "mapping" in one]
    assert mappings == ["SELECT integrations_fieldmapping", "SELECT integrations_statusmapping"]


# --- Plans ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def years(routes: list[Route]) -> Iterator[None]:
    """Let there be a history. PostgreSQL reads a small table whole even where it has an index: here it must not if it can help it."""
    filling.fill(routes, 1, 5_000)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
            cursor.execute("SET LOCAL enable_seqscan = off")
    yield


def hot(source: Connection, signed: Signed) -> list[Statement]:
    """Return the statements of a delivery, a claim and what settles it."""
    with plans.caught() as statements:
        deliver(source, signed)
        claimed = claim()
        for attempt in claimed.attempts:
            assert ledger.settle(attempt, ledger.outcome_of_success("updated")) is not None
    return statements


def test_no_hot_path_reads_a_growing_table_whole(source: Connection, years: None, signed: Signed) -> None:
    assert plans.full_scans(hot(source, signed)) == []


def test_what_reads_a_table_whole_is_found(routes: list[Route], years: None) -> None:
    statements: list[Statement] = [
        ("SELECT id FROM audit_syncjob WHERE party = %s", ("Northwind Bakery",)),
        ('SELECT U0."id" FROM "audit_syncjob" U0 WHERE U0.title = %s', ("INV-1",)),
        ("SELECT id FROM audit_syncjob WHERE key = %s", ("wave:x:invoice:1",)),
    ]
    found = [one.partition(":")[0] for one in plans.full_scans(statements)]
    assert found == ["audit_syncjob", "audit_syncjob"]


def test_claims_and_requests_do_not_look_through_a_customers_history(source: Connection, years: None, signed: Signed) -> None:
    reads = [one for one in hot(source, signed) if one[0].startswith("SELECT") and "syncjob" in one[0]]
    steps = [step for sql, params in reads for step in plans.plan(sql, params)]
    assert any("job_live" in step for step in steps)
    assert [step for step in steps if "job_key" in step] == []
