"""A worker that is taken for dead between the vendor's answer and our memory of it: what another has written since stands."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from audit import ledger
from audit.models import SyncJob
from integrations import asking, bindings, pipeline, reading
from integrations.bindings import Intent, Outcome, Writer
from integrations.core.documents import Document, Written
from integrations.models import Binding, Change, Route
from tests.fakes import MODIFIED, FakeRemote, FakeWave

pytestmark = pytest.mark.django_db


def ask(route: Route, wave: FakeWave) -> None:
    with transaction.atomic():
        ledger.request([asking.ask(route.source, route, "invoice", wave.key("invoice", "1"))])


def stall(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, meanwhile: Callable[[], object]) -> None:
    """Let the first worker that comes here lose its claim; something happens in Wave, and another worker runs it."""
    ordinary, stalled = getattr(module, name), list[bool]()

    def once(*given: Any) -> None:
        if not stalled:
            stalled.append(True)
            SyncJob.objects.filter(state="running").update(lease_until=timezone.now() - timedelta(seconds=1))
            assert ledger.reclaim() == 1
            meanwhile()
            assert pipeline.run(started_by="another")
        ordinary(*given)

    monkeypatch.setattr(module, name, once)


@pytest.mark.parametrize("known", [False, True])
def test_its_answer_is_not_stored_over_the_newer_one(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    jira.find_lags = False
    wave.put_invoice("1")
    if known:
        ask(to_jira, wave)
        assert pipeline.run(started_by="worker")
        wave.put_invoice("1", due="80.00", modified_at=MODIFIED + timedelta(hours=1))
    stall(monkeypatch, bindings, "done", lambda: wave.put_invoice("1", due="40.00", modified_at=MODIFIED + timedelta(hours=2)))
    ask(to_jira, wave)
    assert pipeline.run(started_by="worker")
    assert [str(record["due"]) for record in jira.holds()["record"]] == ["40.00"]
    row = Binding.objects.get(kind="record")
    assert (row.state, row.source_modified_at) == ("bound", MODIFIED + timedelta(hours=2))
    writes = len(jira.writes)
    ask(to_jira, wave)
    assert pipeline.run(started_by="worker")
    assert len(jira.writes) == writes, "what is remembered is what is there"


def test_what_it_read_does_not_take_an_invoice_back_to_its_former_customer(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave.put_customer("7")
    wave.put_customer("8")
    wave.put_invoice("1", customer="7")
    stall(monkeypatch, reading, "_note_zone", lambda: wave.put_invoice("1", customer="8", modified_at=MODIFIED + timedelta(hours=1)))
    ask(to_zendesk, wave)
    assert pipeline.run(started_by="worker")
    assert set(Change.objects.values_list("customer_key", flat=True)) == {wave.key("customer", "8")}


DIGESTS: Mapping[str, str] = {"due": "new"}


def begun(route: Route, wave: FakeWave, state: str, claim: str) -> tuple[Intent, Binding]:
    """Begin a write, then let the row stand as another would leave it: taken by another claim, put in doubt, or as it is."""
    ask(route, wave)
    claimed = ledger.claim(started_by="worker")
    assert claimed is not None
    document = Document("record", wave.key("invoice", "1"), {"due": "1"})
    writer = Writer(route.pk, claimed.jobs[0], claimed.attempts[0])
    row = bindings.begin(writer, document, parent="").row
    now = {"mine": row.claim, "another's": "7b1d4d5e-0000-4000-8000-000000000001", "nobody's": None}[claim]
    Binding.objects.filter(pk=row.pk).update(claim=now, state=state, hashes={"due": "old"})
    return Intent(writer, document), row


CASES = [("creating", "mine", "bound", {"due": "new"}), ("creating", "another's", "creating", {"due": "old"})]
CASES += [("in_doubt", "another's", "in_doubt", {"due": "old"}), ("bound", "another's", "bound", {"due": "old"})]
CASES += [("in_doubt", "nobody's", "in_doubt", {"due": "new"})]


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(("state", "claim", "then", "hashes"), CASES)
def test_what_is_stored_hangs_on_whose_the_claim_is(
    wave: FakeWave, to_jira: Route, many: bool, state: str, claim: str, then: str, hashes: dict[str, str]
) -> None:
    wave.put_invoice("1")
    intent, row = begun(to_jira, wave, state, claim)
    if many:
        bindings.done_many([Outcome(intent, row, Written("10"), DIGESTS)])
    else:
        bindings.done(row, intent.document, Written("10"), DIGESTS, intent.writer)
    row.refresh_from_db()
    assert (row.state, row.hashes, row.remote_id) == (then, hashes, "10" if hashes["due"] == "new" else "")
