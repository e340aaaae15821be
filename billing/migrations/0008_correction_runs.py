"""Adjustments of correction runs."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0007_forecast_alerts'),
        ('tenants', '0002_terms'),
    ]

    operations = [
        migrations.AddField(
            model_name='adjustment',
            name='correction_id',
            field=models.UUIDField(blank=True, help_text='The correction run it is of, if one.', null=True),
        ),
        migrations.AddIndex(
            model_name='adjustment',
            index=models.Index(condition=models.Q(('request_id__isnull', False)), fields=['request_id'], name='adjustments_of_request'),
        ),
        migrations.AddConstraint(
            model_name='adjustment',
            constraint=models.UniqueConstraint(condition=models.Q(('correction_id__isnull', False)), fields=('correction_id', 'request_id'), name='one_adjustment_per_request_and_run'),
        ),
    ]
