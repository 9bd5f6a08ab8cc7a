"""The browser's view of which remote object mirrors which record: read-only."""

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html

from audit.admin import HistoryAdmin, badge, short_time
from integrations.admin.words import pretty_json
from integrations.models import Binding


@admin.register(Binding)
class BindingAdmin(HistoryAdmin[Binding]):
    """Remote objects, and what was last written to them."""

    list_display = ("name", "kind", "remote_id", "shown_state", "route", "written")
    list_display_links = ("name",)
    list_filter = ("state", ("route", admin.RelatedOnlyFieldListFilter), "kind")
    list_select_related = ("route",)
    search_fields = ("title", "key", "remote_id")
    search_help_text = "Invoice number, customer, key or the destination's id"
    fieldsets = (
        (None, {"fields": (("title", "kind"), ("shown_state", "remote_id"), ("route", "written_at"))}),
        ("Record", {"fields": ("key", "parent", "source_modified_at", "last_job")}),
        ("Last written", {"fields": ("fields_written", "shown_facts")}),
    )

    @admin.display(description="title", ordering="title")
    def name(self, binding: Binding) -> str:
        """Return what the record is called, else its key."""
        return binding.title or binding.key

    @admin.display(description="state", ordering="state")
    def shown_state(self, binding: Binding) -> str:
        """Return the state as a badge."""
        return badge(binding.state, binding.get_state_display())

    @admin.display(description="last written", ordering="written_at")
    def written(self, binding: Binding) -> str:
        """Return when it was written last, short enough for a column."""
        return short_time(binding.written_at) if binding.written_at else "-"

    @admin.display(description="fields")
    def fields_written(self, binding: Binding) -> str:
        """Return the names of the fields that were written; their values are kept as digests only."""
        return ", ".join(sorted(binding.hashes)) or "-"

    @admin.display(description="facts")
    def shown_facts(self, binding: Binding) -> str:
        """Return what the destination told about the object."""
        return pretty_json(binding.facts)

    @admin.display(description="last job")
    def last_job(self, binding: Binding) -> str:
        """Return a link to the job that wrote it last."""
        if binding.job_id is None:
            return "-"
        return format_html('<a href="{}">{}</a>', reverse("admin:audit_syncjob_change", args=[binding.job_id]), binding.job_id)
