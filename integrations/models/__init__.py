"""The tables of accounts, routes, deliveries and bindings."""

from integrations.models.connection import Connection, Credential, Intake, WebhookSecret
from integrations.models.inbox import Delivery
from integrations.models.keys import KeyCanary
from integrations.models.limits import Budget, Slot
from integrations.models.memory import Binding, Change, RemoteShape, ShownCustomer
from integrations.models.route import FieldMapping, Route, StatusMapping
from integrations.models.sweep import Backfill, Disagreement, Finding, Line, Reconcile, Sweep
from integrations.models.watermark import Watermark
from integrations.models.webhook import RemoteWebhook

__all__ = [
    "Backfill",
    "Binding",
    "Budget",
    "Change",
    "Connection",
    "Credential",
    "Delivery",
    "Disagreement",
    "FieldMapping",
    "Finding",
    "Intake",
    "KeyCanary",
    "Line",
    "Reconcile",
    "RemoteShape",
    "RemoteWebhook",
    "Route",
    "ShownCustomer",
    "Slot",
    "StatusMapping",
    "Sweep",
    "Watermark",
    "WebhookSecret",
]
