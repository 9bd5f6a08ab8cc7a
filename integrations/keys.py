"""The keys that encrypt secrets: the proof at start-up that they fit, and their rotation while everything runs.

Rows are read and written below the field: it would decrypt them, and it keeps the keys that it met first.
"""

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from django.apps import apps
from django.conf import settings
from django.db import connection, transaction
from django.db.models import BinaryField

from integrations.models import KeyCanary
from integrations.models.secrets import SecretTextField, WrongKeyError

CANARY_WORD = "these are the keys"
BATCH = 100  # rows that are locked together
PASSES = 3  # a row that is written while it is rotated is met again in the next one
UNREADABLE = "no key"
WRONG = (
    "FERNET_KEYS holds none of the keys that this database's secrets were stored with. Nothing was changed. "
    "Put the old key back (several are separated by commas; the first encrypts, all decrypt), or point DATABASE_URL at the right database."
)


@dataclass(frozen=True, slots=True)
class Key:
    """One of FERNET_KEYS; `name` is short, may be shown, and says nothing about the key. Its repr shows no key."""

    name: str
    fernet: Fernet = field(repr=False)

    def fits(self, token: bytes) -> bool:
        """Whether the token was encrypted with this key."""
        try:
            self.fernet.decrypt(token)
        except InvalidToken:
            return False
        return True


def configured() -> list[Key]:
    """Return the keys of the settings, the one that encrypts first."""
    return [Key(hashlib.sha256(f"fingerprint {key}".encode()).hexdigest()[:8], Fernet(key)) for key in settings.FERNET_KEYS]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of secrets, as SQL names it; all names come from our own models."""

    label: str
    table: str
    column: str
    pk: str

    def rows(self, size: int = BATCH) -> Iterator[list[tuple[Any, bytes]]]:
        """Yield (primary key, token) of every row, in batches by primary key; each batch is a query of its own."""
        after: list[Any] = []
        while True:
            with connection.cursor() as cursor:
                cursor.execute(self._select(bool(after)), [*after, size])
                found = [(pk, bytes(token)) for pk, token in cursor.fetchall()]
            if not found:
                return
            yield found
            after = [found[-1][0]]

    def _select(self, further: bool) -> str:
        table, column, pk = self._quoted()
        beyond = f" AND {pk} > %s" if further else ""
        return f"SELECT {pk}, {column} FROM {table} WHERE {column} IS NOT NULL{beyond} ORDER BY {pk} LIMIT %s"  # noqa: S608 - our own names

    def replace(self, pk: Any, old: bytes, new: bytes) -> bool:
        """Store another token if the row still holds the old one; False when somebody wrote it meanwhile."""
        table, column, pk_name = self._quoted()
        with connection.cursor() as cursor:
            command = f"UPDATE {table} SET {column} = %s WHERE {pk_name} = %s AND {column} = %s"  # noqa: S608 - our own names
            cursor.execute(command, [_binary(new), pk, _binary(old)])
            return bool(cursor.rowcount == 1)

    def _quoted(self) -> tuple[str, str, str]:
        quote = connection.ops.quote_name
        return quote(self.table), quote(self.column), quote(self.pk)


def _binary(value: bytes) -> Any:
    """Return bytes as this database's driver takes them."""
    return BinaryField().get_db_prep_value(value, connection)


def columns() -> list[Column]:
    """Return every column of secrets that any installed model has."""
    return [
        Column(f"{model._meta.label}.{one.name}", model._meta.db_table, str(one.column), str(model._meta.pk.column))
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and not model._meta.proxy
        for one in model._meta.local_concrete_fields
        if isinstance(one, SecretTextField)
    ]


# --- Counting and rotating -----------------------------------------------------------------------------------------


def _key_of(token: bytes, keys: list[Key]) -> Key | None:
    return next((key for key in keys if key.fits(token)), None)


def tally() -> Counter[str]:
    """Count all secrets by the name of the key that encrypted them; UNREADABLE counts those that no key fits."""
    keys = configured()
    counted = Counter({key.name: 0 for key in keys} | {UNREADABLE: 0})
    for column in columns():
        for rows in column.rows():
            for _, token in rows:
                found = _key_of(token, keys)
                counted[found.name if found else UNREADABLE] += 1
    return counted


def total() -> int:
    """Return how many secrets are stored."""
    found = 0
    for column in columns():
        table, name, _ = column._quoted()
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT COUNT({name}) FROM {table}")  # noqa: S608 - our own names
            found += cursor.fetchone()[0]
    return found


def rotate(seen: Callable[[int], Any] = lambda rows: None) -> Counter[str]:
    """Encrypt every secret with the first key; return the tally afterwards.

    Safe while web and workers run with both keys: a row is replaced only while it holds what was read, so a token
    that is refreshed meanwhile is never overwritten; it is met again in another pass. What no key fits is left
    alone. Stopped at any point it can be run again. `seen` is told how many rows were looked at, in the first pass.
    """
    keys = configured()
    if not _pass(keys, seen):
        for _ in range(PASSES - 1):
            if _pass(keys, lambda rows: None):
                break
    return tally()


def _pass(keys: list[Key], seen: Callable[[int], Any]) -> bool:
    """Go through all rows once; False when somebody wrote one of them while it was being replaced."""
    whole = True
    for column in columns():
        for rows in column.rows():
            with transaction.atomic():
                for pk, token in rows:
                    whole &= _rotate_row(column, pk, token, keys)
            seen(len(rows))
    return whole


def _rotate_row(column: Column, pk: Any, token: bytes, keys: list[Key]) -> bool:
    if keys[0].fits(token):
        return True
    key = _key_of(token, keys[1:])
    return key is None or column.replace(pk, token, keys[0].fernet.encrypt(key.fernet.decrypt(token)))


# --- The proof at start-up -----------------------------------------------------------------------------------------


def check() -> None:
    """Prove that our keys are those of this database; raise WrongKeyError otherwise. Writes nothing.

    A database without tables proves nothing and passes. Where no canary was planted yet, all secrets must be readable.
    """
    if not _has_table():
        return
    keys = configured()
    canaries = [token for column in columns() if column.table == KeyCanary._meta.db_table for rows in column.rows() for _, token in rows]
    fits = all(_key_of(token, keys) for token in canaries) if canaries else not tally()[UNREADABLE]
    if not fits:
        raise WrongKeyError(WRONG)


def _has_table() -> bool:
    with connection.cursor() as cursor:
        return KeyCanary._meta.db_table in connection.introspection.table_names(cursor)


@functools.cache
def check_once() -> None:
    """Prove it once in the life of this process; a proof that failed is tried again."""
    check()


def plant() -> None:
    """Leave the canary if there is none yet. Where secrets are stored that our keys do not fit, leave nothing."""
    if not _has_table() or KeyCanary.objects.filter(pk=KeyCanary.ONLY).exists() or tally()[UNREADABLE]:
        return
    KeyCanary.objects.get_or_create(pk=KeyCanary.ONLY, defaults={"word": CANARY_WORD})
