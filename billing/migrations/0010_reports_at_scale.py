"""Roll-ups of users apart from those of keys and models, open days rolled up so far, indexes of lists."""

import tenants.fields
import uuid
from decimal import Decimal
from django.db import migrations, models


def roll_up_again(apps, schema_editor):
    """Users have a roll-up of their own, which is made from the usage rows: days and months lose their marks, so that
    reports read the rows themselves until the next run of the roll-up, within the hour. No release has pruned yet."""
    apps.get_model("billing", "RolledDay").objects.filter(pruned_at__isnull=True).delete()
    apps.get_model("billing", "RolledMonth").objects.all().delete()


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0009_roll_ups'),
    ]

    operations = [
        migrations.RunPython(roll_up_again, migrations.RunPython.noop),
        migrations.CreateModel(
            name='DailyUserUsage',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, primary_key=True, serialize=False)),
                ('tenant_id', models.UUIDField()),
                ('requests', models.BigIntegerField(default=0)),
                ('errors', models.BigIntegerField(default=0)),
                ('byok_requests', models.BigIntegerField(default=0)),
                ('prompt_tokens', models.BigIntegerField(default=0)),
                ('completion_tokens', models.BigIntegerField(default=0)),
                ('cached_tokens', models.BigIntegerField(default=0)),
                ('total_tokens', models.BigIntegerField(default=0)),
                ('cost_total_usd', tenants.fields.UsdField(default=Decimal('0'))),
                ('billed_usd', tenants.fields.UsdField(default=Decimal('0'))),
                ('budget_usd', tenants.fields.UsdField(default=Decimal('0'))),
                ('latency_ms_sum', models.BigIntegerField(default=0)),
                ('billing_day', models.DateField()),
                ('user_id', models.TextField(blank=True)),
                ('latency_histogram', models.JSONField(default=dict, help_text='Requests by bucket of ms: histograms add up.')),
                ('ttft_histogram', models.JSONField(default=dict)),
            ],
            options={
                'db_table': 'billing_daily_user_usage',
            },
        ),
        migrations.CreateModel(
            name='MonthlyUserUsage',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, primary_key=True, serialize=False)),
                ('tenant_id', models.UUIDField()),
                ('requests', models.BigIntegerField(default=0)),
                ('errors', models.BigIntegerField(default=0)),
                ('byok_requests', models.BigIntegerField(default=0)),
                ('prompt_tokens', models.BigIntegerField(default=0)),
                ('completion_tokens', models.BigIntegerField(default=0)),
                ('cached_tokens', models.BigIntegerField(default=0)),
                ('total_tokens', models.BigIntegerField(default=0)),
                ('cost_total_usd', tenants.fields.UsdField(default=Decimal('0'))),
                ('billed_usd', tenants.fields.UsdField(default=Decimal('0'))),
                ('budget_usd', tenants.fields.UsdField(default=Decimal('0'))),
                ('latency_ms_sum', models.BigIntegerField(default=0)),
                ('month', models.DateField(help_text='Its first day.')),
                ('user_id', models.TextField(blank=True)),
            ],
            options={
                'db_table': 'billing_monthly_user_usage',
            },
        ),
        migrations.CreateModel(
            name='OpenDay',
            fields=[
                ('billing_day', models.DateField(primary_key=True, serialize=False)),
                ('upto', models.UUIDField()),
                ('rolled_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'billing_open_days',
            },
        ),
        migrations.RemoveField(
            model_name='dailyusage',
            name='user_id',
        ),
        migrations.AddIndex(
            model_name='dailyusage',
            index=models.Index(fields=['key_id', 'billing_day'], name='daily_of_key'),
        ),
        migrations.AddIndex(
            model_name='usagerecord',
            index=models.Index(fields=['key_id', '-id'], name='usage_of_key_newest'),
        ),
        migrations.AddIndex(
            model_name='usagerecord',
            index=models.Index(condition=models.Q(('status', 'completed'), _negated=True), fields=['tenant_id', 'status', '-id'], name='usage_gone_wrong'),
        ),
        migrations.AddIndex(
            model_name='dailyuserusage',
            index=models.Index(fields=['tenant_id', 'billing_day'], name='daily_users_of_tenant'),
        ),
        migrations.AddIndex(
            model_name='dailyuserusage',
            index=models.Index(fields=['billing_day'], name='daily_users_of_day'),
        ),
        migrations.AddIndex(
            model_name='monthlyuserusage',
            index=models.Index(fields=['tenant_id', 'month'], name='monthly_users_of_tenant'),
        ),
        migrations.AddIndex(
            model_name='monthlyuserusage',
            index=models.Index(fields=['month'], name='monthly_users_of_month'),
        ),
    ]
