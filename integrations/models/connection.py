"""Accounts in other systems, their secrets in rows of their own, and the counters of their webhook."""

import uuid
from typing import Any

from django.db import models

from integrations.models.secrets import SecretTextField


class Credential(models.Model):
    """The secrets of an account: JSON of client_secret, access_token, refresh_token, api_token.

    A row of its own, loaded only where it is used; several connections may share one grant.
    `version` is raised by every change, so that whoever stores a refreshed token can tell it is the only one.
    """

    secrets = SecretTextField(default="{}")
    version = models.PositiveIntegerField(default=1)
    expires_at = models.DateTimeField(null=True, blank=True)
    scope = models.TextField(blank=True)
    refresh_lease_until = models.DateTimeField(null=True, blank=True)
    refresh_owner = models.CharField(max_length=36, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"credential {self.pk}"


class Connection(models.Model):
    """An account in one system; `settings` holds what its way in needs (subdomain, site, business id ...)."""

    class Status(models.TextChoices):
        """Whether the account can be used."""

        READY = "ready", "Ready"
        INCOMPLETE = "incomplete", "Not connected yet"
        NEEDS_RECONNECT = "needs_reconnect", "Needs reconnecting"

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    slug = models.SlugField(max_length=64, unique=True)
    system = models.CharField(max_length=32)
    auth = models.CharField("way in", max_length=32)
    settings = models.JSONField(default=dict, blank=True)
    credential = models.ForeignKey(Credential, on_delete=models.PROTECT, related_name="connections", editable=False)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.INCOMPLETE)
    status_reason = models.CharField(max_length=255, blank=True)
    account = models.JSONField(default=dict, blank=True, help_text="What the system told about the account.")
    time_zone = models.CharField(max_length=64, blank=True, help_text="Of a source's business, as the last read told.")
    last_ok_at = models.DateTimeField("last successful call", null=True, blank=True)
    checks = models.JSONField(default=list, blank=True, editable=False, help_text="What the last ping found.")
    checked_at = models.DateTimeField("last ping", null=True, blank=True, editable=False)
    failures = models.PositiveIntegerField(default=0, editable=False, help_text="Calls in a row that the vendor did not answer.")
    budgeted = models.BooleanField(default=False, editable=False, help_text="Something is known of its limits.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        default_permissions = ("view", "add", "change", "delete")
        permissions = [("connect_connection", "Can connect and disconnect accounts")]
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug

    def setting(self, name: str, default: str = "") -> str:
        """Return one account setting as text."""
        value: Any = self.settings.get(name)
        return default if value in (None, "") else str(value)


class Intake(models.Model):
    """A connection's webhook: its secrets and the counters of what was turned away."""

    connection = models.OneToOneField(Connection, on_delete=models.CASCADE, related_name="intake")
    secrets = SecretTextField(default="[]")
    unsigned = models.PositiveBigIntegerField(default=0)
    bare = models.PositiveBigIntegerField("signed without a time", default=0)
    forged = models.PositiveBigIntegerField(default=0)
    stale_signed = models.PositiveBigIntegerField("rightly signed but stale", default=0)
    counted_at = models.DateTimeField(null=True, blank=True)
    poll_due_at = models.DateTimeField(null=True, blank=True, help_text="A stale but rightly signed delivery brings it forward.")
    setup_until = models.DateTimeField("set-up mode until", null=True, blank=True)
    probed_at = models.DateTimeField("last probe in set-up mode", null=True, blank=True)
    stale_at = models.DateTimeField("last stale delivery", null=True, blank=True)
    stale_skew = models.FloatField(null=True, blank=True, help_text="Seconds from our clock to the stale delivery's time.")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"webhook of {self.connection_id}"


class WebhookSecret(models.Model):
    """What is known of one webhook secret besides the secret itself, which stands in its intake's encrypted list."""

    intake = models.ForeignKey(Intake, on_delete=models.CASCADE, related_name="known_secrets")
    fingerprint = models.CharField(max_length=16)
    added_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        ordering = ["added_at", "id"]
        constraints = [models.UniqueConstraint(fields=["intake", "fingerprint"], name="one_row_per_webhook_secret")]

    def __str__(self) -> str:
        return self.fingerprint
