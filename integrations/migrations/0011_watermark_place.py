from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('integrations', '0010_binding_key_by_route'),
    ]

    operations = [
        migrations.AddField(
            model_name='watermark',
            name='moved_at',
            field=models.DateTimeField(blank=True, help_text='When `reached` moved last, by our clock.', null=True),
        ),
        migrations.AddField(
            model_name='watermark',
            name='place',
            field=models.JSONField(blank=True, help_text="Where a poll that ended half way goes on, by the source's clock.", null=True),
        ),
    ]
