"""Requests that are refused before they reach the app, and headers of every response."""

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse

from ratinglab.serving.guard import Guard


@pytest.fixture(scope="module")
def client():
    async def app(scope, receive, send):
        body = (await receive())["body"]
        await PlainTextResponse(f"read {len(body)}")(scope, receive, send)

    return TestClient(Guard(app, names=["Ratings.Example.org"], max_body_bytes=10), base_url="http://localhost")


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", "LOCALHOST.", "127.0.0.1:8000", "[::1]:8000", "192.168.1.7", "ratings.example.org"],
)
def test_own_names_and_addresses_are_answered(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.com", "evil.com:8000", "localhost.evil.com", "127.0.0.1.evil.com", "[evil.com]", "", "127.1", "0x7f.1"],
)
def test_other_names_are_refused(client, host):
    """A page of evil.com that points its name at this server would share its origin."""
    found = client.post("/", headers={"host": host}, content=b"x")
    assert found.status_code == 403
    assert found.json()["detail"].startswith("host: this server does not answer to ")


@pytest.mark.parametrize("content", [b"0123456789", iter([b"01234", b"56789"])])
def test_body_up_to_the_limit_passes_whole(client, content):
    assert client.post("/", content=content).text == "read 10"


@pytest.mark.parametrize("content", [b"0123456789x", iter([b"01234", b"567890"]), b"x" * 1000])
def test_larger_body_is_refused(client, content):
    found = client.post("/", content=content)
    assert (found.status_code, found.json()) == (413, {"detail": "the body must have at most 10 bytes"})


@pytest.mark.parametrize("host", ["localhost", "evil.com"])
def test_every_answer_keeps_browsers_from_mixing_it_with_other_pages(client, host):
    headers = client.get("/", headers={"host": host}).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "access-control-allow-origin" not in headers
