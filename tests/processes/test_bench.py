"""`manage.py bench`: it measures in a database of its own, and its exit code tells what is above its bound."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from integrations.bench import catalogue, changes, ground
from integrations.bench.clock import Clock
from integrations.bench.counts import Calls, is_write
from integrations.bench.tables import Table
from integrations.management.commands import bench
from integrations.sandbox.server import Call
from tests.processes.site import ROOT

OWN = ("BENCH_FOLDER", "DEMO_FOLDER", "SECRET_KEY", "FERNET_KEYS", "DATABASE_URL")
TABLE = Table("one", "One of two", ("what", "number"), [("calls", 12345), ("seconds", 0.5)])


def started(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the bench as a person does, whose own database is in a folder."""
    kept = {name: value for name, value in os.environ.items() if name not in OWN}
    environment = {**kept, "DATABASE_URL": f"sqlite:///{folder / 'mine.sqlite3'}", "TMPDIR": str(folder)}
    command = [sys.executable, "manage.py", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_a_small_bench_measures_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = started(tmp_path, "outage", "growth", "--rows", "60", "--json")
    tables = {table["name"]: table for table in json.loads(done.stdout or "[]")}
    assert list(tables) == ["outage", "growth"], done.stderr
    calls = dict(tables["outage"]["rows"])
    assert 0 < calls["calls at Zendesk"] + calls["reads of Wave"] <= 200
    assert [row[0] for row in tables["growth"]["rows"]] == ["acknowledge, stored", "claim and settle"]
    assert [one for one in tables["growth"]["wrong"] if "grows" not in one] == [], "only the clock may differ on a busy machine"
    assert list(tmp_path.iterdir()) == [], "neither the person's database nor a folder of its own"


def test_an_unknown_name_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="nothing is called speed; there is changes, backfill, quota"):
        call_command("bench", "speed")


@pytest.mark.django_db
def test_a_database_with_tables_is_refused_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ground.FOLDER, str(tmp_path))
    monkeypatch.setattr(connection, "close", lambda: None)  # the test's own
    before = connection.introspection.table_names()
    with pytest.raises(CommandError, match="name an empty one"):
        call_command("bench", "changes")
    assert connection.introspection.table_names() == before


@pytest.mark.parametrize("wrong", [[], ["2 calls, 1 would do"]])
def test_what_is_above_its_bound_ends_with_exit_code_1(wrong: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table("one", "One", ("what",), [("calls",)], wrong)
    monkeypatch.setattr(bench.Command, "_on_ground", lambda *args: [table])
    monkeypatch.setattr(ground, "folder", lambda: ROOT)
    monkeypatch.setattr(ground, "remove_folder", lambda: None)
    codes: list[Any] = []
    try:
        call_command("bench", "changes")
    except SystemExit as ended:
        codes.append(ended.code)
    assert codes == ([1] if wrong else [])


def test_every_theme_is_named_in_the_help() -> None:
    assert all(name in bench.Command().create_parser("manage.py", "bench").format_help() for name in catalogue.THEMES)


# --- Its parts ------------------------------------------------------------------------------------------------------


def test_a_table_is_printed_as_text_and_as_markdown() -> None:
    assert TABLE.as_text() == "One of two\n  what     number\n  calls    12,345\n  seconds    0.50\n"
    assert TABLE.as_markdown() == "### One of two\n\n| what | number |\n| --- | ---: |\n| calls | 12,345 |\n| seconds | 0.50 |\n\n"


def test_the_clock_goes_forward_only_and_only_while_it_is_installed() -> None:
    clock, noon = Clock(), datetime.now(UTC) + timedelta(hours=12)
    clock.move_to(noon)
    clock.move_to(noon - timedelta(hours=1))
    with clock.installed():
        assert noon <= timezone.now() < noon + timedelta(minutes=1)
    assert timezone.now() < noon


@pytest.mark.parametrize(
    ("method", "path", "write"),
    [
        ("PUT", "/api/v2/organizations/1", True),
        ("POST", "/rest/api/3/issue", True),
        ("POST", "/rest/api/3/search/jql", False),
        ("POST", "/rest/api/3/issue/bulkfetch", False),
        ("POST", "/oauth/tokens", False),
        ("GET", "/api/v2/users/1", False),
    ],
)
def test_a_write_is_what_changes_something(method: str, path: str, write: bool) -> None:
    assert is_write(Call(datetime.now(UTC), method, path, "", 200)) == write


def test_more_calls_than_the_minimum_are_seen_wherever_they_are() -> None:
    assert Calls(1, 2, 1).within(Calls(1, 2, 1))
    assert [Calls(*more).within(Calls(1, 1, 1)) for more in ((2, 1, 1), (1, 2, 1), (1, 1, 2), (1, 1, 1, 1))] == [False] * 4
    assert all(case.least.wave for case in changes.CASES)
