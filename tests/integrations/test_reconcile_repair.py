"""A dry run asks for nothing; then one record, all of them, or what is left of them is repaired on request."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit import ledger
from audit.ledger import Ask, Requested
from audit.models import SyncJob
from integrations import asking, repairing, report
from integrations.models import Binding, Connection, Finding, Route, Sweep
from tests.fakes import MODIFIED, FakeRemote, FakeWave
from tests.integrations.reconciling import begun, brought, found, run, turned, work

pytestmark = pytest.mark.django_db


@pytest.fixture
def edited(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> tuple[FakeWave, FakeRemote]:
    """Three invoices: one edited by hand at Zendesk, one whose payment was deleted there, one deleted at Wave."""
    for number in ("1", "2", "3"):
        wave.put_invoice(number, payments={f"9{number}": "5.00"}, modified_at=MODIFIED + timedelta(minutes=int(number)))
    brought(wave, (to_zendesk, zendesk))
    [record], [payment] = (
        zendesk.of_key(kind, wave.key(*of)) for kind, of in (("record", ("invoice", "1")), ("payment", ("payment", "92")))
    )
    zendesk.objects[record].fields["status"] = "by hand"
    del zendesk.objects[payment]
    del wave.invoices["3"]
    return wave, zendesk


FOUND = [("zendesk", "", "deleted", ()), ("zendesk", "INV-1", "drifted", ("status",)), ("zendesk", "INV-2", "absent", ())]


def test_a_dry_run_asks_for_nothing_and_doubts_nothing(edited: tuple[FakeWave, FakeRemote], source: Connection) -> None:
    before = list(Binding.objects.order_by("pk").values())
    told = run(source, dry_run=True)
    assert [one for one in found(told) if one[1] != "Customer 7"] == FOUND
    assert (told["repairs"], SyncJob.objects.count(), list(Binding.objects.order_by("pk").values())) == (0, 0, before)
    assert {one["job"] for one in told["findings"]} == {None}


def test_one_record_is_repaired_and_no_other(edited: tuple[FakeWave, FakeRemote], source: Connection) -> None:
    _, zendesk = edited
    sweep = turned(begun(source, dry_run=True))
    drifted = sweep.findings.filter(reason="drifted")
    assert repairing.repair(drifted) == 1
    work()
    assert [(write.kind, write.fields.get("status")) for write in zendesk.writes] == [("record", "SENT")]
    assert report.report(sweep)["repairs"] == 1
    assert repairing.repair(repairing.repairable(sweep).filter(reason="drifted")) == 0


def test_all_are_repaired_and_the_next_run_finds_nothing(edited: tuple[FakeWave, FakeRemote], source: Connection) -> None:
    sweep = turned(begun(source, dry_run=True))
    assert repairing.repair(repairing.repairable(sweep)) == len({one.key for one in Finding.objects.all()})
    assert not repairing.repairable(sweep).exists()
    work()
    assert found(run(source)) == []


def test_what_ended_dead_can_be_asked_for_again_and_what_a_person_must_decide_cannot(
    edited: tuple[FakeWave, FakeRemote], source: Connection
) -> None:
    wave, _ = edited
    Binding.objects.filter(key=wave.key("invoice", "2"), kind="record").update(state=Binding.State.LOST)
    Binding.objects.filter(key=wave.key("payment", "92")).delete()
    sweep = turned(begun(source))
    assert sweep.findings.filter(reason="lost").get().job_id is None
    assert not repairing.repairable(sweep).exists()
    SyncJob.objects.filter(key=wave.key("invoice", "1")).update(state="dead")
    assert [one.reason for one in repairing.repairable(sweep)] == ["drifted"]


def test_the_statements_of_a_repair_do_not_grow_with_the_records(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, source: Connection
) -> None:
    for number in range(180):
        wave.put_invoice(str(number))
    brought(wave, (to_zendesk, zendesk))
    sweep = Sweep.objects.create(source=source, purpose="reconcile", state="done", created_at=MODIFIED, due_at=MODIFIED)
    row = Finding(sweep=sweep, route=to_zendesk, kind="invoice", reason="drifted")
    Finding.objects.bulk_create(Finding(**{**_values(row), "key": wave.key("invoice", str(number))}) for number in range(180))
    counts = []
    for part in (sweep.findings.all()[:90], sweep.findings.filter(job_id=None)):
        with CaptureQueriesContext(connection) as captured:
            counts.append((repairing.repair(Finding.objects.filter(pk__in=[one.pk for one in part])), len(captured)))
    assert [count for count, _ in counts] == [90, 90]
    assert counts[0][1] < 25


def _values(row: Finding) -> dict[str, object]:
    return {name: getattr(row, name) for name in ("sweep", "route", "kind", "reason")}


def test_rows_say_who_they_are_about_without_names(edited: tuple[FakeWave, FakeRemote], source: Connection) -> None:
    wave, _ = edited
    wave.put_customer("7", name="Ada Miller")
    sweep = turned(begun(source, dry_run=True))
    shown = [str(sweep), *(str(row) for row in [*sweep.findings.all(), *sweep.disagreements.all()])]
    assert shown and not any("Ada" in text or "INV-" in text for text in shown)


def test_jobs_in_any_number_are_asked_for_in_one_order_and_returned_in_theirs(to_zendesk: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that ask for the same jobs in another order would wait for each other."""
    parts, ordinary = list[list[str]](), ledger.request

    def request(asks: Sequence[Ask]) -> Requested:
        parts.append([ask.key for ask in asks])
        return ordinary(asks)

    monkeypatch.setattr(asking, "MOST_ASKS", 2)
    monkeypatch.setattr(ledger, "request", request)
    jobs = asking.requested([asking.ask(to_zendesk.source, to_zendesk, "invoice", key) for key in "caedb"])
    assert parts == [["a", "b"], ["c", "d"], ["e"]]
    assert [job.key for job in jobs] == list("caedb")
