"""`manage.py bootstrap`: one JSON object, the same keys every time, nothing changed that exists."""

import json
import os
import stat
import subprocess
import sys
from datetime import timedelta
from io import StringIO

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from llm.models import LLMModel, LLMProvider
from tenants import auth, keys
from tenants.models import ApiKey, Scope, Tenant
from tollgate.schedules import JOBS, ensure_schedules

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def data_dir(tmp_path, settings):
    settings.TOLLGATE_DATA_DIR = tmp_path
    return tmp_path


def bootstrap(*options):
    said = StringIO()
    call_command("bootstrap", "--json", *options, stdout=said)
    return json.loads(said.getvalue())


def test_the_first_call_makes_everything_and_says_how_to_get_in(data_dir):
    made = bootstrap()
    assert set(made) == {
        "base_url",
        "staff_username",
        "staff_password",
        "staff_api_key",
        "tenant_api_key",
        "tenant_slug",
    }
    assert made["base_url"] == "http://127.0.0.1:8084"
    user = get_user_model().objects.get(username=made["staff_username"])
    assert user.is_superuser
    assert user.check_password(made["staff_password"])
    tenant = Tenant.objects.get(slug=made["tenant_slug"])
    assert (tenant.tier, tenant.sandbox_enabled, tenant.is_active) == ("professional", True, True)
    assert LLMProvider.objects.count() >= 25
    assert LLMModel.objects.filter(kind="chat").count() >= 150
    assert PeriodicTask.objects.filter(task__in=[job.task for job in JOBS]).count() == len(JOBS)
    kept = data_dir / "bootstrap.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_the_tenant_key_has_all_scopes_and_no_rate_limit_and_the_staff_key_its_owner():
    made = bootstrap()
    caller = auth.load(made["tenant_api_key"], timezone.now())
    assert caller.scopes == set(Scope.values)
    assert (caller.rate_limit_rpm, caller.rate_limit_tpm, caller.tenant_slug) == (None, None, "demo")
    staff = auth.load(made["staff_api_key"], timezone.now())
    assert staff.is_staff
    assert staff.owner.username == "admin"


def test_a_second_call_prints_the_same_keys_and_no_password_and_changes_nothing():
    first = bootstrap()
    Tenant.objects.update(name="Renamed", tier="free", sandbox_enabled=False)
    PeriodicTask.objects.update(enabled=False)
    before = state()
    second = bootstrap()
    assert "staff_password" not in second
    assert second == {name: value for name, value in first.items() if name != "staff_password"}
    assert state() == before


def state():
    return [
        list(model.objects.order_by("pk").values())
        for model in (Tenant, ApiKey, get_user_model(), PeriodicTask, IntervalSchedule, LLMProvider, LLMModel)
    ]


def test_new_keys_are_fresh_each_time_and_the_old_ones_go_on():
    first, second, third = bootstrap(), bootstrap("--new-keys"), bootstrap("--new-keys")
    for name in ("staff_api_key", "tenant_api_key"):
        assert len({first[name], second[name], third[name]}) == 3
        assert all(auth.load(made[name], timezone.now()) for made in (first, second, third))
    assert bootstrap()["tenant_api_key"] == third["tenant_api_key"]
    assert all(name.startswith("bootstrap ") for name in ApiKey.objects.values_list("name", flat=True))


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"staff_api_key": 1, "tenant_api_key": "junk"}'])
def test_without_a_good_file_new_keys_are_issued(data_dir, content):
    bootstrap()
    kept = data_dir / "bootstrap.json"
    kept.unlink()
    if content is not None:
        kept.write_text(content)
    made = bootstrap()
    assert auth.load(made["staff_api_key"], timezone.now())
    assert auth.load(made["tenant_api_key"], timezone.now())
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_key_that_was_revoked_or_has_expired_is_replaced_and_the_other_kept():
    first = bootstrap()
    keys.revoke(key=ApiKey.objects.get(name="bootstrap tenant"), now=timezone.now())
    second = bootstrap()
    assert second["tenant_api_key"] != first["tenant_api_key"]
    assert second["staff_api_key"] == first["staff_api_key"]
    ApiKey.objects.filter(name="bootstrap staff").update(expires_at=timezone.now() - timedelta(seconds=1))
    assert bootstrap()["staff_api_key"] != first["staff_api_key"]


def test_a_staff_user_that_was_switched_off_stays_off():
    bootstrap()
    get_user_model().objects.update(is_active=False)
    again = bootstrap()
    assert "staff_password" not in again
    assert not get_user_model().objects.get(username="admin").is_active


def test_schedules_that_staff_changed_stay_as_they_are():
    assert len(ensure_schedules()) == len(JOBS)
    assert ensure_schedules() == []
    hourly = PeriodicTask.objects.get(task="billing.tasks.roll_up_daily")
    assert (hourly.interval.every, hourly.interval.period) == (1, "hours")
    PeriodicTask.objects.filter(pk=hourly.pk).update(name="Ours", enabled=False)
    PeriodicTask.objects.filter(task="billing.tasks.sweep_stale_holds").delete()
    assert ensure_schedules() == ["Sweep stale holds"]
    hourly.refresh_from_db()
    assert (hourly.name, hourly.enabled) == ("Ours", False)


def test_every_scheduled_task_is_known_to_celery():
    from tollgate.celery import app

    app.loader.import_default_modules()
    assert {job.task for job in JOBS} <= set(app.tasks)


def test_on_a_fresh_machine_standard_output_is_one_json_object_alone(tmp_path):
    environment = {
        name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "DJANGO_SETTINGS_MODULE"}
    }
    environment |= {"TOLLGATE_ENV": "development", "TOLLGATE_DATA_DIR": str(tmp_path / "var"), "PORT": "8123"}
    run = [sys.executable, "manage.py", "bootstrap", "--json"]
    outputs = []
    for _ in range(2):
        done = subprocess.run(run, cwd=settings.ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        outputs.append(json.loads(done.stdout))
    first, second = outputs
    assert first.pop("staff_password")
    assert first == second
    assert first["base_url"] == "http://127.0.0.1:8123"
