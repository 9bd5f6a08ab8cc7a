"""`manage.py reconcile`: what it takes, prints and returns."""

import csv
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from audit import trail
from audit.models import SyncJob
from integrations import reconcile, sweeping
from integrations.core.errors import Transient
from integrations.management.commands import reconcile as command
from integrations.models import Binding, Connection, Route, Sweep
from tests.admin.people import job_of
from tests.fakes import FakeRemote, FakeWave
from tests.integrations.reconciling import begun, brought, work

pytestmark = pytest.mark.django_db


@pytest.fixture
def ready(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, monkeypatch: pytest.MonkeyPatch) -> FakeRemote:
    """One invoice at Zendesk; nobody waits in these tests."""
    wave.put_invoice("1")
    brought(wave, (to_zendesk, zendesk))
    monkeypatch.setattr(command, "PAUSE", 0)
    return zendesk


def edit(zendesk: FakeRemote, name: str = "status", value: Any = "by hand") -> None:
    [item] = [one for one in zendesk.objects.values() if one.kind == "record"]
    item.fields[name] = value


def run(*args: str, **options: Any) -> tuple[int, str]:
    """Return the exit code and what was printed."""
    out = StringIO()
    try:
        call_command("reconcile", *args, stdout=out, stderr=StringIO(), **options)
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue()
    except CommandError as error:
        return error.returncode, f"{out.getvalue()}{error}"
    return 0, out.getvalue()


# --- What it says ----------------------------------------------------------------------------------------------------


def test_where_all_agrees_it_says_so_in_a_line(ready: FakeRemote) -> None:
    told = (
        "wave-main: 1 customer and 1 invoice: 0 sent for repair (0 because a webhook was missed), the money of 0 customers differs, 0 mixed"
    )
    assert run() == (0, f"{told}\n")


def test_what_differs_is_listed_and_sent_for_repair(ready: FakeRemote) -> None:
    edit(ready)
    code, told = run()
    assert (code, told.splitlines()[1:]) == (0, ["  wave-to-zendesk  invoice INV-1: edited at the destination (status)  pending"])
    assert SyncJob.objects.count() == 1


def test_a_dry_run_that_found_something_is_exit_1_and_asks_for_nothing(ready: FakeRemote) -> None:
    edit(ready)
    code, told = run("--dry-run")
    assert (code, SyncJob.objects.count()) == (1, 0)
    assert "1 to repair" in told
    assert run("--dry-run")[0] == 1


def test_money_that_differs_is_exit_1_and_shown(ready: FakeRemote) -> None:
    edit(ready, "due", "99.99")
    code, told = run()
    assert code == 1
    assert "  differs  Customer 7 EUR: Wave 100.00, open invoices 100.00, wave-to-zendesk 100.00/99.99" in told.splitlines()


def test_what_a_person_must_decide_is_exit_1(ready: FakeRemote) -> None:
    Binding.objects.filter(kind="record").update(state=Binding.State.LOST)
    assert run()[0] == 1


def test_a_destination_that_could_not_be_looked_at_is_exit_1(ready: FakeRemote, to_zendesk: Route) -> None:
    Connection.objects.filter(pk=to_zendesk.destination_id).update(status="needs_reconnect")
    code, told = run()
    assert (code, "wave-to-zendesk was not looked at" in told) == (1, True)


@pytest.mark.parametrize("how", [(), ("--dry-run",)], ids=["a run", "a dry run"])
def test_what_was_left_to_a_job_that_waits_is_exit_1_and_said(ready: FakeRemote, to_zendesk: Route, how: tuple[str, ...]) -> None:
    job_of(to_zendesk, 1, key=Binding.objects.get(kind="record").key, state="pending")
    code, told = run(*how)
    assert (code, told.rstrip().endswith("0 mixed; 1 record was left to jobs that wait")) == (1, True)
    assert json.loads(run(*how, "--json")[1])["left_to_jobs"] == 1


def test_json_is_one_object_a_line_per_account(
    jira: FakeRemote, ready: FakeRemote, wave_connection: Callable[..., Connection], jira_route: Any
) -> None:
    edit(ready)
    told = json.loads(run("wave-to-zendesk", "--json")[1])
    assert (told["route"], told["state"], [one["reason"] for one in told["findings"]]) == ("wave-to-zendesk", "done", ["drifted"])
    jira_route(wave_connection("wave-other"), "wave-to-jira")
    lines = [json.loads(line) for line in run("--json")[1].splitlines()]
    assert [(one["source"], one["state"]) for one in lines] == [("wave-main", "done"), ("wave-other", "done")]


def test_csv_is_written_beside_what_is_printed(ready: FakeRemote, tmp_path: Path) -> None:
    edit(ready)
    file = tmp_path / "report.csv"
    assert "edited at the destination" in run("--csv", str(file))[1]
    rows = list(csv.reader(file.read_text(encoding="utf-8").splitlines()))
    assert rows[1][:6] == [
        "record",
        "wave-to-zendesk",
        "invoice",
        Binding.objects.get(kind="record").key,
        "INV-1",
        "edited at the destination",
    ]


# --- What it refuses -------------------------------------------------------------------------------------------------


def test_an_unknown_route_is_exit_2_with_the_nearest_name(ready: FakeRemote) -> None:
    code, told = run("wave-to-zendsk")
    assert (code, Sweep.objects.count()) == (2, 0)
    assert 'there is no route "wave-to-zendsk"' in told and "wave-to-zendesk" in told


def test_without_a_route_there_is_nothing_to_do(source: Connection) -> None:
    assert run() == (2, "there is no route yet: make one in the admin, or with manage.py apply")


def test_a_file_that_cannot_be_written_is_refused_before_anything_runs(ready: FakeRemote) -> None:
    assert run("--csv", "/nowhere/report.csv") == (2, "--csv: there is no folder /nowhere")
    assert not Sweep.objects.exists()


def test_another_one_that_runs_is_not_mistaken_for_this(ready: FakeRemote, source: Connection) -> None:
    sweep = begun(source)
    code, told = run("--dry-run")
    assert (code, str(sweep) in told, Sweep.objects.count()) == (2, True, 1)


def test_the_same_one_that_runs_is_joined(ready: FakeRemote, source: Connection) -> None:
    sweep = begun(source)
    assert run()[0] == 0
    sweep.refresh_from_db()
    assert (sweep.state, Sweep.objects.count()) == ("done", 1)


# --- Waiting ---------------------------------------------------------------------------------------------------------


def test_it_keeps_to_the_time_a_failure_asks_for(ready: FakeRemote, wave: FakeWave, monkeypatch: pytest.MonkeyPatch) -> None:
    wave.down = Transient("POST /graphql: 503", code="unavailable")
    looks: list[int] = []

    def later(seconds: float) -> None:
        looks.append(len(wave.pages))
        if len(looks) == 3:
            wave.down = None
            Sweep.objects.update(due_at=Sweep.objects.get().created_at)

    monkeypatch.setattr("integrations.management.commands.reconcile.time.sleep", later)
    assert run()[0] == 0
    assert looks == [1, 1, 1], "one call, then nothing until it is due"


@pytest.mark.parametrize("when", ["in its own turn", "while it waits"])
def test_where_the_route_is_deleted_meanwhile_it_ends_and_says_so(
    ready: FakeRemote, wave: FakeWave, to_zendesk: Route, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def delete() -> None:
        Binding.objects.all().delete()
        Route.objects.filter(pk=to_zendesk.pk).delete()

    if when == "in its own turn":
        wave.after_page = delete
    else:
        monkeypatch.setattr(reconcile, "carry_on", lambda sweep, deadline: False)
        monkeypatch.setattr("integrations.management.commands.reconcile.time.sleep", lambda seconds: delete())
    code, told = run("wave-to-zendesk")
    assert (code, told.startswith("reconcile of wave-to-zendesk, "), told.endswith(f": {sweeping.DELETED}")) == (1, True, True)


def test_while_a_worker_carries_it_on_the_command_only_looks(
    ready: FakeRemote, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = begun(source)
    monkeypatch.setattr(reconcile, "carry_on", lambda sweep, deadline: False)
    monkeypatch.setattr(
        "integrations.management.commands.reconcile.time.sleep", lambda seconds: Sweep.objects.filter(pk=sweep.pk).update(state="done")
    )
    assert run()[0] == 0


def test_without_a_worker_waiting_for_repairs_is_exit_1_and_the_report_is_printed(ready: FakeRemote) -> None:
    edit(ready)
    code, told = run("--wait")
    assert (code, "no worker is alive" in told, "edited at the destination" in told) == (1, True, True)


def test_with_a_worker_it_waits_for_the_repairs(ready: FakeRemote, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(ready)
    trail.beat()
    monkeypatch.setattr("audit.replay.time.sleep", lambda seconds: work())
    code, told = run("--wait")
    assert (code, told.splitlines()[1].endswith("succeeded")) == (0, True)
    assert ready.writes[0].fields["status"] == "SENT"


def test_a_repair_that_ends_dead_is_exit_1(ready: FakeRemote, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(ready)
    trail.beat()
    monkeypatch.setattr("audit.replay.time.sleep", lambda seconds: SyncJob.objects.update(state="dead"))
    code, told = run("--wait", "--json")
    assert (code, told.endswith("1 repair has not succeeded"), json.loads(told.splitlines()[0])["state"]) == (1, True, "done")
