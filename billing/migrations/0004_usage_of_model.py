"""An index for the request log by model, built beside running traffic."""

from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


class AddIndexOnline(AddIndexConcurrently):
    """On PostgreSQL without a lock that keeps writers waiting; SQLite has no such thing."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        else:
            migrations.AddIndex.database_forwards(self, app_label, schema_editor, from_state, to_state)


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("billing", "0003_alerts")]

    operations = [
        migrations.AlterField(
            model_name="dailyusage",
            name="latency_histogram",
            field=models.JSONField(default=dict, help_text="Requests by bucket of ms: histograms add up."),
        ),
        AddIndexOnline(
            model_name="usagerecord",
            index=models.Index(fields=["provider_slug", "model_name", "billing_day"], name="usage_of_model"),
        ),
    ]
