"""The world of the flow tests: three stand-ins on real sockets, and a connector that is set up for them."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import time_machine
from pytest_django import Settings

from integrations.sandbox.jira import Jira
from integrations.sandbox.server import serving
from integrations.sandbox.wave import Wave
from integrations.sandbox.zendesk import Zendesk
from tests.flows.world import NOW, Setup, World, close_sessions


def point_at(settings: Settings, base: str) -> None:
    """Let the product find the stand-ins where it looks for the vendors."""
    settings.WAVE_GRAPHQL_URL = f"{base}/wave/graphql/public"
    settings.WAVE_OAUTH_URL = f"{base}/wave/oauth2/"
    settings.ZENDESK_URL = f"{base}/zendesk"
    settings.JIRA_SITE_URL = f"{base}/jira"
    settings.JIRA_API_URL = f"{base}/jira/ex/{{cloud_id}}"
    settings.ATLASSIAN_AUTH_URL = f"{base}/jira/auth"
    settings.ATLASSIAN_API_URL = f"{base}/jira/api"
    settings.WAVE_MAX_PER_MINUTE = settings.WAVE_MAX_CONCURRENT = 0


@pytest.fixture
def empty_world(settings: Settings, tmp_path: Path) -> Iterator[World]:
    """Yield the stand-ins with the product pointed at them, nothing configured; the clock starts at NOW and runs."""
    settings.STATIC_ROOT = tmp_path
    with time_machine.travel(NOW, tick=True) as clock:
        world = World(Wave(), Zendesk(), Jira(), clock)
        with serving(world.stand_ins) as base:
            point_at(settings, base)
            yield world
            close_sessions()


def _configured(world: World, setup: Setup) -> World:
    world.configure(setup)
    return world


@pytest.fixture
def make_world(empty_world: World, db: None) -> Callable[[Setup], World]:
    """Return what configures the world as a test wants it."""
    return partial(_configured, empty_world)


@pytest.fixture
def threaded_world(empty_world: World, transactional_db: None) -> Callable[[Setup], World]:
    """Return what configures a world in which threads may post: they see what others committed."""
    return partial(_configured, empty_world)


@pytest.fixture
def world(make_world: Callable[[Setup], World]) -> World:
    """Return the world as most stories find it: both routes, custom objects, worklogs."""
    return make_world(Setup())


@pytest.fixture
def still(world: World) -> Iterator[time_machine.Traveller]:
    """Let only calls and waits take time, where `integrations.bench.still` says how much."""
    with time_machine.travel(datetime.now(UTC), tick=False) as clock:
        yield clock
