"""What becomes of a provider key when its provider is asked: refusals, outages, rotations, and keys at rest."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command

from llm.catalog import credentials, validation
from llm.engine import tenant_state
from llm.fields import CannotDecrypt, Secret
from llm.models import ProviderCredential
from llm.tasks import revalidate_byok_key, revalidate_byok_keys
from tenants import audit
from tenants.models import AuditEvent, Tenant
from tests import cast
from tests.conftest import Api
from tests.fakes import Behaviour, FakeProvider

OLD, NEW = "sk-old-0123456789wxyz", "sk-new-0123456789abcd"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ASKING = audit.system("test")


@pytest.fixture
def key(fake: FakeProvider, acme: Tenant) -> ProviderCredential:
    return cast.make_credential(cast.make_provider("vendor", fake.base_url), OLD, acme)


def validate(key: ProviderCredential, now: datetime = NOW) -> ProviderCredential:
    return validation.validate(credential=key, actor=ASKING, now=now)


def rotated(key: ProviderCredential, secret: str = NEW) -> ProviderCredential:
    return validation.rotate(credential=key, api_key=Secret(secret), overlap=24 * HOUR, actor=ASKING, now=NOW)


def refused(key: ProviderCredential, secret: str, now: datetime = NOW + HOUR) -> ProviderCredential | None:
    key.refresh_from_db()
    return validation.refused(credential_id=key.pk, secret=Secret(secret), words="No.", actor=ASKING, now=now)


def standing(key: ProviderCredential) -> tuple[str, bool, bool]:
    """(secret, is_validated, whether an older secret is kept)."""
    key.refresh_from_db()
    return key.open().reveal(), key.is_validated, key.previous_sealed is not None


def actions() -> list[str]:
    return list(AuditEvent.objects.order_by("id").values_list("action", flat=True))


# --- validation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_makes_a_valid_key_invalid_once_and_is_audited_once(
    key: ProviderCredential, fake: FakeProvider, status: int
) -> None:
    fake.script("/v1/models", Behaviour(status=status))
    for _ in range(2):
        asked = validate(key)
        assert (asked.is_validated, asked.last_validated_at) == (False, NOW)
        assert asked.validation_error.startswith(f"It refused this key (HTTP {status}).")
    assert actions() == ["invalidate"]
    fake.reset()
    assert validate(key).is_validated is True
    assert actions() == ["invalidate", "validate"]


def test_a_vendor_that_refuses_a_key_with_a_400_makes_it_invalid_too(
    key: ProviderCredential, fake: FakeProvider
) -> None:
    words = {"error": {"type": "no_db_connection", "message": "No connected db.", "code": "400"}}  # LiteLLM's
    fake.script("/v1/models", Behaviour(status=400, error_body=words))
    assert validate(key).is_validated is False
    assert actions() == ["invalidate"]


@pytest.mark.parametrize("behaviour", [Behaviour(status=500), Behaviour(status=429), Behaviour(status=404), None])
def test_an_outage_leaves_a_valid_key_valid_and_says_so(
    key: ProviderCredential, fake: FakeProvider, behaviour: Behaviour | None
) -> None:
    if behaviour is None:
        fake.stop()
    else:
        fake.script("/v1/models", behaviour)
    asked = validate(key)
    assert asked.is_validated is True
    assert asked.validation_error.endswith("It goes on being used, since the provider accepted it before.")
    ProviderCredential.objects.update(is_validated=False)
    asked = validate(key)
    assert asked.is_validated is False
    assert "goes on" not in asked.validation_error
    assert actions() == []


def test_a_key_that_cannot_be_read_says_so_and_keeps_its_standing(key: ProviderCredential, settings: Any) -> None:
    settings.ENCRYPTION_KEYS = (b"x" * 32,)  # somebody deployed a worker with another key
    assert validate(key).validation_error == "The stored key cannot be read. Enter it again."
    key.refresh_from_db()
    assert key.is_validated is True


def test_what_the_provider_says_of_a_secret_that_was_replaced_meanwhile_is_not_kept(
    key: ProviderCredential, fake: FakeProvider
) -> None:
    stale = ProviderCredential.objects.select_related("provider").get()
    rotated(key)
    fake.revoke(OLD)
    assert validate(stale).is_validated is True
    assert standing(key) == (NEW, True, True)
    assert actions() == ["rotate"]


def test_the_daily_job_asks_about_active_own_keys_by_id_and_forgets_what_is_over(
    key: ProviderCredential, acme: Tenant, fake: FakeProvider, settings: Any
) -> None:
    settings.CELERY_TASK_ALWAYS_EAGER = True
    platform = cast.make_credential(key.provider)
    cast.make_credential(key.provider, tenant=acme, is_active=False)
    ProviderCredential.objects.filter(pk=key.pk).update(
        previous_sealed=b"over", previous_until=datetime(2026, 1, 1, tzinfo=UTC)
    )
    fake.revoke(OLD)
    revalidate_byok_key(credential_id=str(platform.pk))
    asked = len(fake.requests)
    assert revalidate_byok_keys() == 1
    revalidate_byok_key(credential_id=str(key.pk))
    assert standing(key) == (OLD, False, False)
    assert len(fake.requests) > asked
    revalidate_byok_key(credential_id="00000000-0000-0000-0000-000000000007")


# --- after a rotation -------------------------------------------------------------------------------------------------


def test_a_new_secret_that_is_refused_within_the_overlap_gives_its_place_back(key: ProviderCredential) -> None:
    rotated(key)
    again = refused(key, NEW)
    assert again is not None
    assert again.open().reveal() == OLD
    assert standing(key) == (OLD, True, False)
    assert key.validation_error == validation.TAKEN_BACK
    assert (key.prefix, key.suffix, key.fingerprint) == ("sk-o", "wxyz", Secret(OLD).fingerprint)
    assert actions() == ["rotate", "take back"]
    assert refused(key, NEW).open().reveal() == OLD  # others that met the same refusal
    assert actions() == ["rotate", "take back"]
    assert refused(key, OLD) is None
    assert standing(key) == (OLD, False, False)
    assert actions() == ["rotate", "take back", "invalidate"]


def test_a_re_validation_that_refuses_the_new_secret_takes_the_old_one_back(
    key: ProviderCredential, fake: FakeProvider
) -> None:
    rotated(key)
    fake.revoke(NEW)
    key.refresh_from_db()
    asked = validate(key, NOW + HOUR)
    assert (asked.is_validated, asked.validation_error) == (True, validation.TAKEN_BACK)
    assert standing(key) == (OLD, True, False)


def test_after_the_overlap_a_refusal_marks_the_key_invalid(key: ProviderCredential) -> None:
    rotated(key)
    assert refused(key, NEW, NOW + 24 * HOUR) is None
    assert standing(key)[:2] == (NEW, False)


def test_a_refusal_of_the_secret_before_points_to_the_one_in_use(key: ProviderCredential) -> None:
    rotated(key)
    assert refused(key, OLD).open().reveal() == NEW
    assert standing(key) == (NEW, True, True)


def test_a_secret_that_was_not_accepted_is_never_gone_back_to(key: ProviderCredential) -> None:
    ProviderCredential.objects.update(is_validated=False)
    rotated(key)
    assert standing(key) == (NEW, True, False)


def test_replacing_a_key_forgets_the_secret_before(key: ProviderCredential) -> None:
    rotated(key)
    credentials.replace(credential=key, api_key=Secret("sk-third-0123456789"), actor=ASKING, now=NOW)
    assert standing(key) == ("sk-third-0123456789", False, False)


def test_secrets_whose_time_is_over_are_forgotten(key: ProviderCredential) -> None:
    rotated(key)
    assert validation.forget_previous(now=NOW + 24 * HOUR - timedelta(seconds=1)) == 0
    assert validation.forget_previous(now=NOW + 24 * HOUR) == 1
    assert standing(key) == (NEW, True, False)


# --- at rest ----------------------------------------------------------------------------------------------------------


def test_a_ciphertext_opens_in_its_own_field_of_its_own_row_only(
    key: ProviderCredential, acme: Tenant, globex: Tenant, tenant: Api
) -> None:
    other = cast.make_credential(key.provider, "sk-other-0123456789", acme, key_name="other")
    theirs = cast.make_credential(key.provider, "sk-theirs-0123456789", globex)
    ProviderCredential.objects.filter(pk__in=[other.pk, theirs.pk]).update(sealed=key.sealed)
    key.previous_sealed = key.sealed
    for row in (other, theirs):
        row.refresh_from_db()
        with pytest.raises(CannotDecrypt):
            row.open()
    with pytest.raises(CannotDecrypt):
        key.open_previous()
    # One bad row breaks neither the list nor the others' use.
    assert [row["name"] for row in tenant.get("llm/byok/keys")[1]["results"]] == [key.key_name, "other"]
    [usable] = tenant_state.load(acme.pk).byok[key.provider_id]
    assert (usable.id, usable.secret.reveal()) == (key.pk, OLD)
    assert tenant_state.load(globex.pk).byok_unusable == {key.provider_id}


def test_an_inactive_key_is_as_if_it_were_not_there(key: ProviderCredential, acme: Tenant) -> None:
    ProviderCredential.objects.update(is_active=False, is_validated=False)
    state = tenant_state.load(acme.pk)
    assert (state.byok, state.byok_unusable) == ({}, frozenset())


def reseal(*arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the command."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        call_command("rotate_encryption_keys", *arguments, stdout=out, stderr=err)
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    return code, out.getvalue(), err.getvalue()


def test_every_secret_is_sealed_anew_under_the_first_key_and_then_the_old_one_is_not_needed(
    key: ProviderCredential, settings: Any
) -> None:
    [first] = settings.ENCRYPTION_KEYS
    platform = cast.make_credential(key.provider)
    rotated(key)
    before = {row["id"]: row for row in ProviderCredential.objects.values()}
    settings.ENCRYPTION_KEYS = (b"n" * 32, first)
    assert reseal("--dry-run") == (0, "2 provider keys would be re-encrypted, 0 were up to date.\n", "")
    assert {row["id"]: row for row in ProviderCredential.objects.values()} == before
    assert reseal() == (0, "2 provider keys re-encrypted, 0 were up to date.\n", "")
    assert reseal() == (0, "0 provider keys re-encrypted, 2 were up to date.\n", "")
    settings.ENCRYPTION_KEYS = (b"n" * 32,)
    key.refresh_from_db()
    platform.refresh_from_db()
    assert (key.open().reveal(), key.open_previous().reveal()) == (NEW, OLD)
    assert (key.fingerprint, platform.fingerprint) == (
        Secret(NEW).fingerprint,
        Secret("sk-platform-0123456789").fingerprint,
    )
    assert key.fingerprint != before[key.pk]["fingerprint"]


def test_a_key_that_cannot_be_opened_is_named_and_the_rest_is_done(key: ProviderCredential, settings: Any) -> None:
    [first] = settings.ENCRYPTION_KEYS
    settings.ENCRYPTION_KEYS = (b"lost" * 8,)
    lost = cast.make_credential(key.provider)
    settings.ENCRYPTION_KEYS = (b"n" * 32, first)
    code, out, err = reseal()
    assert (code, out) == (1, "1 provider keys re-encrypted, 0 were up to date.\n")
    assert f"Provider key {lost.pk}: No key with id" in err
    assert "1 provider keys could not be opened" in err
    settings.ENCRYPTION_KEYS = (b"n" * 32,)
    key.refresh_from_db()
    assert key.open().reveal() == OLD


def test_more_keys_than_a_batch_are_all_done(key: ProviderCredential, settings: Any) -> None:
    [first] = settings.ENCRYPTION_KEYS
    for _ in range(204):
        cast.make_credential(key.provider)
    settings.ENCRYPTION_KEYS = (b"n" * 32, first)
    assert reseal()[1] == "205 provider keys re-encrypted, 0 were up to date.\n"
