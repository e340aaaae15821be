"""A LiteLLM proxy that runs already: LITELLM_PROXY_URL and LITELLM_MASTER_KEY together switch its provider on.

The key is never stored: the provider's `env_keys` name its variable, like every other key of the environment.
"""

import re
from typing import Any

from django.conf import settings

from llm.catalog import addresses
from llm.models import LLMProvider

SLUG = "litellm"
URL, KEY = "LITELLM_PROXY_URL", "LITELLM_MASTER_KEY"
_HTTP = re.compile(r"https?://\S{1,490}")


def facts() -> dict[str, Any]:
    """What the environment says of the provider's row; nothing unless both variables are set and the URL is one."""
    if problem() or not settings.LITELLM_PROXY_URL:
        return {}
    return {"is_active": True, "base_url": settings.LITELLM_PROXY_URL.rstrip("/")}


def problem() -> str:
    """What is wrong with the two variables, in words that quote neither; empty if nothing is."""
    url, key = settings.LITELLM_PROXY_URL, settings.LITELLM_MASTER_KEY
    if bool(url) != bool(key):
        given, missing = (URL, KEY) if url else (KEY, URL)
        return f"{given} is set and {missing} is not, so the LiteLLM proxy is not used. Set both, or neither."
    if url and not _HTTP.fullmatch(url):
        return f"{URL} is not an http or https URL, so the LiteLLM proxy is not used. Example: http://127.0.0.1:4000"
    objection = addresses.objection(url) if url else ""
    return f"{URL}: {objection} The LiteLLM proxy is not used." if objection else ""


def reason() -> str:
    """Why the row changes, for its history."""
    if facts():
        return f"{URL} and {KEY} are set"
    return problem() or f"{URL} and {KEY}, which switched it on, are no longer set"


def provider() -> LLMProvider | None:
    """The proxy's row, while the environment says that there is one and staff have not switched it off."""
    return LLMProvider.objects.filter(shipped__slug=SLUG, is_active=True).first() if facts() else None
