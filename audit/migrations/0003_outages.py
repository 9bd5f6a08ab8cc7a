from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_machine_beats")]

    operations = [
        migrations.AddField(
            model_name="hold",
            name="probing",
            field=models.BooleanField(default=False, help_text="Of a vendor that is down: one call is under way to see."),
        ),
        migrations.AddField(
            model_name="hold", name="probes", field=models.PositiveIntegerField(default=0, help_text="Probes in vain.")
        ),
    ]
