"""The Celery application: `celery -A tollgate worker -B` from the root runs jobs and their schedule."""

import logging
import os
from pathlib import Path

from celery import Celery
from celery.signals import setup_logging
from django.conf import settings

from tollgate import logs

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tollgate.settings")

logger = logging.getLogger(__name__)
app = Celery("tollgate")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

# The filesystem broker does not make its own folders and fails on the first message without them. Completions need no
# broker, so a folder that cannot be made does not stop the web server.
for _name, _value in settings.CELERY_BROKER_TRANSPORT_OPTIONS.items():
    if "folder" in _name:
        try:
            Path(_value).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as _error:
            logger.error("Jobs cannot be queued: the folder %s cannot be made: %s", _value, _error.strerror)


@setup_logging.connect  # type: ignore[untyped-decorator]  # celery has no types
def _configure_logs(**_kwargs: object) -> None:
    """Celery installs its own handlers unless somebody answers this signal: its lines must be redacted like ours."""
    logs.configure(settings.LOGGING)
