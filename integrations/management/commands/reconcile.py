"""manage.py reconcile [ROUTE] [--dry-run] [--json] [--csv FILE] [--wait]"""

import json
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from tqdm import tqdm

from audit.models import SyncJob
from audit.replay import NoWorkerError, ends
from audit.states import State
from integrations import reconcile, report, sweeping
from integrations.core.mapping import near
from integrations.models import Connection, Finding, Route, Sweep

TURN = 20  # seconds that one turn takes at most
PAUSE = 1.0  # seconds between looks at a reconcile that waits or that a worker carries on


class Command(BaseCommand):
    help = "Compare every record of Wave with what each destination holds, repair what differs, and report it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("route", nargs="?", metavar="ROUTE", help="only this route")
        parser.add_argument("--dry-run", action="store_true", help="only report: exit 1 where something differs; no repair is asked for")
        parser.add_argument("--json", action="store_true", help="print the report as a JSON object, one line per Wave account")
        parser.add_argument("--csv", metavar="FILE", help="write the report as CSV too")
        parser.add_argument("--wait", action="store_true", help="wait for the repairs; exit 1 if one ends dead or stands still")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = _wanted(options["route"])
        table = Path(options["csv"]) if options["csv"] else None
        if table and not table.absolute().parent.is_dir():
            raise CommandError(f"--csv: there is no folder {table.parent}", returncode=2)
        sweeps = [self._run(source, route, options["dry_run"]) for source, route in wanted]
        failure = _wait(sweeps) if options["wait"] else ""
        reports = [report.report(sweep) for sweep in sweeps]
        if table:
            table.write_text(report.as_csv(reports), encoding="utf-8", newline="")
        for one in reports:
            self._tell(one, as_json=options["json"])
        if failure:
            raise CommandError(failure, returncode=1)
        if not all(_is_in_order(one) for one in reports):
            raise SystemExit(1)

    def _run(self, source: Connection, route: Route | None, dry_run: bool) -> Sweep:
        sweep, begun = reconcile.begin(source, route=route, dry_run=dry_run, started_by="command")
        if not begun and (sweep.route_id, sweep.dry_run) != (route.pk if route else None, dry_run):
            raise CommandError(f"another one is running: {sweep}. Try again when it has ended; the admin shows it.", returncode=2)
        name = str(sweep)
        with tqdm(desc=name, unit=" pages", file=self.stderr, disable=None) as bar:
            while sweep.state == Sweep.State.RUNNING:
                if not _carry_on(sweep):
                    raise CommandError(f"{name}: {sweeping.DELETED}", returncode=1)
                bar.update(sweep.figures.get("pages", 0) - bar.n)
                bar.set_postfix_str(sweep.problem or sweep.phase)
        return sweep

    def _tell(self, found: dict[str, Any], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(found))
            return
        self.stdout.write(f"{found['source']}{' ' + found['route'] if found['route'] else ''}: {report.in_words(found)}")
        for one in found["findings"]:
            self.stdout.write(_line(one))
        for one in found["money"]:
            shown = ", ".join(f"{slug} {sums['customer'] or '-'}/{sums['invoices'] or '-'}" for slug, sums in one["held"].items())
            word = "mixed" if one["mixed"] else "differs"
            money = f"{one['currency']}: Wave {one['outstanding'] or '-'}, open invoices {one['open_sum']}, {shown}"
            self.stdout.write(f"  {word}  {one['title']} {money}")


def _line(one: dict[str, Any]) -> str:
    return f"  {one['route']}  {one['kind']} {one['title'] or one['key']}: {one['means']}{_fields(one)}  {one['repair']}".rstrip()


def _fields(one: dict[str, Any]) -> str:
    return f" ({', '.join(one['fields'])})" if one["fields"] else ""


def _carry_on(sweep: Sweep) -> bool:
    """Take one turn, or wait a moment where it is not due or a worker is at it; False where it was deleted."""
    if sweep.due_at > timezone.now() or not reconcile.carry_on(sweep, deadline=time.monotonic() + TURN):
        time.sleep(PAUSE)
    return sweeping.read_again(sweep)


def _is_in_order(found: dict[str, Any]) -> bool:
    """Whether all was looked at and agreed, or all that differed has its repair and nothing waits for a person."""
    unseen = found["state"] != Sweep.State.DONE or found["left_out"] or found["left_to_jobs"]
    if unseen or found["disagreements"] or found["for_people"]:
        return False
    return bool(found["differing"] == (0 if found["dry_run"] else found["repairs"]))


def _wanted(slug: str | None) -> list[tuple[Connection, Route | None]]:
    if slug is not None:
        route = Route.objects.filter(slug=slug).select_related("source").first()
        if route is None:
            known = list(Route.objects.values_list("slug", flat=True))
            raise CommandError(f'there is no route "{slug}"{near(slug, known)}', returncode=2)
        return [(route.source, route)]
    sources = Connection.objects.filter(pk__in=Route.objects.values("source")).order_by("slug")
    if not sources:
        raise CommandError("there is no route yet: make one in the admin, or with manage.py apply", returncode=2)
    return [(source, None) for source in sources]


def _wait(sweeps: list[Sweep]) -> str:
    """Wait for the repairs and return what kept some from succeeding, "" where none failed."""
    asked = Finding.objects.filter(sweep__in=sweeps).exclude(job_id=None)
    try:
        bad = sum(job.state != State.SUCCEEDED for job in ends(SyncJob.objects.filter(pk__in=asked.values("job_id"))))
    except NoWorkerError as error:
        return str(error)
    return f"{bad} repair{' has' if bad == 1 else 's have'} not succeeded" if bad else ""
