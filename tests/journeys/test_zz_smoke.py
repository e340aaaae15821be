import time, openai, pytest
from tests import cast
def test_a(gateway, fake, acme):
    p = cast.make_provider("fakeco", fake.base_url); cast.make_credential(p); m = cast.make_model(p, "m1")
    key = cast.make_key(acme)[1]
    t=time.time()
    from llm.engine import snapshot
    snapshot.WATCH.refresh()
    c = openai.OpenAI(base_url=gateway.url+"/v1", api_key=key, max_retries=0)
    print(c.chat.completions.create(model="fakeco/m1", messages=[{"role":"user","content":"hi"}]))
    print(time.time()-t)
def test_b(gateway): pass
