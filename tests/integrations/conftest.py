"""A source and its two routes, as most tests of the spine begin."""

from collections.abc import Callable
from typing import Any

import pytest

from integrations.models import Connection, Route

Maker = Callable[..., Any]


@pytest.fixture
def source(wave_connection: Maker) -> Connection:
    connection: Connection = wave_connection()
    return connection


@pytest.fixture
def to_zendesk(zendesk_route: Maker, source: Connection) -> Route:
    route: Route = zendesk_route(source)
    return route


@pytest.fixture
def to_jira(jira_route: Maker, source: Connection) -> Route:
    route: Route = jira_route(source)
    return route
