"""Roll-ups of months, a day's charges with their price lines, and days whose usage is pruned."""

import tenants.fields
import uuid
from decimal import Decimal
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0008_correction_runs'),
    ]

    operations = [
        migrations.CreateModel(
            name='RolledMonth',
            fields=[
                ('month', models.DateField(primary_key=True, serialize=False)),
                ('rolled_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'billing_rolled_months',
            },
        ),
        migrations.AddField(
            model_name='rolledday',
            name='charges',
            field=models.IntegerField(help_text='How many DailyCharge rows it has. Empty: none were made.', null=True),
        ),
        migrations.AddField(
            model_name='rolledday',
            name='pruned_at',
            field=models.DateTimeField(help_text='When its usage rows were given up to retention.', null=True),
        ),
        migrations.CreateModel(
            name='DailyCharge',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, primary_key=True, serialize=False)),
                ('billing_day', models.DateField()),
                ('tenant_id', models.UUIDField()),
                ('key_id', models.UUIDField(null=True)),
                ('config_id', models.UUIDField(null=True)),
                ('provider_slug', models.CharField(blank=True, max_length=64)),
                ('model_name', models.CharField(blank=True, max_length=200)),
                ('used_byok', models.BooleanField(default=False)),
                ('key_name', models.CharField(blank=True, help_text='The last of the day.', max_length=100)),
                ('config_name', models.CharField(blank=True, max_length=100)),
                ('requests', models.BigIntegerField(default=0)),
                ('prompt_tokens', models.BigIntegerField(default=0)),
                ('completion_tokens', models.BigIntegerField(default=0)),
                ('cached_tokens', models.BigIntegerField(default=0)),
                ('total_tokens', models.BigIntegerField(default=0)),
                ('cost_total_usd', tenants.fields.UsdField(default=Decimal('0'))),
                ('billed_usd', tenants.fields.UsdField(default=Decimal('0'))),
                ('budget_usd', tenants.fields.UsdField(default=Decimal('0'))),
                ('lost_cost_usd', tenants.fields.UsdField(default=Decimal('0'), help_text='What failed attempts cost the platform.')),
                ('prepaid_usd', tenants.fields.UsdField(default=Decimal('0'), help_text='The part of billed_usd that prepaid credit paid.')),
                ('unitemised_usd', tenants.fields.UsdField(default=Decimal('0'), help_text='The part of the cost of requests without price lines.')),
                ('own_price_list_usd', tenants.fields.UsdField(default=Decimal('0'), help_text="The part of the cost billed at the tenant's own prices.")),
                ('own_price_usd', tenants.fields.UsdField(default=Decimal('0'), help_text="What of billed_usd is at the tenant's own prices.")),
                ('own_price_unitemised_usd', tenants.fields.UsdField(default=Decimal('0'), help_text='The part of that of requests without such lines.')),
                ('lines', models.JSONField(default=list)),
                ('own_lines', models.JSONField(default=list)),
            ],
            options={
                'db_table': 'billing_daily_charges',
                'indexes': [models.Index(fields=['tenant_id', 'billing_day'], name='charges_of_tenant'), models.Index(fields=['billing_day'], name='charges_of_day')],
            },
        ),
        migrations.CreateModel(
            name='MonthlyUsage',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, primary_key=True, serialize=False)),
                ('tenant_id', models.UUIDField()),
                ('key_id', models.UUIDField(null=True)),
                ('config_id', models.UUIDField(null=True)),
                ('credential_id', models.UUIDField(help_text='The provider key; none for one from the environment.', null=True)),
                ('provider_id', models.UUIDField(null=True)),
                ('provider_slug', models.CharField(blank=True, max_length=64)),
                ('model_id', models.UUIDField(null=True)),
                ('model_name', models.CharField(blank=True, max_length=200)),
                ('power_level', models.CharField(blank=True, max_length=16)),
                ('task_type', models.CharField(blank=True, max_length=16)),
                ('used_byok', models.BooleanField(default=False)),
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
            ],
            options={
                'db_table': 'billing_monthly_usage',
                'indexes': [models.Index(fields=['tenant_id', 'month'], name='monthly_of_tenant'), models.Index(fields=['month'], name='monthly_of_month')],
            },
        ),
    ]
