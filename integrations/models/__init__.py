"""The tables of accounts, routes, deliveries and bindings."""

from integrations.models.connection import Connection, Credential, Intake
from integrations.models.inbox import Delivery
from integrations.models.memory import Binding, Change, Slot, RemoteShape
from integrations.models.route import FieldMapping, Route, StatusMapping

__all__ = [
    "Binding",
    "Change",
    "Slot",
    "Connection",
    "Credential",
    "Delivery",
    "FieldMapping",
    "Intake",
    "RemoteShape",
    "Route",
    "StatusMapping",
]
