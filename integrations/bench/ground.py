"""Where a bench stands: settings, keys and a database of its own, never the operator's."""

import os
import shutil
import tempfile
from pathlib import Path

from django.core.management import call_command
from django.db import connection

from integrations.demo import stage

FOLDER = "BENCH_FOLDER"


class TakenError(Exception):
    """The database that was named is not empty."""


def environment(database_url: str) -> dict[str, str]:
    """Return the settings of a bench in a new temporary folder: fresh keys, the sandbox as all vendors, an empty database.

    database_url    an empty PostgreSQL database; "" takes SQLite in the folder
    """
    folder = Path(tempfile.mkdtemp(prefix="ml-connector-bench-"))
    found = stage.environment(folder, usual_ports=False)
    del found["DEMO_FOLDER"]
    return found | {FOLDER: str(folder)} | ({"DATABASE_URL": database_url} if database_url else {})


def folder() -> Path | None:
    """Return the bench's folder; None in a process whose settings are not the bench's own."""
    return Path(os.environ[FOLDER]) if FOLDER in os.environ else None


def prepare() -> None:
    """Create the tables; raises TakenError unless the database has none at all: what has some is somebody's."""
    taken = connection.introspection.table_names()
    if taken:
        raise TakenError(f"this database has tables ({taken[0]}, ...): name an empty one, for a bench deletes what is in it")
    call_command("migrate", interactive=False, verbosity=0)


def clear() -> None:
    """Empty all tables, so that one measurement does not weigh on the next."""
    call_command("flush", interactive=False, verbosity=0)


def leave() -> None:
    """Take away the tables that `prepare` made."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor) if connection.vendor == "postgresql" else ():
            cursor.execute(f"DROP TABLE {connection.ops.quote_name(table)} CASCADE")


def remove_folder() -> None:
    """Remove what `environment` made, the SQLite database with it."""
    connection.close()
    shutil.rmtree(os.environ[FOLDER], ignore_errors=True)
