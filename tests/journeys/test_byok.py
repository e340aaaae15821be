"""The life of a tenant's own provider key over HTTP: used, refused, revoked, rotated under load, re-encrypted."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import call_command

from llm.models import ProviderCredential
from tenants.models import AuditEvent
from tests import cast
from tests.fakes import Behaviour
from tests.journeys.world import PLATFORM_KEY, Customer, Json, World, eventually, usd

OWN, NEXT = "sk-own-0123456789wxyz", "sk-next-0123456789abcd"
LIVE_S = 1.3  # a second, and the test's own slack
KEYS = "/api/v1/llm/byok/keys"
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


def call(customer: Customer, method: str, path: str, body: Any = None, status: int = 200) -> Json:
    with customer.http as client:
        answer = client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    found: Json = answer.json()
    return found


def add(customer: Customer, secret: str = OWN) -> Json:
    return call(customer, "POST", KEYS, {"provider": "fakeai", "name": "ours", "api_key": secret}, 201)


def seen(world: World) -> list[str]:
    """The keys of the completions that the vendor was sent, in order."""
    chats = [one for one in world.fake.requests if one.path.endswith("/chat/completions")]
    return [one.headers["authorization"].removeprefix("Bearer ") for one in chats]


def code_of(answer: Any) -> str:
    return "" if answer.status_code == 200 else str(answer.json()["error"]["code"])


def in_use(world: World, customer: Customer, secret: str) -> None:
    """Wait until requests use this secret: a second at most."""
    eventually(lambda: customer.ask().status_code == 200 and seen(world)[-1] == secret, within_s=LIVE_S)


@contextmanager
def traffic(customer: Customer, threads: int = 4) -> Iterator[list[tuple[int, str]]]:
    """Requests, streamed and not, one after the other in each thread: the (status, body) of each."""
    answers: list[tuple[int, str]] = []
    enough = threading.Event()

    def ask(number: int) -> None:
        while not enough.is_set():
            answer = customer.ask(stream=number % 2 == 0)
            answers.append((answer.status_code, answer.text))

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
    for one in asking:
        one.start()
    try:
        eventually(lambda: len(answers) > 2 * threads, what="traffic")
        yield answers
        before = len(answers)
        eventually(lambda: len(answers) > before + 2 * threads, what="traffic afterwards")
    finally:
        enough.set()
        for one in asking:
            one.join()


def failures(answers: list[tuple[int, str]]) -> list[tuple[int, str]]:
    return [one for one in answers if one[0] != 200 or '"error"' in one[1]]


# --- used, and refused ------------------------------------------------------------------------------------------------


def test_an_own_key_is_used_first_counted_and_paid_to_its_vendor(world: World, customer: Customer) -> None:
    made = add(customer)
    assert (made["is_validated"], made["totals"]["requests"]) == (True, 0)
    in_use(world, customer, OWN)
    answer = customer.ask()
    assert (answer.headers["x-used-byok"], seen(world)[-1]) == ("true", OWN)
    row = customer.rows()[-1]
    assert (str(row.credential_id), row.billed_usd, row.cost_total_usd) == (made["id"], 0, usd(8, 5))
    mine = [row for row in customer.rows() if row.used_byok]
    shown = call(customer, "GET", f"{KEYS}/{made['id']}")
    assert shown["totals"]["requests"] == len(mine)
    assert shown["totals"]["total_tokens"] == 13 * len(mine)
    [group] = [
        one
        for one in call(customer, "GET", "/api/v1/llm/usage/summary?group_by=credential")["results"]
        if one["credential"] == made["id"]
    ]
    assert (group["requests"], group["cost_usd"]) == (len(mine), shown["totals"]["cost_usd"])


def test_a_key_that_was_never_accepted_is_not_used_and_neither_is_the_platforms(
    world: World, customer: Customer
) -> None:
    world.fake.revoke(OWN)
    made = add(customer)
    assert made["is_validated"] is False
    eventually(lambda: code_of(customer.ask()) == "no_credential", within_s=LIVE_S)
    world.fake.reset()
    answer = customer.ask()
    assert (
        "your own key for fakeai is not active and validated (byok_not_validated)" in answer.json()["error"]["message"]
    )
    assert seen(world) == []
    call(customer, "PATCH", f"{KEYS}/{made['id']}", {"is_active": False})  # "use the platform's, then"
    in_use(world, customer, PLATFORM_KEY)


@STREAMED
def test_a_key_revoked_mid_way_is_marked_invalid_and_the_platforms_is_never_used_instead(
    world: World, customer: Customer, stream: bool
) -> None:
    made = add(customer)
    in_use(world, customer, OWN)
    world.fake.reset()
    world.fake.revoke(OWN)
    assert code_of(customer.ask(stream=stream)) == "byok_rejected"
    since = time.monotonic()
    shown = call(customer, "GET", f"{KEYS}/{made['id']}")
    assert shown["is_validated"] is False
    assert shown["validation_error"].startswith("The provider refused it on a request.")
    codes = {code_of(customer.ask(stream=stream))}
    while time.monotonic() - since < LIVE_S:
        codes = {code_of(customer.ask(stream=stream))}
        assert codes <= {"byok_rejected", "no_credential"}
    assert codes == {"no_credential"}
    assert set(seen(world)) == {OWN}
    event = AuditEvent.objects.get(object_id=made["id"], action="invalidate")
    assert (event.actor_kind, event.after["is_validated"]) == ("system", False)
    assert shown["totals"]["errors"] == 1
    # In force again, and asked about again: it serves.
    world.fake.reinstate(OWN)
    assert call(customer, "POST", f"{KEYS}/{made['id']}/validate")["is_validated"] is True
    in_use(world, customer, OWN)


def test_an_account_without_credit_does_not_make_its_key_invalid(world: World, customer: Customer) -> None:
    made = add(customer)
    in_use(world, customer, OWN)
    world.fake.once("m", Behaviour(status=402))
    refused = customer.ask()
    assert code_of(refused) == "byok_rejected"
    assert "no credit" in refused.json()["error"]["message"]
    assert call(customer, "GET", f"{KEYS}/{made['id']}")["is_validated"] is True


@pytest.mark.parametrize("use_platform_key", [True, False])
def test_without_an_own_key_only_a_config_that_allows_it_gets_the_platforms(
    world: World, customer: Customer, use_platform_key: bool
) -> None:
    cast.make_config(customer.tenant, is_tenant_default=True, use_platform_key=use_platform_key)
    answer = customer.ask()
    if use_platform_key:
        assert (answer.status_code, seen(world)) == (200, [PLATFORM_KEY])
    else:
        assert (code_of(answer), seen(world)) == ("no_credential", [])
        assert "byok_required" in answer.text


# --- rotated ----------------------------------------------------------------------------------------------------------


def test_no_request_fails_because_of_a_rotation_even_if_the_old_secret_dies_at_once(
    world: World, customer: Customer
) -> None:
    made = add(customer)
    in_use(world, customer, OWN)
    with traffic(customer) as answers:
        call(customer, "POST", f"{KEYS}/{made['id']}/rotate", {"api_key": NEXT})
        world.fake.revoke(OWN)
        since = time.monotonic()
        eventually(lambda: set(seen(world)[-8:]) == {NEXT}, within_s=LIVE_S)
        assert time.monotonic() - since < LIVE_S
    assert failures(answers) == []
    assert set(seen(world)) <= {OWN, NEXT, PLATFORM_KEY}
    rows = [row for row in customer.rows() if row.used_byok]
    assert {(str(row.credential_id), row.status_code, row.was_fallback) for row in rows} == {(made["id"], 200, False)}
    shown = call(customer, "GET", f"{KEYS}/{made['id']}")
    assert (shown["is_validated"], shown["totals"]["requests"], shown["totals"]["errors"]) == (True, len(rows), 0)


def test_a_new_secret_that_the_vendor_takes_back_is_replaced_by_the_one_before_and_no_request_fails(
    world: World, customer: Customer
) -> None:
    made = add(customer)
    in_use(world, customer, OWN)
    call(customer, "POST", f"{KEYS}/{made['id']}/rotate", {"api_key": NEXT, "overlap_hours": 1})
    in_use(world, customer, NEXT)
    with traffic(customer) as answers:
        world.fake.revoke(NEXT)
        eventually(lambda: set(seen(world)[-8:]) == {OWN}, within_s=LIVE_S)
    assert failures(answers) == []
    shown = call(customer, "GET", f"{KEYS}/{made['id']}")
    assert (shown["is_validated"], shown["masked"]) == (True, "sk-o…wxyz")
    assert "the one before it is in use again" in shown["validation_error"]
    events = AuditEvent.objects.filter(object_id=made["id"]).order_by("id")
    assert [event.action for event in events] == ["create", "validate", "rotate", "take back"]
    # A request that met both secrets tells both attempts.
    retried = [row for row in customer.rows() if len(row.attempts) == 2]
    assert retried
    assert [one["code"] for one in retried[0].attempts] == ["byok_rejected", ""]
    assert not [row for row in customer.rows() if row.was_fallback]


def test_a_rotation_whose_both_secrets_are_refused_ends_with_an_invalid_key(world: World, customer: Customer) -> None:
    made = add(customer)
    call(customer, "POST", f"{KEYS}/{made['id']}/rotate", {"api_key": NEXT})
    in_use(world, customer, NEXT)
    world.fake.revoke(NEXT)
    world.fake.revoke(OWN)
    answer = customer.ask()
    assert code_of(answer) == "byok_rejected"
    assert seen(world)[-2:] == [NEXT, OWN]
    assert call(customer, "GET", f"{KEYS}/{made['id']}")["is_validated"] is False


# --- at rest ----------------------------------------------------------------------------------------------------------


def test_a_ciphertext_moved_to_another_row_serves_nobody_and_breaks_no_list(world: World, customer: Customer) -> None:
    victim, thief = world.customer(), customer
    key = cast.make_credential(world.vendors["openai"].provider, OWN, victim.tenant)
    stolen = add(thief, NEXT)
    ProviderCredential.objects.filter(pk=stolen["id"]).update(sealed=key.sealed)
    eventually(lambda: code_of(thief.ask()) == "no_credential", within_s=LIVE_S)
    [row] = call(thief, "GET", KEYS)["results"]
    assert row["id"] == stolen["id"]
    asked = call(thief, "POST", f"{KEYS}/{stolen['id']}/validate")
    assert asked["validation_error"] == "The stored key cannot be read. Enter it again."
    assert OWN not in seen(world)
    with thief.http as client:
        assert client.delete(f"{KEYS}/{stolen['id']}").status_code == 204


def test_the_encryption_key_is_rotated_under_traffic_without_a_failed_request(
    world: World, customer: Customer, settings: Any
) -> None:
    [old] = settings.ENCRYPTION_KEYS
    made = add(customer)
    in_use(world, customer, OWN)
    with traffic(customer) as answers:
        settings.ENCRYPTION_KEYS = (b"n" * 32, old)
        call_command("rotate_encryption_keys")
        settings.ENCRYPTION_KEYS = (b"n" * 32,)
        before = len(answers)
        until = time.monotonic() + 2.2  # both the catalog and the tenant's keys have been read again
        eventually(lambda: time.monotonic() > until, within_s=3)
        assert len(answers) > before
    assert failures(answers) == []
    row = ProviderCredential.objects.get(pk=made["id"])
    assert row.open().reveal() == OWN
    assert seen(world)[-1] == OWN
    settings.ENCRYPTION_KEYS = (old, b"n" * 32)
    call_command("rotate_encryption_keys")  # the stage's own keys are to open for the next test


# --- whose usage it is ------------------------------------------------------------------------------------------------


def test_usage_belongs_to_the_owner_of_the_key_however_the_owner_was_set(
    world: World, customer: Customer, live_staff: Callable[..., Json]
) -> None:
    ada = cast.make_member(customer.tenant, f"ada-{customer.tenant.slug}")
    by_staff = live_staff(
        "POST", f"tenants/{customer.tenant.pk}/keys", {"name": "by staff", "owner": ada.get_username()}
    )
    by_tenant = call(customer, "POST", "/api/v1/keys", {"name": "by the tenant", "owner": str(ada.pk)}, 201)
    for made in (by_staff, by_tenant):
        own = Customer(customer.tenant, made["id"], made["key"], customer.url)
        assert own.ask(user="somebody else").status_code == 200
        row = customer.rows()[-1]
        assert (row.user_id, row.end_user, str(row.key_id)) == (str(ada.pk), "somebody else", made["id"])
    assert customer.ask(user="somebody else").status_code == 200
    assert customer.rows()[-1].user_id == "somebody else"


@pytest.fixture
def live_staff(world: World, customer: Customer) -> Callable[..., Json]:
    """`/api/v1/admin` as a superuser's key sees it, over the socket."""
    _, secret = cast.make_staff(f"staff-of-{customer.tenant.slug}")
    grace = Customer(customer.tenant, None, secret, customer.url)
    return lambda method, path, body: call(grace, method, f"/api/v1/admin/{path}", body, 201)
