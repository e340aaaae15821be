from django.db import migrations, models

from billing.online import AddIndexOnline


class Migration(migrations.Migration):
    atomic = False  # PostgreSQL builds an index beside its writers only outside a transaction

    dependencies = [
        ('billing', '0001_initial'),
    ]

    operations = [
        AddIndexOnline(
            model_name='usagerecord',
            index=models.Index(condition=models.Q(('credential_id__isnull', False)), fields=['credential_id', 'billing_day', 'id'], name='usage_of_credential'),
        ),
        migrations.AddField(
            model_name='dailyusage',
            name='credential_id',
            field=models.UUIDField(help_text='The provider key; none for one from the environment.', null=True),
        ),
        AddIndexOnline(
            model_name='dailyusage',
            index=models.Index(condition=models.Q(('credential_id__isnull', False)), fields=['credential_id'], name='daily_of_credential'),
        ),
        # Days rolled up so far do not say which provider key was used: without their marks the next run rolls them up anew,
        # and until then reports read the requests themselves.
        migrations.RunSQL("DELETE FROM billing_rolled_days", migrations.RunSQL.noop),
    ]
