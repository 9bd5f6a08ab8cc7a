"""`manage.py backfill`: what it says before, while and after, and what it refuses."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from audit.models import Hold, SyncJob
from integrations import backfill, sweeping
from integrations.core.errors import Transient
from integrations.management.commands import backfill as command
from integrations.models import Route, Sweep
from tests.fakes import MODIFIED, FakeRemote, FakeWave, FakeWaveSource
from tests.integrations.reconciling import FAR

pytestmark = pytest.mark.django_db
BEFORE = "wave-to-zendesk: 1 customer, 3 invoices; about 5 reads of Wave, at most 4 calls to wave-to-zendesk-account; "
UNKNOWN = "time unknown: the account has not told its limit yet"


@pytest.fixture
def ready(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, monkeypatch: pytest.MonkeyPatch) -> FakeRemote:
    """One customer with three invoices, which no one has brought; nobody waits in these tests."""
    for number in ("1", "2", "3"):
        wave.put_invoice(number, modified_at=MODIFIED + timedelta(days=int(number)))
    monkeypatch.setattr(command, "PAUSE", 0)
    return zendesk


class Terminal(StringIO):
    """Where a progress bar is drawn."""

    def isatty(self) -> bool:
        return True


def run(*args: str) -> tuple[int, str, str]:
    """Return the exit code, what was printed, and what the progress bar showed."""
    out, bar = StringIO(), Terminal()
    try:
        call_command("backfill", *args, stdout=out, stderr=bar)
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue(), bar.getvalue()
    except CommandError as error:
        return error.returncode, f"{out.getvalue()}{error}", bar.getvalue()
    return 0, out.getvalue(), bar.getvalue()


def test_it_says_what_it_will_take_and_then_what_it_took(ready: FakeRemote) -> None:
    code, told, _ = run("wave-to-zendesk")
    assert (code, told.splitlines()) == (0, [f"{BEFORE}{UNKNOWN}", "done: 4 of 4 records, 0 failed, 4 calls"])
    assert len(ready.writes) == 4
    assert run("wave-to-zendesk")[0] == 0
    assert len(ready.writes) == 4


def test_a_dry_run_only_says_it(ready: FakeRemote) -> None:
    assert run("wave-to-zendesk", "--dry-run") == (0, f"{BEFORE}{UNKNOWN}\n", "")
    assert (ready.events, Sweep.objects.count(), SyncJob.objects.count()) == ([], 0, 0)


def test_where_the_route_is_deleted_meanwhile_it_ends_and_says_so(ready: FakeRemote, wave: FakeWave, to_zendesk: Route) -> None:
    def delete() -> None:
        Route.objects.filter(pk=to_zendesk.pk).delete() if Sweep.objects.exists() else None

    wave.after_page = delete
    code, told, _ = run("wave-to-zendesk")
    assert (code, told.splitlines()[-1]) == (1, f"cancelled: 0 of 0 records, 0 failed, 0 calls; {sweeping.DELETED}")


def test_a_kind_and_a_day_choose_what_is_brought(ready: FakeRemote) -> None:
    code, told, _ = run("wave-to-zendesk", "--kind", "invoice", "--since", "2026-05-06")
    assert (code, told.splitlines()[0].split(";")[0]) == (0, "wave-to-zendesk: 2 invoices")
    assert sorted(str(row["number"]) for row in ready.holds()["record"]) == ["INV-2", "INV-3"]
    assert Sweep.objects.get().options["kinds"] == ["invoice"]


def test_what_failed_is_exit_1_and_named_with_its_reason(ready: FakeRemote, wave: FakeWave, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "MOST_TOLD", 1)
    ready.unmappable = {wave.key("invoice", "1"), wave.key("invoice", "3")}
    code, told, bar = run("wave-to-zendesk")
    assert "4/4" in bar
    assert "2 failed, 4 calls" in bar
    assert (code, told.splitlines()[1:]) == (
        1,
        [
            "done: 2 of 4 records, 2 failed, 4 calls",
            "  invoice INV-1 failed: the mapping gives nothing that a date could be",
            "  and 1 more: the admin lists them under Jobs",
        ],
    )


def test_what_is_left_to_a_run_of_its_own_is_told(ready: FakeRemote, wave: FakeWave) -> None:
    ready.defects = {wave.key("invoice", "2")}
    code, told, _ = run("wave-to-zendesk")
    assert (code, told.splitlines()[1]) == (0, "done: 3 of 4 records, 0 failed, 1 left to runs of their own, 4 calls")


def test_bulk_that_is_refused_is_told_after_it_and_before_the_next(ready: FakeRemote) -> None:
    ready.bulk_refused = True
    code, told, _ = run("wave-to-zendesk")
    lines = [f"  {kind} was written one by one, for bulk was refused: POST /{kind}/bulk: 403" for kind in ("organization", "record")]
    assert (code, told.splitlines()[2:]) == (0, lines)
    assert "  record is written one by one, for bulk was refused: POST /record/bulk: 403" in run("wave-to-zendesk", "--dry-run")[1]


def test_an_open_one_is_not_begun_beside_and_resumed_it_goes_on(ready: FakeRemote, to_zendesk: Route) -> None:
    sweep, _ = backfill.begin(to_zendesk, started_by="test")
    assert run("wave-to-zendesk", "--pause") == (0, "paused: --resume goes on from where it is\n", "")
    code, told, _ = run("wave-to-zendesk")
    assert (code, told.splitlines()[1]) == (2, "one is open already, paused: --resume goes on with it, --cancel ends it")
    assert run("wave-to-zendesk", "--pause") == (0, "it is paused already: nothing was changed\n", "")
    assert run("wave-to-zendesk", "--resume")[:2] == (0, "done: 4 of 4 records, 0 failed, 4 calls\n")
    assert Sweep.objects.get().pk == sweep.pk


def test_a_cancelled_one_is_over(ready: FakeRemote, to_zendesk: Route) -> None:
    backfill.begin(to_zendesk, started_by="test")
    assert run("wave-to-zendesk", "--cancel") == (0, "cancelled; what it has brought stays\n", "")
    for switch in ("--resume", "--pause", "--cancel"):
        assert run("wave-to-zendesk", switch) == (2, "no backfill of wave-to-zendesk is open", "")
    assert ready.writes == []


def test_it_waits_as_long_as_the_vendor_says_and_does_not_call_before(
    ready: FakeRemote, wave: FakeWave, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks each second; the next turn is due in seven."""
    looks: list[int] = []

    def look(seconds: float) -> None:
        looks.append(len(wave.pages))
        if len(looks) == 7:
            wave.down = None
            Sweep.objects.update(due_at=timezone.now())

    def fails() -> None:
        wave.down = None if looks else Transient("POST /graphql: 429", code="rate_limited", not_before=timezone.now() + timedelta(hours=1))

    monkeypatch.setattr(command.time, "sleep", look)  # type: ignore[attr-defined]
    wave.after_page = fails
    wave.page_size = 2
    assert run("wave-to-zendesk")[0] == 0
    assert looks[:7] == [2] * 7, "one page, one in vain, and then nothing for as long as it waits"


def test_what_holds_the_account_is_shown_in_the_bar(ready: FakeRemote, to_zendesk: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    Hold.objects.create(scope=f"route:{to_zendesk.pk}", reason="paused", created_at=timezone.now())
    shown: list[str] = []

    def look(seconds: float) -> None:
        shown.append(Sweep.objects.get().problem)
        Hold.objects.all().delete()
        Sweep.objects.update(due_at=timezone.now())

    monkeypatch.setattr(command.time, "sleep", look)  # type: ignore[attr-defined]
    assert run("wave-to-zendesk")[0] == 0
    assert shown == ["wave-to-zendesk is paused"]


def test_ctrl_c_ends_the_watching_only(ready: FakeRemote, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*given: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(backfill, "carry_on", interrupt)
        code, told, _ = run("wave-to-zendesk")
    assert (code, "it goes on in the background" in told, Sweep.objects.get().state) == (130, True, "running")
    assert backfill.run_due(budget=FAR) is False
    assert Sweep.objects.get().state == "done"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("wave-to-zendsk",), 'there is no route "wave-to-zendsk" (did you mean "wave-to-zendesk"?)'),
        (("wave-to-zendesk", "--since", "yesterday"), '"yesterday" is no day: write it like 2026-01-31'),
    ],
)
def test_what_cannot_be_meant_is_exit_2_and_begins_nothing(ready: FakeRemote, args: tuple[str, ...], told: str) -> None:
    assert run(*args) == (2, told, "")
    assert not Sweep.objects.exists()


def test_a_source_that_cannot_be_asked_is_exit_1_and_begins_nothing(
    ready: FakeRemote, wave: FakeWave, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeWaveSource, "counts", lambda this, after: wave.page("customer", after, 1))
    wave.down = Transient("POST /graphql: 503", code="unavailable")
    assert run("wave-to-zendesk") == (1, "POST /graphql: 503; `ping` says what is wrong with the account", "")
    assert not Sweep.objects.exists()
