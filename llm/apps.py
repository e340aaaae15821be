from django.apps import AppConfig


class LlmConfig(AppConfig):
    name = "llm"
    verbose_name = "Catalog and routing"
    default_auto_field = "django.db.models.BigAutoField"
