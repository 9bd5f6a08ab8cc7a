"""Looks for a secret in whatever form a careless line of code may leave it behind."""

import base64
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.contrib.sessions.models import Session
from django.db import connection
from django_q.models import OrmQ, Task
from django_q.signing import SignedPackage


def forms(secret: str) -> set[bytes]:
    """Return a secret as plain, hexadecimal, quoted and base64 bytes, the last wherever it may stand in a longer text."""
    raw = secret.encode()
    found = {raw, raw.hex().encode(), raw.hex().upper().encode(), quote(secret, safe="").encode()}
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        # The first and last characters also hold bits of what stands beside the secret.
        inner = encoded[(shift * 8 + 5) // 6 :][: (len(raw) * 8 - 8) // 6]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def leaks(secrets: Mapping[str, str], texts: Iterable[tuple[str, bytes]]) -> list[str]:
    """Return `secret in place` for every secret that stands in one of the texts, which are (place, bytes)."""
    wanted = {name: forms(secret) for name, secret in secrets.items()}
    return sorted({f"{name} in {place}" for place, text in texts for name, known in wanted.items() if any(form in text for form in known)})


def cells() -> Iterator[tuple[str, bytes]]:
    """Yield every value of every table as its bytes, by plain SQL."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")  # noqa: S608 - our own tables
            names = [column[0] for column in cursor.description]
            for row in cursor.fetchall():
                yield from ((f"{table}.{name}", as_bytes(value)) for name, value in zip(names, row, strict=True))


def as_bytes(value: Any) -> bytes:
    """Return a database value as bytes."""
    if isinstance(value, bytes | memoryview):
        return bytes(value)
    return str(value).encode()


def packed() -> Iterator[tuple[str, bytes]]:
    """Yield what sessions and queued tasks hold once they are unpacked."""
    for session in Session.objects.all():
        yield "session", repr(session.get_decoded()).encode()
    for queued in OrmQ.objects.all():
        yield "queued task", repr(SignedPackage.loads(queued.payload)).encode()
    for task in Task.objects.all():
        yield "finished task", repr((task.args, task.kwargs, task.result)).encode()


def files() -> Iterator[tuple[str, bytes]]:
    """Yield SQLite's files as they lie on disk: they keep what was deleted.

    Another process reads them: a file that this one opened and closed would take SQLite's own locks on it away.
    https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
    """
    if connection.vendor == "sqlite":
        for path in sorted(Path(str(connection.settings_dict["NAME"])).parent.glob("test.sqlite3*")):
            yield path.name, subprocess.run(["cat", str(path)], capture_output=True, check=True).stdout  # noqa: S607 - no other cat
