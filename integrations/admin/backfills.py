"""The browser's pages for backfills: what one will take, how far it is, pause, resume and cancel."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from audit.admin import HistoryAdmin, badge, short_time
from integrations import backfill, estimating, sweeping
from integrations.core.errors import ConnectorError, Misconfigured
from integrations.models import Backfill, Route, Sweep
from integrations.models.secrets import WrongKeyError

RUN = "integrations.run_sweep"
MOST_SHOWN = 50  # failures on a backfill's page; the jobs' list has all
SWITCHES: dict[str, tuple[Callable[[Sweep], bool], str]] = {
    "pause": (backfill.pause, "It rests; what is being written comes to its end."),
    "resume": (backfill.resume, "It goes on from where it was."),
    "cancel": (backfill.cancel, "It is cancelled; what it has brought stays."),
}


@admin.register(Backfill)
class BackfillAdmin(HistoryAdmin[Backfill]):
    """Backfills with their progress; beginning and switching are POSTs of their own."""

    actions = None
    list_display = ("about", "shown_state", "began", "progress", "failed", "calls", "by")
    list_display_links = ("about",)
    list_filter = (("route", admin.RelatedOnlyFieldListFilter), "state")
    list_select_related = ("source", "route")
    search_fields = ("route__slug",)
    fields = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Backfill]:
        """Return the sweeps that are backfills."""
        return super().get_queryset(request).filter(purpose=Sweep.Purpose.BACKFILL)

    def get_urls(self) -> list[URLPattern]:
        """Add the page that begins one, and the switches."""
        views: dict[str, tuple[str, Callable[..., HttpResponse]]] = {
            "begin/<int:route>/": ("begin", self.begin_view),
            "<int:pk>/switch/<str:switch>/": ("switch", self.switch_view),
        }
        own = [path(end, self.admin_site.admin_view(view), name=f"integrations_backfill_{name}") for end, (name, view) in views.items()]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Add the routes that one can be begun for."""
        may_run = request.user.has_perm(RUN)
        routes = Route.objects.order_by("slug") if may_run else Route.objects.none()
        return super().changelist_view(request, {"may_run": may_run, "routes": routes, **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show how far it is."""
        sweep = self.get_object(request, unquote(object_id))
        context: dict[str, Any] = {}
        if sweep is not None:
            context = {**_shown(sweep), "may_run": request.user.has_perm(RUN)}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def begin_view(self, request: HttpRequest, route: int) -> HttpResponse:
        """Say what it will take; on POST begin it. Asks the source, so it is no part of a transaction."""
        if not request.user.has_perm(RUN):
            raise PermissionDenied
        row = get_object_or_404(Route.objects.select_related("source", "destination"), pk=route)
        if request.method == "POST":
            sweep, begun = backfill.begin(row, started_by=f"{request.user}"[:32])
            sweeping.wake("backfill")
            self.message_user(request, "It has begun; this page shows how far it is." if begun else "This one is open already.")
            return HttpResponseRedirect(reverse("admin:integrations_backfill_change", args=[sweep.pk]))
        known, problem = _estimate(row)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Backfill {row.slug}",
            "route": row,
            "known": known,
            "counts": {kind: f"{count:,}" for kind, count in known.records.items()} if known else {},
            "reads": f"{known.source_calls:,}" if known else "",
            "calls": f"{known.destination_calls:,}" if known else "",
            "problem": problem,
            "open": backfill.opened(row),
        }
        return TemplateResponse(request, "admin/integrations/backfill/begin.html", context)

    def switch_view(self, request: HttpRequest, pk: int, switch: str) -> HttpResponse:
        """Pause, resume or cancel."""
        if not request.user.has_perm(RUN) or switch not in SWITCHES:
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        sweep = get_object_or_404(self.get_queryset(request), pk=pk)
        turn, words = SWITCHES[switch]
        if turn(sweep):
            self.message_user(request, words)
        else:
            self.message_user(request, f"It is {sweep.get_state_display()}: nothing was changed.", messages.WARNING)
        if switch == "resume":
            sweeping.wake("backfill")
        return HttpResponseRedirect(reverse("admin:integrations_backfill_change", args=[sweep.pk]))

    # --- Columns

    @admin.display(description="route")
    def about(self, sweep: Backfill) -> str:
        """Return the route."""
        return sweep.route.slug if sweep.route else sweep.source.slug

    @admin.display(description="state", ordering="state")
    def shown_state(self, sweep: Backfill) -> str:
        """Return the state as a badge."""
        return badge(sweep.state, sweep.get_state_display())

    @admin.display(description="began", ordering="created_at")
    def began(self, sweep: Backfill) -> str:
        """Return when it began."""
        return short_time(sweep.created_at)

    @admin.display(description="done")
    def progress(self, sweep: Backfill) -> str:
        """Return how many records it has brought."""
        return f"{sweep.figures.get('done', 0):,} of {sweep.figures.get('total', 0):,}"

    @admin.display(description="failed")
    def failed(self, sweep: Backfill) -> str:
        """Return how many records failed."""
        return f"{sweep.figures.get('failed', 0):,}"

    @admin.display(description="calls")
    def calls(self, sweep: Backfill) -> str:
        """Return how many calls it has made."""
        return f"{sweep.figures.get('calls', 0):,}"

    @admin.display(description="started by", ordering="started_by")
    def by(self, sweep: Backfill) -> str:
        """Return who or what began it."""
        return sweep.started_by


def _shown(sweep: Sweep) -> dict[str, Any]:
    """Return what a backfill's page needs, numbers as they are read."""
    failed = backfill.failed(sweep).count()
    passed, total = (int(sweep.figures.get(name, 0)) for name in ("passed", "total"))
    numbers = {**sweep.figures, "to_go": max(0, total - passed), "waiting": estimating.left_to_their_runs(sweep), "dead": failed}
    return {
        "left": estimating.seconds_left(sweep),
        "refused": sorted((sweep.options.get("refused") or {}).items()),
        "numbers": {name: f"{value:,}" for name, value in numbers.items() if isinstance(value, int) and value},
        "open": sweep.state in sweeping.OPEN,
        "failures": backfill.failures(sweep, most=MOST_SHOWN) if failed else [],
    }


def _estimate(route: Route) -> tuple[estimating.Estimate | None, str]:
    """Return what it will take, or what kept us from asking: an error's own words, which hold no secret."""
    try:
        return estimating.estimate(route), ""
    except (ConnectorError, Misconfigured, WrongKeyError) as error:
        return None, str(error)
