"""Correction runs; and tenants' own prices of one model do not overlap."""

import django.db.models.deletion
import tenants.fields
import tenants.ids
from decimal import Decimal
from django.conf import settings
from django.db import migrations, models


# As 0005_price_review does for the price book, whose range type this uses. One that was cancelled ends where it begins:
# an empty range, which overlaps nothing.
MAKE = """
ALTER TABLE llm_price_overrides ADD CONSTRAINT one_price_override_at_a_time EXCLUDE USING gist (
    llm_uuid_range(tenant_id, tenant_id, '[]') WITH &&,
    llm_uuid_range(model_id, model_id, '[]') WITH &&,
    tstzrange(effective_from, effective_to, '[)') WITH &&
);
"""
DROP = "ALTER TABLE llm_price_overrides DROP CONSTRAINT one_price_override_at_a_time;"


def forbid_overlaps(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(MAKE)


def allow_overlaps(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(DROP)


class Migration(migrations.Migration):

    dependencies = [
        ('llm', '0007_service_tiers'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='CorrectionRun',
            fields=[
                ('id', models.UUIDField(default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('model_id', models.UUIDField(help_text='The model whose price was wrong.')),
                ('provider_slug', models.CharField(max_length=64)),
                ('model_name', models.CharField(max_length=200)),
                ('price_version_id', models.UUIDField(help_text='Only what was priced with this version. Empty: with any.', null=True)),
                ('price_version_number', models.PositiveIntegerField(null=True)),
                ('components', models.JSONField(help_text='The right price: USD per million of each meter.')),
                ('since', models.DateTimeField(help_text='Requests accepted from this moment on.')),
                ('until', models.DateTimeField(help_text='Until, excluded.')),
                ('reason', models.TextField(help_text='Why; the tenants can read it with each adjustment.')),
                ('state', models.CharField(choices=[('working', 'Being worked out'), ('pending', 'Pending'), ('approved', 'Approved, being booked'), ('booked', 'Booked'), ('rejected', 'Rejected'), ('cancelled', 'Cancelled')], default='working', max_length=9)),
                ('proposer', models.CharField(max_length=200)),
                ('created_at', models.DateTimeField()),
                ('reached_at', models.DateTimeField(help_text='Worked out up to a request accepted at this moment...', null=True)),
                ('reached_id', models.UUIDField(help_text='... and this one of those.', null=True)),
                ('requests', models.PositiveBigIntegerField(default=0, help_text='Requests looked at.')),
                ('affected', models.PositiveBigIntegerField(default=0, help_text='Requests that would be corrected.')),
                ('adjusted', models.PositiveBigIntegerField(default=0, help_text='Of those: had been adjusted before.')),
                ('no_lines', models.PositiveBigIntegerField(default=0, help_text='Left alone: without price lines (swept after a crash, or booked by other code).')),
                ('no_meter', models.PositiveBigIntegerField(default=0, help_text='Left alone: the right price has none for a meter that was used.')),
                ('no_terms', models.PositiveBigIntegerField(default=0, help_text='Left alone: their terms do not say how they were billed.')),
                ('cost_usd', tenants.fields.UsdField(default=Decimal('0'), help_text="Change of the providers' list price.")),
                ('billed_usd', tenants.fields.UsdField(default=Decimal('0'), help_text='Change of what tenants owe.')),
                ('budget_usd', tenants.fields.UsdField(default=Decimal('0'), help_text='Change of what counts against budgets.')),
                ('tenants', models.JSONField(default=list, help_text='The same by tenant.')),
                ('decider', models.CharField(blank=True, max_length=200)),
                ('decided_at', models.DateTimeField(null=True)),
                ('decision_reason', models.TextField(blank=True)),
                ('booked_to', models.UUIDField(help_text='Booked up to this request.', null=True)),
                ('booked', models.PositiveBigIntegerField(default=0, help_text='Adjustments made.')),
                ('passed_over', models.PositiveBigIntegerField(default=0, help_text='Left alone: corrected by somebody else between the approval and the booking.')),
                ('booked_at', models.DateTimeField(null=True)),
                ('decided_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('proposed_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'correction run',
                'db_table': 'llm_correction_runs',
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='CorrectionItem',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('request_id', models.UUIDField()),
                ('tenant_id', models.UUIDField()),
                ('cost_usd', tenants.fields.UsdField()),
                ('billed_usd', tenants.fields.UsdField()),
                ('budget_usd', tenants.fields.UsdField()),
                ('adjustments', models.PositiveIntegerField(help_text='How many adjustments it had when this was worked out.')),
                ('run', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='items', to='llm.correctionrun')),
            ],
            options={
                'db_table': 'llm_correction_items',
            },
        ),
        migrations.AddIndex(
            model_name='correctionrun',
            index=models.Index(fields=['state', '-id'], name='corrections_by_state'),
        ),
        migrations.AddConstraint(
            model_name='correctionrun',
            constraint=models.CheckConstraint(condition=models.Q(('until__gt', models.F('since'))), name='correction_ends_after_it_starts'),
        ),
        migrations.AddConstraint(
            model_name='correctionrun',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state__in', ['approved', 'booked']), _negated=True), ('proposed_by__isnull', True), ('decided_by__isnull', True), models.Q(('proposed_by', models.F('decided_by')), _negated=True), _connector='OR'), name='corrector_does_not_approve'),
        ),
        migrations.AddConstraint(
            model_name='correctionrun',
            constraint=models.UniqueConstraint(condition=models.Q(('state', 'approved')), fields=('model_id',), name='one_correction_of_a_model_at_a_time'),
        ),
        migrations.AddConstraint(
            model_name='correctionitem',
            constraint=models.UniqueConstraint(fields=('run', 'request_id'), name='one_item_per_request_and_run'),
        ),
        migrations.RunPython(forbid_overlaps, allow_overlaps),
    ]
