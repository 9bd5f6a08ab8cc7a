"""Years of history in seconds: rows as a long life leaves them, made by the database itself."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import connection

from integrations.bench.site import BUSINESS
from integrations.models import Route

JOBS_PER_RECORD = 10  # five changes, on two routes
FIRST = 1_000_000_000  # the number of the first record, at Wave
BATCH = 100_000
# `n` numbers the jobs. A quarter are customers', derived from their invoices; every tenth of those is of one who buys all day.
OF_CUSTOMER, OF_GREAT_CUSTOMER = "n % 4 = 0", "n % 40 = 0"
STATE = "CASE WHEN n % 500 IN (1, 2) THEN 'pending' WHEN n % 1000 >= 990 THEN 'dead' WHEN n % 50 < 2 THEN 'superseded' ELSE 'succeeded' END"
UNRESOLVED = "n % 10000 >= 9990"
RECORD = f"(n / {JOBS_PER_RECORD})"
INVOICE = f"'wave:{BUSINESS}:invoice:' || ({RECORD} + {FIRST})"
CUSTOMER = f"'wave:{BUSINESS}:customer:' || (CASE WHEN {OF_GREAT_CUSTOMER} THEN 0 ELSE {RECORD} / 10 END + {FIRST})"
Columns = Mapping[str, str]  # column -> expression of n


def fill(routes: Sequence[Route], first: int, last: int) -> None:
    """Add the jobs numbered first to last, of two routes of one source, with their attempts, exchanges, deliveries and bindings.

    Of 1,000 jobs 4 wait for a later time and 10 are dead letters, nine of ten resolved; the rest is over. Times lie a minute apart.
    """
    words = Postgres() if connection.vendor == "postgresql" else Sqlite()
    with connection.cursor() as cursor:
        for start in range(first, last + 1, BATCH):
            for statement in _statements(routes, words, range(start, min(start + BATCH - 1, last) + 1)):
                cursor.execute(statement)


@contextmanager
def in_haste() -> Iterator[None]:
    """Let SQLite keep its pages in memory and not wait for the disk; PostgreSQL then looks at the tables as autovacuum would.

    What is measured afterwards has the usual settings. Not inside a transaction.
    """
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA cache_size = -800000")
            cursor.execute("PRAGMA synchronous = OFF")
        yield
        if connection.vendor == "postgresql":
            cursor.execute("VACUUM ANALYZE")
    connection.close()  # opened anew with its settings


# --- What the engines say differently ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Postgres:
    """PostgreSQL's words."""

    blob: str = "decode(repeat('61', 600), 'hex')"

    def identity(self, kind: int, number: str = "n") -> str:
        """Return a UUID without order, as ours are, that another table can work out from the same number."""
        return f"md5('{kind}' || ({number}))::uuid"

    def hash(self, kind: int) -> str:
        """Return 64 hex digits."""
        return f"md5('{kind}' || n) || md5('{kind}' || n)"

    def ago(self, minutes: str) -> str:
        """Return the time so many minutes ago."""
        return f"now() - ({minutes}) * interval '1 minute'"

    def json(self, text: str) -> str:
        """Return a JSON value."""
        return f"'{text}'::jsonb"


@dataclass(frozen=True, slots=True)
class Sqlite:
    """SQLite's words, in the forms in which Django stores values there."""

    blob: str = "zeroblob(600)"

    def identity(self, kind: int, number: str = "n") -> str:
        """Return a UUID: times an odd number, modulo a power of two, scatters well and never meets itself."""
        return f"printf('%08x{kind}%023x', ({number}) * 2654435761 % 4294967296, {number})"

    def hash(self, kind: int) -> str:
        """Return 64 hex digits."""
        return f"{self.identity(kind)} || {self.identity(kind)}"

    def ago(self, minutes: str) -> str:
        """Return the time so many minutes ago."""
        return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', (-({minutes})) || ' minutes')"

    def json(self, text: str) -> str:
        """Return a JSON value."""
        return f"'{text}'"


Words = Postgres | Sqlite

# --- Rows -----------------------------------------------------------------------------------------------------------


def _statements(routes: Sequence[Route], words: Words, numbers: range) -> Iterator[str]:
    for place, route in enumerate(routes):
        yield _insert("audit_syncjob", _jobs(route, words), numbers, f"n % 2 = {place}")
        yield _insert("integrations_binding", _bindings(route, words), numbers, f"n % {JOBS_PER_RECORD} = {place}")
    yield _insert("audit_attempt", _attempts(words), numbers)
    yield _insert("audit_exchange", _exchanges(words), numbers)
    yield _insert("integrations_delivery", _deliveries(routes[0].source_id, words), numbers, "n % 2 = 0")


def _insert(table: str, columns: Columns, numbers: range, where: str = "TRUE") -> str:
    counted = f"WITH RECURSIVE numbers(n) AS (SELECT {numbers[0]} UNION ALL SELECT n + 1 FROM numbers WHERE n < {numbers[-1]})"  # noqa: S608 - numbers
    into, chosen = ", ".join(columns), ", ".join(columns.values())
    return f"{counted} INSERT INTO {table} ({into}) SELECT {chosen} FROM numbers WHERE {where}"  # noqa: S608 - our own words


def _jobs(route: Route, words: Words) -> Columns:
    about = {
        "id": words.identity(1),
        "route_id": str(route.pk),
        "route_slug": f"'{route.slug}'",
        "source_id": str(route.source_id),
        "destination_id": str(route.destination_id),
        "system": f"'{route.destination.system}'",
        "kind": f"CASE WHEN {OF_CUSTOMER} THEN 'customer' ELSE 'invoice' END",
        "key": f"CASE WHEN {OF_CUSTOMER} THEN {CUSTOMER} ELSE {INVOICE} END",
        "customer_key": f"CASE WHEN {OF_CUSTOMER} THEN '' ELSE {CUSTOMER} END",
        "derived": OF_CUSTOMER,
    }
    named = {"title": f"'INV-' || {RECORD}", "party": "'Northwind Bakery'", "amount": "'120.00 USD'"}
    return {**about, **_standing(words), **named}


def _standing(words: Words) -> Columns:
    flags = dict.fromkeys(("force", "second_look"), "FALSE")
    empty = dict.fromkeys(("reason", "error_code"), "''")
    numbers = {"tries": "0", "losses": "0", "attempt_number": "1"}
    return {
        **flags,
        **empty,
        **numbers,
        "state": STATE,
        "result": "'updated'",
        "notes": words.json("[]"),
        "created_at": words.ago("n"),
        "due_at": f"CASE WHEN {STATE} = 'pending' THEN {words.ago('-100000')} ELSE {words.ago('n')} END",
        "settled_at": f"CASE WHEN {STATE} <> 'pending' THEN {words.ago('n')} END",
        "resolved_by_id": f"CASE WHEN {STATE} = 'dead' AND NOT {UNRESOLVED} THEN {words.identity(1, 'n - 10')} END",
    }


def _bindings(route: Route, words: Words) -> Columns:
    return {
        "route_id": str(route.pk),
        "kind": "'wave_invoice'" if route.destination.system == "zendesk" else "'issue'",
        "key": INVOICE,
        "remote_id": "'r' || n",
        "parent": CUSTOMER,
        "state": "'bound'",
        "hashes": words.json('{"total": "0123456789abcdef0123", "status": "0123456789abcdef0123"}'),
        "facts": words.json("{}"),
        "job_id": words.identity(1),
        "title": f"'INV-' || {RECORD}",
    }


def _attempts(words: Words) -> Columns:
    empty = dict.fromkeys(("reason", "error_code", "message", "words"), "''")
    times = dict.fromkeys(("opened_at", "closed_at"), words.ago("n"))
    about = {"job_id": words.identity(1), "number": "1", "claim": words.identity(2), "started_by": "'webhook'"}
    return about | times | empty | {"ending": "'success'", "result": "'updated'", "notes": words.json("[]")}


def _exchanges(words: Words) -> Columns:
    return {
        "attempt_id": f"(SELECT id FROM audit_attempt WHERE job_id = {words.identity(1)} AND number = 1)",  # noqa: S608 - our own words
        "system": "'zendesk'",
        "method": "'PATCH'",
        "path": "'/api/v2/custom_objects/wave_invoice/records'",
        "sent_at": words.ago("n"),
        "status": "200",
        "milliseconds": "40",
        "request_id": "''",
    }


def _deliveries(source_id: int, words: Words) -> Columns:
    return {
        "id": words.identity(3),
        "connection_id": str(source_id),
        "event_type": "'invoice.updated'",
        "event_hash": words.hash(4),
        "body_hash": words.hash(5),
        "body": words.blob,
        "secret": "'0123456789abcdef'",
        "skew": "0.2",
        "decision": "'accepted'",
        "reason": "''",
        "subject": INVOICE,
        "job_ids": words.json("[]"),
        "seen": "1",
        "received_at": words.ago("n"),
        "last_seen_at": words.ago("n"),
    }
