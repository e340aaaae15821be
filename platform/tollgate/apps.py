"""The project as an app, so that its commands are found and Celery knows the settings in every process."""

from django.apps import AppConfig

from tollgate.celery import app as celery_app


class TollgateConfig(AppConfig):
    """Importing the Celery app here lets `shared_task(...).delay()` find the broker from web processes too."""

    name = "tollgate"
    verbose_name = "Tollgate"
    celery = celery_app
