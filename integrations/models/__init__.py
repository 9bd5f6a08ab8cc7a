"""The tables of accounts, routes, deliveries and bindings."""

from integrations.models.connection import Connection, Credential, Intake, WebhookSecret
from integrations.models.inbox import Delivery
from integrations.models.keys import KeyCanary
from integrations.models.memory import Binding, Change, RemoteShape, ShownCustomer, Slot
from integrations.models.route import FieldMapping, Route, StatusMapping
from integrations.models.watermark import Watermark
from integrations.models.webhook import RemoteWebhook

__all__ = [
    "Binding",
    "Change",
    "Connection",
    "Credential",
    "Delivery",
    "FieldMapping",
    "Intake",
    "KeyCanary",
    "RemoteShape",
    "RemoteWebhook",
    "Route",
    "ShownCustomer",
    "Slot",
    "StatusMapping",
    "Watermark",
    "WebhookSecret",
]
