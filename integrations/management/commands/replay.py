"""Ask again for jobs or deliveries from the command line."""

import uuid
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandError

from audit.models import SyncJob
from audit.replay import NoWorkerError, Replayed, ends, outcome, replay, unsettled
from audit.states import State
from integrations.core.mapping import near
from integrations.models import Delivery, Route
from integrations.replay import jobs_of, replay_deliveries

Row = TypeVar("Row", SyncJob, Delivery)


class Command(BaseCommand):
    help = "Replay jobs and deliveries: read the record again and bring it to its destination."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("jobs", nargs="*", metavar="JOB", help="ids of jobs")
        parser.add_argument("--delivery", action="append", default=[], metavar="ID", help="a delivery's id; may be repeated")
        parser.add_argument("--state", choices=("dead", "blocked"), help="all unresolved jobs in this state")
        parser.add_argument("--route", metavar="SLUG", help="only this route's; without --state its dead and blocked jobs")
        parser.add_argument("--dry-run", action="store_true", help="only count and list what would be replayed")
        parser.add_argument("--force", action="store_true", help="write even what seems unchanged")
        parser.add_argument("--wait", action="store_true", help="wait for the results; exit 1 if a job ends dead or stands still")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["jobs"] or options["delivery"]:
            if options["state"] or options["route"]:
                raise CommandError("name jobs and deliveries, or select by --state and --route: not both", returncode=2)
            jobs, deliveries = _jobs(options["jobs"]), _deliveries(options["delivery"])
        elif options["state"] or options["route"]:
            jobs, deliveries = _selected(options["state"], options["route"]), []
        else:
            raise CommandError("say what to replay: job ids, --delivery, --state or --route", returncode=2)
        if options["dry_run"]:
            self._list(jobs, deliveries)
            return
        replayed = replay(jobs, force=options["force"]) + replay_deliveries(deliveries, force=options["force"])
        self._tell(replayed)
        if options["wait"]:
            self._wait(replayed)

    def _list(self, jobs: Sequence[SyncJob], deliveries: Sequence[Delivery]) -> None:
        counts = [f"{len(jobs)} jobs"] if jobs or not deliveries else []
        counts += [f"{len(deliveries)} deliveries"] if deliveries else []
        self.stdout.write(f"would replay {' and '.join(counts)}")
        for job in jobs:
            self.stdout.write(_line(job))
        for delivery in deliveries:
            self.stdout.write(f"delivery {delivery.pk}  {delivery}  {delivery.decision}")
            for job in jobs_of(delivery):
                self.stdout.write(f"  {_line(job)}")

    def _tell(self, replayed: Sequence[Replayed]) -> None:
        for item in replayed:
            how = "joined, asked for already" if item.joined else f"replays {item.old.pk}"
            self.stdout.write(f"{_line(item.job)}  {how}")
        joined = sum(item.joined for item in replayed)
        self.stdout.write(f"{len(replayed) - joined} asked for again, {joined} joined")

    def _wait(self, replayed: Sequence[Replayed]) -> None:
        bad = 0
        try:
            for job in ends(item.job for item in replayed):
                self.stdout.write(_line(job))
                bad += job.state != State.SUCCEEDED
        except NoWorkerError as error:
            raise CommandError(str(error), returncode=1) from None
        if bad:
            raise CommandError(f"{bad} of them did not succeed", returncode=1)


def _line(job: SyncJob) -> str:
    return f"{job.pk}  {job}  {' '.join(part for part in (job.state, outcome(job)) if part)}"


def _jobs(given: Sequence[str]) -> list[SyncJob]:
    ids = [_uuid(text, "job") for text in given]
    found = SyncJob.objects.in_bulk(ids)
    return [_known(found.get(pk), pk, "job") for pk in dict.fromkeys(ids)]


def _deliveries(given: Sequence[str]) -> list[Delivery]:
    ids = [_uuid(text, "delivery") for text in given]
    found = Delivery.objects.select_related("connection").in_bulk(ids)
    return [_known(found.get(pk), pk, "delivery") for pk in dict.fromkeys(ids)]


def _uuid(text: str, what: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise CommandError(f'"{text}" is no id of a {what}: ids look like {uuid.UUID(int=0)}', returncode=2) from None


def _known(row: Row | None, pk: uuid.UUID, what: str) -> Row:
    if row is None:
        raise CommandError(f"there is no {what} {pk}", returncode=2)
    return row


def _selected(state: str | None, slug: str | None) -> list[SyncJob]:
    route = Route.objects.filter(slug=slug).first() if slug else None
    if slug and route is None:
        known = list(Route.objects.values_list("slug", flat=True))
        raise CommandError(f'there is no route "{slug}"{near(slug, known)}', returncode=2)
    states = (state,) if state else (State.DEAD, State.BLOCKED)
    return list(unsettled(states=states, route_id=route.pk if route else None))
