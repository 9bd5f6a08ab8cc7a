"""The browser's pages for connections: what an account needs is entered, pinged and watched here."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.views.decorators.debug import sensitive_post_parameters

from audit.admin import badge
from integrations import accounts, capacity, configuration, health, registry, rules, systems
from integrations.admin.connecting import ConnectingPages, connect_context, way
from integrations.admin.forms import SECRET, SETTING, AccountForm, account_form, in_words
from integrations.admin.webhooks import CONNECT, WebhookPages, takes_secrets
from integrations.core.errors import Misconfigured
from integrations.core.ports import AuthKind, Check, System
from integrations.models import Connection, Credential, Intake
from integrations.models.secrets import WrongKeyError


def known_systems() -> list[System]:
    """Return every system of the registry, sources first."""
    return [*(entry.system for entry in registry.SOURCES.values()), *(entry.system for entry in registry.DESTINATIONS.values())]


@admin.register(Connection)
class ConnectionAdmin(ConnectingPages, WebhookPages):
    """Accounts in other systems. Secrets are written here and never shown."""

    actions = None
    list_display = ("slug", "shown_system", "auth", "shown_status", "shown_health", "last_ok_at", "webhook")
    list_filter = ("status", "system")
    search_fields = ("slug", "system")
    add_form_template = "admin/integrations/connection/change_form.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Connection]:
        """Return the rows with their credentials, but without a secret."""
        return super().get_queryset(request).prefetch_related(Prefetch("credential", Credential.objects.defer("secrets")))

    # --- The form

    def _way_in(self, request: HttpRequest, connection: Connection | None) -> tuple[str, AuthKind] | None:
        """Return the system and the way into it that the page is about: the row's own, or the one the address names."""
        system = connection.system if connection else request.GET.get("system", "")
        auth = request.GET.get("auth") or (connection.auth if connection else "")
        try:
            return system, rules.auth_kind(system, auth)
        except Misconfigured:
            return None

    def get_form(self, request: HttpRequest, obj: Connection | None = None, change: bool = False, **kwargs: Any) -> type[AccountForm]:
        """Return a form with one field per setting and secret of the way in; it needs the permission to connect for secrets."""
        way_in = self._way_in(request, obj)
        if way_in is None:
            raise Http404
        return account_form(*way_in, with_secrets=self._may_connect(request))

    def get_fieldsets(self, request: HttpRequest, obj: Connection | None = None) -> Any:
        """Return the groups of the page; who may only look sees no inputs."""
        about = ("Account", {"fields": ("slug", "shown_system", "shown_status", "last_ok_at", *self._webhook_fields(obj))})
        way_in = self._way_in(request, obj)
        if obj is not None and not self.has_change_permission(request, obj):
            return (about, ("Settings", {"fields": ("auth", "shown_settings")}))
        form = self.get_form(request, obj)(instance=obj)
        return (
            about if obj else (None, {"fields": ("slug",)}),
            (f"Settings for {in_words(way_in[1].name)}" if way_in else None, {"fields": form.names(SETTING)}),
            *self._secret_fieldsets(form),
        )

    def _webhook_fields(self, connection: Connection | None) -> tuple[str, ...]:
        return ("webhook", "turned_away") if connection and connection.system in registry.SOURCES else ()

    def _secret_fieldsets(self, form: AccountForm) -> list[tuple[str, dict[str, Any]]]:
        groups = [("Secrets", form.names(SECRET)), ("Webhook", [name for name in form.fields if "webhook_secrets" in name])]
        return [(title, {"fields": names}) for title, names in groups if names]

    def get_readonly_fields(self, request: HttpRequest, obj: Connection | None = None) -> tuple[str, ...]:
        """Return what is shown beside the inputs; the name of a connection stays as it is."""
        shown = ("shown_system", "shown_status", "last_ok_at", "webhook", "turned_away", "shown_settings")
        return ("slug", *shown) if obj else shown

    def save_model(self, request: HttpRequest, obj: Connection, form: AccountForm, change: bool) -> None:
        """Store the account with its secrets."""
        accounts.store(obj, form.entered())

    def delete_model(self, request: HttpRequest, obj: Connection) -> None:
        """Delete the connection and its secrets."""
        accounts.remove(obj)

    # --- Pages

    def get_urls(self) -> list[URLPattern]:
        """Add Ping to the pages."""
        ping = self.admin_site.admin_view(self.ping_view)
        return [path("<path:object_id>/ping/", ping, name="integrations_connection_ping"), *super().get_urls()]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Ask for system and way in first: they decide what else is asked."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        if self._way_in(request, None) is None:
            context = {**self.admin_site.each_context(request), "opts": self.opts, "title": "Add connection", "ways": self._ways()}
            return TemplateResponse(request, "admin/integrations/connection/choose.html", context)
        return super().add_view(request, form_url, {**self._advice(request, None), **(extra_context or {})})

    def _advice(self, request: HttpRequest, connection: Connection | None) -> dict[str, Any]:
        """Return what to know of a way in that is about to be chosen; of the one in use the page tells more."""
        way_in = self._way_in(request, connection)
        chosen = way_in is not None and (connection is None or way_in[1].name != connection.auth)
        return {"way_advice": way_in[1].advice} if way_in and chosen else {}

    def _ways(self) -> list[tuple[System, list[tuple[str, str, str]]]]:
        return [(system, [way(kind) for kind in system.auths]) for system in known_systems()]

    @method_decorator(sensitive_post_parameters())
    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show or store the form; no error report may quote what was posted."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except WrongKeyError as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(reverse("admin:integrations_connection_changelist"))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Add the buttons and the other ways in."""
        connection = self.get_object(request, unquote(object_id))
        way_in = self._way_in(request, connection) if connection else None
        others = registry.entry(connection.system).system.auths if connection and way_in else ()
        context = {
            "may_connect": self._may_connect(request),
            **(connect_context(request, connection) if connection and way_in else {}),
            **self._advice(request, connection),
            "health": health.of(connection) if connection else None,
            "capacity": capacity.of(connection) if connection else None,
            "has_webhook": connection is not None and takes_secrets(connection),
            "other_ways": [(kind.name, in_words(kind.name)) for kind in others if way_in and kind.name != way_in[1].name],
        }
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def ping_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Prove the account now and show each check; calls the vendor, so it is no part of a transaction."""
        if not (self._may_connect(request) and self.has_view_permission(request)):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        connection = self.get_object(request, unquote(object_id))
        if connection is None:
            raise Http404
        checks = _ping(connection)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Ping {connection.slug}",
            "original": connection,
            "checks": checks,
            "well": all(check.ok for check in checks),
        }
        return TemplateResponse(request, "admin/integrations/connection/ping.html", context)

    def _may_connect(self, request: HttpRequest) -> bool:
        return request.user.has_perm(CONNECT)

    # --- Columns

    @admin.display(description="system", ordering="system")
    def shown_system(self, connection: Connection) -> str:
        """Return the system's own name."""
        return next((system.label for system in known_systems() if system.name == connection.system), connection.system)

    @admin.display(description="status", ordering="status")
    def shown_status(self, connection: Connection) -> str:
        """Return the status and why."""
        return format_html("{} {}", badge(connection.status, connection.get_status_display()), connection.status_reason)

    @admin.display(description="health")
    def shown_health(self, connection: Connection) -> str:
        """Return in a word whether the account can be used, with the first thing to look at."""
        return format_html('<span class="badge badge-health-{}">{}</span> {}', *health.access(connection))

    @admin.display(description="webhook address")
    def webhook(self, connection: Connection) -> str:
        """Return where a source must send its webhooks; destinations send none."""
        if connection.system not in registry.SOURCES:
            return "-"
        return format_html('<code class="address">{}</code>', configuration.webhook_url(connection))

    @admin.display(description="turned away")
    def turned_away(self, connection: Connection) -> str:
        """Return how many requests were not taken, by reason."""
        row = Intake.objects.defer("secrets").filter(connection=connection).first()
        if row is None:
            return "-"
        return f"{row.unsigned} unsigned, {row.forged} wrongly signed, {row.bare} signed without a time, {row.stale_signed} too old"

    @admin.display(description="settings")
    def shown_settings(self, connection: Connection) -> str:
        """Return the settings as text; no secret is among them."""
        return ", ".join(f"{in_words(name)}: {value}" for name, value in connection.settings.items()) or "-"


def _ping(connection: Connection) -> list[Check]:
    try:
        return systems.ping(connection)
    except WrongKeyError as error:
        return [Check("secrets", ok=False, detail=str(error), advice="add the old key to FERNET_KEYS, or enter the secrets again")]
