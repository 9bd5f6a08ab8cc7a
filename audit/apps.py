"""Django's name for this app."""

from django.apps import AppConfig


class AuditConfig(AppConfig):
    """Jobs, attempts and holds."""

    name = "audit"
    verbose_name = "Jobs"
