"""Sends webhooks: many at once, each within a few seconds all told, to nowhere that it must not reach.

Nothing of a receiver's answer but its status is looked at, and no exception's words are kept: they name addresses.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from billing.deliveries import Outcome
from llm.engine import http, vetting

TIMEOUT_S = 10.0
AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One POST. `public`: only to public addresses, which is how tenants' are sent."""

    url: str
    public: bool
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def send(webhooks: Sequence[Webhook]) -> list[Outcome]:
    """Post them all; what came of each, in order. Call it with no transaction open and no event loop running."""
    return asyncio.run(_send_all(webhooks))


async def _send_all(webhooks: Sequence[Webhook]) -> list[Outcome]:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(webhook: Webhook) -> Outcome:
        async with room:
            return await _send(webhook)

    return await asyncio.gather(*(one(webhook) for webhook in webhooks))


async def _send(webhook: Webhook) -> Outcome:
    try:
        # One limit around all of it: a receiver that sends a byte now and then would outlast any other.
        async with asyncio.timeout(TIMEOUT_S):
            status = await _post(webhook)
    except TimeoutError:
        return Outcome(error=f"No answer within {TIMEOUT_S:.0f} seconds.")
    except vetting.NotPublic:
        return Outcome(error="Its host leads to an address that is not public. Use a host on the public internet.")
    except (*http.NetworkError, OSError, ValueError) as error:
        return Outcome(error=_why(error))
    if 200 <= status < 300:
        return Outcome(response_status=status)
    return Outcome(error=_complaint(status), response_status=status)


async def _post(webhook: Webhook) -> int:
    """To the first of the host's addresses that takes a connection."""
    to = http.endpoint(webhook.url)
    addresses = await vetting.resolve(to.host, to.port)
    if webhook.public:
        vetting.vetted(addresses)
    for address in addresses[:-1]:
        try:
            return await http.post(to, address=address, headers=webhook.headers, body=webhook.body)
        except http.NotConnected:
            continue
    return await http.post(to, address=addresses[-1], headers=webhook.headers, body=webhook.body)


def _why(error: BaseException) -> str:
    """In words, without the exception's own."""
    causes = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return "No secure connection: is its certificate in force, for this host, and by a known authority?"
    if isinstance(error, OSError):
        return "Its host is not known to DNS."
    if isinstance(error, ValueError):
        return "Its URL is malformed."
    return "It could not be reached, or broke off before it answered."


def _complaint(status: int) -> str:
    if status == 410:
        return "It answered HTTP 410: gone for good. The subscription was switched off."
    if 300 <= status < 400:
        return f"It redirects (HTTP {status}), which is not followed. Give the URL where it leads."
    return f"It answered HTTP {status} instead of 2xx."
