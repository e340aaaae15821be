"""What a provider's base URL may look like, whoever gives it: staff, or the environment."""

from urllib.parse import urlsplit


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
