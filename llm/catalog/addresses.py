"""What a provider's base URL may look like, whoever gives it: staff, or the environment."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_PLACEHOLDER = re.compile(r"\{([a-z_]{1,40})\}")
_FILLING = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def filled(url: str, quirks: Mapping[str, Any]) -> str:
    """A base URL with its placeholders replaced by the quirks of the same name, as far as there are any."""

    def value(found: re.Match[str]) -> str:
        said = quirks.get(found[1])
        return said if isinstance(said, str) and _FILLING.fullmatch(said) else found[0]

    return _PLACEHOLDER.sub(value, url)


def objection(url: str) -> str:
    """What is wrong with a base URL, in words; empty for a good one. Braces are placeholders that staff fill in."""
    try:
        parts = urlsplit(url.replace("{", "").replace("}", ""))
        port_is_fine = parts.port is None or parts.port > 0
        (parts.hostname or "").encode("idna")
    except ValueError:
        return "Not a URL."
    if not parts.hostname or not port_is_fine:
        return "Not a URL: it has no host, or port 0."
    if parts.username is not None or parts.query or parts.fragment:
        # A key in a URL would be logged by everything it passes.
        return "No user name, password, query or fragment: keys travel in headers."
    return ""
