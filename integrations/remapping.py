"""Runs the records of a route again, after what is mapped to what has changed."""

from collections.abc import Collection

from django.db import transaction

from integrations import asking
from integrations.core.records import CUSTOMER, INVOICE, kind_of
from integrations.models import Binding, Route

# Which job writes the documents that a kind of field mapping fills; statuses are an invoice's.
JOBS = {"customer": CUSTOMER, "contact": CUSTOMER, "invoice": INVOICE, "payment": INVOICE}


def bound(route: Route, kinds: Collection[str]) -> list[tuple[str, str]]:
    """Return kind and key of the records of these kinds that the route mirrors; what another business has there is not its."""
    keys = list(Binding.objects.filter(route=route).order_by("key").values_list("key", flat=True).distinct())
    own = asking.own(route.source, keys)
    return [(kind_of(key), key) for key in keys if key in own and kind_of(key) in kinds and kind_of(key) in route.kinds]


def run_again(route: Route, kinds: Collection[str]) -> int:
    """Ask for the job of each record of these kinds that the route mirrors; return how many. Only what differs is written."""
    with transaction.atomic():
        return asking.request(asking.ask(route.source, route, kind, key) for kind, key in bound(route, kinds))
