"""How much of an account may be used: calls at the same time, and calls in a window of time."""

from django.db import models

from integrations.models.connection import Connection


class Slot(models.Model):
    """A slot for a call under way: taken by a conditional UPDATE, given back or expired."""

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="slots")
    slot = models.PositiveIntegerField()
    until = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["connection", "slot"], name="one_row_per_slot")]

    def __str__(self) -> str:
        return f"slot {self.slot}"


class Budget(models.Model):
    """What is known of one limit of an account: taken from by a conditional UPDATE, corrected by what the vendor tells."""

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="budgets")
    bucket = models.CharField(max_length=120, help_text="What the limit is for, in the system's own words.")
    limit = models.PositiveIntegerField(help_text="Calls in a window; 0: not known, only a time to wait for.")
    window = models.PositiveIntegerField(help_text="Seconds.")
    used = models.PositiveIntegerField(default=0)
    resets_at = models.DateTimeField()
    told_at = models.DateTimeField(null=True, blank=True, help_text="When the vendor told of it last; empty: our own count.")

    class Meta:
        default_permissions = ()
        ordering = ["bucket"]
        constraints = [models.UniqueConstraint(fields=["connection", "bucket"], name="one_row_per_budget")]

    def __str__(self) -> str:
        return f"{self.bucket}: {self.used} of {self.limit}"
