"""The webhook that we have registered at a destination."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("integrations", "0003_health"),
    ]

    operations = [
        migrations.CreateModel(
            name="RemoteWebhook",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("remote_id", models.CharField(blank=True, max_length=64)),
                ("url", models.CharField(blank=True, max_length=500)),
                (
                    "query",
                    models.TextField(blank=True, help_text="What the destination sends events about, in its own words (JQL)."),
                ),
                ("events", models.JSONField(default=list)),
                (
                    "expires_at",
                    models.DateTimeField(blank=True, help_text="As the destination told when it was read back.", null=True),
                ),
                ("registered_at", models.DateTimeField(blank=True, null=True)),
                (
                    "refreshed_at",
                    models.DateTimeField(blank=True, help_text="When its end was last moved, and seen to have moved.", null=True),
                ),
                ("tried_at", models.DateTimeField(blank=True, null=True)),
                ("problem", models.CharField(blank=True, help_text="Why the last look after it failed.", max_length=500)),
                ("lease_until", models.DateTimeField(blank=True, null=True)),
                ("lease_owner", models.CharField(blank=True, max_length=36)),
                (
                    "connection",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="remote_webhook",
                        to="integrations.connection",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
            },
        ),
    ]
