"""What attackers and broken clients send: bodies, values, query strings, ids and headers, each with a name."""

import json
from typing import Any


def object_with(base: dict[str, Any], field: str, source: str) -> bytes:
    """`base` as JSON with one field set to a piece of JSON source, valid or not; lone surrogates stay escapes."""
    pairs = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in base.items() if name != field]
    return ("{" + ", ".join([*pairs, f"{json.dumps(field)}: {source}"]) + "}").encode()


_DEEP = 10_000

# Whole bodies, for every endpoint that takes one. None of them is a sound JSON object.
BODIES: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n\t ",
    "NUL alone": b"\x00",
    "null": b"null",
    "true": b"true",
    "a number": b"5",
    "a string": b'"model"',
    "a list": b"[]",
    "a list of an object": b"[{}]",
    "nested lists": b"[[[[[[]]]]]]",
    "open brace": b"{",
    "close brace": b"}",
    "open list": b"[",
    "open string": b'{"a": "b',
    "no value": b'{"a":}',
    "no colon": b'{"a" 1}',
    "trailing comma": b'{"a": 1,}',
    "two objects": b"{}{}",
    "garbage after": b'{"a": 1} x',
    "newline-delimited": b'{"a": 1}\n{"a": 2}',
    "single quotes": b"{'a': 1}",
    "bare key": b"{a: 1}",
    "number as key": b"{1: 1}",
    "comment": b'{"a": 1 /* no */}',
    "line comment": b'{"a": 1} // no',
    "Python's None": b'{"a": None}',
    "Python's True": b'{"a": True}',
    "undefined": b'{"a": undefined}',
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": Infinity}',
    "-Infinity": b'{"a": -Infinity}',
    "hexadecimal": b'{"a": 0x1F}',
    "leading zero": b'{"a": 01}',
    "leading plus": b'{"a": +1}',
    "bare point": b'{"a": .5}',
    "trailing point": b'{"a": 5.}',
    "bare exponent": b'{"a": 1e}',
    "bad escape": b'{"a": "\\x41"}',
    "short escape": b'{"a": "\\u12"}',
    "raw control character": b'{"a": "\x01"}',
    "raw newline in a string": b'{"a": "\n"}',
    "raw NUL in a string": b'{"a": "\x00"}',
    "NUL in a key": b'{"a\x00": 1}',
    "latin-1": '{"name": "Zoë"}'.encode("latin-1"),
    "windows-1252": '{"name": "“x”"}'.encode("cp1252"),
    "utf-16": '{"name": "x"}'.encode("utf-16"),
    "utf-16-le": '{"name": "x"}'.encode("utf-16-le"),
    "utf-16-be": '{"name": "x"}'.encode("utf-16-be"),
    "utf-32": '{"name": "x"}'.encode("utf-32"),
    "utf-7": b"+AHs-+ACI-name+ACI-: 1+AH0-",
    "BOM": b'\xef\xbb\xbf{"name": "x"}',
    "truncated UTF-8": b'{"name": "\xe2\x82"}',
    "overlong UTF-8": b'{"name": "\xc0\xaf"}',
    "encoded surrogate": b'{"name": "\xed\xa0\x80"}',
    "beyond Unicode": b'{"name": "\xf4\x90\x80\x80"}',
    "lone continuation": b'{"name": "\x80"}',
    "random bytes": bytes(range(256)),
    "10,000 lists": b"[" * _DEEP + b"]" * _DEEP,
    "10,000 open lists": b"[" * _DEEP,
    "10,000 objects": b'{"a":' * _DEEP + b"1" + b"}" * _DEEP,
    "10,000 open objects": b'{"a":' * _DEEP,
    "deep inside a field": b'{"a": ' + b"[" * _DEEP + b"]" * _DEEP + b"}",
    "100 deep": b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}",
    "one million open lists": b"[" * 1_000_000,
    "50,000 keys": b"{" + b",".join(b'"k%d":1' % n for n in range(50_000)) + b"}",
    "5,000 digits": b'{"a": ' + b"9" * 5_000 + b"}",
    "100,000 digits": b'{"a": ' + b"9" * 100_000 + b"}",
    "a list of numbers": b"[" + b"1," * 100_000 + b"1]",
    "HTML": b"<!DOCTYPE html><html><script>alert(1)</script></html>",
    "XML with an entity": b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
    "YAML": b"name: x\nmodel: !!python/object/apply:os.system ['id']",
    "a form": b"name=x&model=y",
    "a pickle": b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00C\xbf\xa6\xa3\x02\x00\x00\x00",
    "multipart": b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n',
}
# Sound to a lenient parser: whether an object of unknown fields is refused is up to the endpoint; never a 5xx.
ODD_BODIES: dict[str, bytes] = {
    "empty object": b"{}",
    "duplicate keys": b'{"name": "a", "name": "b", "model": "a", "model": "b"}',
    "duplicate escaped keys": b'{"name": "a", "n\\u0061me": "b"}',
    "1e400": b'{"a": 1e400}',
    "1e-999999999": b'{"a": 1e-999999999}',
    "1e999999999": b'{"a": 1e999999999}',
    "-0": b'{"a": -0}',
    "__proto__": b'{"__proto__": {"admin": true}, "constructor": {"prototype": {}}}',
    "empty key": b'{"": 1}',
    "key of 100 KB": b'{"' + b"k" * 100_000 + b'": 1}',
    "NUL escape": b'{"name": "a\\u0000b"}',
    "NUL escape in a key": b'{"a\\u0000b": 1}',
    "lone high surrogate": b'{"name": "\\ud800"}',
    "lone low surrogate": b'{"name": "\\udc00x"}',
    "swapped surrogates": b'{"name": "\\udc00\\ud800"}',
    "surrogate in a key": b'{"\\ud800": 1}',
}
# The body is sound; what is said about it is not.
CONTENT_TYPES: dict[str, dict[str, str]] = {
    "text/plain": {"content-type": "text/plain"},
    "form": {"content-type": "application/x-www-form-urlencoded"},
    "multipart": {"content-type": "multipart/form-data; boundary=x"},
    "multipart without a boundary": {"content-type": "multipart/form-data"},
    "XML": {"content-type": "application/xml"},
    "HTML": {"content-type": "text/html"},
    "nonsense": {"content-type": "nonsense"},
    "slashes": {"content-type": "///"},
    "very long": {"content-type": "application/" + "x" * 3_000},
    "gzip that is none": {"content-type": "application/json", "content-encoding": "gzip"},
    "br": {"content-type": "application/json", "content-encoding": "br"},
}
# Values for every field of every endpoint, as JSON source.
VALUES: dict[str, str] = {
    "null": "null",
    "true": "true",
    "zero": "0",
    "negative": "-1",
    "fraction": "1.5",
    "huge": "1e308",
    "1e400": "1e400",
    "10**40": "1" + "0" * 40,
    "5,000 digits": "9" * 5_000,
    "NaN": "NaN",
    "empty": '""',
    "blank": '"  "',
    "long": json.dumps("x" * 10_000),
    "NUL": '"a\\u0000b"',
    "lone surrogate": '"\\ud83d"',
    "control characters": '"a\\r\\nx-evil: 1\\u0007\\u001b[31m"',
    "bidi and zero width": '"\\u202eevil\\u200b\\ufeff\\u2028"',
    "combining": json.dumps("e" + "\u0301" * 200),
    "other digits": '"\\u0663\\u0664"',
    "NaN as text": '"NaN"',
    "Infinity as text": '"Infinity"',
    "exponent as text": '"1e999999"',
    "formula": "\"=cmd|' /C calc'!A0\"",
    "script": '"<script>alert(1)</script>"',
    "template": '"{{7*7}}${7*7}#{7*7}%s%n{0.__class__}"',
    "SQL": '"\'; DROP TABLE tenants; --"',
    "path": '"../../../../etc/passwd"',
    "URL of metadata": '"http://169.254.169.254/latest/meta-data/"',
    "nil UUID": '"00000000-0000-0000-0000-000000000000"',
    "date too late": '"9999-12-31T23:59:59-14:00"',
    "date too early": '"0001-01-01T00:00:00+14:00"',
    "no such day": '"2026-02-30"',
    "list": "[]",
    "list of null": "[null]",
    "list of lists": "[[[]]]",
    "mixed list": '["x", 5, {}, null]',
    "long list": json.dumps(["x"] * 5_000),
    "object": "{}",
    "odd object": '{"": null, "a": {"b": [1]}}',
    "deep": "[" * 80 + "]" * 80,
    "too deep": "[" * 10_000 + "]" * 10_000,
}
# Refused by the parser, whichever field they are in.
UNSOUND = {"5,000 digits", "NaN", "NUL", "lone surrogate", "deep", "too deep", "1e400"}
# One of each JSON type, for each field. Of the others each field meets some, so that each endpoint meets all of them.
TYPES = {"null", "true", "negative", "10**40", "long", "list", "object"}


def some(names: list[str], position: int, step: int) -> set[str]:
    """Every `step`th name, beginning elsewhere at each position: neighbours together meet all."""
    return set(names[position % step :: step])


def values_for(position: int, *, thin: bool = False) -> dict[str, str]:
    """What the field at this position of an endpoint is sent. `thin`: another endpoint with the same fields gets it."""
    others = [name for name in VALUES if name not in TYPES | UNSOUND]
    wanted = some(others, position, 12 if thin else 4) | TYPES | (UNSOUND if position == 0 else set())
    return {name: source for name, source in VALUES.items() if name in wanted}


def bodies_for(position: int) -> dict[str, bytes]:
    """What the endpoint at this position is sent whole: the first all, the others (one parser reads them) a third."""
    wanted = set(BODIES) if position == 0 else some(list(BODIES), position, 3)
    return {name: body for name, body in BODIES.items() if name in wanted}


# For each parameter of each list, as it stands in a URL.
QUERIES: dict[str, str] = {
    "empty": "",
    "negative": "-1",
    "zero": "0",
    "huge": "9" * 400,
    "fraction": "1.5",
    "NaN": "NaN",
    "word": "nonsense",
    "NUL": "%00",
    "bad UTF-8": "%ff%fe",
    "surrogate": "%ed%a0%80",
    "newline": "a%0d%0ax-evil:1",
    "SQL": "%27%3B%20DROP%20TABLE%20tenants%3B--",
    "path": "..%2f..%2fetc%2fpasswd",
    "script": "%3Cscript%3Ealert(1)%3C/script%3E",
    "other digits": "%D9%A3",
    "long": "x" * 5_000,
    "no such day": "2026-02-30",
    "year 0": "0000-01-01",
    "last day": "9999-12-31",
    "first day": "0001-01-01",
    "early time": "0001-01-01T00:00:00%2B14:00",
    "late time": "9999-12-31T23:59:59-14:00",
    "nil UUID": "00000000-0000-0000-0000-000000000000",
    "base64": "cD0yMDI2",
    "base64 of NUL": "cD0AAAAA",
    "cursor of another type": "cj0xJnA9eA%3D%3D",
    "cursor with a huge offset": "bz05OTk5OTk5OTk5OTk5OTk5OTk5OTk%3D",
    "list": "a,b,c",
    "percent": "%25s%25n%25",
}
_QUERIES_FOR_ALL = {"negative", "word", "NUL", "bad UTF-8"}


def queries_for(position: int) -> dict[str, str]:
    """What the parameter at this position of a list is sent."""
    others = [name for name in QUERIES if name not in _QUERIES_FOR_ALL]
    wanted = _QUERIES_FOR_ALL | some(others, position, 5)
    return {name: value for name, value in QUERIES.items() if name in wanted}


# For each id in a path.
IDS: dict[str, str] = {
    "traversal": "..%2f..%2fetc%2fpasswd",
    "dots": "%2e%2e",
    "NUL": "%00",
    "bad UTF-8": "%ff",
    "encoded surrogate": "%ed%a0%80",
    "long": "x" * 5_000,
    "many digits": "9" * 400,
    "negative": "-1",
    "zero": "0",
    "nine digits": "999999999",
    "braces": "%7B00000000-0000-0000-0000-000000000000%7D",
    "urn": "urn:uuid:00000000-0000-0000-0000-000000000000",
    "bare hex": "0" * 32,
    "SQL": "'%3B%20DROP%20TABLE%20tenants",
    "script": "%3Cscript%3E",
    "emoji": "%F0%9F%92%A9",
    "newline": "a%0d%0ab",
    "star": "*",
    "percent": "%25",
    "matrix parameter": "x;y=z",
    "other digits": "%D9%A3",
    "null": "null",
    "blank": "%20",
}
# Headers that a client may send with a sound request to the wire.
HEADERS: dict[str, dict[str, str]] = {
    "power level unknown": {"x-power-level": "turbo"},
    "power level empty": {"x-power-level": ""},
    "power level with a tab": {"x-power-level": "eco\tx"},
    "task type unknown": {"x-task-type": "../../etc"},
    "priority unknown": {"x-priority": "<script>"},
    "config missing": {"x-llm-config": "'; DROP TABLE llm_configs; --"},
    "config long": {"x-llm-config": "x" * 8_000},
    "config latin-1": {"x-llm-config": "Zo\xeb"},
}
# Said with a sound request, answered as if they had not been.
HARMLESS_HEADERS: dict[str, dict[str, str]] = {
    "forwarded for nobody": {"x-forwarded-for": "not an address"},
    "forwarded for a list": {"x-forwarded-for": "1.2.3.4, '; DROP TABLE x, ::1"},
    "forwarded for a zone": {"x-forwarded-for": "fe80::1%eth0"},
    "forwarded for a port": {"x-forwarded-for": "1.2.3.4:5678"},
    "forwarded for latin-1": {"x-forwarded-for": "\xe9\xff"},
    "forwarded for very long": {"x-forwarded-for": "1" * 5_000},
    "session latin-1": {"x-session-id": "\xff\xfe"},
    "session long": {"x-session-id": "s" * 8_000},
    "request id odd": {"x-request-id": "<script>\t'\xe9"},
    "user agent odd": {"user-agent": "=cmd|' /C calc'!A0\xff" + "x" * 4_000},
    "accept odd": {"accept": "text/html"},
    "accept broken": {"accept": ";;;,,,"},
    "method override": {"x-http-method-override": "DELETE"},
    "forwarded host": {"x-forwarded-host": "evil.example"},
    "original URL": {"x-original-url": "/admin/"},
    "traceparent": {"traceparent": "00-zz-zz-zz"},
    "cookie": {"cookie": "sessionid=" + "x" * 3_000},
    "range": {"range": "bytes=99999999999999999999-"},
    "anthropic version": {"anthropic-version": "nonsense"},
}


def count() -> int:
    """How many different inputs these tables hold."""
    tables = (BODIES, ODD_BODIES, CONTENT_TYPES, VALUES, QUERIES, IDS, HEADERS, HARMLESS_HEADERS)
    return sum(len(table) for table in tables)
