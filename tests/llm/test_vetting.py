"""Where a tenant's webhook may lead: a table of addresses, and a connection to the vetted one in the host's name."""

import asyncio
import datetime as dt
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from llm.engine import http, vetting
from llm.engine.webhooks import Webhook, send
from tests.fakes import FakeReceiver

REFUSED = {
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12:3456::1"],
    "link-local": ["169.254.1.1", "fe80::1", "fe80::1%eth0"],
    "metadata": [
        "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254",
        "fd20:ce::254",
    ],
    "CGNAT": ["100.64.0.1", "100.127.255.255"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::a00:1"],
    "6to4": ["2002:7f00:1::1", "2002:808:808::1", "192.88.99.1"],
    "Teredo": ["2001:0:4136:e378:8000:63bf:3fff:fdd2"],
    "IPv4 in IPv6": ["::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "::ffff:0:127.0.0.1"],
    "multicast": ["224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "4000::1", "5f00::1", "100::1", "fec0::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "benchmarks": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "no address": ["", "localhost", "127.1", "1.2.3.4.5", "8.8.8.8:443", "[2606:4700::1111]"],
}  # fmt: skip
PUBLIC = [
    "8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "126.255.255.255", "128.0.0.1",
    "169.253.255.255", "169.255.0.1", "172.15.255.255", "172.32.0.1", "192.167.255.255", "192.169.0.1",
    "198.17.255.255", "198.20.0.1", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001:830::200e",
    "2001:4860:4860::8888", "2001:200::1",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "address"), [(kind, one) for kind, some in REFUSED.items() for one in some])
def test_what_is_not_public_is_refused(kind: str, address: str) -> None:
    assert vetting.objection(address) != "", kind


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_not(address: str) -> None:
    assert vetting.objection(address) == ""


def test_one_bad_address_among_good_ones_spoils_them_all() -> None:
    assert vetting.vetted(["8.8.8.8", "1.1.1.1"]) == ["8.8.8.8", "1.1.1.1"]
    for addresses in (["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"]):
        with pytest.raises(vetting.NotPublic):
            vetting.vetted(addresses)


def test_every_address_of_a_name_is_looked_at() -> None:
    assert set(asyncio.run(vetting.resolve("localhost", 443))) <= {"127.0.0.1", "::1"}
    assert asyncio.run(vetting.resolve("0x7f.1", 443)) == ["127.0.0.1"]


# --- the connection ---------------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A certificate for hooks.acme.org that our client trusts, in a file with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.acme.org")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.acme.org")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "hooks.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    monkeypatch.setattr(http, "_ssl_context", ssl.create_default_context(cafile=str(path)))
    return path


def post(url: str, address: str) -> int:
    return asyncio.run(http.post(http.endpoint(url), address=address, headers={"x-test": "1"}, body=b"{}"))


def test_it_connects_to_the_vetted_address_in_the_name_of_the_host(authority: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    with FakeReceiver(tls=context) as receiver:
        # The name does not resolve at all here: DNS is not asked again, whatever it would say by now.
        assert post(f"https://hooks.acme.org:{receiver.port}/in", "127.0.0.1") == 204
        assert receiver.names == ["hooks.acme.org"]
        (got,) = receiver.received
        assert (got.path, got.headers["host"]) == ("/in", f"hooks.acme.org:{receiver.port}")


def test_a_certificate_for_another_host_is_refused(authority: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    with FakeReceiver(tls=context) as receiver:
        with pytest.raises(http.NetworkError):
            post(f"https://other.acme.org:{receiver.port}/in", "127.0.0.1")
        # The words for it, where the address itself is asked for.
        (outcome,) = send([webhook(f"https://127.0.0.1:{receiver.port}/in")])
        assert outcome.error.startswith("No secure connection")
        assert receiver.received == []


def webhook(url: str, **values: Any) -> Webhook:
    return Webhook(**{"url": url, "public": False, "headers": {}, "body": b"{}"} | values)


def test_what_went_wrong_is_said_in_words_in_the_order_asked() -> None:
    with FakeReceiver() as receiver:
        outcomes = send(
            [
                webhook("http://nowhere.invalid/"),
                webhook(receiver.url),
                webhook("http://127.0.0.1:9/"),
                webhook(receiver.url, public=True),
                webhook("http://[::"),
            ]
        )
    assert [outcome.error for outcome in outcomes] == [
        "Its host is not known to DNS.",
        "",
        "It could not be reached, or broke off before it answered.",
        "Its host leads to an address that is not public. Use a host on the public internet.",
        "Its URL is malformed.",
    ]
    assert len(receiver.received) == 1


def test_a_host_with_several_addresses_is_reached_by_the_one_that_answers() -> None:
    with FakeReceiver() as receiver:
        # `localhost` is ::1 first where there is IPv6, and the receiver is on 127.0.0.1 only.
        (outcome,) = send([webhook(receiver.url.replace("127.0.0.1", "localhost"))])
        assert outcome.error == ""
