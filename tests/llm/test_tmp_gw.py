import httpx, time
from tests import cast
def test_gateway_serves_both_planes(gateway):
    acme = cast.make_tenant(); _, secret = cast.make_key(acme)
    h={"Authorization": f"Bearer {secret}"}
    r = httpx.get(gateway.url + "/api/v1/llm/models", headers=h); assert r.status_code == 200, r.text
    r = httpx.get(gateway.url + "/v1/models", headers=h); print(r.status_code, r.text[:300])
    r = httpx.get(gateway.url + "/health/ready"); print(r.status_code, r.text)
def test_again(gateway):
    assert httpx.get(gateway.url + "/api/v1/llm/models").status_code == 401
