"""The webhook that we have registered at a destination, and who is looking after it just now."""

from django.db import models

from integrations.models.connection import Connection


class RemoteWebhook(models.Model):
    """One row per connection that registers its own webhook; without a `remote_id` there is none.

    The lease makes one worker at a time look after it; what it found is stored only while it still holds it.
    """

    connection = models.OneToOneField(Connection, on_delete=models.CASCADE, related_name="remote_webhook")
    remote_id = models.CharField(max_length=64, blank=True)
    url = models.CharField(max_length=500, blank=True)
    query = models.TextField(blank=True, help_text="What the destination sends events about, in its own words (JQL).")
    events = models.JSONField(default=list)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="As the destination told when it was read back.")
    registered_at = models.DateTimeField(null=True, blank=True)
    refreshed_at = models.DateTimeField(null=True, blank=True, help_text="When its end was last moved, and seen to have moved.")
    tried_at = models.DateTimeField(null=True, blank=True)
    problem = models.CharField(max_length=500, blank=True, help_text="Why the last look after it failed.")
    lease_until = models.DateTimeField(null=True, blank=True)
    lease_owner = models.CharField(max_length=36, blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"webhook {self.remote_id or '(none)'} of connection {self.connection_id}"
