"""The stage of the demonstration: its folder, its environment, and the processes that run on it."""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests
from cryptography.fernet import Fernet

WEB_PORT, SANDBOX_PORT = 8000, 8800
SECRETS = ("WAVE_ACCESS_TOKEN", "WAVE_WEBHOOK_SECRET", "ZENDESK_CLIENT_SECRET", "JIRA_API_TOKEN")


def free_port(wanted: int) -> int:
    """Return the wanted port of loopback when it is free, else any free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RuntimeError("no free port on 127.0.0.1")


def environment(folder: Path, *, usual_ports: bool) -> dict[str, str]:
    """Return the settings of a run of its own: fresh keys and secrets, a new database, the sandbox as all vendors."""
    web, sandbox = (free_port(WEB_PORT), free_port(SANDBOX_PORT)) if usual_ports else (free_port(0), free_port(0))
    base = f"http://127.0.0.1:{sandbox}"
    return {
        "SECRET_KEY": secrets.token_urlsafe(60),
        "FERNET_KEYS": Fernet.generate_key().decode(),
        "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}",
        "PUBLIC_URL": f"http://127.0.0.1:{web}",
        "WEBHOOK_ACK": "processed",
        "WAVE_GRAPHQL_URL": f"{base}/wave/graphql/public",
        "WAVE_OAUTH_URL": f"{base}/wave/oauth2/",
        "WAVE_MAX_PER_MINUTE": "0",
        "WAVE_MAX_CONCURRENT": "0",
        "ZENDESK_URL": f"{base}/zendesk",
        "JIRA_SITE_URL": f"{base}/jira",
        "JIRA_API_URL": f"{base}/jira/ex/{{cloud_id}}",
        "ATLASSIAN_AUTH_URL": f"{base}/jira/auth",
        "ATLASSIAN_API_URL": f"{base}/jira/api",
        "LOG_LEVEL": "WARNING",
        "DEMO_FOLDER": str(folder),
        "DEMO_SANDBOX_PORT": str(sandbox),
        **{name: secrets.token_urlsafe(24) for name in SECRETS},
    }


@dataclass(slots=True)
class Stage:
    """The running parts: `run` calls manage.py, `start` starts a process that is stopped with the stage."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, *arguments: str, extra: Mapping[str, str] | None = None) -> str:
        """Run one manage.py command to its end and return what it printed; raise RuntimeError when it fails."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, env={**os.environ, **(extra or {})}, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise RuntimeError(f"manage.py {arguments[0]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, name: str, command: list[str]) -> None:
        """Start a process that writes to <folder>/<name>.log."""
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))  # noqa: S603

    def wait_for(self, url: str, seconds: float = 30) -> None:
        """Wait until the address answers 200."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and all(process.poll() is None for process in self.processes):
            try:
                if requests.get(url, timeout=2).ok:
                    return
            except requests.RequestException:
                time.sleep(0.1)
        raise RuntimeError(f"{url} does not answer; see the logs in {self.folder}")

    def stop(self) -> None:
        """Stop all processes, politely first."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(70)  # the supervisor gives its workers a minute, and ends them then; nobody else would
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def standing(folder: Path) -> Iterator[Stage]:
    """Yield a stage and take it down whatever happens."""
    with ExitStack() as stack:
        stage = Stage(folder)
        stack.callback(stage.stop)
        yield stage
