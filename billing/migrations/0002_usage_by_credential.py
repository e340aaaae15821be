from typing import Any

from django.db import migrations, models


class AddIndexConcurrently(migrations.AddIndex):
    """Django's, but on PostgreSQL requests go on being written meanwhile. A half-built one of an earlier try goes first."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        schema_editor.remove_index(model, self.index, concurrently=True)  # says IF EXISTS
        schema_editor.add_index(model, self.index, concurrently=True)


class Migration(migrations.Migration):
    atomic = False  # PostgreSQL builds an index beside its writers only outside a transaction

    dependencies = [
        ('billing', '0001_initial'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='usagerecord',
            index=models.Index(condition=models.Q(('credential_id__isnull', False)), fields=['credential_id', 'billing_day', 'id'], name='usage_of_credential'),
        ),
        migrations.AddField(
            model_name='dailyusage',
            name='credential_id',
            field=models.UUIDField(help_text='The provider key; none for one from the environment.', null=True),
        ),
        AddIndexConcurrently(
            model_name='dailyusage',
            index=models.Index(condition=models.Q(('credential_id__isnull', False)), fields=['credential_id'], name='daily_of_credential'),
        ),
        # Days rolled up so far do not say which provider key was used: without their marks the next run rolls them up anew,
        # and until then reports read the requests themselves.
        migrations.RunSQL("DELETE FROM billing_rolled_days", migrations.RunSQL.noop),
    ]
