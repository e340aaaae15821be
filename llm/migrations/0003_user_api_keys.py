"""The guide's view of tenants' own provider keys: who has which, and whether it works; nothing of the key itself."""

from django.db import migrations

# Plain SQL that both databases understand. A later migration that alters one of the two tables drops the view first
# and makes it again afterwards: SQLite rebuilds a table to alter it, PostgreSQL refuses to change a column in use.
MAKE = """
CREATE VIEW user_api_keys AS
SELECT c.id, CAST(c.user_id AS TEXT) AS user_id, c.tenant_id, c.provider_id, p.provider_name, c.key_name,
       c.prefix AS key_prefix, c.suffix AS key_suffix, c.is_active, c.is_validated, c.validation_error,
       c.last_validated_at,
       (SELECT u.created_at FROM llm_usage_logs u WHERE u.user_key_id = c.id
         ORDER BY u.billing_day DESC, u.id DESC LIMIT 1) AS last_used_at,
       c.created_at
  FROM llm_provider_credentials c JOIN llm_providers p ON p.id = c.provider_id
 WHERE c.tenant_id IS NOT NULL
"""
DROP = "DROP VIEW user_api_keys"


class Migration(migrations.Migration):
    dependencies = [("llm", "0002_byok_rotation"), ("billing", "0002_usage_by_credential")]

    operations = [migrations.RunSQL(MAKE, DROP)]
