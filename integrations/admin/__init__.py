"""The browser's pages for accounts, routes, deliveries and remote objects."""

from integrations.admin import bindings, connections, deliveries, routes

__all__ = ["bindings", "connections", "deliveries", "routes"]
