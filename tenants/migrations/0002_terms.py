"""Markup and fee by tier, a tenant's own winning; prepaid tenants.

A markup or fee of 0 was what every tenant had unless staff said otherwise: it becomes "as its tier has it", which is 0
until staff say otherwise.
"""

import django.core.validators
from decimal import Decimal
from django.db import migrations, models


def as_the_tier_has_it(apps, schema_editor):
    tenants = apps.get_model('tenants', 'Tenant').objects
    tenants.filter(markup_percent=0).update(markup_percent=None)
    tenants.filter(byok_fee_percent=0).update(byok_fee_percent=None)


def one_row_a_tier(apps, schema_editor):
    terms = apps.get_model('tenants', 'TierTerms').objects
    for tier in ('free', 'starter', 'professional', 'enterprise'):
        terms.get_or_create(tier=tier)


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='tenant',
            name='prepaid',
            field=models.BooleanField(default=False, help_text='Requests are paid from credits granted before: one that what is left does not cover is refused.'),
        ),
        migrations.AlterField(
            model_name='tenant',
            name='byok_fee_percent',
            field=models.DecimalField(blank=True, decimal_places=4, help_text="The fee for requests with the tenant's own provider key, in percent of the provider's price. Empty: as its tier has it.", max_digits=7, null=True, validators=[django.core.validators.MinValueValidator(Decimal('0'))]),
        ),
        migrations.AlterField(
            model_name='tenant',
            name='markup_percent',
            field=models.DecimalField(blank=True, decimal_places=4, help_text="Added to the provider's price for what the tenant owes (platform keys only). 10 is ten percent. Empty: as its tier has it. 0: nothing, whatever the tier has.", max_digits=7, null=True, validators=[django.core.validators.MinValueValidator(Decimal('0'))]),
        ),
        migrations.CreateModel(
            name='TierTerms',
            fields=[
                ('tier', models.CharField(choices=[('free', 'Free'), ('starter', 'Starter'), ('professional', 'Professional'), ('enterprise', 'Enterprise')], help_text='Whose terms these are.', max_length=16, primary_key=True, serialize=False)),
                ('markup_percent', models.DecimalField(decimal_places=4, default=Decimal('0'), help_text="Added to the provider's price for what a tenant of this tier owes (platform keys only). 10 is ten percent. A tenant's own markup wins.", max_digits=7, validators=[django.core.validators.MinValueValidator(Decimal('0'))])),
                ('byok_fee_percent', models.DecimalField(decimal_places=4, default=Decimal('0'), help_text="The fee for requests with a tenant's own provider key, in percent of the provider's price. A tenant's own fee wins.", max_digits=7, validators=[django.core.validators.MinValueValidator(Decimal('0'))])),
                ('updated_at', models.DateTimeField(auto_now=True)),
            ],
            options={
                'verbose_name': "tier's terms",
                'verbose_name_plural': 'terms of tiers',
                'db_table': 'tier_terms',
                'constraints': [models.CheckConstraint(condition=models.Q(('byok_fee_percent__gte', 0), ('markup_percent__gte', 0)), name='tier_markup_not_negative')],
            },
        ),
        migrations.RunPython(one_row_a_tier, migrations.RunPython.noop),
        migrations.RunPython(as_the_tier_has_it, migrations.RunPython.noop),
    ]
