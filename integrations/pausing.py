"""A route's pause: what it asks for waits, and nothing is lost."""

from django.db import transaction
from django.utils import timezone

from audit import ledger
from integrations.models import Route


def pause(route: Route) -> None:
    """Stop a route's jobs until it is resumed; deliveries are still taken and answered."""
    with transaction.atomic():
        Route.objects.filter(pk=route.pk, paused_at=None).update(paused_at=timezone.now())
        ledger.hold(_scope(route), reason=ledger.PAUSED_REASON)


def resume(route: Route) -> None:
    """Let a route's jobs go on, now."""
    with transaction.atomic():
        Route.objects.filter(pk=route.pk).update(paused_at=None)
        ledger.lift(_scope(route), reason=ledger.PAUSED_REASON)
        ledger.wake()


def _scope(route: Route) -> str:
    return f"route:{route.pk}"
