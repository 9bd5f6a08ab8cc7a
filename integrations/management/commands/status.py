"""manage.py status [--json]"""

import json
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.management.base import BaseCommand

from integrations.overview import overview

PROBLEMS = ("warning", "failed")


class Command(BaseCommand):
    help = "Show jobs, deliveries, connections, holds and heartbeats. Exit 0 when nothing is dead, blocked, overdue or silent, else 1."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        seen = overview()
        self.stdout.write(json.dumps(seen) if options["json"] else "\n".join(table(seen)))
        if not seen["healthy"]:
            raise SystemExit(1)


def table(seen: Mapping[str, Any]) -> Iterable[str]:
    """Yield the lines of a short table for people."""
    yield f"{'healthy' if seen['healthy'] else 'needs attention'}"
    yield f"jobs         {_counts(seen['jobs'])}, {seen['overdue']} overdue (oldest due {seen['oldest_due_seconds']} s)"
    yield f"deliveries   {_counts(seen['deliveries'])}"
    yield f"turned away  {_counts(seen['intake'])}"
    for row in seen["connections"]:
        health = f"{row['status']}{_because(row['reason'])}, last ok {row['last_ok_at'] or 'never'}"
        yield f"connection   {row['slug']} ({row['system']}): {row['health']['word']}; {health}"
        yield from (f"             {line['name']}: {line['detail']}" for line in row["health"]["lines"] if is_told(line))
        yield from capacity_lines(row["capacity"])
    for row in seen["holds"]:
        yield f"hold         {row['scope']}: {row['reason']} until {row['until'] or 'somebody lifts it'}"
    for row in seen["workers"]:
        yield f"worker       {row['name']}: {row['state']}, last beat {row['age_seconds']} s ago"
    if not seen["workers"]:
        yield "worker       none has ever run: start manage.py worker"
    for row in seen["schedules"]:
        yield f"schedule     {row['name']}: next at {row['next_run'] or 'never'}"


def capacity_lines(capacity: Mapping[str, Any]) -> Iterable[str]:
    """Yield what is used of each limit, and what waits where the time to drain it is known."""
    for row in capacity["budgets"]:
        yield f"             {row['bucket']}: {row['used']} of {row['limit']} used, resets at {row['resets_at']}"
    if capacity["drain_seconds"] is not None:
        yield f"             {capacity['waiting']} jobs wait: about {capacity['drain_seconds']} s to drain"


def is_told(line: Mapping[str, str]) -> bool:
    """Whether a line of health stands in the table; jobs and holds have their own."""
    return line["level"] in PROBLEMS and line["name"] not in ("connection", "jobs", "hold")


def _counts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counted.items())


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""
