"""The browser's view of verified webhook requests: read-only, with a Replay button."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import Model, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse

from audit.admin import ReplayAdmin, badge, short_time
from audit.models import SyncJob
from audit.replay import Replayed
from integrations import replay
from integrations.admin.words import pretty_body
from integrations.models import Delivery


@admin.register(Delivery)
class DeliveryAdmin(ReplayAdmin[Delivery]):
    """What the sources sent, what intake decided about it, and the jobs it led to."""

    replay_permission = "integrations.replay_delivery"
    list_display = ("event", "shown_decision", "reason", "record", "customer", "amount", "seen", "received", "connection")
    list_display_links = ("event",)
    list_filter = ("decision", ("connection", admin.RelatedOnlyFieldListFilter), "event_type")
    list_select_related = ("connection",)
    search_fields = ("event_type", "subject")
    search_help_text = "Invoice number, customer, event, key or id"
    fieldsets = (
        (None, {"fields": (("event", "connection"), ("shown_decision", "reason"), "subject")}),
        ("When", {"fields": (("received_at", "last_seen_at"), "seen")}),
        ("What the source sent", {"fields": ("shown_body",)}),
    )

    def ask_again(self, rows: Sequence[Delivery], *, force: bool) -> list[Replayed]:
        """Replay the jobs of these deliveries."""
        return replay.replay_deliveries(rows, force=force)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        """Add what the newest job about the record calls it."""
        newest = SyncJob.objects.filter(key=OuterRef("subject")).order_by("-created_at")
        called = {name: Subquery(newest.values(name)[:1]) for name in ("title", "party", "amount")}
        return super().get_queryset(request).annotate(**{f"job_{name}": value for name, value in called.items()})

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        """Find deliveries also by the invoice number and customer that their jobs learnt."""
        found, doubled = super().get_search_results(request, queryset, search_term)
        if not search_term:
            return found, doubled
        about = SyncJob.objects.filter(Q(title__icontains=search_term) | Q(party__icontains=search_term))
        return found | queryset.filter(subject__in=about.values("key")), doubled

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the delivery with its jobs, and the jobs that replay those."""
        delivery = self.get_object(request, unquote(object_id))
        jobs = replay.jobs_of(delivery) if delivery else []
        replays = SyncJob.objects.filter(replay_of__in=jobs).order_by("created_at")
        context = {"jobs": [(job, badge(job.state)) for job in (*jobs, *replays)]}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @admin.display(description="event", ordering="event_type")
    def event(self, delivery: Delivery) -> str:
        """Return the event's own name."""
        return delivery.event_type or "unreadable"

    @admin.display(description="decision", ordering="decision")
    def shown_decision(self, delivery: Delivery) -> str:
        """Return what intake decided, as a badge."""
        return badge(delivery.decision)

    @admin.display(description="record")
    def record(self, delivery: Model) -> str:
        """Return the invoice number or customer's name, else kind and number of what it points at."""
        return _known(delivery, "title") or ":".join(getattr(delivery, "subject", "").split(":")[2:]) or "-"

    @admin.display(description="customer")
    def customer(self, delivery: Model) -> str:
        """Return the customer, once a job has learnt it."""
        return _known(delivery, "party") or "-"

    @admin.display(description="amount")
    def amount(self, delivery: Model) -> str:
        """Return the amount, once a job has learnt it."""
        return _known(delivery, "amount") or "-"

    @admin.display(description="received", ordering="received_at")
    def received(self, delivery: Delivery) -> str:
        """Return when it came first, short enough for a column."""
        return short_time(delivery.received_at)

    @admin.display(description="body")
    def shown_body(self, delivery: Delivery) -> str:
        """Return the body; bytes in any state can be shown."""
        return pretty_body(bytes(delivery.body))


def _known(delivery: Model, name: str) -> str:
    """Return what the list's query learnt of the record, "" when nothing did."""
    return getattr(delivery, f"job_{name}", "") or ""
