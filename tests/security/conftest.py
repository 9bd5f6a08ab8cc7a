"""The world of the flows, for tests of what must never show."""

from tests.flows.conftest import empty_world, make_world

__all__ = ["empty_world", "make_world"]
