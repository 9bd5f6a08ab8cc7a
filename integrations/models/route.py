"""Routes from a source to a destination, and what they map to what."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from integrations import rules
from integrations.core.errors import Misconfigured
from integrations.models.connection import Connection


class Route(models.Model):
    """Source connection to destination connection, with settings and mappings."""

    slug = models.SlugField(max_length=64, unique=True)
    source = models.ForeignKey(Connection, on_delete=models.PROTECT, related_name="routes_out")
    destination = models.ForeignKey(Connection, on_delete=models.PROTECT, related_name="routes_in")
    kinds = models.JSONField(default=list, help_text='Some of "customer", "invoice", "payment".')
    options = models.JSONField(default=dict, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug

    def clean(self) -> None:
        """Name every mistake in kinds and options, and what would make two writers of one place."""
        errors: dict[str, Any] = {}
        try:
            self.kinds = rules.checked_kinds(self.kinds)
        except Misconfigured as error:
            errors["kinds"] = str(error)
        if self.destination_id and self.source_id:
            try:
                self.options = rules.checked_options(self.destination.system, self.options)
                rules.check_ends(self.source.system, self.destination.system)
                self._check_place()
            except Misconfigured as error:
                errors["options"] = str(error)
        if errors:
            raise ValidationError(errors)

    def _check_place(self) -> None:
        """One route per business and destination place; both stay fixed once something is bound."""
        place = str(self.options.get("project", ""))
        for other in Route.objects.filter(source=self.source, destination=self.destination).exclude(pk=self.pk):
            if str(other.options.get("project", "")) == place:
                raise Misconfigured(f'route "{other.slug}" already writes there: change that one instead')
        before = Route.objects.filter(pk=self.pk).first()
        if before is None or not before.bindings.exists():
            return
        if (before.source_id, before.destination_id) != (self.source_id, self.destination_id):
            raise Misconfigured("source and destination are fixed once records are bound: make a new route")
        if str(before.options.get("project", "")) != place:
            raise Misconfigured("the project is fixed once records are bound: make a new route")


class FieldMapping(models.Model):
    """What goes into one remote field: a template over the record."""

    route = models.ForeignKey(Route, on_delete=models.CASCADE, related_name="field_mappings")
    kind = models.CharField(max_length=16, choices=[(kind, kind) for kind in rules.MAPPED_KINDS])
    target = models.CharField("target field", max_length=100)
    template = models.TextField()
    remote = models.CharField(max_length=100, blank=True, editable=False, help_text="The destination's id of the field.")
    problem = models.CharField(max_length=500, blank=True, editable=False, help_text="Why the destination refused it.")

    class Meta:
        ordering = ["kind", "id"]
        constraints = [models.UniqueConstraint(fields=["route", "kind", "target"], name="one_mapping_per_field")]

    def __str__(self) -> str:
        return f"{self.kind} {self.target}"

    def clean(self) -> None:
        """Refuse a template that cannot work, naming the row and the nearest known name."""
        try:
            rules.check_mapping(self.kind, self.target, self.template)
        except Misconfigured as error:
            raise ValidationError({"template": str(error)}) from error


class StatusMapping(models.Model):
    """Which status of the destination's workflow an invoice state means."""

    route = models.ForeignKey(Route, on_delete=models.CASCADE, related_name="status_mappings")
    state = models.CharField("Wave state", max_length=32)
    status = models.CharField(max_length=100, blank=True, help_text="Empty: the status is left alone in this state.")
    via = models.CharField(max_length=255, blank=True, help_text="Statuses to pass through on the way, separated by commas.")

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["route", "state"], name="one_status_per_state")]

    def __str__(self) -> str:
        return f"{self.state} is {self.status or 'left alone'}"

    def clean(self) -> None:
        """Refuse a state that is no word in capitals."""
        self.state = self.state.strip().upper()
        try:
            rules.check_state(self.state)
        except Misconfigured as error:
            raise ValidationError({"state": str(error)}) from error
