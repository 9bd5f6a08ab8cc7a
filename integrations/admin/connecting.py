"""The pages that connect and disconnect an account, and that say what to register at the vendor."""

from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from integrations import callback, configuration, connect, disconnect, registry, ways
from integrations.admin.forms import in_words
from integrations.core.errors import Misconfigured
from integrations.core.ports import Account, AuthKind
from integrations.models import Connection
from integrations.models.secrets import WrongKeyError

NO_WEBHOOK = "the address appears here once the connection is saved"


@dataclass(frozen=True, slots=True)
class Line:
    """A step of the set-up at the vendor, and what to copy there."""

    words: str
    value: str = ""
    name: str = ""


class ConnectingPages(admin.ModelAdmin[Connection]):
    """The pages around Connect and Disconnect; both ask first, and act on POST only."""

    def get_urls(self) -> list[URLPattern]:
        """Add the pages."""
        pages = {"connect": self.connect_view, "choose": self.choose_view, "disconnect": self.disconnect_view}
        mine = [
            path(f"<path:object_id>/{name}/", self.admin_site.admin_view(view), name=f"integrations_connection_{name}")
            for name, view in pages.items()
        ]
        setup = path("setup/<slug:system>/", self.admin_site.admin_view(self.setup_view), name="integrations_connection_setup")
        return [setup, *mine, *super().get_urls()]

    def _connectable(self, request: HttpRequest, object_id: str) -> Connection:
        """Return the connection; refuse who may not connect, or not even look."""
        if not (request.user.has_perm(callback.CONNECT) and self.has_view_permission(request)):
            raise PermissionDenied
        connection = self.get_object(request, unquote(object_id))
        if connection is None:
            raise Http404
        return connection

    def connect_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show what to register at the vendor; on POST go to its consent page."""
        connection = self._connectable(request, object_id)
        if request.method != "POST":
            return self._connecting_page(request, "setup", f"Connect {connection.slug}", connection=connection, **setup_context(connection))
        try:
            return HttpResponseRedirect(connect.begin(connection, request.session))
        except Misconfigured as error:
            messages.error(request, f"Not connected: {error}.")
            return HttpResponseRedirect(callback.page_of(connection))

    def choose_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the places that the new grant reaches; on POST take one."""
        connection = self._connectable(request, object_id)
        try:
            if request.method == "POST":
                return callback.after(request, connect.choose(connection, request.POST.get("place", ""), request.session))
        except (connect.Refused, WrongKeyError) as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(callback.page_of(connection))
        places = connect.choices(connection, request.session)
        if not places:
            messages.error(request, "There is nothing to choose any more: press Connect again.")
            return HttpResponseRedirect(callback.page_of(connection))
        word = registry.entry(connection.system).consent.place_word
        return self._connecting_page(request, "place", f"Which {word}?", connection=connection, places=places, word=word)

    def disconnect_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask whether it is meant; on POST disconnect and tell what happened."""
        connection = self._connectable(request, object_id)
        if request.method != "POST":
            sharing = Connection.objects.filter(credential=connection.credential_id).exclude(pk=connection.pk)
            return self._connecting_page(request, "disconnect", f"Disconnect {connection.slug}?", connection=connection, sharing=sharing)
        try:
            told = disconnect.disconnect(connection)
        except WrongKeyError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(callback.page_of(connection))
        messages.success(request, " ".join([f"Disconnected {connection.slug}.", *told]))
        callback.log(request.user, connection, " ".join(["Disconnected.", *told]))
        return HttpResponseRedirect(callback.page_of(connection))

    def setup_view(self, request: HttpRequest, system: str) -> HttpResponse:
        """Show what to register at a vendor before there is a connection."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            known = registry.entry(system).system
        except Misconfigured:
            raise Http404 from None
        return self._connecting_page(request, "setup", f"Set up {known.label}", **setup_of(system))

    def _connecting_page(
        self, request: HttpRequest, name: str, title: str, *, connection: Connection | None = None, **more: Any
    ) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "opts": self.opts, "title": title, "original": connection, **more}
        return TemplateResponse(request, f"admin/integrations/connection/{name}.html", context)


def connect_context(request: HttpRequest, connection: Connection) -> dict[str, Any]:
    """Return what the connect part of a connection's page shows."""
    ready = connection.status != Connection.Status.INCOMPLETE
    return {
        "by_consent": connection.auth == connect.WAY_IN,
        "connect_word": "Reconnect" if ready else "Connect",
        "connected_account": connection.account,
        "cautions": ways.cautions(connection),
        "may_press": request.user.has_perm(callback.CONNECT),
    }


def setup_context(connection: Connection) -> dict[str, Any]:
    """Return what the set-up page shows for a connection: its own scopes and webhook address."""
    webhook = configuration.webhook_url(connection) if connection.system in registry.SOURCES else ""
    context = setup_of(connection.system, webhook=webhook, scopes=connect.needed_scopes(connection))
    return {**context, "by_consent": connection.auth == connect.WAY_IN}


def setup_of(system: str, *, webhook: str = "", scopes: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what the set-up page of a system shows."""
    entry = registry.entry(system)
    asked = scopes or entry.consent.scopes(Account("", system, connect.WAY_IN))
    values = {"redirect_uri": connect.redirect_uri(system), "webhook_url": webhook, "scopes": " ".join(asked)}
    lines = [
        Line(words, values.get(name) or (NO_WEBHOOK if name else ""), name if values.get(name) else "")
        for words, name in entry.consent.steps
    ]
    return {"system": entry.system, "steps": lines, "note": entry.consent.note, "ways": [way(kind) for kind in entry.system.auths]}


def way(kind: AuthKind) -> tuple[str, str, str]:
    """Return a way in as name, label and advice."""
    return kind.name, in_words(kind.name), kind.advice
