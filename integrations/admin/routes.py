"""The browser's pages for routes: what goes where, under which names, and whether it goes now."""

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.http import urlencode

from audit.admin import badge, short_time
from integrations import configuration, pausing, provision, registry, remapping
from integrations.admin.forms import OPTION, EndsForm, FieldMappingForm, RouteForm, StatusMappingForm, route_form
from integrations.core.errors import ConnectorError, Misconfigured
from integrations.core.ports import Step
from integrations.core.records import INVOICE, KINDS
from integrations.models import Connection, FieldMapping, Route, StatusMapping
from integrations.models.secrets import WrongKeyError


class FieldMappingInline(admin.TabularInline[FieldMapping, Route]):
    """What goes into which remote field."""

    model = FieldMapping
    form = FieldMappingForm
    fields = ("kind", "target", "template", "problem")
    readonly_fields = ("problem",)
    extra = 0


class StatusMappingInline(admin.TabularInline[StatusMapping, Route]):
    """Which status an invoice state means."""

    model = StatusMapping
    form = StatusMappingForm
    fields = ("state", "status", "via")
    extra = 0


@admin.register(Route)
class RouteAdmin(admin.ModelAdmin[Route]):
    """Routes with their mappings; pause, resume and provision are views of their own."""

    actions = None
    list_display = ("slug", "source", "destination", "shown_kinds", "shown_state", "problems")
    list_filter = (("source", admin.RelatedOnlyFieldListFilter), ("destination", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("source", "destination")
    search_fields = ("slug", "source__slug", "destination__slug")
    readonly_fields = ("source", "destination", "shown_kinds", "shown_options", "shown_state")
    add_form_template = "admin/integrations/route/change_form.html"

    # --- The form

    def get_queryset(self, request: HttpRequest) -> Any:
        """Count refused mappings with the rows."""
        return super().get_queryset(request).annotate(refused=_refused())

    def _ends(self, request: HttpRequest, route: Route | None) -> tuple[Connection, Connection] | None:
        """Return source and destination: the row's own, or those that the address names."""
        if route is not None:
            return route.source, route.destination
        chosen = EndsForm(request.GET)
        return (chosen.cleaned_data["source"], chosen.cleaned_data["destination"]) if chosen.is_valid() else None

    def get_form(self, request: HttpRequest, obj: Route | None = None, change: bool = False, **kwargs: Any) -> type[RouteForm]:
        """Return a form with one field per option of the destination."""
        ends = self._ends(request, obj)
        if ends is None:
            raise Http404
        return route_form(*ends)

    def get_fieldsets(self, request: HttpRequest, obj: Route | None = None) -> Any:
        """Return the groups of the page; who may only look sees no inputs. A route's ends are chosen once."""
        if obj is not None and not self.has_change_permission(request, obj):
            return ((None, {"fields": ("slug", "shown_state", "source", "destination", "shown_kinds", "shown_options")}),)
        form = self.get_form(request, obj)(instance=obj)
        options = [name for name in form.fields if name.startswith(OPTION)]
        shown = ("shown_state", "source", "destination") if obj else ()
        return ((None, {"fields": ("slug", *shown, "kinds")}), ("Options", {"fields": options}))

    def get_inlines(self, request: HttpRequest, obj: Route | None) -> Any:
        """Return the mappings of a route that exists, statuses where the destination has a workflow."""
        if obj is None:
            return []
        has_workflow = bool(registry.entry(obj.destination.system).system.statuses)
        return [FieldMappingInline, StatusMappingInline] if has_workflow else [FieldMappingInline]

    def save_model(self, request: HttpRequest, obj: Route, form: RouteForm, change: bool) -> None:
        """Store the route; a new one begins with its system's default mappings."""
        super().save_model(request, obj, form, change)
        if not change:
            configuration.new_route_rows(obj)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Store the mappings, and offer to run the records again that those which changed have filled."""
        super().save_related(request, form, formsets, change)
        kinds = sorted(_touched(formsets))
        count = len(remapping.bound(form.instance, kinds)) if change and kinds else 0
        if count:
            address = f"{_page('rerun', form.instance)}?{urlencode([('kind', kind) for kind in kinds])}"
            words = '<a href="{}">Run the {} records this touches again</a>: until then they hold what the old mappings say.'
            self.message_user(request, format_html(words, address, count), messages.WARNING)

    def delete_model(self, request: HttpRequest, obj: Route) -> None:
        """Delete a route that mirrors nothing, with its pause."""
        pausing.resume(obj)
        super().delete_model(request, obj)

    def response_post_save_add(self, request: HttpRequest, obj: Route) -> HttpResponseRedirect:
        """Lead to the new route's mappings."""
        return HttpResponseRedirect(_page("change", obj))

    # --- Pages

    def get_urls(self) -> list[URLPattern]:
        """Add pause, resume, provision and running again to the pages."""
        views: dict[str, Callable[[HttpRequest, str], HttpResponse]] = {
            "pause": self.pause_view,
            "resume": self.resume_view,
            "provision": self.provision_view,
            "rerun": self.rerun_view,
        }
        own = [
            path(f"<path:object_id>/{name}/", self.admin_site.admin_view(view), name=f"integrations_route_{name}")
            for name, view in views.items()
        ]
        return [*own, *super().get_urls()]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Ask for source and destination first: they decide what else is asked."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        if self._ends(request, None) is None:
            form = EndsForm(request.GET or None)
            context = {**self.admin_site.each_context(request), "opts": self.opts, "title": "Add route", "form": form}
            return TemplateResponse(request, "admin/integrations/route/choose.html", context)
        return super().add_view(request, form_url, extra_context)

    def pause_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Stop the route."""
        return self._switch(request, object_id, pausing.pause, "is paused: its jobs wait until it is resumed.")

    def resume_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let the route go on."""
        return self._switch(request, object_id, pausing.resume, "goes on.")

    def _switch(self, request: HttpRequest, object_id: str, switch: Callable[[Route], None], words: str) -> HttpResponse:
        route = self._route(request, object_id)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        switch(route)
        self.log_change(request, route, f"Route {words}")
        self.message_user(request, f"{route.slug} {words}")
        return HttpResponseRedirect(_page("change", route))

    def rerun_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Say how many records the named kinds have on this route; on POST ask for their jobs."""
        route = self._route(request, object_id)
        kinds = [kind for kind in request.GET.getlist("kind") if kind in KINDS]
        if request.method == "POST":
            count = remapping.run_again(route, kinds)
            self.log_change(request, route, f"Ran {count} records again.")
            self.message_user(request, f"{count} records of {route.slug} run again; only what differs is written.")
            return HttpResponseRedirect(_page("change", route))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Run records of {route.slug} again",
            "original": route,
            "count": len(remapping.bound(route, kinds)),
            "kinds": kinds,
        }
        return TemplateResponse(request, "admin/integrations/route/rerun.html", context)

    def provision_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show what the destination lacks; create it on POST. Calls the vendor, so it is no part of a transaction."""
        route = self._route(request, object_id)
        steps, problem = _provision(route, dry_run=request.method != "POST")
        if request.method == "POST" and not problem:
            self.log_change(request, route, "Provisioned.")
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Provision {route.slug}",
            "original": route,
            "steps": [(step, badge(step.change, STEP_WORDS.get(step.change, step.change))) for step in steps],
            "problem": problem,
            "to_create": any(step.change == "create" for step in steps),
            "by_hand": any(step.change == "by_hand" for step in steps),
        }
        return TemplateResponse(request, "admin/integrations/route/provision.html", context)

    def _route(self, request: HttpRequest, object_id: str) -> Route:
        """Return the route for somebody who may change it."""
        route = self.get_object(request, unquote(object_id))
        if not self.has_change_permission(request, route):
            raise PermissionDenied
        if route is None:
            raise Http404
        return route

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Add the buttons for those who may use them."""
        context = {"may_change": self.has_change_permission(request)}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    # --- Columns

    @admin.display(description="kinds")
    def shown_kinds(self, route: Route) -> str:
        """Return the kinds as words."""
        return ", ".join(route.kinds)

    @admin.display(description="options")
    def shown_options(self, route: Route) -> str:
        """Return the options as text."""
        return ", ".join(f"{name}: {value}" for name, value in route.options.items()) or "-"

    @admin.display(description="state", ordering="paused_at")
    def shown_state(self, route: Route) -> str:
        """Return whether it goes."""
        if route.paused_at is None:
            return badge("active")
        return format_html("{} since {}", badge("paused"), short_time(route.paused_at))

    @admin.display(description="refused mappings")
    def problems(self, route: Route) -> str:
        """Return how many field mappings the destination refused."""
        return str(getattr(route, "refused", 0) or "-")


STEP_WORDS = {"by_hand": "by hand", "create": "to create"}


def _refused() -> Any:
    """Return the number of a route's refused mappings as an expression."""
    return Count("field_mappings", filter=~Q(field_mappings__problem=""))


def _touched(formsets: Iterable[Any]) -> set[str]:
    """Return the kinds of job whose documents the changed, new and removed mappings fill."""
    rows = [
        row
        for formset in formsets
        for row in (*formset.new_objects, *(one for one, _ in formset.changed_objects), *formset.deleted_objects)
    ]
    return {remapping.JOBS[row.kind] if isinstance(row, FieldMapping) else INVOICE for row in rows}


def _page(name: str, route: Route) -> str:
    return reverse(f"admin:integrations_route_{name}", args=[route.pk])


def _provision(route: Route, *, dry_run: bool) -> tuple[list[Step], str]:
    """Return the steps, and what kept us from them: an error's own words, which hold no secret."""
    try:
        return provision.provision(route, dry_run=dry_run), ""
    except (ConnectorError, Misconfigured, WrongKeyError) as error:
        return [], str(error)
