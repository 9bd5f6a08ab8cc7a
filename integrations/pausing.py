"""A route's pause: what it asks for waits, and nothing is lost."""

from django.db import transaction
from django.utils import timezone

from audit import holds, ledger
from audit.models import Hold
from integrations.models import Route


def pause(route: Route, *, reason: str = holds.PAUSED_REASON) -> None:
    """Stop a route's jobs until it is resumed; deliveries are still taken and answered. The first reason stands."""
    with transaction.atomic():
        Route.objects.filter(pk=route.pk, paused_at=None).update(paused_at=timezone.now())
        holds.hold(_scope(route), reason=reason)


def resume(route: Route) -> None:
    """Let a route's jobs go on, now."""
    with transaction.atomic():
        Route.objects.filter(pk=route.pk).update(paused_at=None)
        holds.lift(_scope(route))
        ledger.wake()


def reason(route: Route) -> str:
    """Return why a route is paused, "" when it is not."""
    held = Hold.objects.filter(scope=_scope(route)).values_list("reason", flat=True).first()
    return (held or holds.PAUSED_REASON) if route.paused_at else ""


def _scope(route: Route) -> str:
    return f"route:{route.pk}"
