"""What health remembers: the last ping's checks, clock skew, and when each webhook secret last verified."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("integrations", "0002_key_canary"),
    ]

    operations = [
        migrations.AddField(
            model_name="connection",
            name="checks",
            field=models.JSONField(blank=True, default=list, editable=False, help_text="What the last ping found."),
        ),
        migrations.AddField(
            model_name="connection",
            name="checked_at",
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name="last ping"),
        ),
        migrations.AddField(
            model_name="intake",
            name="verified_at",
            field=models.DateTimeField(
                blank=True, help_text="Noted at most once a minute.", null=True, verbose_name="last verified delivery"
            ),
        ),
        migrations.AddField(
            model_name="intake",
            name="verified_with",
            field=models.CharField(blank=True, help_text="Fingerprint of the secret it was signed with.", max_length=16),
        ),
        migrations.AddField(
            model_name="intake",
            name="skew",
            field=models.FloatField(
                blank=True, help_text="Seconds by which the sender's clock is ahead of ours, smoothed.", null=True
            ),
        ),
        migrations.AddField(
            model_name="intake",
            name="stale_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="last stale delivery"),
        ),
        migrations.AddField(
            model_name="intake",
            name="stale_skew",
            field=models.FloatField(blank=True, help_text="Seconds from our clock to the stale delivery's time.", null=True),
        ),
        migrations.CreateModel(
            name="WebhookSecret",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("fingerprint", models.CharField(max_length=16)),
                ("added_at", models.DateTimeField()),
                (
                    "verified_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="last delivery signed with it"),
                ),
                (
                    "intake",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="known_secrets", to="integrations.intake"
                    ),
                ),
            ],
            options={
                "ordering": ["added_at", "id"],
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(fields=("intake", "fingerprint"), name="one_row_per_webhook_secret")
                ],
            },
        ),
    ]
