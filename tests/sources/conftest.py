"""Wave's stand-in over HTTP, with the clock standing still."""

from collections.abc import Iterator

import pytest
import time_machine

from integrations.sandbox.server import serving
from integrations.sandbox.wave import Wave
from tests.wave_story import NOW, Story


@pytest.fixture
def story() -> Iterator[Story]:
    with time_machine.travel(NOW, tick=False):
        wave = Wave(lambda: NOW)
        with serving({"wave": wave}) as url:
            yield Story(url, wave)
