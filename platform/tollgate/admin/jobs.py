"""Celery's schedules and results, in the admin's dress. A change of a schedule is live at the next beat."""

import logging
from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from django_celery_beat.admin import ClockedScheduleAdmin as BeatClockedAdmin
from django_celery_beat.admin import CrontabScheduleAdmin as BeatCrontabAdmin
from django_celery_beat.admin import PeriodicTaskAdmin as BeatTaskAdmin
from django_celery_beat.admin import PeriodicTaskForm as BeatTaskForm
from django_celery_beat.admin import TaskSelectWidget
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from django_celery_results.models import GroupResult, TaskResult
from kombu.exceptions import ChannelError, OperationalError
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RangeDateTimeFilter
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from tenants.admin import dress
from tenants.admin.base import ModelAdmin, ReadOnlyAdmin, display

logger = logging.getLogger(__name__)

_OURS: tuple[type[Model], ...] = (
    ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule, GroupResult, TaskResult,
)  # fmt: skip
for _model in _OURS:
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)

TONES = {"SUCCESS": "good", "FAILURE": "bad", "RETRY": "warn", "STARTED": "info", "PENDING": "plain", "REVOKED": "bad"}


class DressedTaskSelect(UnfoldAdminSelectWidget, TaskSelectWidget):  # type: ignore[misc]  # no types in either
    """The registered tasks, in the admin's dress."""


class PeriodicTaskForm(BeatTaskForm):  # type: ignore[misc]  # no types
    """A schedule's form, in the admin's dress."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = DressedTaskSelect()


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(BeatTaskAdmin, ModelAdmin):  # type: ignore[misc]  # no types
    """Which job runs when."""

    form = PeriodicTaskForm
    list_display = ["name", "enabled", "when", "last_run", "total_run_count", "one_off"]
    list_filter = ["enabled", "one_off"]
    list_select_related = ["interval", "crontab", "solar", "clocked"]

    def run_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Run the selected ones now, or say why not: it takes CELERY_BROKER_CONNECTION_TIMEOUT at most to find out."""
        try:
            super().run_tasks(request, queryset)
        except (OperationalError, ChannelError, OSError) as error:
            logger.error("The broker took no job: %s", type(error).__name__)
            said = "The broker is out of reach, so not all of these jobs were started. Check CELERY_BROKER_URL."
            self.message_user(request, said, level=messages.ERROR)

    run_tasks.short_description = BeatTaskAdmin.run_tasks.short_description  # type: ignore[attr-defined]

    @display(description="When")
    def when(self, obj: PeriodicTask) -> str:
        return str(obj.interval or obj.crontab or obj.solar or obj.clocked or dress.NONE)

    @display(description="Last run", ordering="last_run_at")
    def last_run(self, obj: PeriodicTask) -> str:
        return dress.ago(obj.last_run_at, timezone.now())


@admin.register(IntervalSchedule, SolarSchedule)
class ScheduleAdmin(ModelAdmin):
    """What schedules are made of."""


@admin.register(CrontabSchedule)
class CrontabScheduleAdmin(BeatCrontabAdmin, ModelAdmin):  # type: ignore[misc]  # no types
    """Times as cron writes them."""


@admin.register(ClockedSchedule)
class ClockedScheduleAdmin(BeatClockedAdmin, ModelAdmin):  # type: ignore[misc]  # no types
    """Single moments."""


@admin.register(TaskResult)
class TaskResultAdmin(ReadOnlyAdmin):
    """How each run of a job ended. Kept for a week."""

    list_display = ["when", "task_name", "outcome", "took", "worker"]
    list_display_links = ["when"]
    list_filter = [("status", ChoicesDropdownFilter), ("date_created", RangeDateTimeFilter)]
    search_fields = ["task_name", "task_id"]
    ordering = ["-id"]
    actions = None
    fields = [
        ("task_name", "outcome"), ("date_created", "date_started", "date_done"), ("task_id", "worker"), "task_kwargs",
        "result", "traceback",
    ]  # fmt: skip
    readonly_fields = ["outcome"]

    @display(description="Created (UTC)", ordering="date_created")
    def when(self, obj: TaskResult) -> str:
        return dress.moment(obj.date_created)

    @display(description="Outcome", ordering="status")
    def outcome(self, obj: TaskResult) -> SafeString:
        return dress.badge(obj.status.lower(), TONES.get(obj.status, "plain"))

    @display(description="Took")
    def took(self, obj: TaskResult) -> str:
        begun = getattr(obj, "date_started", None) or obj.date_created
        return dress.NONE if not obj.date_done else f"{(obj.date_done - begun).total_seconds():.1f} s"
