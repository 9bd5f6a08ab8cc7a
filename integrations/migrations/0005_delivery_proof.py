"""What verified a delivery stands on the delivery, and no longer beside the webhook and its secrets."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("integrations", "0004_remote_webhook"),
    ]

    operations = [
        migrations.AddField(
            model_name="delivery",
            name="secret",
            field=models.CharField(blank=True, default="", help_text="Fingerprint of the secret that it was last signed with.", max_length=16),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="delivery",
            name="skew",
            field=models.FloatField(blank=True, help_text="Seconds by which the sender's clock was ahead of ours.", null=True),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(fields=["secret", "-last_seen_at"], name="delivery_proof"),
        ),
        migrations.RemoveField(model_name="intake", name="verified_at"),
        migrations.RemoveField(model_name="intake", name="verified_with"),
        migrations.RemoveField(model_name="intake", name="skew"),
        migrations.RemoveField(model_name="webhooksecret", name="verified_at"),
    ]
