"""How far the listings of a source have been read, and who is reading on just now."""

from django.db import models

from integrations.models.connection import Connection


class Watermark(models.Model):
    """One row per source connection and kind of record.

    `reached` moves only in the transaction that stores the jobs of what was listed, and only while the lease is held.
    """

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="watermarks")
    kind = models.CharField(max_length=16)
    reached = models.DateTimeField(help_text="Every change up to this moment, by the source's clock, has led to its jobs.")
    moved_at = models.DateTimeField(null=True, blank=True, help_text="When `reached` moved last, by our clock.")
    place = models.JSONField(null=True, blank=True, help_text="Where a poll that ended half way goes on, by the source's clock.")
    asked = models.JSONField(default=dict, help_text="Changes near it that jobs were made for already: times by key.")
    due_at = models.DateTimeField()
    tried_at = models.DateTimeField(null=True, blank=True)
    polled_at = models.DateTimeField("last complete poll", null=True, blank=True)
    problem = models.CharField(max_length=500, blank=True, help_text="Why the last poll failed.")
    lease_until = models.DateTimeField(null=True, blank=True)
    lease_owner = models.CharField(max_length=36, blank=True)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["connection", "kind"], name="one_watermark_per_kind")]

    def __str__(self) -> str:
        return f"{self.kind} up to {self.reached:%Y-%m-%d %H:%M:%S}"
