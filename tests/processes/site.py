"""A configured connector whose workers and web servers are processes, with the stand-ins in the test's own."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.db import connection
from django.utils import timezone

from audit.models import Exchange, SyncJob
from audit.states import State
from integrations import bindings, outgoing
from integrations.models import Binding
from integrations.sandbox.server import StandIn
from tests.flows.world import World

ROOT = Path(__file__).resolve().parents[2]
SILENT = ("DEMO_FOLDER", "DEMO_SANDBOX_PORT")


def until(true: Callable[[], Any], what: str, *, seconds: float = 30, shown: Callable[[], Any] | None = None) -> None:
    """Wait until something is true; fail with the claim, and with what is shown, when it does not become so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"after {seconds:g} s still not so: {what}" + (f"; {shown()}" if shown else "")
        time.sleep(0.05)


def database_url() -> str:
    """Return the address of the test's own database, for processes that the test starts."""
    known = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{known['NAME']}"
    login = quote(str(known["USER"])) + (f":{quote(str(known['PASSWORD']))}" if known["PASSWORD"] else "")
    return f"postgres://{login}@{known['HOST'] or '127.0.0.1'}:{known['PORT'] or 5432}/{known['NAME']}"


def environment() -> dict[str, str]:
    """Return the settings under which a process meets this test's database, keys and stand-ins."""
    kept = {name: value for name, value in os.environ.items() if name not in SILENT}
    return {
        **kept,
        "SECRET_KEY": settings.SECRET_KEY,
        "FERNET_KEYS": ",".join(settings.FERNET_KEYS),
        "DATABASE_URL": database_url(),
        "PUBLIC_URL": "http://127.0.0.1:8000",
        "WAVE_MAX_PER_MINUTE": "0",
        "WAVE_MAX_CONCURRENT": "0",
        "LOG_LEVEL": "INFO",
        **outgoing.vendor_urls(),
    }


@dataclass
class Site:
    """The world of the flows, and the processes that were started in it; each leads a group of its own."""

    world: World
    folder: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, name: str, *command: str, **extra: str) -> subprocess.Popen[bytes]:
        """Start a process; what it prints goes to <folder>/<name>.log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment() | extra, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.started.append(process)
        return process

    def manage(self, command: str, **extra: str) -> subprocess.Popen[bytes]:
        """Start a manage.py command."""
        return self.start(command, sys.executable, "manage.py", command, **extra)

    def log(self, name: str) -> str:
        """Return what a process has printed so far."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a process and everything it has started, without a warning."""
        below = list(descendants(process.pid))
        for group in [process.pid, *below]:  # a cluster leads a group of its own
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)  # with what it has started since
        self.kill_all(below)
        process.wait(10)

    def kill_all(self, pids: list[int]) -> None:
        """Kill these processes without a warning."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def alive(self, pids: list[int]) -> list[int]:
        """Return which of these processes still run."""
        return [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()]

    def close(self) -> None:
        """Kill whatever still runs."""
        for process in self.started:
            self.kill(process)

    def ask_for(self, invoice: str) -> None:
        """Let a delivery about an invoice be stored, with its jobs, and nothing be run."""
        settings.WEBHOOK_ACK = "stored"
        assert self.world.deliver("invoice.updated", invoice=invoice).status_code == 200


def descendants(pid: int) -> Iterator[int]:
    """Yield all processes below one."""
    for child in children(pid):
        yield from descendants(child)
        yield child


def children(pid: int) -> list[int]:
    """Return the processes that one has started, the first first."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


# --- What is compared ---------------------------------------------------------------------------------------------


def held(world: World) -> dict[str, Any]:
    """Return all that both destinations hold, without their own ids."""
    shown = world.zendesk.state()
    records = {one["key"]: one["records"] for one in shown["custom_objects"]}
    issues = world.jira.state()["issues"].values()
    return {
        "organizations": [(row["name"], row["organization_fields"]["wave_outstanding"]) for row in shown["organizations"]],
        "users": [row["email"] for row in shown["users"] if row["role"] == "end-user"],
        "invoices": [_fields(row, "total", "status") for row in records["wave_invoice"]],
        "payments": [_fields(row, "amount") for row in records["wave_payment"]],
        "issues": [(row["summary"], row["status"], [log["timeSpentSeconds"] for log in row["worklogs"]]) for row in issues],
        "violations": [*shown["violations"], *world.jira.violations],
    }


def _fields(row: Mapping[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(row["custom_object_fields"][name] for name in names)


def unsettled() -> list[tuple[str, str, str, str]]:
    """Return the jobs that have not come to a good end."""
    rows = SyncJob.objects.exclude(state__in=[State.SUCCEEDED, State.SUPERSEDED])
    return list(rows.values_list("route_slug", "kind", "state", "error_code"))


def unbound() -> list[tuple[str, str]]:
    """Return the bindings of which we are not sure."""
    return list(Binding.objects.exclude(state=Binding.State.BOUND).values_list("kind", "state"))


def writes_seen(*vendors: StandIn) -> list[tuple[str, str]]:
    """Return method and path of every write that reached a stand-in from a job."""
    return sorted((call.method, call.path) for vendor in vendors for call in vendor.writes())


def writes_recorded() -> list[tuple[str, str]]:
    """Return method and path of every write that stands on an attempt at a destination."""
    rows = Exchange.objects.exclude(method="GET").exclude(system="wave").exclude(path__contains="search")
    return sorted(rows.values_list("method", "path"))


def nobody_writes() -> bool:
    """Say whether no other session of this database is in the middle of something: a server carries out what reached it."""
    if connection.vendor == "sqlite":
        return True
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
        )
        return bool(cursor.fetchone()[0] == 0)


def let_leases_end() -> int:
    """Let the leases of running jobs have ended, as JOB_LEASE seconds would; return how many there were."""
    until(nobody_writes, "the database has done what the killed processes had sent")
    past = timezone.now() - timedelta(seconds=1)
    return SyncJob.objects.filter(state=State.RUNNING).update(lease_until=past)


def let_looks_end() -> None:
    """Let the looks for what killed workers were about to create lie behind, as minutes would.

    Whether a worker was killed before or after its request went out is the machine's choice.
    """
    long_ago = timezone.now() - timedelta(seconds=bindings.LOOKUPS[-1])
    Binding.objects.filter(state=Binding.State.CREATING).update(begun_at=long_ago)
