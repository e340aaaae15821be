"""Slices of days and months: what reports by few columns read."""

import tenants.fields
import uuid
from decimal import Decimal
from django.db import migrations, models


def sum_again(apps, schema_editor):
    """Days that are rolled up keep their mark and get their slices with the next roll-up, within the hour; until then
    reports read what they read before. Months and open days are quickly made anew, then with slices."""
    apps.get_model("billing", "RolledMonth").objects.all().delete()
    apps.get_model("billing", "OpenDay").objects.all().delete()


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0010_reports_at_scale'),
    ]

    operations = [
        migrations.RunPython(sum_again, migrations.RunPython.noop),
        migrations.AddField(
            model_name='rolledday',
            name='slices',
            field=models.IntegerField(help_text='How many DailySlice rows it has. Empty: none were made.', null=True),
        ),
        migrations.CreateModel(
            name='DailySlice',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, primary_key=True, serialize=False)),
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
                ('tenant_id', models.UUIDField(null=True)),
                ('cut', models.CharField(max_length=16)),
                ('provider_slug', models.CharField(blank=True, max_length=64)),
                ('model_name', models.CharField(blank=True, max_length=200)),
                ('key_id', models.UUIDField(null=True)),
                ('config_id', models.UUIDField(null=True)),
                ('credential_id', models.UUIDField(null=True)),
                ('power_level', models.CharField(blank=True, max_length=16)),
                ('task_type', models.CharField(blank=True, max_length=16)),
                ('used_byok', models.BooleanField(default=False)),
                ('billing_day', models.DateField()),
                ('latency_histogram', models.JSONField(default=dict, help_text='Requests by bucket of ms: histograms add up.')),
                ('ttft_histogram', models.JSONField(default=dict)),
            ],
            options={
                'db_table': 'billing_daily_slices',
                'indexes': [models.Index(fields=['cut', 'tenant_id', 'billing_day'], name='daily_slices_of_cut'), models.Index(fields=['billing_day', 'cut'], name='daily_slices_of_day'), models.Index(condition=models.Q(('key_id__isnull', False)), fields=['key_id', 'billing_day'], name='daily_slices_of_key')],
            },
        ),
        migrations.CreateModel(
            name='MonthlySlice',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, primary_key=True, serialize=False)),
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
                ('tenant_id', models.UUIDField(null=True)),
                ('cut', models.CharField(max_length=16)),
                ('provider_slug', models.CharField(blank=True, max_length=64)),
                ('model_name', models.CharField(blank=True, max_length=200)),
                ('key_id', models.UUIDField(null=True)),
                ('config_id', models.UUIDField(null=True)),
                ('credential_id', models.UUIDField(null=True)),
                ('power_level', models.CharField(blank=True, max_length=16)),
                ('task_type', models.CharField(blank=True, max_length=16)),
                ('used_byok', models.BooleanField(default=False)),
                ('month', models.DateField(help_text='Its first day.')),
            ],
            options={
                'db_table': 'billing_monthly_slices',
                'indexes': [models.Index(fields=['cut', 'tenant_id', 'month'], name='monthly_slices_of_cut'), models.Index(fields=['month'], name='monthly_slices_of_month')],
            },
        ),
    ]
