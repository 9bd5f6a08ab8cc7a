"""The schedules django-q2 runs for us, created in code: one malformed schedule would stop them all."""

from django.apps import apps

SWEEP, BEAT, HEALTH, REFRESH = "sweep due jobs", "heartbeat", "ping accounts", "refresh tokens"
WEBHOOKS, POLL, RECONCILE, BACKFILL = "jira webhooks", "poll sources", "reconcile", "backfill"


def ensure_schedules() -> None:
    """Create or mend our schedules; safe to repeat."""
    schedule = apps.get_model("django_q", "Schedule")
    often = (
        (SWEEP, "sweep"),
        (BEAT, "beat"),
        (HEALTH, "ping"),
        (REFRESH, "refresh"),
        (POLL, "poll"),
        (RECONCILE, "reconcile"),
        (BACKFILL, "backfill"),
    )
    tasks = [(name, task, 1) for name, task in often] + [(WEBHOOKS, "keep_webhooks", 60)]
    for name, task, minutes in tasks:
        # I: every so many minutes
        values = {"func": f"integrations.tasks.{task}", "schedule_type": "I", "minutes": minutes, "repeats": -1}
        schedule.objects.update_or_create(name=name, defaults=values)
