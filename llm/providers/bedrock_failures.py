"""What AWS calls its errors, as ours: `x-amzn-errortype` or `__type` of an answer, the name of a stream's exception.

A name says more than a status: a quota that is used up is a 400, an expired token sometimes one too. Sources: the
service model in botocore (bedrock-runtime), docs.aws.amazon.com/bedrock, "Troubleshooting Amazon Bedrock API errors".
"""

from collections.abc import Mapping
from typing import Any

import orjson

from llm.errors import ProviderError
from llm.providers import failures

# The status that a name means; every other means the status it came with.
_MEANS = {
    "accessdenied": 403,
    "unrecognizedclient": 403,
    "invalidclienttokenid": 403,
    "invalidsignature": 403,
    "signaturedoesnotmatch": 403,
    "incompletesignature": 403,
    "expiredtoken": 403,
    "missingauthenticationtoken": 403,
    "notauthorized": 403,
    "throttling": 429,
    "toomanyrequests": 429,
    "servicequotaexceeded": 429,
    "modelnotready": 429,
    "resourcenotfound": 404,
    "validation": 400,
    "modeltimeout": 408,
    "modelerror": 500,
    "modelstreamerror": 500,
    "internalserver": 500,
    "internalfailure": 500,
    "serviceunavailable": 503,
}


def by_answer(status: int, headers: Mapping[str, str], body: bytes, *, byok: bool) -> ProviderError:
    """The error a non-2xx answer is. Header names are lower case."""
    said = headers.get("x-amzn-errortype", "")
    if not said:
        found = failures.parsed(body)
        said = str(found.get("__type", "")) if isinstance(found, Mapping) else ""
    return failures.by_status(_status(said, status), headers, _plain(body), byok=byok)


def in_stream(name: str, detail: Any, *, byok: bool) -> ProviderError:
    """The error an exception within a stream is, or one under 200."""
    message = detail.get("message") if isinstance(detail, Mapping) else None
    return failures.in_band({"code": _status(name, 500), "message": message}, byok=byok)


def _status(name: str, otherwise: int) -> int:
    """ "com.amazon.coral.service#ThrottlingException:http://..." is `throttling`."""
    plain = name.partition(":")[0].rpartition("#")[2].lower().removesuffix("exception").removesuffix("error")
    return _MEANS.get(plain, _MEANS.get(f"{plain}error", otherwise))


def _plain(body: bytes) -> bytes:
    """The body with its message under one name: some of AWS's front doors write `Message`."""
    found = failures.parsed(body)
    if isinstance(found, Mapping) and "message" not in found and isinstance(found.get("Message"), str):
        return orjson.dumps({"message": found["Message"]})
    return body
