"""Client addresses, as a proxy or a socket names them."""

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=4096)
def ip_or_none(host: str | None) -> str | None:
    """The address if it is one. A proxy's header may say `unknown`, and PostgreSQL's inet takes neither that nor a
    link-local zone (`fe80::1%eth0`)."""
    if not host:
        return None
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return None
