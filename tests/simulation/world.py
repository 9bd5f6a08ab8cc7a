"""The world of one seed: a copy of stand-ins and database that were set up once."""

import copy
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from integrations import systems
from integrations.sandbox.jira import Jira
from integrations.sandbox.server import StandIn
from integrations.sandbox.wave import Wave
from integrations.sandbox.zendesk import Zendesk
from tests.flows.world import Setup, World
from tests.simulation.ground import Ground, use_database
from tests.simulation.wire import BASE, Wire

SETUP = Setup(oauth=True)
# As in production but for the waiting on the disk: no power is cut here.
PRAGMAS = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA foreign_keys=ON;"


@dataclass
class Clock:
    """A vendor's clock: ours, apart by some seconds."""

    ground: Ground
    apart: float = 0.0

    def __call__(self) -> datetime:
        """Return the time there."""
        stage = self.ground.stage
        now = stage.now if stage else datetime.now().astimezone()
        return now + timedelta(seconds=self.apart)

    def __deepcopy__(self, memo: Any) -> "Clock":
        """Stay the one clock of its vendor, whatever is copied around it."""
        return self


@dataclass(frozen=True)
class Template:
    """What each seed begins with."""

    folder: Path
    world: World
    clocks: Mapping[str, Clock]

    @property
    def database(self) -> Path:
        """The set-up database."""
        return self.folder / "template.sqlite3"


def _pointed_settings() -> None:
    """Let the product find the stand-ins where it looks for the vendors."""
    addresses = {
        "WAVE_GRAPHQL_URL": "wave/graphql/public",
        "WAVE_OAUTH_URL": "wave/oauth2/",
        "ZENDESK_URL": "zendesk",
        "JIRA_SITE_URL": "jira",
        "JIRA_API_URL": "jira/ex/{cloud_id}",
        "ATLASSIAN_AUTH_URL": "jira/auth",
        "ATLASSIAN_API_URL": "jira/api",
    }
    for name, path in addresses.items():
        setattr(settings, name, f"{BASE}/{path}")
    settings.AXES_ENABLED = False


@contextmanager
def template(ground: Ground) -> Iterator[Template]:
    """Set up database and stand-ins once: tables made, configured, provisioned."""
    shared = Path("/dev/shm")  # noqa: S108 - a memory disk, where there is one
    home = shared if os.access(shared, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=home) as name:
        folder = Path(name)
        _pointed_settings()
        systems._sessions.__dict__.pop("by_connection", None)  # they lead to stand-ins of another template
        settings.STATIC_ROOT = folder
        connections.settings["default"]["OPTIONS"] |= {"init_command": PRAGMAS}
        use_database(folder / "template.sqlite3")
        # Straight from the models: `makemigrations --check` says that the migrations lead there, and they take seconds.
        settings.MIGRATION_MODULES = {app.label: None for app in apps.get_app_configs()}
        call_command("migrate", run_syncdb=True, verbosity=0)
        clocks = {vendor: Clock(ground) for vendor in ("wave", "zendesk", "jira")}
        world = World(Wave(clocks["wave"]), Zendesk(clocks["zendesk"]), Jira(clocks["jira"]), ground.clock)
        world.wave.configure(rotate_refresh=True)
        ground.reseed(0)
        ground.send = Wire(ground, world.stand_ins).send
        world.configure(SETUP)
        with connections["default"].cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        use_database(folder / "nothing.sqlite3")
        yield Template(folder, world, clocks)
        use_database(folder / "nothing.sqlite3")


def copied(made: Template, ground: Ground, *, name: str) -> World:
    """Return a world of its own, over a fresh copy of the database."""
    path = made.folder / f"{name}.sqlite3"
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(made.database, path)
    use_database(path)
    old = made.world
    # Locks cannot be copied and need not be: one thread runs at a time.
    locks = [one.lock for one in old.stand_ins.values()] + [old.wave.throttle._lock]
    memo: dict[int, Any] = {id(lock): lock for lock in locks}
    stand_ins: dict[str, StandIn] = {key: copy.deepcopy(one, memo) for key, one in old.stand_ins.items()}
    for clock in made.clocks.values():
        clock.apart = 0.0
    wave, zendesk, jira = stand_ins["wave"], stand_ins["zendesk"], stand_ins["jira"]
    assert isinstance(wave, Wave)
    assert isinstance(zendesk, Zendesk)
    assert isinstance(jira, Jira)
    return World(wave, zendesk, jira, ground.clock, business=old.business, tokens=dict(old.tokens), baseline=old.baseline)
