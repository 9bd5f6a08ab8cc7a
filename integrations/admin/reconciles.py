"""The browser's pages for reconciles: run one, read its report, repair what it found."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.core.paginator import Page, Paginator
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse

from audit.admin import HistoryAdmin, badge, short_time
from audit.models import SyncJob
from audit.states import State
from integrations import reconcile, repairing, report, sweeping
from integrations.core.records import CUSTOMER, INVOICE
from integrations.models import Connection, Disagreement, Finding, Reconcile, Route, Sweep

RUN = "integrations.run_sweep"
AT_ONCE = 50  # rows of a report on one page
REPAIR_WORDS: dict[str, str] = {
    State.PENDING: "waits",
    State.RUNNING: "under way",
    State.SUCCEEDED: "mended",
    State.DEAD: "failed",
    State.SUPERSEDED: "left to a newer job",
}


@admin.register(Reconcile)
class ReconcileAdmin(HistoryAdmin[Reconcile]):
    """Reports of what drifted or was missed; running and repairing are POSTs of their own."""

    actions = None
    list_display = ("about", "shown_state", "began", "records", "differing", "money", "by")
    list_display_links = ("about",)
    list_filter = (("source", admin.RelatedOnlyFieldListFilter), "state", "dry_run")
    list_select_related = ("source", "route")
    search_fields = ("source__slug", "route__slug")
    fields = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Reconcile]:
        """Return the reconciles with their counts."""
        rows = super().get_queryset(request).filter(purpose=Sweep.Purpose.RECONCILE)
        return rows.annotate(
            found=_count(Finding.objects.all(), "pk"), differ=_count(Disagreement.objects.filter(agrees=False), "customer_key")
        )

    # --- Pages

    def get_urls(self) -> list[URLPattern]:
        """Add the buttons and the downloads."""
        views: dict[str, tuple[str, Callable[..., HttpResponse]]] = {
            "run/": ("run", self.run_view),
            "<int:pk>/repair/": ("repair", self.repair_view),
            "<int:pk>/repair/<int:finding>/": ("repair_one", self.repair_view),
            "<int:pk>/repair-money/<int:money>/": ("repair_money", self.repair_money_view),
            "<int:pk>/report.csv": ("csv", self.csv_view),
            "<int:pk>/report.json": ("json", self.json_view),
        }
        own = [path(end, self.admin_site.admin_view(view), name=_name(name)) for end, (name, view) in views.items()]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Add the form that runs one."""
        may_run = request.user.has_perm(RUN)
        context = {
            "may_run": may_run,
            "choices": _choices() if may_run else {},
            "title": "Reconciles",
            "none_yet": not self.get_queryset(request).exists(),
        }
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the report."""
        sweep = self.get_object(request, unquote(object_id))
        context = _shown(request, sweep) if sweep else {}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def run_view(self, request: HttpRequest) -> HttpResponse:
        """Begin a reconcile of an account's routes, or of one route."""
        _require(request)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        chosen = _choices().get(request.POST.get("what", ""))
        if chosen is None:
            raise Http404
        dry_run = "dry_run" in request.POST
        sweep, begun = reconcile.begin(chosen.source, route=chosen.route, dry_run=dry_run, started_by=f"{request.user}"[:32])
        sweeping.wake("reconcile")
        same = (sweep.route_id, sweep.dry_run) == (chosen.route.pk if chosen.route else None, dry_run)
        told = "It has begun; this page shows how far it is." if begun else "It is running already: this is its page."
        self.message_user(request, told if begun or same else "Another reconcile of this account is running. Run yours when it has ended.")
        return HttpResponseRedirect(_page(sweep))

    def repair_view(self, request: HttpRequest, pk: int, finding: int | None = None) -> HttpResponse:
        """Ask for the jobs that mend all that was found and is not being mended, or one record."""
        sweep = self._posted(request, pk)
        if isinstance(sweep, HttpResponse):
            return sweep
        findings = repairing.repairable(sweep)
        self._told(request, sweep, repairing.repair(findings.filter(pk=finding) if finding else findings))
        return HttpResponseRedirect(f"{_page(sweep)}#findings")

    def repair_money_view(self, request: HttpRequest, pk: int, money: int) -> HttpResponse:
        """Ask for the jobs of a customer whose money differs."""
        sweep = self._posted(request, pk)
        if isinstance(sweep, HttpResponse):
            return sweep
        row = get_object_or_404(Disagreement.objects.select_related("sweep__source"), pk=money, sweep=sweep, agrees=False)
        self._told(request, sweep, repairing.repair_money(row))
        return HttpResponseRedirect(f"{_page(sweep)}#money")

    def _told(self, request: HttpRequest, sweep: Reconcile, count: int) -> None:
        """Say what a repair asked for, and note who did."""
        if count:
            LogEntry.objects.log_actions(request.user.pk, [sweep], CHANGE, change_message=f"Repair of {count}.")  # type: ignore[arg-type]
        told = f"{count} record{'' if count == 1 else 's'} will be read again and mended." if count else "It is being mended already."
        self.message_user(request, told)

    def _posted(self, request: HttpRequest, pk: int) -> Reconcile | HttpResponse:
        _require(request)
        sweep = get_object_or_404(self.get_queryset(request), pk=pk)
        return sweep if request.method == "POST" else HttpResponseNotAllowed(["POST"])

    def csv_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Return the report as CSV."""
        text = report.as_csv([report.report(self._viewed(request, pk))])
        return _download(text, "text/csv; charset=utf-8", f"reconcile-{pk}.csv")

    def json_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Return the report as JSON."""
        text = json.dumps(report.report(self._viewed(request, pk)), indent=2)
        return _download(text, "application/json", f"reconcile-{pk}.json")

    def _viewed(self, request: HttpRequest, pk: int) -> Reconcile:
        sweep = self.get_queryset(request).select_related("source", "route").filter(pk=pk).first()
        if sweep is None:
            raise Http404
        if not self.has_view_permission(request, sweep):
            raise PermissionDenied
        return sweep

    # --- Columns

    @admin.display(description="of")
    def about(self, sweep: Reconcile) -> str:
        """Return what was looked at."""
        return sweep.route.slug if sweep.route else sweep.source.slug

    @admin.display(description="state", ordering="state")
    def shown_state(self, sweep: Reconcile) -> str:
        """Return the state as a badge."""
        return badge(sweep.state, f"{sweep.get_state_display()}{', dry run' if sweep.dry_run else ''}")

    @admin.display(description="began", ordering="created_at")
    def began(self, sweep: Reconcile) -> str:
        """Return when it began."""
        return short_time(sweep.created_at)

    @admin.display(description="records")
    def records(self, sweep: Reconcile) -> str:
        """Return how many records were looked at."""
        return f"{sweep.figures.get('customer', 0) + sweep.figures.get('invoice', 0):,}" if sweep.ended_at else "-"

    @admin.display(description="differing", ordering="found")
    def differing(self, sweep: Reconcile) -> str:
        """Return how much was not as it should be."""
        return f"{getattr(sweep, 'found', 0):,}"

    @admin.display(description="money differs", ordering="differ")
    def money(self, sweep: Reconcile) -> str:
        """Return for how many customers the money was not the same everywhere."""
        return f"{getattr(sweep, 'differ', 0):,}"

    @admin.display(description="started by", ordering="started_by")
    def by(self, sweep: Reconcile) -> str:
        """Return who or what began it."""
        return sweep.started_by


def _count(rows: QuerySet[Any], what: str) -> Coalesce:
    """Count a sweep's rows by a subquery of its own: joined, two kinds of rows would be multiplied."""
    counted = rows.filter(sweep=OuterRef("pk")).order_by().values("sweep").annotate(count=Count(what, distinct=True)).values("count")
    return Coalesce(Subquery(counted), 0)


def _name(page: str) -> str:
    return f"integrations_reconcile_{page}"


def _page(sweep: Sweep) -> str:
    return reverse("admin:integrations_reconcile_change", args=[sweep.pk])


def _require(request: HttpRequest) -> None:
    if not request.user.has_perm(RUN):
        raise PermissionDenied


def _download(text: str, kind: str, name: str) -> HttpResponse:
    return HttpResponse(text, content_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})


@dataclass(frozen=True, slots=True)
class _Choice:
    """What can be compared: an account with all its routes, or one route of it."""

    source: Connection
    route: Route | None

    @property
    def label(self) -> str:
        return f"{self.source.slug} with {self.route.slug} only" if self.route else f"{self.source.slug} with all its routes"


def _choices() -> dict[str, _Choice]:
    routes = list(Route.objects.select_related("source").order_by("source__slug", "slug"))
    found: dict[str, _Choice] = {}
    for route in routes:
        found.setdefault(f"source:{route.source_id}", _Choice(route.source, None))
        if sum(other.source_id == route.source_id for other in routes) > 1:
            found[f"route:{route.pk}"] = _Choice(route.source, route)
    return found


def _shown(request: HttpRequest, sweep: Reconcile) -> dict[str, Any]:
    """Return what the report's page needs: figures over all, rows by the page."""
    findings = _paged(sweep.findings.select_related("route").order_by("pk"), request.GET.get("page"))
    money = _paged(sweep.disagreements.order_by("agrees", "title", "currency"), request.GET.get("money"))
    repairable = repairing.repairable(sweep)
    open_ones = set(repairable.filter(pk__in=[one.pk for one in findings]).values_list("pk", flat=True))
    jobs, states = _jobs(findings), repairing.states_of_money(sweep, money)
    may_run = request.user.has_perm(RUN) and sweep.state != Sweep.State.RUNNING
    figures = report.figures(sweep)
    return {
        "figures": figures,
        "left_to_jobs": report.left_to_jobs(figures["left_to_jobs"]),
        "records": {kind: sweep.figures.get(kind, 0) for kind in (CUSTOMER, INVOICE)},
        "findings": findings,
        "rows": [(one, report.means(one, jobs.get(one.job_id)), _state_of(one, jobs), one.pk in open_ones) for one in findings],
        "money": money,
        "money_rows": [(one, _state(states[one.pk])) for one in money],
        "may_run": may_run,
        "to_repair": repairable.order_by().values("route_id", "key").distinct().count() if may_run else 0,
    }


def _paged(rows: QuerySet[Any], number: str | None) -> Page[Any]:
    return Paginator(rows, AT_ONCE).get_page(number)


def _jobs(findings: Page[Finding]) -> dict[Any, SyncJob]:
    return SyncJob.objects.in_bulk([one.job_id for one in findings if one.job_id])


def _state_of(finding: Finding, jobs: dict[Any, SyncJob]) -> str:
    job = jobs.get(finding.job_id)
    return _state(job.state) if job else ""


def _state(state: str) -> str:
    return badge(state, REPAIR_WORDS.get(state, state)) if state else ""
