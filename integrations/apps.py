"""Django's name for this app, and the schedules and groups that must exist after every migrate."""

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.module_loading import import_string

from integrations import checks
from integrations.groups import ensure_groups
from integrations.schedules import ensure_schedules

PLANT = "integrations.keys.plant"  # by name: models cannot be imported before the apps are loaded


def _after_migrate(**kwargs: Any) -> None:
    ensure_schedules()
    ensure_groups()
    import_string(PLANT)()


class IntegrationsConfig(AppConfig):
    """Accounts, mappings, the inbox and the systems."""

    name = "integrations"
    verbose_name = "Accounts and routes"

    def ready(self) -> None:
        """Register the system checks and keep schedules and groups in place."""
        checks.register_all()
        post_migrate.connect(_after_migrate, sender=self)
