"""Where the browser comes back to from a vendor's consent page."""

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET
from django_q.tasks import async_task

from integrations import connect, registry
from integrations.models import Connection
from integrations.models.secrets import WrongKeyError

CONNECT = "integrations.connect_connection"


@require_GET
@never_cache
@sensitive_variables()
def callback(request: HttpRequest, system: str) -> HttpResponse:
    """Take the answer of a consent page and go on to the connection's page, so that no code stays in the address."""
    if system not in registry.SOURCES and system not in registry.DESTINATIONS:
        raise Http404
    user = request.user
    if not (user.is_active and getattr(user, "is_staff", False)):
        # The state would be of another session anyway.
        messages.error(request, "You were logged out meanwhile: log in, open the connection and press Connect again.")
        return HttpResponseRedirect(reverse("admin:index"))
    if not user.has_perm(CONNECT):
        raise PermissionDenied
    try:
        ending = connect.finish(system, request.GET.dict(), request.session)
    except connect.Refused as refused:
        messages.error(request, str(refused))
        return HttpResponseRedirect(page_of(refused.connection))
    except WrongKeyError as error:
        messages.error(request, str(error))
        return HttpResponseRedirect(page_of(None))
    return after(request, ending)


def after(request: HttpRequest, ending: connect.Ending) -> HttpResponse:
    """Tell how it ended and go to the connection's page, or to the choice between several places."""
    if ending.place is None:
        return HttpResponseRedirect(reverse("admin:integrations_connection_choose", args=[ending.connection.pk]))
    who = f", as {ending.place.person_name}" if ending.place.person_name else ""
    messages.success(request, f"Connected {ending.connection.slug} to {ending.place.name}{who}.")
    if ending.paused:
        messages.warning(request, f"Still paused, so resume them on their pages: {', '.join(ending.paused)}.")
    async_task("integrations.tasks.keep_webhooks")  # else its own webhooks would wait for the next hour
    log(request.user, ending.connection, f"Connected to {ending.place.name}{who}.")
    return HttpResponseRedirect(page_of(ending.connection))


def page_of(connection: Connection | None) -> str:
    """Return the address of a connection's page, of the list for none."""
    if connection is None:
        return reverse("admin:integrations_connection_changelist")
    return reverse("admin:integrations_connection_change", args=[connection.pk])


def log(user: AbstractBaseUser | AnonymousUser, connection: Connection, what: str) -> None:
    """Enter into the connection's history who did what."""
    if user.pk is not None:
        LogEntry.objects.log_actions(user.pk, [connection], CHANGE, change_message=what, single_object=True)
