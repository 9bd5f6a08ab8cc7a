"""manage.py ping [CONNECTION]"""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from integrations import health, systems
from integrations.core.mapping import near
from integrations.models import Connection


class Command(BaseCommand):
    help = "Prove one or all connections against their real accounts. Exit 0 when every check holds, else 1."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("connection", nargs="?", help="its slug; without one all are pinged")

    def handle(self, *args: Any, **options: Any) -> None:
        failed = [connection for connection in chosen(options["connection"]) if not self._ping(connection)]
        if failed:
            raise SystemExit(1)

    def _ping(self, connection: Connection) -> bool:
        self.stdout.write(f"{connection.slug} ({connection.system}, {connection.auth})")
        checks = systems.ping(connection)
        for check in checks:
            self.stdout.write(f"  {'ok    ' if check.ok else 'FAILED'} {check.name}{': ' + check.detail if check.detail else ''}")
            if check.advice and not check.ok:
                self.stdout.write(f"         {check.advice}")
        for line in other_problems(connection):
            self.stdout.write(f"  LOOK   {line.name}: {line.detail}")
            if line.advice:
                self.stdout.write(f"         {line.advice}")
        return all(check.ok for check in checks)


def other_problems(connection: Connection) -> list[health.Line]:
    """Return what health says besides the checks that were just made."""
    found = health.of(Connection.objects.get(pk=connection.pk))
    return [line for line in found.problems if not line.name.startswith("check: ")]


def chosen(slug: str | None) -> list[Connection]:
    """Return the named connection, or all. Raises CommandError (exit 2) with the nearest known name."""
    rows = list(Connection.objects.order_by("slug"))
    found = [row for row in rows if slug in (None, row.slug)]
    if slug and not found:
        raise CommandError(f'there is no connection "{slug}"{near(slug, [row.slug for row in rows])}', returncode=2)
    return found
