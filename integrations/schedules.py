"""The schedules django-q2 runs for us, created in code: one malformed schedule would stop them all."""

from django.apps import apps

SWEEP, BEAT = "sweep due jobs", "heartbeat"


def ensure_schedules() -> None:
    """Create or mend our schedules; safe to repeat."""
    schedule = apps.get_model("django_q", "Schedule")
    for name, func in ((SWEEP, "integrations.tasks.sweep"), (BEAT, "integrations.tasks.beat")):
        # I: every so many minutes
        schedule.objects.update_or_create(name=name, defaults={"func": func, "schedule_type": "I", "minutes": 1, "repeats": -1})
