"""manage.py bench: what the product costs in calls, seconds and memory, against the sandbox."""

import json
import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from integrations.bench import ground
from integrations.bench.catalogue import THEMES
from integrations.bench.scale import Bench
from integrations.bench.tables import Table
from integrations.management.commands.run import web


class Command(BaseCommand):
    help = "Measure against the sandbox, in a database of its own; exit 1 when something costs more than its minimum or bound."
    requires_system_checks = []  # the first start has no keys yet: it makes some and starts itself again

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure, all without: {', '.join(THEMES)}")
        parser.add_argument("--rows", type=int, default=1_000_000, help="the largest table; everything else shrinks with it")
        parser.add_argument("--database-url", default="", help="an empty PostgreSQL database; without, SQLite in a temporary folder")
        parser.add_argument("--json", action="store_true", help="print one JSON array of tables")
        parser.add_argument("--markdown", action="store_true", help="print Markdown")

    def handle(self, *args: Any, **options: Any) -> None:
        names = options["names"] or list(THEMES)
        unknown = [name for name in names if name not in THEMES]
        if unknown:
            raise CommandError(f"nothing is called {', '.join(unknown)}; there is {', '.join(THEMES)}")
        if ground.folder() is None:
            self._start_again(options["database_url"])
        try:
            tables = self._on_ground(names, Bench(rows=options["rows"], web=web), options)
        except ground.TakenError as error:
            raise CommandError(str(error)) from None
        finally:
            ground.remove_folder()
        if options["json"]:
            self.stdout.write(json.dumps([table.as_json() for table in tables]))
        if any(table.wrong for table in tables):
            sys.exit(1)

    def _start_again(self, database_url: str) -> None:
        """Replace this process by one whose settings are the bench's own; nothing of the operator's is touched."""
        os.environ.update(ground.environment(database_url))
        os.chdir(settings.BASE_DIR)
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 - ourselves

    def _on_ground(self, names: list[str], bench: Bench, options: dict[str, Any]) -> list[Table]:
        ground.prepare()
        try:
            return self._measure(names, bench, options)
        finally:
            ground.leave()

    def _measure(self, names: list[str], bench: Bench, options: dict[str, Any]) -> list[Table]:
        """Print each table as soon as it is there: the whole bench takes minutes."""
        tables = []
        for name in names:
            for table in THEMES[name](bench):
                tables.append(table)
                if not options["json"]:
                    self.stdout.write(table.as_markdown() if options["markdown"] else table.as_text())
                    self.stdout.flush()
        return tables
