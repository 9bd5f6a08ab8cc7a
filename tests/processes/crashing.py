"""A worker that stops dead at one point, for a test to kill it there: `python -m tests.processes.crashing <point> [kind]`.

Point is claimed, read, intended, written or settling; with a kind only documents of that kind count. `none` runs through.
"""

import os
import signal
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "connector_site.settings")
django.setup()

from audit import ledger  # noqa: E402 - after the set-up
from integrations import bindings, pipeline, reading  # noqa: E402

REACHED = "reached"


def stop_here() -> None:
    """Say that the point is reached, and wait to be killed."""
    sys.stdout.write(f"{REACHED}\n")
    sys.stdout.flush()
    while True:
        signal.pause()


def stop_at(module: ModuleType, name: str, *, after: bool, counts: Callable[..., bool] = lambda *args, **more: True) -> None:
    """Let the first call that counts stop the process, before or after it is carried out."""
    original = getattr(module, name)

    def stopping(*args: Any, **more: Any) -> Any:
        if counts(*args, **more) and not after:
            stop_here()
        result = original(*args, **more)
        if counts(*args, **more) and after:
            stop_here()
        return result

    setattr(module, name, stopping)


def arm(point: str, kind: str) -> None:
    """Set the stop: `intended` is after the intent was committed, `written` after the vendor's answer and before our memory of it."""
    if point == "claimed":
        stop_at(ledger, "claim", after=True)
    elif point == "read":
        stop_at(reading, "read", after=True)
    elif point == "intended":
        stop_at(bindings, "begin", after=True, counts=lambda writer, document, **more: document.kind == kind)
    elif point == "written":
        stop_at(bindings, "done", after=False, counts=lambda row, document, *more: document.kind == kind)
    elif point == "settling":
        stop_at(ledger, "settle", after=False)


if __name__ == "__main__":
    arm(*[*sys.argv[1:], ""][:2])
    ledger.reclaim()
    pipeline.drain(started_by="worker", budget=30)
