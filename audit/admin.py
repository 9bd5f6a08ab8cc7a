"""The browser's view of jobs and holds: read-only, with a Replay button."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join

from audit import holds, replay
from audit.models import Hold, SyncJob
from audit.replay import Replayed
from audit.states import OPEN, State

Row = TypeVar("Row", bound=Model)
SHOWN = 20  # rows that a confirmation names; the rest is a number


def badge(word: str, label: str = "") -> str:
    """Return a state as a small coloured label; `word` picks the colour in admin.css."""
    return format_html('<span class="badge badge-{}">{}</span>', word, label or word)


def short_time(at: datetime) -> str:
    """Return a time as a column can hold it, to the second in its tooltip. All times are UTC."""
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(), f"{at:%Y-%m-%d %H:%M:%S} UTC", f"{at:%d %b %H:%M}")


class HistoryAdmin(admin.ModelAdmin[Row]):
    """What happened: to be looked at, never added, changed or deleted."""

    show_full_result_count = False  # a COUNT over everything that ever happened
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Rows come from what happens."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        """History stays as it was."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        """History is pruned by its own command."""
        return False


class ReplayAdmin(HistoryAdmin[Row]):
    """History that can be asked for again: a button on the page, an action on the list, one confirmation for both."""

    actions = ("replay_selected",)
    replay_permission = ""

    def ask_again(self, rows: Sequence[Row], *, force: bool) -> list[Replayed]:
        """Replay these rows."""
        raise NotImplementedError

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        """Find a row by its whole id, too; parts of ids are left alone, for every number is a part of many."""
        try:
            return queryset.filter(pk=UUID(search_term.strip())), False
        except ValueError:
            return super().get_search_results(request, queryset, search_term)

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """Whether this person may replay; Django asks by the action's word."""
        return request.user.has_perm(self.replay_permission)

    def get_urls(self) -> list[URLPattern]:
        """Add the Replay view to the model's pages."""
        view = self.admin_site.admin_view(self.replay_view)
        return [path("<path:object_id>/replay/", view, name=self._name("replay")), *super().get_urls()]

    def _name(self, page: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"

    def replay_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for confirmation, then replay one row and show what came of it."""
        if not (self.has_replay_permission(request) and self.has_view_permission(request)):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        if request.method != "POST":
            return self._confirmation(request, [row], 1)
        return HttpResponseRedirect(self.page_after(row, self._replay(request, [row])))

    def page_after(self, row: Row, replayed: Sequence[Replayed]) -> str:
        """Return where a replay of one row leads."""
        return reverse(f"admin:{self._name('change')}", args=[row.pk])

    @admin.action(description="Replay selected %(verbose_name_plural)s", permissions=["replay"])
    def replay_selected(self, request: HttpRequest, queryset: QuerySet[Row]) -> HttpResponse | None:
        """Ask for confirmation, then replay all selected rows."""
        if "confirmed" not in request.POST:
            return self._confirmation(request, list(queryset[:SHOWN]), queryset.count())
        self._replay(request, list(queryset))
        return None

    def _replay(self, request: HttpRequest, rows: list[Row]) -> list[Replayed]:
        replayed = self.ask_again(rows, force="force" in request.POST)
        LogEntry.objects.log_actions(request.user.pk, rows, CHANGE, change_message="Replayed.")  # type: ignore[arg-type]
        self.message_user(request, told(replayed), messages.SUCCESS if replayed else messages.WARNING)
        return replayed

    def _confirmation(self, request: HttpRequest, rows: Sequence[Row], count: int) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Replay {count} {self.opts.verbose_name if count == 1 else self.opts.verbose_name_plural}",
            "rows": rows,
            "more": count - len(rows),
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "select_across": request.POST.get("select_across", ""),
        }
        return TemplateResponse(request, "admin/replay_confirmation.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the row, with the Replay button for those who may."""
        context = {"may_replay": self.has_replay_permission(request), **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)


def told(replayed: Sequence[Replayed]) -> str:
    """Return what a replay did, for the person who asked."""
    if not replayed:
        return "Nothing to replay: no record of a connected business is named there, or no route takes it."
    joined = sum(item.joined for item in replayed)
    asked = len(replayed) - joined
    parts = [_counted(asked, "asked for again") if asked else "", _counted(joined, "joined: it is asked for already") if joined else ""]
    return "; ".join(part for part in parts if part) + "."


def _counted(number: int, what: str) -> str:
    return f"{number} job{'' if number == 1 else 's'} {what}"


class AttentionFilter(admin.SimpleListFilter):
    """What a person must look at: unresolved dead letters and jobs that wait for a reconnect."""

    title = "needs a person"
    parameter_name = "attention"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the one choice beside All."""
        return [("yes", "Yes")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[SyncJob]) -> QuerySet[SyncJob]:
        """Return the jobs that stand still until somebody does something."""
        if self.value() != "yes":
            return queryset
        return queryset.filter(Q(state=State.BLOCKED) | Q(state=State.DEAD, resolved_by=None))


@admin.register(SyncJob)
class JobAdmin(ReplayAdmin[SyncJob]):
    """Jobs with their attempts and every HTTP exchange."""

    replay_permission = "audit.replay_syncjob"
    list_display = ("name", "shown_state", "kind", "party", "amount", "route_slug", "shown_outcome", "created", "due")
    list_display_links = ("name",)
    list_filter = (AttentionFilter, "state", "route_slug", "system", "kind")
    search_fields = ("title", "party", "key")
    search_help_text = "Invoice number, customer, key or job id"
    fieldsets = (
        (None, {"fields": (("shown_state", "shown_outcome"), ("title", "kind"), ("party", "amount"), ("route_slug", "system"))}),
        ("When", {"fields": (("created_at", "due_at"), ("first_tried_at", "settled_at"), ("not_before", "tries"))}),
        ("Record", {"fields": ("id", "key", "customer_key", ("derived", "force"))}),
        ("Replays", {"fields": ("replay_of", "shown_replays", "resolved_by")}),
    )
    readonly_fields = ("shown_state", "shown_outcome", "shown_replays")

    def ask_again(self, rows: Sequence[SyncJob], *, force: bool) -> list[Replayed]:
        """Replay these jobs."""
        return replay.replay(rows, force=force)

    def page_after(self, row: SyncJob, replayed: Sequence[Replayed]) -> str:
        """Lead to the job that stands for the replay."""
        return job_url(replayed[0].job.pk)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the job, what holds it, and each attempt with its exchanges."""
        job = self.get_object(request, unquote(object_id))
        context = {} if job is None else {"attempts": job.attempts.prefetch_related("exchanges"), "holds": holds.holds_on(job)}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @admin.display(description="title", ordering="title")
    def name(self, job: SyncJob) -> str:
        """Return the invoice number or customer's name; before the first read only the number is known."""
        return job.title or f"#{job.key.rpartition(':')[2]}"

    @admin.display(description="state", ordering="state")
    def shown_state(self, job: SyncJob) -> str:
        """Return the state; a dead job that a later success resolved is no alarm any more."""
        return badge("resolved", "dead, resolved") if job.state == State.DEAD and job.resolved_by_id else badge(job.state)

    @admin.display(description="outcome")
    def shown_outcome(self, job: SyncJob) -> str:
        """Return result, reason, error code and notes."""
        return replay.outcome(job) or "-"

    @admin.display(description="created", ordering="created_at")
    def created(self, job: SyncJob) -> str:
        """Return when it was asked for, short enough for a column."""
        return short_time(job.created_at)

    @admin.display(description="due", ordering="due_at")
    def due(self, job: SyncJob) -> str:
        """Return when an open job is due; of others it says nothing."""
        return short_time(job.due_at) if job.state in OPEN else "-"

    @admin.display(description="replays")
    def shown_replays(self, job: SyncJob) -> str:
        """Return links to the jobs that replay this one."""
        rows = job.replays.all()
        return format_html_join(", ", '<a href="{}">{} {}</a>', ((job_url(row.pk), row.state, row.pk) for row in rows)) or "-"


def job_url(pk: UUID) -> str:
    """Return the address of a job's page."""
    return reverse("admin:audit_syncjob_change", args=[pk])


@admin.register(Hold)
class HoldAdmin(HistoryAdmin[Hold]):
    """What is stopped now, why, and until when."""

    list_display = ("scope", "reason", "until", "created_at")
    search_fields = ("scope", "reason")
    list_filter = ("reason",)
