"""The index on days has the request ids too: the last one of a tenant's day is found in it."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0013_price_task_alerts'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='usagerecord',
            name='usage_of_day',
        ),
        migrations.AddIndex(
            model_name='usagerecord',
            index=models.Index(fields=['billing_day', 'tenant_id', 'id'], name='usage_of_day'),
        ),
    ]
