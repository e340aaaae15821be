"""Prices under review, service tiers, and the rule that prices of one model do not overlap."""

import django.core.validators
import django.db.models.deletion
import tenants.fields
import tenants.ids
import uuid
from decimal import Decimal
from django.conf import settings
from django.db import migrations, models
from django.utils import timezone


# An exclusion constraint needs an operator class for `=` on the model's id, which for uuid is in the extension
# btree_gist: not everywhere installed, and not everybody's to create. Ranges have one built in, so the id goes in as a
# range of one. Making a range type needs no more rights than making a table.
MAKE = """
CREATE TYPE llm_uuid_range AS RANGE (SUBTYPE = uuid);
ALTER TABLE llm_price_versions ADD CONSTRAINT one_price_at_a_time EXCLUDE USING gist (
    llm_uuid_range(model_id, model_id, '[]') WITH &&,
    tstzrange(effective_from, effective_to, '[)') WITH &&
) WHERE (status IN ('approved', 'active', 'superseded'));
"""
DROP = """
ALTER TABLE llm_price_versions DROP CONSTRAINT one_price_at_a_time;
DROP TYPE llm_uuid_range;
"""


def forbid_overlaps(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(MAKE)


def allow_overlaps(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(DROP)


def name_states(apps, schema_editor):
    """Scheduled prices are `approved` now, and one that still goes on is `active`, whatever follows it. What was
    proposed before there were proposals gets one, by the person whose name it bears."""
    PriceVersion = apps.get_model("llm", "PriceVersion")
    PriceProposal = apps.get_model("llm", "PriceProposal")
    User = apps.get_model("auth", "User")
    now = timezone.now()
    PriceVersion.objects.filter(status="superseded", effective_to__gt=now, effective_from__lte=now).update(status="active")
    PriceVersion.objects.filter(status__in=["active", "superseded"], effective_from__gt=now).update(status="approved")
    seen = set()
    for version in PriceVersion.objects.filter(status="proposed").order_by("-number"):
        if (version.model_id, version.source) in seen:  # a newer one took its place
            PriceVersion.objects.filter(pk=version.pk).update(status="cancelled")
            continue
        seen.add((version.model_id, version.source))
        base = PriceVersion.objects.filter(
            model_id=version.model_id, status__in=["approved", "active"], effective_to=None
        ).first()
        person = User.objects.filter(username=version.author.partition(" (")[0]).first()
        PriceProposal.objects.create(
            model_id=version.model_id, version=version, base=base, source=version.source, proposer=version.author,
            proposed_by=person, created_at=version.recorded_at, note="Proposed before there was a review queue.",
        )
    # Indexes are made after this, which PostgreSQL refuses while foreign keys are still to be checked.
    schema_editor.connection.check_constraints()


def nothing(apps, schema_editor):
    """The older code reads the new words too, except `approved`."""
    apps.get_model("llm", "PriceVersion").objects.filter(status="approved").update(status="active")


class Migration(migrations.Migration):

    dependencies = [
        ('llm', '0004_breakers'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='priceversion',
            options={'ordering': ['-effective_from'], 'verbose_name_plural': 'price book'},
        ),
        migrations.CreateModel(
            name='PricePolicy',
            fields=[
                ('id', models.PositiveSmallIntegerField(default=1, editable=False, primary_key=True, serialize=False)),
                ('auto_approve_up_percent', models.DecimalField(blank=True, decimal_places=2, help_text='A proposal of the feed is approved by itself if no meter rises by more than this. Empty: none that rises.', max_digits=5, null=True, validators=[django.core.validators.MinValueValidator(Decimal('0')), django.core.validators.MaxValueValidator(Decimal('400'))])),
                ('auto_approve_down_percent', models.DecimalField(blank=True, decimal_places=2, help_text='A proposal of the feed is approved by itself if no meter falls by more than this. Empty: none that falls.', max_digits=5, null=True, validators=[django.core.validators.MinValueValidator(Decimal('0')), django.core.validators.MaxValueValidator(Decimal('400'))])),
                ('stale_after_days', models.PositiveSmallIntegerField(default=30, help_text='A price that neither the feed nor a person confirmed for so many days is put in the price queue.', validators=[django.core.validators.MinValueValidator(1)])),
                ('updated_at', models.DateTimeField(auto_now=True)),
            ],
            options={
                'verbose_name': 'price policy',
                'verbose_name_plural': 'price policy',
                'db_table': 'llm_price_policy',
            },
        ),
        migrations.CreateModel(
            name='PriceProposal',
            fields=[
                ('id', models.UUIDField(default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('source', models.CharField(help_text='`feed`, `staff`, `import`.', max_length=32)),
                ('source_version', models.CharField(blank=True, help_text='Which feed, in which version.', max_length=64)),
                ('digest', models.CharField(blank=True, help_text='Of what the feed says, to know it again.', max_length=64)),
                ('state', models.CharField(choices=[('pending', 'Pending'), ('approved', 'Approved'), ('rejected', 'Rejected'), ('superseded', 'Superseded')], default='pending', max_length=10)),
                ('is_informational', models.BooleanField(default=False, help_text='The price in force was set by staff: the feed only says that it thinks otherwise.')),
                ('batch', models.UUIDField(help_text='The same for all that were proposed together.', null=True)),
                ('changes', models.JSONField(default=list, help_text='Old, new and percent of each meter; USD per million.')),
                ('largest_percent', models.DecimalField(decimal_places=2, help_text='The largest change of a meter. Empty: the first price.', max_digits=12, null=True)),
                ('impact', models.JSONField(help_text="The last 30 days' traffic at the new price, in all and by tenant.", null=True)),
                ('impact_usd', tenants.fields.UsdField(help_text='What those 30 days would have cost more, or less, in USD.', null=True)),
                ('note', models.TextField(blank=True, help_text='What the reviewer should know.')),
                ('proposer', models.CharField(max_length=200)),
                ('created_at', models.DateTimeField()),
                ('decider', models.CharField(blank=True, max_length=200)),
                ('decided_at', models.DateTimeField(null=True)),
                ('decision_reason', models.TextField(blank=True)),
            ],
            options={
                'verbose_name': 'price proposal',
                'db_table': 'llm_price_proposals',
                'ordering': ['-id'],
                'permissions': [('approve_prices', 'Can approve and reject prices')],
            },
        ),
        migrations.CreateModel(
            name='PriceTask',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('unpriced', 'Used but unpriced'), ('stale', 'Stale price')], max_length=10)),
                ('state', models.CharField(choices=[('open', 'Open'), ('in_progress', 'In progress'), ('ignored', 'Ignored'), ('done', 'Done')], default='open', help_text='Done comes by itself when the price is there or confirmed. Ignored: it is left alone.', max_length=12)),
                ('note', models.TextField(blank=True, help_text='What was found out so far.')),
                ('requests', models.PositiveIntegerField(default=0, help_text='Unpriced: requests it was refused or passed over in. Stale: requests of 30 days.')),
                ('opened_at', models.DateTimeField(help_text='When it came up.')),
                ('seen_at', models.DateTimeField(help_text='When it was last found still so.')),
                ('updated_at', models.DateTimeField(auto_now=True)),
            ],
            options={
                'verbose_name': 'price task',
                'verbose_name_plural': 'price queue',
                'db_table': 'llm_price_tasks',
                'ordering': ['-opened_at'],
            },
        ),
        migrations.AlterModelOptions(
            name='pricecomponent',
            options={'ordering': ['service_tier', 'above_tokens', 'meter']},
        ),
        migrations.RemoveConstraint(
            model_name='pricecomponent',
            name='one_price_per_meter_and_tier',
        ),
        migrations.AddField(
            model_name='pricecomponent',
            name='service_tier',
            field=models.CharField(choices=[('standard', 'Standard'), ('batch', 'Batch'), ('flex', 'Flex'), ('priority', 'Priority')], default='standard', help_text="The provider's service it is for. Kept and shown; bills use `standard`, the only one served.", max_length=8),
        ),
        migrations.AddField(
            model_name='priceversion',
            name='confirmed_at',
            field=models.DateTimeField(blank=True, help_text='When the feed, or a person who looked, last agreed with it.', null=True),
        ),
        migrations.AlterField(
            model_name='priceversion',
            name='effective_from',
            field=models.DateTimeField(help_text='In force from this moment on. Of a proposal: the wished moment.'),
        ),
        migrations.AlterField(
            model_name='priceversion',
            name='source',
            field=models.CharField(help_text='`catalog`, `staff`, `feed`, `import`.', max_length=32),
        ),
        migrations.AlterField(
            model_name='priceversion',
            name='status',
            field=models.CharField(choices=[('draft', 'Draft'), ('proposed', 'Proposed'), ('approved', 'Approved'), ('active', 'Active'), ('superseded', 'Superseded'), ('cancelled', 'Cancelled')], default='active', max_length=12),
        ),
        migrations.AddConstraint(
            model_name='pricecomponent',
            constraint=models.UniqueConstraint(fields=('version', 'meter', 'above_tokens', 'service_tier'), name='one_price_per_meter_and_tiers'),
        ),
        migrations.AddConstraint(
            model_name='priceversion',
            constraint=models.UniqueConstraint(condition=models.Q(('effective_to__isnull', True), ('status__in', ('approved', 'active', 'superseded'))), fields=('model',), name='one_open_price_per_model'),
        ),
        migrations.AddConstraint(
            model_name='pricepolicy',
            constraint=models.CheckConstraint(condition=models.Q(('id', 1)), name='one_price_policy'),
        ),
        migrations.AddField(
            model_name='priceproposal',
            name='base',
            field=models.ForeignKey(help_text='The price it was compared with.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='llm.priceversion'),
        ),
        migrations.AddField(
            model_name='priceproposal',
            name='decided_by',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='priceproposal',
            name='model',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='price_proposals', to='llm.llmmodel'),
        ),
        migrations.AddField(
            model_name='priceproposal',
            name='proposed_by',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='priceproposal',
            name='version',
            field=models.OneToOneField(help_text='The proposed price.', on_delete=django.db.models.deletion.CASCADE, related_name='proposal', to='llm.priceversion'),
        ),
        migrations.AddField(
            model_name='pricetask',
            name='assignee',
            field=models.ForeignKey(blank=True, help_text='Who looks after it.', limit_choices_to={'is_staff': True}, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='pricetask',
            name='model',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='price_tasks', to='llm.llmmodel'),
        ),
        migrations.AddIndex(
            model_name='priceproposal',
            index=models.Index(fields=['state', '-id'], name='proposals_by_state'),
        ),
        migrations.AddIndex(
            model_name='priceproposal',
            index=models.Index(fields=['model', 'source', '-id'], name='proposals_of_model'),
        ),
        migrations.AddConstraint(
            model_name='priceproposal',
            constraint=models.UniqueConstraint(condition=models.Q(('state', 'pending')), fields=('model', 'source'), name='one_pending_proposal_per_source'),
        ),
        migrations.AddConstraint(
            model_name='priceproposal',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('decided_at__isnull', True), ('state', 'pending')), models.Q(models.Q(('state', 'pending'), _negated=True), ('decided_at__isnull', False)), _connector='OR'), name='proposal_decided_or_not'),
        ),
        migrations.AddConstraint(
            model_name='priceproposal',
            constraint=models.CheckConstraint(condition=models.Q(('is_informational', False), models.Q(('state', 'approved'), _negated=True), _connector='OR'), name='information_is_not_approved'),
        ),
        migrations.AddConstraint(
            model_name='priceproposal',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'approved'), _negated=True), ('proposed_by__isnull', True), ('decided_by__isnull', True), models.Q(('proposed_by', models.F('decided_by')), _negated=True), _connector='OR'), name='proposer_does_not_approve'),
        ),
        migrations.AddConstraint(
            model_name='pricetask',
            constraint=models.UniqueConstraint(condition=models.Q(('state', 'done'), _negated=True), fields=('kind', 'model'), name='one_open_task_per_kind_and_model'),
        ),
        migrations.RunPython(forbid_overlaps, allow_overlaps),
        migrations.RunPython(name_states, nothing),
    ]
