"""Jobs, their attempts with every HTTP exchange, holds, and the machines' heartbeats."""

import uuid

from django.db import models
from django.db.models import Q

from audit.states import OPEN, State


class SyncJob(models.Model):
    """The intent to bring one record to one destination, with its state; this row is the queue.

    Plain values only: this app knows no integrations model. Written by `audit` alone: ledger, holds, trail.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    route_id = models.BigIntegerField()
    route_slug = models.CharField("route", max_length=64)
    source_id = models.BigIntegerField()
    destination_id = models.BigIntegerField()
    system = models.CharField(max_length=32, help_text="The destination's system.")
    kind = models.CharField(max_length=16)
    key = models.CharField(max_length=120)
    customer_key = models.CharField(max_length=120, blank=True, help_text="The customer of an invoice, once known.")
    derived = models.BooleanField(default=False, help_text="Asked for by another record's change.")
    force = models.BooleanField(default=False, help_text="Write even what seems unchanged.")
    second_look = models.BooleanField(default=False, help_text="The record was not found once already.")
    state = models.CharField(max_length=12, choices=State.choices, default=State.PENDING)
    result = models.CharField(max_length=16, blank=True)
    reason = models.CharField(max_length=64, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    notes = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField()
    due_at = models.DateTimeField()
    not_before = models.DateTimeField(null=True, blank=True, help_text="The vendor's own earliest time.")
    first_tried_at = models.DateTimeField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)
    tries = models.PositiveIntegerField(default=0, help_text="Runs that raise the back-off.")
    losses = models.PositiveIntegerField(default=0, help_text="Workers lost in a row.")
    attempt_number = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    replay_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="replays")
    resolved_by = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="resolves")
    title = models.CharField(max_length=255, blank=True)
    party = models.CharField("customer", max_length=255, blank=True)
    amount = models.CharField(max_length=40, blank=True)

    class Meta:
        verbose_name = "job"
        default_permissions = ("view",)
        permissions = [("replay_syncjob", "Can replay jobs")]
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["route_id", "kind", "key"], condition=Q(state__in=OPEN), name="one_open_job_per_record"),
            models.UniqueConstraint(
                fields=["route_id", "kind", "key"], condition=Q(state=State.RUNNING), name="one_running_job_per_record"
            ),
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(state=State.PENDING), name="job_due"),
            models.Index(fields=["lease_until"], condition=Q(state=State.RUNNING), name="job_lease"),
            models.Index(fields=["key", "route_id"], name="job_key"),
            models.Index(fields=["-created_at"], name="job_newest"),
            models.Index(fields=["route_id", "key"], condition=Q(state=State.DEAD, resolved_by=None), name="job_dead"),
            # What is not over, by record: of a record's jobs, and of a customer's above all, nearly all are. SQLite takes a
            # partial index only for a condition without values, hence no state.
            models.Index(fields=["key", "route_id"], condition=Q(settled_at=None), name="job_live"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.title or self.key} to {self.route_slug}"


class Attempt(models.Model):
    """One run of a job, opened at claim; it says how it went, in the vendor's words too."""

    job = models.ForeignKey(SyncJob, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    claim = models.UUIDField(help_text="Shared by the jobs that were claimed together.")
    started_by = models.CharField(max_length=16)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    ending = models.CharField(max_length=16, blank=True)
    result = models.CharField(max_length=16, blank=True)
    reason = models.CharField(max_length=64, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    message = models.TextField(blank=True)
    words = models.TextField("the vendor's words", blank=True)
    notes = models.JSONField(default=list, blank=True)

    class Meta:
        default_permissions = ("view",)
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="attempt_number")]

    def __str__(self) -> str:
        return f"attempt {self.number}"


class Exchange(models.Model):
    """One HTTP request of an attempt: no body, no query, no secret. A write is entered before it is sent."""

    attempt = models.ForeignKey(Attempt, on_delete=models.CASCADE, related_name="exchanges")
    system = models.CharField(max_length=32)
    method = models.CharField(max_length=8)
    path = models.CharField(max_length=500)
    sent_at = models.DateTimeField()
    status = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: no answer came.")
    milliseconds = models.PositiveIntegerField(null=True, blank=True)
    request_id = models.CharField(max_length=120, blank=True)

    class Meta:
        default_permissions = ("view",)
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status or 'no answer'}"


class Hold(models.Model):
    """A stop with a scope and an end; claims obey it.

    scope: route:<id> | connection:<id> | object:<route id>:<kind>:<key>. No end: until somebody lifts it.
    """

    scope = models.CharField(max_length=200, unique=True)
    reason = models.CharField(max_length=64)
    until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    probing = models.BooleanField(default=False, help_text="Of a vendor that is down: one call is under way to see.")
    probes = models.PositiveIntegerField(default=0, help_text="Probes in vain.")

    class Meta:
        default_permissions = ("view",)
        ordering = ["scope"]

    def __str__(self) -> str:
        return f"{self.scope}: {self.reason}"


class Heartbeat(models.Model):
    """Proof that the workers of one machine live. `since` begins anew after a gap of all: from then on our memory is whole."""

    name = models.CharField(max_length=64, primary_key=True, help_text="The machine, by WORKER_NAME.")
    stopped = models.BooleanField(default=False, help_text="Stopped in good order: nobody waits for it.")
    since = models.DateTimeField()
    beat_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.name
