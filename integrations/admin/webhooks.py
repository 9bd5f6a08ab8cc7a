"""The browser's page of a connection's webhook: its secrets, set-up mode, and the test delivery."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from integrations import configuration, registry, remote_webhooks, trial, webhook_secrets
from integrations.core.errors import Misconfigured
from integrations.models import Connection, Intake
from integrations.models.secrets import WrongKeyError

CONNECT = "integrations.connect_connection"


def takes_secrets(connection: Connection) -> bool:
    """Whether a person keeps this connection's webhook: a source's, or one that an admin of the destination makes by hand."""
    if connection.system in registry.SOURCES:
        return True
    told = remote_webhooks.webhook_health(connection)
    return told is not None and told.way == "by_hand"


class WebhookPages(admin.ModelAdmin[Connection]):
    """What a connection's pages offer about its webhook; everything that changes something is a POST of its own."""

    def get_urls(self) -> list[URLPattern]:
        """Add the page and its buttons."""
        views: dict[str, tuple[str, Callable[..., HttpResponse]]] = {
            "": ("webhook", self.webhook_view),
            "generate/": ("webhook_generate", self.generate_secret_view),
            "add/": ("webhook_add", self.add_secret_view),
            "retire/<str:mark>/": ("webhook_retire", self.retire_secret_view),
            "setup/": ("webhook_setup", self.begin_setup_view),
            "setup/end/": ("webhook_setup_end", self.end_setup_view),
            "test/": ("webhook_test", self.test_view),
        }
        own = [
            path(f"<path:object_id>/webhook/{end}", self.admin_site.admin_view(view), name=f"integrations_connection_{name}")
            for end, (name, view) in views.items()
        ]
        return [*own, *super().get_urls()]

    @method_decorator(never_cache)
    def webhook_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the address, the secrets by their fingerprints, and what can be done."""
        return self._webhook_page(request, self._hooked(request, object_id))

    def _webhook_page(self, request: HttpRequest, connection: Connection, *, fresh: str = "") -> HttpResponse:
        try:
            secrets = webhook_secrets.listed(connection)
        except WrongKeyError as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(reverse("admin:integrations_connection_changelist"))
        intake = Intake.objects.defer("secrets").filter(connection=connection).first()
        setup_until = intake.setup_until if intake and intake.setup_until and intake.setup_until > timezone.now() else None
        context: dict[str, Any] = {"secrets": secrets, "intake": intake, "setup_until": setup_until, "fresh": fresh}
        context |= {"address": configuration.webhook_url(connection), "is_source": connection.system in registry.SOURCES}
        return self._page(request, connection, "webhook", "Webhook", context)

    @method_decorator(sensitive_post_parameters())
    def add_secret_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Add a secret beside the others; it is not shown again."""
        connection = self._to_change(request, object_id)
        if isinstance(connection, HttpResponse):
            return connection
        try:
            mark = webhook_secrets.add(connection, request.POST.get("secret", ""))
        except (Misconfigured, WrongKeyError) as error:
            return self._back(request, connection, str(error), messages.ERROR)
        self.log_change(request, connection, f"Added the webhook secret {mark}.")
        return self._back(
            request, connection, f"The secret is stored; from now on it is called {mark}. Older ones are taken until they are retired."
        )

    @method_decorator(never_cache)
    def generate_secret_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Make a secret for a sender that takes ours, and show it this once."""
        connection = self._to_change(request, object_id)
        if isinstance(connection, HttpResponse):
            return connection
        if connection.system in registry.SOURCES:
            raise Http404  # it makes its secrets itself
        try:
            secret = webhook_secrets.generate(connection)
        except (Misconfigured, WrongKeyError) as error:
            return self._back(request, connection, str(error), messages.ERROR)
        self.log_change(request, connection, f"Generated the webhook secret {webhook_secrets.fingerprint(secret)}.")
        return self._webhook_page(request, connection, fresh=secret)

    def retire_secret_view(self, request: HttpRequest, object_id: str, mark: str) -> HttpResponse:
        """Ask, and on POST forget the secret."""
        connection = self._hooked(request, object_id)
        self._require_connect(request)
        if request.method != "POST":
            return self._page(request, connection, "retire", "Retire a webhook secret", {"mark": mark})
        try:
            webhook_secrets.retire(connection, mark)
        except (Misconfigured, WrongKeyError) as error:
            return self._back(request, connection, str(error), messages.ERROR)
        self.log_change(request, connection, f"Retired the webhook secret {mark}.")
        return self._back(request, connection, f"The secret {mark} is forgotten.")

    def begin_setup_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Begin set-up mode."""
        connection = self._to_change(request, object_id)
        if isinstance(connection, HttpResponse):
            return connection
        webhook_secrets.begin_setup(connection)
        self.log_change(request, connection, "Began set-up mode.")
        return self._back(request, connection, "Set-up mode is on for 15 minutes: save the address at the sender now.")

    def end_setup_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """End set-up mode."""
        connection = self._to_change(request, object_id)
        if isinstance(connection, HttpResponse):
            return connection
        webhook_secrets.end_setup(connection)
        self.log_change(request, connection, "Ended set-up mode.")
        return self._back(request, connection, "Set-up mode is off: unsigned requests are refused.")

    def test_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send a test delivery and show the answer; it calls ourselves, so it is no part of a transaction."""
        connection = self._to_change(request, object_id)
        if isinstance(connection, HttpResponse):
            return connection
        try:
            sent = trial.send(connection)
        except (Misconfigured, WrongKeyError) as error:
            return self._back(request, connection, str(error), messages.ERROR)
        return self._page(request, connection, "trial", "Test delivery", {"trial": sent})

    def _hooked(self, request: HttpRequest, object_id: str) -> Connection:
        connection = self.get_object(request, unquote(object_id))
        if connection is None or not takes_secrets(connection):
            raise Http404
        if not self.has_view_permission(request, connection):
            raise PermissionDenied
        return connection

    def _to_change(self, request: HttpRequest, object_id: str) -> Connection | HttpResponse:
        """Return the connection for a POST by somebody who may connect, else the refusal."""
        connection = self._hooked(request, object_id)
        self._require_connect(request)
        return connection if request.method == "POST" else HttpResponseNotAllowed(["POST"])

    def _require_connect(self, request: HttpRequest) -> None:
        if not request.user.has_perm(CONNECT):
            raise PermissionDenied

    def _page(self, request: HttpRequest, connection: Connection, name: str, title: str, context: dict[str, Any]) -> HttpResponse:
        shared = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{title}: {connection.slug}",
            "original": connection,
            "may_connect": request.user.has_perm(CONNECT),
        }
        return TemplateResponse(request, f"admin/integrations/connection/{name}.html", {**shared, **context})

    def _back(self, request: HttpRequest, connection: Connection, text: str, level: int = messages.SUCCESS) -> HttpResponse:
        self.message_user(request, text, level)
        return HttpResponseRedirect(reverse("admin:integrations_connection_webhook", args=[connection.pk]))
