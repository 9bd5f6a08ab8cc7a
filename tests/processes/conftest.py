"""Fixtures for tests with real processes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import time_machine
from pytest_django.fixtures import Settings

from integrations.sandbox.jira import Jira
from integrations.sandbox.server import serving
from integrations.sandbox.wave import Wave
from integrations.sandbox.zendesk import Zendesk
from tests.flows.conftest import point_at
from tests.flows.world import World, close_sessions
from tests.processes.site import Site


@pytest.fixture
def site(transactional_db: None, settings: Settings, tmp_path: Path) -> Iterator[Site]:
    """Yield a configured connector whose rows other processes see; what was started is killed at the end."""
    with time_machine.travel(datetime.now(UTC), tick=True) as clock:  # the present: other processes know no other
        world = World(Wave(), Zendesk(), Jira(), clock)
        with serving(world.stand_ins) as base:
            point_at(settings, base)
            world.configure()
            for stand_in in (world.zendesk, world.jira):
                stand_in.calls.clear()
            built = Site(world, tmp_path)
            try:
                yield built
            finally:
                built.close()
                close_sessions()
