"""Adjustments say of key, level and task what their requests say. Those that are there stay as they are."""


from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0011_slices'),
    ]

    operations = [
        migrations.AddField(
            model_name='adjustment',
            name='credential_id',
            field=models.UUIDField(blank=True, help_text='The provider key that the request used.', null=True),
        ),
        migrations.AddField(
            model_name='adjustment',
            name='power_level',
            field=models.CharField(blank=True, max_length=16),
        ),
        migrations.AddField(
            model_name='adjustment',
            name='task_type',
            field=models.CharField(blank=True, max_length=16),
        ),
        migrations.AddField(
            model_name='adjustment',
            name='used_byok',
            field=models.BooleanField(default=False, help_text="The request used the tenant's own provider key."),
        ),
    ]
