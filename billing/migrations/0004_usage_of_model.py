"""An index for the request log by model, built beside running traffic."""

from django.db import migrations, models

from billing.online import AddIndexOnline


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
