"""`manage.py demo --once`: the whole product on one machine, and an exit code that tells whether the story ended right."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from integrations.demo import stage
from integrations.demo.story import Teller
from integrations.management.commands import demo
from integrations.sandbox.jira import Jira
from integrations.sandbox.wave import Wave
from integrations.sandbox.zendesk import Zendesk
from tests.processes.site import ROOT, descendants, until

SECRETS = (*stage.SECRETS, "SECRET_KEY", "FERNET_KEYS")
JOB = r"job [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}  wave-to-"


@pytest.fixture
def told(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Start the demonstration as a user does, and yield it with the file it prints to."""
    output = tmp_path / "told.txt"
    kept = {name: value for name, value in os.environ.items() if name not in ("DEMO_FOLDER", "SECRET_KEY", "FERNET_KEYS", "DATABASE_URL")}
    with output.open("wb") as file:
        command = [sys.executable, "manage.py", "demo", "--once"]
        process = subprocess.Popen(command, cwd=ROOT, env=kept, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process, output
    finally:
        if process.poll() is None:
            for pid in (*descendants(process.pid), process.pid):
                os.kill(pid, 9)
            process.wait(10)


def settings_of(process: subprocess.Popen[bytes]) -> Mapping[str, str]:
    """Return the environment of a process."""
    entries = Path(f"/proc/{process.pid}/environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def test_the_demonstration_ends_right_tells_where_to_look_and_shows_no_secret(told: tuple[subprocess.Popen[bytes], Path]) -> None:
    process, output = told
    until(lambda: "DEMO_FOLDER" in settings_of(process), "the demonstration has made its settings")  # it starts itself anew
    made = settings_of(process)
    code = process.wait(300)  # a minute of it passes for Zendesk, the rest depends on the machine
    text = output.read_text()
    assert code == 0, text
    assert "The story ended right." in text
    assert "NOT AS IT SHOULD BE" not in text
    assert len(re.findall(JOB, text)) >= 15, text
    assert re.search(rf"admin +{re.escape(made['PUBLIC_URL'])}/admin/ +login demo, password \S{{12,}}", text), text
    for name in ("wave", "zendesk", "jira"):
        assert f"http://127.0.0.1:{made['DEMO_SANDBOX_PORT']}/{name}/" in text
    assert [name for name in SECRETS if made[name] in text] == []
    assert not Path(made["DEMO_FOLDER"]).exists(), "what went right leaves nothing behind"


def test_a_story_that_goes_wrong_is_noted_and_told() -> None:
    said: list[str] = []
    teller = Teller(Wave(), Zendesk(), Jira(), lambda: "", said.append)  # type: ignore[arg-type]
    teller.expect(True, "not told")
    teller.expect(False, "Zendesk has not exactly one organization")
    assert teller.problems == ["Zendesk has not exactly one organization"]
    assert said == ["    NOT AS IT SHOULD BE: Zendesk has not exactly one organization"]


@pytest.mark.parametrize("problem", ["told", "raised"])
def test_a_story_that_went_wrong_ends_with_exit_code_1_and_keeps_its_folder(
    problem: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def show(command: demo.Command, folder: Path, *, once: bool) -> list[str]:
        if problem == "raised":
            raise RuntimeError("manage.py provision failed")
        return ["a problem"]

    monkeypatch.setenv("DEMO_FOLDER", str(tmp_path))
    monkeypatch.setattr(demo.Command, "_show", show)
    with pytest.raises((SystemExit, CommandError)) as ended:
        call_command("demo", once=True, stdout=StringIO(), stderr=StringIO())
    assert (getattr(ended.value, "code", None), tmp_path.exists()) == (1, True)
