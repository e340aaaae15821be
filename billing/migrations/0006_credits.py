"""Prepaid credit; how billed_usd follows from the cost."""

import django.db.models.deletion
import tenants.fields
import tenants.ids
from decimal import Decimal
from django.db import migrations, models

from billing.online import AddColumn


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0005_statements'),
        ('tenants', '0002_terms'),
    ]

    operations = [
        migrations.AddField(
            model_name='adjustment',
            name='is_prepaid',
            field=models.BooleanField(default=False, help_text="Counts in the tenant's prepaid credit."),
        ),
        migrations.AddField(
            model_name='budgetwindow',
            name='expires_at',
            field=models.DateTimeField(help_text='Of prepaid credit: when the next grant expires.', null=True),
        ),
        migrations.AddField(
            model_name='budgetwindow',
            name='granted',
            field=tenants.fields.UsdField(help_text='Of prepaid credit: all that was ever given, less what has expired.', null=True),
        ),
        migrations.AddField(
            model_name='hold',
            name='credit',
            field=tenants.fields.UsdField(help_text='What it holds of prepaid credit. Empty: the tenant pays later.', null=True),
        ),
        AddColumn(
            model_name='usagerecord',
            name='is_prepaid',
            field=models.BooleanField(default=False, help_text='Paid from prepaid credit.'),
        ),
        AddColumn(
            model_name='usagerecord',
            name='terms',
            field=models.JSONField(default=dict, help_text="How billed_usd follows from the cost: a markup or a fee in percent, or a price of the tenant's own with its lines. Empty: they are the same."),
        ),
        migrations.AlterField(
            model_name='adjustment',
            name='billed_usd',
            field=tenants.fields.UsdField(default=Decimal('0'), help_text='Correction of what the tenant owes.'),
        ),
        migrations.AlterField(
            model_name='adjustment',
            name='budget_usd',
            field=tenants.fields.UsdField(default=Decimal('0'), help_text='Correction of what counts against budgets.'),
        ),
        migrations.AlterField(
            model_name='adjustment',
            name='cost_total_usd',
            field=tenants.fields.UsdField(default=Decimal('0'), help_text="Correction of the provider's list price."),
        ),
        migrations.AlterField(
            model_name='budgetwindow',
            name='period',
            field=models.CharField(choices=[('day', 'Day'), ('month', 'Month'), ('ever', 'For ever')], max_length=5),
        ),
        migrations.CreateModel(
            name='CreditEntry',
            fields=[
                ('id', models.UUIDField(default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('number', models.PositiveIntegerField(help_text='Counts the entries of this tenant: the order in which they hold.')),
                ('kind', models.CharField(choices=[('grant', 'Grant'), ('correction', 'Correction'), ('expiry', 'Expired')], max_length=10)),
                ('amount', tenants.fields.UsdField(help_text='USD, signed: what it adds to the balance.')),
                ('expires_at', models.DateTimeField(blank=True, help_text='From this moment on what is left of the grant is gone. Empty: never.', null=True)),
                ('source', models.CharField(blank=True, choices=[('purchase', 'Paid for'), ('promotion', 'Promotion'), ('goodwill', 'Goodwill'), ('other', 'Other')], help_text='Where a grant comes from.', max_length=10)),
                ('reason', models.TextField(help_text='Why; the tenant can read it.')),
                ('author', models.CharField(max_length=200)),
                ('spent_then', tenants.fields.UsdField(help_text="What the tenant's requests had drawn in all when this was written.")),
                ('created_at', models.DateTimeField()),
                ('grant', models.ForeignKey(blank=True, help_text='Of a correction or an expiry: the grant it is about.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='changes', to='billing.creditentry')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='credit_entries', to='tenants.tenant')),
            ],
            options={
                'verbose_name': 'credit entry',
                'verbose_name_plural': 'credit entries',
                'db_table': 'billing_credit_entries',
                'ordering': ['-id'],
                'constraints': [models.UniqueConstraint(fields=('tenant', 'number'), name='one_credit_entry_per_number'), models.CheckConstraint(condition=models.Q(models.Q(('amount__gt', Decimal('0')), ('grant__isnull', True), ('kind', 'grant')), models.Q(('expires_at__isnull', True), ('grant__isnull', False), ('kind', 'correction')), models.Q(('amount__lte', Decimal('0')), ('expires_at__isnull', True), ('grant__isnull', False), ('kind', 'expiry')), _connector='OR'), name='credit_entry_makes_sense'), models.CheckConstraint(condition=models.Q(('expires_at__isnull', True), ('expires_at__gt', models.F('created_at')), _connector='OR'), name='credit_expires_after_it_is_given')],
            },
        ),
    ]
