"""AWS Signature Version 4: AWS's own test vectors, and what botocore 1.44.8 signs for the requests we make."""

from datetime import UTC, datetime

import orjson
import pytest

from llm.providers.sigv4 import Key, Request, key_of, signed

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEY = Key(access_key_id="AKIDEXAMPLE", secret_access_key=SECRET)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("method", "query", "signature"),
    [
        ("GET", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),  # get-vanilla
        ("POST", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),  # post-vanilla
        # get-vanilla-query-order-key-case
        ("GET", "?Param2=value2&Param1=value1", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ],
)
def test_the_published_test_suite(method: str, query: str, signature: str) -> None:
    request = Request(method=method, url=f"https://example.amazonaws.com/{query}")
    moment = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
    assert signed(request, KEY, region="us-east-1", service="service", now=moment) == {
        "x-amz-date": "20150830T123600Z",
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders=host;x-amz-date, Signature={signature}",
    }


def test_a_stream_from_an_inference_profile_is_signed_as_botocore_signs_it() -> None:
    request = Request(
        method="POST",
        url="https://bedrock-runtime.us-east-1.amazonaws.com/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3A"
        "inference-profile%2Fglobal.anthropic.claude-sonnet-4-6/converse-stream",
        headers={"content-type": "application/json", "accept": "application/vnd.amazon.eventstream"},
        body='{"messages":[{"role":"user","content":[{"text":"Hé"}]}]}'.encode(),
    )
    headers = signed(request, KEY, region="us-east-1", service="bedrock", now=NOW)
    assert headers["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-east-1/bedrock/aws4_request, "
        "SignedHeaders=accept;content-type;host;x-amz-date, "
        "Signature=d39437359dc753426992331545df196a6e043bbb75b9af1bb4482d2ee174af1e"
    )


def test_a_temporary_key_signs_its_token_too() -> None:
    token = (
        "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8Y"
        "UuwthAx7mSEI="
    )
    key = Key(access_key_id="AKIDEXAMPLE", secret_access_key=SECRET, session_token=token)
    request = Request(method="GET", url="https://bedrock.eu-central-1.amazonaws.com/foundation-models")
    assert signed(request, key, region="eu-central-1", service="bedrock", now=NOW) == {
        "x-amz-date": "20260102T030405Z",
        "x-amz-security-token": token,
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/eu-central-1/bedrock/aws4_request, "
        "SignedHeaders=host;x-amz-date;x-amz-security-token, "
        "Signature=d86e1a0d2854469806be52dfbb01719eb8891969d350f154d7b0bb5698a0a9bb",
    }


def test_a_port_that_is_not_the_schemes_own_is_part_of_the_host() -> None:
    request = Request(
        method="POST",
        url="http://127.0.0.1:8123/v1/model/m/converse",
        headers={"content-type": "application/json"},
        body=b"{}",
    )
    headers = signed(request, KEY, region="us-west-2", service="bedrock", now=NOW)
    assert headers["authorization"].endswith("=e92d72b21adc52a9b007449a869673ce10e795722e6b53b8609e4f98fae311bf")
    same = Request(method="GET", url="https://example.amazonaws.com:443/")
    moment = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
    headers = signed(same, KEY, region="us-east-1", service="service", now=moment)
    assert headers["authorization"].endswith("=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31")


@pytest.mark.parametrize(
    ("text", "token"),
    [
        (f"AKIDEXAMPLE:{SECRET}", ""),
        (f"AKIDEXAMPLE:{SECRET}:tok/en+==", "tok/en+=="),
        (orjson.dumps({"AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": SECRET, "Version": 1}).decode(), ""),
        (
            orjson.dumps(
                {"access_key_id": "AKIDEXAMPLE", "secret_access_key": SECRET, "session_token": "tok"}
            ).decode(),
            "tok",
        ),
        (
            orjson.dumps({"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": SECRET}, option=2).decode(),
            "",
        ),
    ],
)
def test_an_access_key_is_read_however_the_aws_tools_print_it(text: str, token: str) -> None:
    found = key_of(text)
    assert found == Key(access_key_id="AKIDEXAMPLE", secret_access_key=SECRET, session_token=token)
    assert SECRET not in repr(found)


@pytest.mark.parametrize("text", ["bedrock-api-key-YmVkcm9jay5hbWF6b25hd3M=", "ABSKQmVkcm9ja0FQSUtleS1abc==", "x"])
def test_an_api_key_is_no_access_key(text: str) -> None:
    assert key_of(text) is None


@pytest.mark.parametrize(
    "text", ["AKIDEXAMPLE:", ":secret", "not an id:secret", "{", "{}", '{"AccessKeyId":"AKID"}', "{1"]
)
def test_an_incomplete_access_key_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - that it is one is what counts
        key_of(text)
    assert "secret" not in str(caught.value)
