"""The browser's pages for accounts, routes, deliveries and remote objects."""

from integrations.admin import backfills, bindings, connections, deliveries, reconciles, routes

__all__ = ["backfills", "bindings", "connections", "deliveries", "reconciles", "routes"]
