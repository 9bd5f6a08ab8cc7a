"""manage.py backfill ROUTE [--kind KIND] [--since DAY] [--dry-run] [--resume | --pause | --cancel]"""

import time
from argparse import ArgumentParser
from datetime import UTC, date, datetime
from datetime import time as midnight
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from tqdm import tqdm

from integrations import backfill, estimating, keys, sweeping
from integrations.core.errors import ConnectorError, Misconfigured
from integrations.core.mapping import near
from integrations.core.records import CUSTOMER, INVOICE
from integrations.models import Route, Sweep

TURN = 20  # seconds that one turn takes at most
MOST_TOLD = 10  # failures that are printed
PAUSE = 1.0  # seconds between looks at a backfill that waits or that a worker carries on


class Command(BaseCommand):
    help = "Bring all customers and invoices that Wave has to one destination, in bulk; live events go first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("route", metavar="ROUTE")
        parser.add_argument("--kind", action="append", default=[], choices=(CUSTOMER, INVOICE), help="only this kind; may be repeated")
        parser.add_argument("--since", metavar="DAY", help="only what changed in Wave since this day, e.g. 2026-01-31")
        parser.add_argument("--dry-run", action="store_true", help="only say how many records and calls it is, and how long it takes")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--resume", action="store_true", help="go on with the open one from where it is")
        what.add_argument("--pause", action="store_true", help="let the open one rest")
        what.add_argument("--cancel", action="store_true", help="end the open one; what it has brought stays")

    def handle(self, *args: Any, **options: Any) -> None:
        keys.check_once()
        route = _route(options["route"])
        if options["pause"] or options["cancel"]:
            self._end(route, "pause" if options["pause"] else "cancel")
            return
        if options["resume"]:
            self._carry_on(_opened(route))
            return
        kinds, since = options["kind"], _day(options["since"])
        self._tell(route, kinds, since)
        if not options["dry_run"]:
            sweep, begun = backfill.begin(route, started_by="command", kinds=kinds, since=since)
            if not begun:
                raise CommandError(f"one is open already, {sweep.state}: --resume goes on with it, --cancel ends it", returncode=2)
            self._carry_on(sweep)

    def _tell(self, route: Route, kinds: list[str], since: datetime | None) -> None:
        try:
            known = estimating.estimate(route, kinds=kinds, since=since)
        except (ConnectorError, Misconfigured) as error:
            raise CommandError(f"{error}; `ping` says what is wrong with the account", returncode=1) from None
        counted = ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in known.records.items())
        records = counted or "nothing: the route takes none of these kinds"
        calls = f"about {known.source_calls} reads of Wave, at most {known.destination_calls} calls to {route.destination.slug}"
        takes = "time unknown: the account has not told its limit yet" if known.minutes is None else f"about {known.minutes:.0f} minutes"
        self.stdout.write(f"{route.slug}: {records}; {calls}; {takes}")
        for kind, why in sorted(known.refused.items()):
            self.stdout.write(f"  {kind} is written one by one, for bulk was refused: {why}")

    def _end(self, route: Route, what: str) -> None:
        sweep = _opened(route)
        changed = backfill.pause(sweep) if what == "pause" else backfill.cancel(sweep)
        words = {"pause": "paused: --resume goes on from where it is", "cancel": "cancelled; what it has brought stays"}[what]
        if changed:
            self.stdout.write(words)
            return
        sweeping.read_again(sweep)  # it may have ended meanwhile
        self.stdout.write(f"it is {sweep.get_state_display()} already: nothing was changed")

    def _carry_on(self, sweep: Sweep) -> None:
        backfill.resume(sweep)
        sweeping.read_again(sweep)
        try:
            self._watch(sweep)
        except KeyboardInterrupt:
            raise CommandError("it goes on in the background while workers run: --pause or --cancel end that", returncode=130) from None
        if not self._report(sweep):
            raise SystemExit(1)

    def _report(self, sweep: Sweep) -> bool:
        """Say what came of it, and return whether all was brought."""
        figures = sweep.figures
        told = f"{sweep.state}: {figures.get('done', 0)} of {figures.get('total', 0)} records, {figures.get('failed', 0)} failed"
        waiting = estimating.left_to_their_runs(sweep)
        told += f", {waiting} left to runs of their own" if waiting else ""
        self.stdout.write(f"{told}, {figures.get('calls', 0)} calls{'; ' + sweep.problem if sweep.problem else ''}")
        for kind, why in sorted((sweep.options.get("refused") or {}).items()):
            self.stdout.write(f"  {kind} was written one by one, for bulk was refused: {why}")
        failed = backfill.failed(sweep).count()
        for one in backfill.failures(sweep, most=MOST_TOLD):
            self.stdout.write(f"  {one.job.kind} {one.job.title or one.job.key} failed: {one.reason or one.job.error_code}")
        if failed > MOST_TOLD:
            self.stdout.write(f"  and {failed - MOST_TOLD} more: the admin lists them under Jobs")
        return sweep.state == Sweep.State.DONE and not failed and not figures.get("failed")

    def _watch(self, sweep: Sweep) -> None:
        with tqdm(total=sweep.figures.get("total"), unit=" records", file=self.stderr, disable=None) as bar:
            while sweep.state == Sweep.State.RUNNING:
                if sweep.due_at <= timezone.now():
                    backfill.carry_on(sweep, deadline=time.monotonic() + TURN)
                sweeping.read_again(sweep)
                bar.total = sweep.figures.get("total")
                bar.update(sweep.figures.get("passed", 0) - bar.n)
                failed, calls = sweep.figures.get("failed", 0), sweep.figures.get("calls", 0)
                bar.set_postfix_str(f"{failed} failed, {calls} calls, {sweep.problem or sweep.phase}")
                if sweep.state == Sweep.State.RUNNING and (sweep.due_at > timezone.now() or sweep.lease_until):
                    time.sleep(PAUSE)


def _route(slug: str) -> Route:
    route = Route.objects.filter(slug=slug).select_related("source", "destination").first()
    if route is None:
        raise CommandError(f'there is no route "{slug}"{near(slug, list(Route.objects.values_list("slug", flat=True)))}', returncode=2)
    return route


def _opened(route: Route) -> Sweep:
    sweep = backfill.opened(route)
    if sweep is None:
        raise CommandError(f"no backfill of {route.slug} is open", returncode=2)
    return sweep


def _day(given: str | None) -> datetime | None:
    if not given:
        return None
    try:
        return datetime.combine(date.fromisoformat(given), midnight(), UTC)
    except ValueError:
        raise CommandError(f'"{given}" is no day: write it like 2026-01-31', returncode=2) from None
