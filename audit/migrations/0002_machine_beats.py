from typing import Any

from django.db import migrations, models


def nobody_waits(apps: Any, schema_editor: Any) -> None:
    """The one row that all machines shared beats no more: each has its own from now on."""
    apps.get_model("audit", "Heartbeat").objects.update(stopped=True)


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="heartbeat",
            name="stopped",
            field=models.BooleanField(default=False, help_text="Stopped in good order: nobody waits for it."),
        ),
        migrations.AlterField(
            model_name="heartbeat",
            name="name",
            field=models.CharField(help_text="The machine, by WORKER_NAME.", max_length=64, primary_key=True, serialize=False),
        ),
        migrations.RunPython(nobody_waits, migrations.RunPython.noop),
    ]
