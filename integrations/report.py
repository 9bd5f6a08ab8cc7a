"""What a reconcile found, as plain values, as CSV and in a sentence."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.db.models import Count, Exists, OuterRef, QuerySet

from audit.models import SyncJob
from audit.states import State
from integrations.comparing import FOR_PEOPLE, UNTOLD
from integrations.core.records import CUSTOMER, INVOICE
from integrations.models import Disagreement, Finding, Sweep

HEADER = ("what", "route", "kind", "key", "title", "reason", "fields", "currency", "outstanding", "open invoices", "shown", "repair")
STILL_THERE = ("created", "updated", "unchanged")  # what a second look ends as where it finds the record
FORMULAS = tuple("=+-@") + tuple("\uff1d\uff0b\uff0d\uff20")  # their full-width forms are taken for formulas, too
SPLIT = re.compile(rf"""(;["\s]*)(?=[{re.escape("".join(FORMULAS))}])""")


def report(sweep: Sweep) -> dict[str, Any]:
    """Return the whole report of a reconcile; amounts are texts in major units, times ISO 8601."""
    jobs: dict[Any, SyncJob] = {
        job.pk: job for job in SyncJob.objects.filter(pk__in=sweep.findings.exclude(job_id=None).values("job_id")).only("state", "result")
    }
    return {
        "id": sweep.pk,
        "source": sweep.source.slug,
        "route": sweep.route.slug if sweep.route else None,
        "dry_run": sweep.dry_run,
        "state": sweep.state,
        "problem": sweep.problem,
        "left_out": sweep.left_out,
        "day": sweep.today.isoformat() if sweep.today else None,
        "zone": sweep.zone,
        "began": sweep.created_at.isoformat(),
        "ended": sweep.ended_at.isoformat() if sweep.ended_at else None,
        "records": {kind: sweep.figures.get(kind, 0) for kind in (CUSTOMER, INVOICE)},
        **figures(sweep),
        "findings": [_finding(one, jobs.get(one.job_id)) for one in sweep.findings.select_related("route")],
        "money": [_money(one) for one in sweep.disagreements.all()],
    }


def figures(sweep: Sweep) -> dict[str, Any]:
    """Return the report's counts: a record counts once per route, however many reasons it has."""
    found = sweep.findings.order_by()
    asked = found.exclude(job_id=None)
    there = SyncJob.objects.filter(pk=OuterRef("job_id"), state=State.SUCCEEDED, result__in=STILL_THERE)
    untold = asked.filter(reason__in=UNTOLD).exclude(Exists(there), reason=Finding.Reason.DELETED)
    return {
        "by_reason": dict(found.values_list("reason").annotate(Count("pk")).order_by("reason")),
        "differing": _records(found),
        "repairs": _records(asked),
        "repairs_because_a_webhook_was_missed": _records(untold),
        "for_people": _records(found.filter(reason__in=FOR_PEOPLE)),
        "disagreements": sweep.disagreements.filter(agrees=False).order_by().values("customer_key").distinct().count(),
        "left_to_jobs": sweep.figures.get("left_to_jobs", 0),
        "mixed": sweep.disagreements.filter(mixed=True).order_by().values("customer_key").distinct().count(),
    }


def _records(found: QuerySet[Finding]) -> int:
    return found.values("route_id", "key").distinct().count()


def agrees(found: Mapping[str, Any]) -> bool:
    """Whether nothing was found and nothing kept it from looking."""
    amiss = found["findings"] or found["disagreements"] or found["left_out"] or found["left_to_jobs"]
    return found["state"] == Sweep.State.DONE and not amiss


def in_words(found: Mapping[str, Any]) -> str:
    """Return the report in one line."""
    if found["state"] != Sweep.State.DONE:
        return f"{found['state']}: {found['problem'] or 'not finished yet'}"
    records = " and ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in found["records"].items())
    missed = f" ({found['repairs_because_a_webhook_was_missed']} because a webhook was missed)"
    repairs = f"{found['differing']} to repair" if found["dry_run"] else f"{found['repairs']} sent for repair{missed}"
    money = f"the money of {found['disagreements']} customer{'' if found['disagreements'] == 1 else 's'} differs"
    left = "".join(f"; {slug} was not looked at: {why}" for slug, why in found["left_out"].items())
    waiting = f"; {left_to_jobs(found['left_to_jobs'])}" if found["left_to_jobs"] else ""
    return f"{records}: {repairs}, {money}, {found['mixed']} mixed{waiting}{left}"


def left_to_jobs(count: int) -> str:
    """Return in words what was not compared as its jobs are yet to run."""
    return f"{count} record{' was' if count == 1 else 's were'} left to jobs that wait"


def means(one: Finding, job: SyncJob | None) -> str:
    """Return in words what was found, with what its job has found out since."""
    if one.reason == Finding.Reason.DELETED and job is not None and job.state == State.SUCCEEDED and job.result in STILL_THERE:
        return "not in Wave's lists, but still there"
    return one.get_reason_display()


def _finding(one: Finding, job: SyncJob | None) -> dict[str, Any]:
    return {
        "route": one.route.slug,
        "kind": one.kind,
        "key": one.key,
        "title": one.title,
        "reason": one.reason,
        "means": means(one, job),
        "fields": one.fields,
        "job": str(one.job_id) if one.job_id else None,
        "repair": job.state if job else "",
    }


def _money(one: Disagreement) -> dict[str, Any]:
    names = ("title", "currency", "mixed", "agrees", "outstanding", "open_sum", "held", "invoices")
    return {"key": one.customer_key, **{name: getattr(one, name) for name in names}}


# --- CSV -------------------------------------------------------------------------------------------------------------


def as_csv(reports: Sequence[Mapping[str, Any]]) -> str:
    """Return reports as one table, a line per finding and per customer and currency where the money differs or is mixed."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(HEADER)
    for found in reports:
        writer.writerows(_rows(found))
    return text.getvalue()


def _rows(found: Mapping[str, Any]) -> Iterator[list[str]]:
    for one in found["findings"]:
        row = ["record", one["route"], one["kind"], one["key"], one["title"], one["means"], " ".join(one["fields"]), "", "", "", ""]
        yield [_plain(cell) for cell in (*row, one["repair"])]
    for one in found["money"]:
        shown = "; ".join(f"{slug}: {sums['customer'] or '-'} / {sums['invoices'] or '-'}" for slug, sums in one["held"].items())
        row = ["money", "", CUSTOMER, one["key"], one["title"], _word(one), " ".join(one["invoices"]), one["currency"]]
        yield [*(_plain(cell) for cell in row), one["outstanding"], one["open_sum"], _plain(shown), ""]


def _word(one: Mapping[str, Any]) -> str:
    return " ".join(word for word, true in (("mixed", one["mixed"]), ("differs", not one["agrees"])) if true)


def _plain(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula. https://owasp.org/www-community/attacks/CSV_Injection

    One that splits at semicolons does so in the midst of our cells too, for it takes our quotes for text after the first.
    """
    cell = SPLIT.sub(r"\1'", cell)
    return f"'{cell}" if cell.lstrip()[:1] in FORMULAS or cell[:1] in ("\t", "\r", "\n") else cell
