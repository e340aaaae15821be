"""Secrets appear in no sink (SAFETY.md 14): canary keys and passwords are used, echoed and refused, then looked for.

Sinks: every table as text, dumpdata, the audit log, logs at DEBUG, answers, every page of the admin, broker messages,
metrics, str and repr of what holds a key.
"""

import base64
import io
import json
import logging
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import NoReverseMatch, reverse

from llm.catalog import credentials, validation
from llm.engine import runtime, snapshot
from llm.fields import Secret
from llm.models import LLMBreaker, LLMProvider, ProviderCredential
from llm.tasks import check_all_providers, revalidate_byok_key, revalidate_byok_keys, send_alerts
from tenants import audit, keys
from tenants.models import AuditEvent
from tests import cast
from tests.conftest import Gateway
from tests.fakes import Behaviour, FakeProvider
from tests.journeys.world import eventually
from tollgate import logs

# Keys of no vendor's shape, which the redaction of logs would not know, and one of the commonest.
PLATFORM = "canaryPlatformZq81mPx0LwT5aB9cD2"
BYOK = "canaryByokVt52kRb7NsQw8eXz3Lp6T1"
REPLACED = "sk-canary-replaced-Hy38dGc4Qe"
ADDED = "sk-canary-added-Tn52vKe9Rw"
ROTATED = "canaryRotatedFu83jXq6ZbCm4WsLy7"
UNKNOWN_THERE = "sk-canary-unknown-there-Gp19hVx"
WRONG = "sk-canary-mistyped-Jd67sLf2Xo with blanks"
PASSWORD = "canary-Password-Uw93bTz6"
ASK = {"model": "fakeai/m", "messages": [{"role": "user", "content": "Say hello"}]}


class Sinks:
    """Everything that was said, by where it was said."""

    def __init__(self) -> None:
        self.said: dict[str, list[str]] = {}
        self.secrets = {"platform key": PLATFORM, "own key": BYOK, "replaced key": REPLACED, "mistyped key": WRONG,
                        "added key": ADDED, "rotated key": ROTATED, "key the provider refuses": UNKNOWN_THERE,
                        "password": PASSWORD}  # fmt: skip

    def hear(self, sink: str, text: str) -> None:
        self.said.setdefault(sink, []).append(text)

    def leaks(self) -> list[str]:
        """`sink: secret` for each secret found, whole or its inner part, plain, in hex or in base64."""
        found = []
        for sink, texts in self.said.items():
            text = "\n".join(texts)
            for name, secret in self.secrets.items():
                found += [f"{sink}: {name} ({how})" for how, form in _forms(secret).items() if form in text]
        return sorted(found)


def _forms(secret: str) -> dict[str, str]:
    raw = secret.encode()
    # Base64 depends on where the secret begins in what is encoded: three ways to look, each without its edges.
    shifted = {f"base64+{n}": base64.b64encode(b"x" * n + raw).decode()[4:-4] for n in range(3)}
    middle = secret[len(secret) // 3 : -5]  # what may be shown are its first and last four characters
    return {"whole": secret, "middle": middle, "hex": raw.hex()} | shifted


@pytest.fixture
def heard(gateway: Gateway) -> Iterator[io.StringIO]:
    """Logging at DEBUG as the product formats it: every logger but the two that promise to be quiet.

    After the gateway, since setting Django up configures logging.
    """
    stream = io.StringIO()
    real = sys.stderr
    sys.stderr = stream
    try:
        logs.configure({"level": "DEBUG", "format": "json"})
    finally:
        sys.stderr = real
    names = [name for name in logging.root.manager.loggerDict if not name.startswith(("httpx", "httpcore"))]
    levels = {name: logging.getLogger(name).level for name in [*names, "django.template"]}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    # It would tell each variable that is not there: ten thousand tracebacks for one admin.
    logging.getLogger("django.template").setLevel(logging.INFO)
    yield stream
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logs.configure(dict(settings.LOGGING))


def forgive() -> None:
    """Close all breakers."""
    eventually(lambda: runtime.RUNTIME.health.at_rest, what="the last breaker's writing")
    LLMBreaker.objects.all().delete()
    runtime.RUNTIME.health.reset()


def the_journey(gateway: Gateway, fake: FakeProvider, sinks: Sinks, secrets: dict[str, str]) -> None:
    """Keys are entered, used, echoed by the provider, refused, replaced and mistyped; every answer is heard."""
    with httpx.Client(base_url=gateway.url, timeout=20, trust_env=False, verify=False) as client:

        def call(method: str, path: str, who: str, body: Any = None) -> httpx.Response:
            headers = {"Authorization": f"Bearer {secrets[who]}"}
            answer = client.request(method, path, json=body, headers=headers)
            sinks.hear("answers", answer.text + str(answer.headers))
            return answer

        providers = "/api/v1/admin/llm/providers"
        base = {"slug": "fakeai", "base_url": fake.base_url, "dialect": "openai"}
        assert call("POST", providers, "staff", base).status_code == 201
        assert (
            call("POST", f"{providers}/fakeai/credentials", "staff", {"name": "p", "api_key": PLATFORM}).status_code
            == 201
        )
        assert (
            call("POST", f"{providers}/fakeai/credentials", "staff", {"name": "w", "api_key": WRONG}).status_code == 400
        )
        assert (
            call("POST", f"{providers}/fakeai/credentials", "staff", {"name": "p", "api_key": BYOK}).status_code == 409
        )
        price = {"cost_per_1m_input_tokens": "1", "cost_per_1m_output_tokens": "2"}
        model = {"provider": "fakeai", "model_id": "m"} | price
        assert call("POST", "/api/v1/admin/llm/models", "staff", model).status_code == 201
        call("POST", f"{providers}/fakeai/test", "staff", {})
        snapshot.WATCH.refresh()
        assert call("POST", "/v1/chat/completions", "tenant", ASK).status_code == 200
        assert fake.requests[-1].headers["authorization"] == f"Bearer {PLATFORM}"
        config = {"name": "own", "primary_model": "fakeai/m", "is_tenant_default": True, "use_platform_key": False}
        made = call("POST", "/api/v1/llm/configs", "tenant", config | {"api_key": REPLACED})
        assert made.status_code == 201
        path = f"/api/v1/llm/configs/{made.json()['id']}"
        assert call("PATCH", path, "tenant", {"api_key": WRONG}).status_code == 400
        assert call("PATCH", path, "tenant", {"api_key": BYOK}).status_code == 200
        time.sleep(1.1)  # the tenant's keys are remembered for a second
        for stream in (False, True):
            assert call("POST", "/v1/chat/completions", "tenant", ASK | {"stream": stream}).status_code == 200
        assert fake.requests[-1].headers["authorization"] == f"Bearer {BYOK}"
        own_keys(fake, call)
        validate = f"/api/v1/llm/byok/keys/{made.json()['credential']['id']}/validate"
        for status in (400, 429, 500, 401):
            for words in (f"Incorrect API key provided: {BYOK}", f"Authorization: Bearer {BYOK} refused"):
                echo = {"error": {"message": words, "type": "x", "code": BYOK, "param": BYOK}}
                for behaviour in (Behaviour(status=status, error_body=echo), Behaviour(status=status, error_body=words),
                                  Behaviour(in_band_error=echo["error"])):  # fmt: skip
                    fake.once("m", behaviour)
                    refused = call("POST", "/v1/chat/completions", "tenant", ASK)
                    assert refused.status_code >= 400
                    if refused.json()["error"]["code"] == "byok_rejected":  # and marked invalid
                        assert call("POST", validate, "tenant").json()["is_validated"] is True
                        time.sleep(1.1)
                fake.reset()
                forgive()  # else the third failure in a row keeps all later ones from the provider
        # The answer that shows a webhook's secret is the only one that may, so it is not heard.
        hook = {"kind": "webhook", "target": f"{fake.base_url}/hooks", "events": ["provider.down"]}
        made = client.post(
            "/api/v1/admin/alerts/subscriptions", json=hook, headers={"Authorization": f"Bearer {secrets['staff']}"}
        )
        sinks.secrets["webhook secret"] = made.json()["secret"]
        call("POST", f"/api/v1/admin/alerts/subscriptions/{made.json()['id']}/test", "staff")
        LLMProvider.objects.update(health_status="down")
        assert send_alerts()["attempts"] == 1
        for who in ("tenant", "staff", "nobody"):
            for url in ("/api/v1/admin/alerts/subscriptions", "/api/v1/admin/alerts", "/api/v1/alerts",
                        "/v1/chat/completions", "/api/v1/llm/usage", "/api/v1/llm/configs", providers,
                        "/api/v1/admin/usage", f"{providers}/fakeai/credentials", "/api/v1/me",
                        "/api/v1/admin/tenants/acme/keys", "/v1/models"):  # fmt: skip
                call("GET", url, who)
        call("POST", "/v1/chat/completions", "nobody", ASK)


def own_keys(fake: FakeProvider, call: Callable[..., httpx.Response]) -> None:
    """An own key is added, mistyped, refused, changed, rotated and asked about."""
    path, own = "/api/v1/llm/byok/keys", {"provider": "fakeai", "name": "own"}
    fake.revoke(UNKNOWN_THERE)
    for secret, status in ((ADDED, 201), (WRONG, 400), (BYOK, 409)):
        assert call("POST", path, "tenant", own | {"api_key": secret}).status_code == status
    refused = call("POST", path, "tenant", own | {"name": "refused", "api_key": UNKNOWN_THERE}).json()
    assert refused["is_validated"] is False
    one = f"{path}/{call('GET', f'{path}?name=own', 'tenant').json()['results'][0]['id']}"
    assert call("PATCH", one, "tenant", {"api_key": ROTATED}).status_code == 400
    for secret, status in ((WRONG, 400), (UNKNOWN_THERE, 400), (ROTATED, 200)):
        assert call("POST", f"{one}/rotate", "tenant", {"api_key": secret}).status_code == status
    call("POST", f"{one}/validate", "tenant")
    call("GET", path, "tenant")
    call("GET", one, "tenant")


@pytest.fixture
def sinks(gateway: Gateway, heard: io.StringIO, fake: FakeProvider) -> Sinks:
    """What all sinks hold after the journey."""
    sinks = Sinks()
    cast.make_power_levels()
    staff, staff_key = cast.make_staff()
    staff.set_password(PASSWORD)
    staff.save()
    tenant_key = cast.make_key(cast.make_tenant("acme"))[1]
    unknown = keys.new_secret()
    sinks.secrets |= {"tenant's key": tenant_key, "staff key": staff_key, "unknown key": unknown}
    the_journey(gateway, fake, sinks, {"tenant": tenant_key, "staff": staff_key, "nobody": unknown})
    browser = Client()
    sinks.hear(
        "admin", browser.post("/admin/login/", {"username": "grace", "password": f"{PASSWORD}x"}).content.decode()
    )
    browser.post("/admin/login/", {"username": "grace", "password": PASSWORD})
    for page in _admin_pages(browser):
        sinks.hear("admin", page)
    check_all_providers.delay()
    revalidate_byok_keys.delay()
    for key in ProviderCredential.objects.all():
        revalidate_byok_key.delay(credential_id=str(key.pk))
    for path in Path(settings.CELERY_BROKER_TRANSPORT_OPTIONS["data_folder_out"]).glob("*"):
        text = path.read_text()
        sinks.hear("broker", text + base64.b64decode(json.loads(text)["body"]).decode())
    dumped = io.StringIO()
    call_command("dumpdata", stdout=dumped)
    sinks.hear("dumpdata", dumped.getvalue())
    sinks.hear("tables", _tables())
    sinks.hear("audit", str(list(AuditEvent.objects.values())))
    sinks.hear("metrics", httpx.get(f"{gateway.url}/metrics", trust_env=False).text)
    sinks.hear("logs", heard.getvalue())
    return sinks


def _tables() -> str:
    """Every table, every column, bytes as text, hex and base64: what a dump of the database holds."""
    lines = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            for row in cursor.fetchall():
                for value in row:
                    raw = bytes(value) if isinstance(value, (bytes, memoryview)) else None
                    lines.append(str(value) if raw is None else f"{raw!r} {raw.hex()} {raw.decode('latin-1')}")
    return "\n".join(lines)


def _admin_pages(browser: Client) -> Iterator[str]:
    """The index, every list, every form to add and every page of some rows."""
    yield browser.get("/admin/").content.decode()
    for model, site in admin.site._registry.items():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        yield browser.get(reverse(f"{name}_changelist")).content.decode()
        yield browser.get(reverse(f"{name}_add")).content.decode()
        for row in site.get_queryset(browser.get("/admin/").wsgi_request)[:2]:
            for page in ("change", "history", "delete", "rotate"):
                try:
                    answer = browser.get(reverse(f"{name}_{page}", args=(row.pk,)))
                except NoReverseMatch:
                    continue
                assert answer.status_code < 500
                yield answer.content.decode()


def test_canary_secrets_appear_in_no_sink(sinks: Sinks) -> None:
    assert {sink for sink, texts in sinks.said.items() if len("".join(texts)) > 500} >= {
        "answers", "admin", "broker", "dumpdata", "tables", "audit", "logs", "metrics",
    }  # fmt: skip
    assert ProviderCredential.objects.filter(is_validated=True).count() == 3
    assert ProviderCredential.objects.filter(previous_sealed__isnull=False).count() == 1
    assert '"level":"debug"' in sinks.said["logs"][0]
    assert 'tollgate_upstream_attempts_total{code="byok_rejected",provider="fakeai"}' in sinks.said["metrics"][0]
    assert [word for word in ("acme", "grace", "Say hello") if word in sinks.said["metrics"][0]] == []
    assert sinks.leaks() == []


def test_the_search_finds_a_secret_in_every_form_it_might_take() -> None:
    inside = base64.b64encode(b"ab" + PLATFORM.encode()).decode()
    for text in (PLATFORM, f"x{PLATFORM}y", PLATFORM.encode().hex(), inside, PLATFORM[8:]):
        sinks = Sinks()
        sinks.hear("a sink", text)
        assert {leak.partition(" (")[0] for leak in sinks.leaks()} == {"a sink: platform key"}


def test_nothing_that_holds_a_secret_turns_into_text(db: None) -> None:
    secret = Secret(PLATFORM)
    provider = cast.make_provider("openai")
    credential = cast.make_credential(provider, PLATFORM)
    new = credentials.NewKey(name="n", api_key=secret)
    for holder in (secret, [secret], {"k": secret}, new, credential):
        assert PLATFORM[4:-4] not in repr(holder)
    assert PLATFORM[4:-4] not in str(credential) + str(vars(credential))
    for turn in (str, format, pickle.dumps, json.dumps, lambda s: f"{s}", lambda s: "%s" % s, lambda s: "a" + s):  # noqa: UP031
        with pytest.raises(TypeError) as caught:
            turn(secret)
        assert PLATFORM not in "".join(traceback.format_exception(caught.value))


def test_an_exception_on_the_way_of_a_key_does_not_say_it(db: None) -> None:
    provider = cast.make_provider("openai", base_url="http://127.0.0.1:9/v1", api_key_format="^never$")
    for text in (PLATFORM, "x" * 5_000, "a\nb"):
        with pytest.raises(Exception, match=r".") as caught:
            credentials.check_format(provider=provider, api_key=Secret(text))
        assert text not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {vars(caught.value)}"
    stored = cast.make_credential(provider, PLATFORM, is_validated=False)
    checked = validation.validate(credential=stored, actor=audit.system("test"), now=cast.LONG_AGO)
    assert checked.validation_error
    assert PLATFORM not in checked.validation_error


def test_a_password_is_stored_as_a_hash_only(db: None) -> None:
    user = User.objects.create_user("ada", password=PASSWORD)
    assert PASSWORD not in user.password
    assert keys.well_formed(PASSWORD) is False
    assert apps.get_model("tenants", "ApiKey")._meta.get_field("digest").max_length == 64
