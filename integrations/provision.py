"""Create what a route needs at its destination, and let rest no longer the mappings whose field is there now."""

import re
from collections.abc import Iterable

from integrations import systems
from integrations.core.ports import Step
from integrations.models import FieldMapping, Route

THERE = ("exists", "created")


def provision(route: Route, *, dry_run: bool) -> list[Step]:
    """Create the remote fields and objects of a route, or only say what would be done; safe to repeat.

    Mappings that the destination refused because their field was missing are tried again. Raises ConnectorError.
    """
    steps = systems.destination(route, insist=True).provision(dry_run=dry_run)
    if not dry_run:
        _clear_problems(route, steps)
    return steps


def _clear_problems(route: Route, steps: Iterable[Step]) -> None:
    there = " ".join(step.what for step in steps if step.change in THERE)
    for row in FieldMapping.objects.filter(route=route).exclude(problem=""):
        if any(_mentions(there, name) for name in (row.target, row.remote, row.target.rpartition(".")[2])):
            FieldMapping.objects.filter(pk=row.pk).update(problem="")


def _mentions(text: str, name: str) -> bool:
    return bool(name) and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None
