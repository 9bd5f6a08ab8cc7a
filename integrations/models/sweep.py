"""Sweeps over everything that a source holds: how far one is, what it has seen, and what did not agree."""

from django.db import models
from django.db.models import Q

from integrations.models.connection import Connection
from integrations.models.route import Route


class Sweep(models.Model):
    """One pass over all records of a source, in steps under a lease: a reconcile or a backfill."""

    class Purpose(models.TextChoices):
        """What the pass is for."""

        RECONCILE = "reconcile", "reconcile"
        BACKFILL = "backfill", "backfill"

    class State(models.TextChoices):
        """Where it stands."""

        RUNNING = "running", "running"
        PAUSED = "paused", "paused"
        DONE = "done", "done"
        CANCELLED = "cancelled", "cancelled"
        FAILED = "failed", "failed"

    source = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="sweeps")
    route = models.ForeignKey(Route, null=True, blank=True, on_delete=models.CASCADE, related_name="sweeps", help_text="Empty: all routes.")
    purpose = models.CharField(max_length=12, choices=Purpose.choices)
    state = models.CharField(max_length=12, choices=State.choices, default=State.RUNNING)
    dry_run = models.BooleanField(default=False)
    started_by = models.CharField(max_length=32)
    options = models.JSONField(default=dict, blank=True)
    phase = models.CharField(max_length=32, blank=True)
    reached = models.DateTimeField(null=True, blank=True, help_text="How far the phase has come, by the source's times of change.")
    cursor = models.CharField(max_length=120, blank=True, help_text="How far a phase has come that goes by key.")
    today = models.DateField(null=True, blank=True, help_text="The day in the business's time zone when it began.")
    zone = models.CharField(max_length=64, blank=True, help_text="The business's time zone.")
    figures = models.JSONField(default=dict, blank=True)
    left_out = models.JSONField(default=dict, blank=True, help_text="Routes that could not be looked at, with the reason.")
    problem = models.CharField(max_length=500, blank=True)
    failures = models.PositiveIntegerField(default=0, help_text="Steps in a row that came to nothing.")
    created_at = models.DateTimeField()
    due_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    lease_owner = models.CharField(max_length=36, blank=True)

    class Meta:
        default_permissions = ()
        permissions = [("run_sweep", "Can reconcile, backfill and repair")]
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["source"], condition=Q(purpose="reconcile", state="running"), name="one_running_reconcile_per_source"
            ),
            models.UniqueConstraint(
                fields=["route"], condition=Q(purpose="backfill", state__in=("running", "paused")), name="one_open_backfill_per_route"
            ),
        ]

    def __str__(self) -> str:
        about = self.route.slug if self.route else self.source.slug
        return f"{self.purpose} of {about}, {self.created_at:%Y-%m-%d %H:%M}"


class Backfill(Sweep):
    """A sweep that is a backfill: what the browser lists by itself."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        verbose_name = "backfill"
        verbose_name_plural = "backfills"


class Reconcile(Sweep):
    """A sweep that is a reconcile: what the browser lists by itself."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        verbose_name = "reconcile"
        verbose_name_plural = "reconciles"


class Line(models.Model):
    """What a sweep needs to know again of a record that it has passed: kept until the sweep ends, without names."""

    sweep = models.ForeignKey(Sweep, on_delete=models.CASCADE, related_name="lines")
    key = models.CharField(max_length=120)
    customer_key = models.CharField(max_length=120, blank=True)
    number = models.CharField(max_length=255, blank=True)
    status = models.CharField(max_length=32, blank=True)
    due = models.CharField(max_length=40, blank=True, help_text="As text: a decimal column would lose 50.00's zeros.")
    currency = models.CharField(max_length=8, blank=True)
    due_on = models.DateField(null=True, blank=True)
    held = models.JSONField(default=dict, help_text="What is shown as due where, by route.")
    kind = models.CharField(max_length=16, blank=True)
    modified_at = models.DateTimeField(null=True, blank=True)
    paid = models.BooleanField(default=False, help_text="It has payments, which no list shows.")
    wanted = models.BooleanField(default=False, help_text="A backfill is to bring it.")

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["sweep", "key"], name="one_line_per_record")]
        indexes = [
            models.Index(fields=["sweep", "customer_key"], name="line_customer"),
            models.Index(fields=["sweep", "kind", "modified_at", "key"], name="line_order"),
        ]

    def __str__(self) -> str:
        return self.key


class Finding(models.Model):
    """One record that one destination does not hold as it should, and the job that mends it."""

    class Reason(models.TextChoices):
        """Why it is not as it should be."""

        MISSED = "missed", "changed in Wave unnoticed"
        UNBOUND = "unbound", "never arrived"
        DELETED = "deleted", "deleted in Wave"
        REFUSED = "refused", "failed before: see the dead letter"
        AGED = "aged", "a date, a sum or a mapping moved on"
        DRIFTED = "drifted", "edited at the destination"
        ABSENT = "absent", "gone from the destination"
        UNFINISHED = "unfinished", "a write was left in doubt"
        LOST = "lost", "lost: a person decides"
        TWINS = "twins", "more than one remote object"
        UNMAPPABLE = "unmappable", "the mapping cannot be filled"
        UNREADABLE = "unreadable", "Wave's answer cannot be read"

    sweep = models.ForeignKey(Sweep, on_delete=models.CASCADE, related_name="findings")
    route = models.ForeignKey(Route, on_delete=models.CASCADE, related_name="findings")
    kind = models.CharField(max_length=16)
    key = models.CharField(max_length=120)
    customer_key = models.CharField(max_length=120, blank=True, help_text="Of an invoice.")
    title = models.CharField(max_length=255, blank=True)
    reason = models.CharField(max_length=16, choices=Reason.choices)
    fields = models.JSONField(default=list, blank=True, help_text="The fields that differ, without their values.")
    job_id = models.UUIDField(null=True, blank=True, help_text="The job that mends it.")

    class Meta:
        default_permissions = ()
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["sweep", "route", "key", "reason"], name="one_finding_per_reason")]

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}"  # no title: customers' names stay out of logs


class Disagreement(models.Model):
    """A customer whose money is not the same everywhere, or is in more than one currency; amounts are texts like `12.50`."""

    sweep = models.ForeignKey(Sweep, on_delete=models.CASCADE, related_name="disagreements")
    customer_key = models.CharField(max_length=120)
    title = models.CharField(max_length=255, blank=True)
    currency = models.CharField(max_length=8)
    mixed = models.BooleanField(default=False, help_text="More than one currency: compared invoice by invoice.")
    agrees = models.BooleanField(default=False)
    outstanding = models.CharField(max_length=40, blank=True, help_text="What Wave says of the customer.")
    open_sum = models.CharField(max_length=40, blank=True, help_text="What the customer's open invoices add up to.")
    held = models.JSONField(default=dict, help_text="Per route: what the customer's object and its invoices show.")
    invoices = models.JSONField(default=list, help_text="Keys of the invoices that differ.")

    class Meta:
        default_permissions = ()
        ordering = ["title", "currency"]
        constraints = [models.UniqueConstraint(fields=["sweep", "customer_key", "currency"], name="one_line_of_money")]

    def __str__(self) -> str:
        return f"{self.customer_key} {self.currency}"
