"""Verified webhook requests: a source's byte for byte as they came, of a destination's what is read of them."""

import uuid

from django.db import models

from integrations.models.connection import Connection


class Delivery(models.Model):
    """One verified webhook request. It says what intake decided and names its jobs; its progress is a query."""

    DECISIONS = [(word, word) for word in ("accepted", "ignored", "unknown", "quarantined")]

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    connection = models.ForeignKey(Connection, on_delete=models.PROTECT, related_name="deliveries")
    event_type = models.CharField(max_length=100, blank=True)
    event_hash = models.CharField(max_length=64)
    body_hash = models.CharField(max_length=64)
    body = models.BinaryField()
    secret = models.CharField(max_length=16, blank=True, help_text="Fingerprint of the secret that it was last signed with.")
    skew = models.FloatField(null=True, blank=True, help_text="Seconds by which the sender's clock was ahead of ours.")
    decision = models.CharField(max_length=12, choices=DECISIONS)
    reason = models.CharField(max_length=64, blank=True)
    subject = models.CharField(max_length=120, blank=True, help_text="The key of the record it points at.")
    job_ids = models.JSONField(default=list)
    seen = models.PositiveIntegerField(default=1, help_text="How often it came.")
    received_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "deliveries"
        default_permissions = ("view",)
        permissions = [("replay_delivery", "Can replay deliveries")]
        ordering = ["-received_at"]
        constraints = [models.UniqueConstraint(fields=["connection", "event_hash", "body_hash"], name="one_row_per_delivery")]
        indexes = [
            models.Index(fields=["-received_at"], name="delivery_newest"),
            models.Index(fields=["subject"], name="delivery_subject"),
            models.Index(fields=["secret", "-last_seen_at"], name="delivery_proof"),
        ]

    def __str__(self) -> str:
        return f"{self.event_type or 'delivery'} of {self.received_at:%Y-%m-%d %H:%M:%S}"
