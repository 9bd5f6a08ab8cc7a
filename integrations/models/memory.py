"""What we remember of remote objects and of the source's changes."""

from django.db import models

from integrations.models.connection import Connection
from integrations.models.route import Route


class Binding(models.Model):
    """Which remote object mirrors which record, and what was last written to it."""

    class State(models.TextChoices):
        """How sure we are of the remote object."""

        CREATING = "creating", "being created"
        BOUND = "bound", "bound"
        IN_DOUBT = "in_doubt", "in doubt"
        LOST = "lost", "lost"

    route = models.ForeignKey(Route, on_delete=models.PROTECT, related_name="bindings")
    kind = models.CharField(max_length=32, help_text="The destination's name for the object.")
    key = models.CharField(max_length=120)
    remote_id = models.CharField(max_length=64, blank=True)
    parent = models.CharField(max_length=120, blank=True, help_text="Key of the record it belongs to.")
    state = models.CharField(max_length=12, choices=State.choices, default=State.CREATING)
    hashes = models.JSONField(default=dict)
    facts = models.JSONField(default=dict)
    source_modified_at = models.DateTimeField(null=True, blank=True)
    begun_at = models.DateTimeField(null=True, blank=True, help_text="When the write under way, or the first create, began.")
    claim = models.UUIDField(null=True, blank=True, help_text="The claim that began it.")
    written_at = models.DateTimeField("last written", null=True, blank=True)
    gone_at = models.DateTimeField(null=True, blank=True, help_text="When the record's end at the source was carried out.")
    job_id = models.UUIDField(null=True, blank=True, help_text="The job that wrote it last.")
    title = models.CharField(max_length=255, blank=True)

    class Meta:
        default_permissions = ("view",)
        ordering = ["route", "key", "kind"]
        constraints = [models.UniqueConstraint(fields=["route", "kind", "key"], name="one_binding_per_object")]
        indexes = [
            models.Index(fields=["parent", "route"], name="binding_parent"),
            models.Index(fields=["key", "route"], name="binding_key"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.title or self.key}"


class Change(models.Model):
    """A change of an invoice or payment as a read showed it, for the customer's recent history."""

    source = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="changes")
    customer_key = models.CharField(max_length=120)
    key = models.CharField(max_length=120)
    invoice_key = models.CharField(max_length=120)
    kind = models.CharField(max_length=16)
    at = models.DateTimeField(help_text="The record's own time of change.")
    state = models.CharField(max_length=200, help_text="What a later read is compared with.")
    text = models.CharField(max_length=255)
    amount = models.CharField(max_length=40, blank=True, help_text="As text: a decimal column would lose 50.00's zeros.")
    currency = models.CharField(max_length=8, blank=True)
    paid_on = models.DateField(null=True, blank=True)
    method = models.CharField(max_length=64, blank=True)
    removed = models.BooleanField(default=False)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["source", "key", "at", "state"], name="one_row_per_change")]
        indexes = [models.Index(fields=["source", "customer_key", "-at"], name="change_newest")]

    def __str__(self) -> str:
        return self.text


class ShownCustomer(models.Model):
    """What a customer was called when it was last read or listed: invoices' documents show it too."""

    source = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="shown_customers")
    key = models.CharField(max_length=120)
    digest = models.CharField(max_length=20, help_text="Of name, e-mail and display id.")
    modified_at = models.DateTimeField(help_text="The customer's own time of change.")

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["source", "key"], name="one_row_per_shown_customer")]

    def __str__(self) -> str:
        return self.key


class RemoteShape(models.Model):
    """What is known of a destination account's set-up: fields, screens, workflow."""

    route = models.ForeignKey(Route, on_delete=models.CASCADE, related_name="shapes")
    name = models.CharField(max_length=120)
    value = models.JSONField()
    learnt_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["route", "name"], name="one_shape_per_name")]

    def __str__(self) -> str:
        return self.name
