"""A client's address as a proxy names it never reaches the database unless it is one."""

import pytest

from tenants.addresses import ip_or_none


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("unknown", None),
        ("203.0.113.9, 10.0.0.1", None),
        ("", None),
        (None, None),
    ],
)
def test_only_addresses_are_kept(named: str | None, kept: str | None) -> None:
    assert ip_or_none(named) == kept
