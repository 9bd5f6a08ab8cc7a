"""manage.py provision [ROUTE] [--dry-run]"""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from integrations import provision
from integrations.core.errors import ConnectorError, Misconfigured
from integrations.core.mapping import near
from integrations.models import Route

BY_HAND = "Steps marked by_hand are for an administrator of that account. Syncing works without them; their fields stay out."


class Command(BaseCommand):
    help = "Create the remote fields and objects that one or all routes need. Safe to repeat. Exit 1 when an account cannot be reached."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("route", nargs="?", help="its slug; without one all are provisioned")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")

    def handle(self, *args: Any, **options: Any) -> None:
        failed = [route for route in chosen(options["route"]) if not self._provision(route, dry_run=options["dry_run"])]
        if failed:
            raise SystemExit(1)

    def _provision(self, route: Route, *, dry_run: bool) -> bool:
        self.stdout.write(f"{route.slug} ({route.destination.system}{', dry run' if dry_run else ''})")
        try:
            steps = provision.provision(route, dry_run=dry_run)
        except (ConnectorError, Misconfigured) as error:
            self.stderr.write(f"  {error}")
            return False
        for step in steps:
            self.stdout.write(f"  {step.change:8} {step.what}{': ' + step.detail if step.detail else ''}")
        if any(step.change == "by_hand" for step in steps):
            self.stdout.write(f"  {BY_HAND}")
        return True


def chosen(slug: str | None) -> list[Route]:
    """Return the named route, or all. Raises CommandError (exit 2) with the nearest known name."""
    rows = list(Route.objects.select_related("destination").order_by("slug"))
    found = [row for row in rows if slug in (None, row.slug)]
    if slug and not found:
        raise CommandError(f'there is no route "{slug}"{near(slug, [row.slug for row in rows])}', returncode=2)
    return found
