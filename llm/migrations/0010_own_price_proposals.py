"""Proposals may be about a tenant's own price."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('llm', '0009_price_task_owner'),
        ('tenants', '0002_terms'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='priceproposal',
            name='one_pending_proposal_per_source',
        ),
        migrations.AddField(
            model_name='priceproposal',
            name='tenant',
            field=models.ForeignKey(help_text='Whose own price it is.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='price_proposals', to='tenants.tenant'),
        ),
        migrations.AddField(
            model_name='priceproposal',
            name='wanted',
            field=models.JSONField(help_text='Of an own price: components, effective_from, effective_to, reason; or which one it `ends`.', null=True),
        ),
        migrations.AlterField(
            model_name='priceproposal',
            name='version',
            field=models.OneToOneField(help_text='The proposed price.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='proposal', to='llm.priceversion'),
        ),
        migrations.AddConstraint(
            model_name='priceproposal',
            constraint=models.UniqueConstraint(condition=models.Q(('state', 'pending'), ('tenant__isnull', True)), fields=('model', 'source'), name='one_pending_proposal_per_source'),
        ),
        migrations.AddConstraint(
            model_name='priceproposal',
            constraint=models.UniqueConstraint(condition=models.Q(('state', 'pending')), fields=('model', 'tenant'), name='one_pending_proposal_per_tenant'),
        ),
        migrations.AddConstraint(
            model_name='priceproposal',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('tenant__isnull', True), ('version__isnull', False), ('wanted__isnull', True)), models.Q(('tenant__isnull', False), ('version__isnull', True), ('wanted__isnull', False)), _connector='OR'), name='proposal_of_list_or_own_price'),
        ),
    ]
