"""Which tables the hot paths read from end to end: their statements are caught as they run, and the database explains them."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

GROWING = (
    "audit_syncjob",
    "audit_attempt",
    "audit_exchange",
    "integrations_delivery",
    "integrations_binding",
    "integrations_change",
    "integrations_showncustomer",
)
EXPLAINED = ("SELECT", "UPDATE", "DELETE")
# A table that is sought by these alone is read in great part: all its rows have one of a few values.
COMMON = frozenset({"route_id", "source_id", "connection_id", "state", "kind", "system"})
# What these hold is at work or due now: few rows however long the history.
SMALL = ("job_due", "job_lease", "one_running_job_per_record", "one_open_job_per_record", "job_live")
Statement = tuple[str, Any]


@contextmanager
def caught() -> Iterator[list[Statement]]:
    """Yield the list that takes every statement, with its values, that the block runs."""
    found: list[Statement] = []

    def note(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        found.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield found


def full_scans(statements: list[Statement]) -> list[str]:
    """Return what reads a growing table in great part: the table, the step of the plan, and the statement."""
    found = []
    for sql, params in statements:
        if sql.lstrip().startswith(EXPLAINED):
            names = _names(sql)
            found += [f"{table}: {step.strip()} of {sql}" for step in plan(sql, params) for table in _read_whole(step, names)]
    return list(dict.fromkeys(found))


def plan(sql: str, params: Any) -> list[str]:
    """Return the database's own plan for a statement, step by step."""
    with connection.cursor() as cursor:
        cursor.execute(("EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN ") + sql, params)
        return [str(row[-1]) for row in cursor.fetchall()]


def _names(sql: str) -> dict[str, str]:
    """Return the growing tables of a statement by the names under which its plan speaks of them."""
    aliases = dict(re.findall(r'"(\w+)" ([A-Z]\d+)\b', sql))
    return {name: table for table in GROWING if table in sql for name in (table, aliases.get(table, table))}


def _read_whole(step: str, names: dict[str, str]) -> list[str]:
    if connection.vendor == "postgresql":
        whole = re.search(r"Seq Scan on (\w+)", step)
        return [names[whole[1]]] if whole and whole[1] in names else []
    seen = re.search(r"(SCAN|SEARCH) (\w+)(?: USING (?:COVERING )?(?:INDEX (\w+)|INTEGER PRIMARY KEY))?(?: \((.*)\))?", step)
    if seen is None or seen[2] not in names or seen[3] in SMALL:
        return []
    if (seen[3] or "").startswith("sqlite_autoindex_") and names[seen[2]] not in seen[3]:
        return []  # another table's: subqueries beside each other share an alias
    sought = set(re.findall(r"(\w+)[=<>]", seen[4] or ""))
    return [] if sought - COMMON else [names[seen[2]]]
