"""Tenants' own prices."""

import django.core.validators
import django.db.models.deletion
import tenants.fields
import uuid
from decimal import Decimal
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('llm', '0005_price_review'),
        ('tenants', '0002_terms'),
    ]

    operations = [
        migrations.CreateModel(
            name='PriceOverride',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('number', models.PositiveIntegerField(help_text="Counts this tenant's prices of this model.")),
                ('effective_from', models.DateTimeField(help_text='In force from this moment on.')),
                ('effective_to', models.DateTimeField(blank=True, help_text='Until, excluded. Empty: for good. Where both are the same it was cancelled.', null=True)),
                ('recorded_at', models.DateTimeField(help_text='When it was entered.')),
                ('reason', models.TextField(help_text='Why, such as the contract it is from.')),
                ('author', models.CharField(help_text='Who entered it.', max_length=200)),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='price_overrides', to='llm.llmmodel')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='price_overrides', to='tenants.tenant')),
            ],
            options={
                'verbose_name': "tenant's price",
                'verbose_name_plural': "tenants' prices",
                'db_table': 'llm_price_overrides',
                'ordering': ['-effective_from', '-number'],
            },
        ),
        migrations.CreateModel(
            name='OverrideComponent',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('meter', models.CharField(choices=[('input', 'Input tokens'), ('output', 'Output tokens'), ('cache_read', 'Cached input tokens read'), ('cache_write_5m', 'Cache writes kept 5 minutes'), ('cache_write_1h', 'Cache writes kept 1 hour'), ('reasoning', 'Reasoning tokens'), ('audio_input', 'Audio input tokens'), ('audio_output', 'Audio output tokens'), ('audio_cache_read', 'Cached audio input tokens read'), ('image_input', 'Image input tokens'), ('image_output', 'Image output tokens'), ('image_cache_read', 'Cached image input tokens read'), ('video_input', 'Video input tokens'), ('video_output', 'Video output tokens'), ('citation', 'Citation tokens'), ('image', 'Images'), ('request', 'Requests'), ('search', 'Searches')], max_length=16)),
                ('unit_quantity', models.PositiveIntegerField(default=1000000, help_text='How many units the price is for.')),
                ('unit_price_usd', tenants.fields.UsdField(help_text='USD for that many units.', validators=[django.core.validators.MinValueValidator(Decimal('0'))])),
                ('above_tokens', models.PositiveIntegerField(default=0, help_text='Strictly above this many prompt tokens the whole request is priced at this tier.')),
                ('override', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='components', to='llm.priceoverride')),
            ],
            options={
                'db_table': 'llm_price_override_components',
                'ordering': ['above_tokens', 'meter'],
            },
        ),
        migrations.AddConstraint(
            model_name='priceoverride',
            constraint=models.UniqueConstraint(fields=('tenant', 'model', 'number'), name='one_price_override_per_number'),
        ),
        migrations.AddConstraint(
            model_name='priceoverride',
            constraint=models.CheckConstraint(condition=models.Q(('effective_to__isnull', True), ('effective_to__gte', models.F('effective_from')), _connector='OR'), name='price_override_ends_after_it_starts'),
        ),
        migrations.AddConstraint(
            model_name='overridecomponent',
            constraint=models.UniqueConstraint(fields=('override', 'meter', 'above_tokens'), name='one_override_per_meter_and_tier'),
        ),
        migrations.AddConstraint(
            model_name='overridecomponent',
            constraint=models.CheckConstraint(condition=models.Q(('unit_price_usd__gte', 0)), name='override_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='overridecomponent',
            constraint=models.CheckConstraint(condition=models.Q(('unit_quantity__gt', 0)), name='override_quantity_positive'),
        ),
    ]
