"""The pages: complete, and nothing in them loads from elsewhere."""

import re

import pytest

pytest.importorskip("fastapi")

from served_run import client_of, write_served_run

from ratinglab.serving.app import PAGES


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    return client_of(write_served_run(tmp_path_factory.mktemp("runs") / "run"))


@pytest.mark.parametrize("path", PAGES)
def test_page_loads_only_what_the_server_has(client, path):
    found = client.get(path)
    assert found.status_code == 200
    assert found.headers["content-type"].partition(";")[0] == PAGES[path][1]
    loaded = re.findall(r"""(?:src|href)="([^"]*)"|url\("([^"]*)"\)|import .* from "([^"]*)\"""", found.text)
    for target in filter(None, (target for targets in loaded for target in targets)):
        assert target.startswith("data:") or client.get(f"/{target.removeprefix('./')}").status_code == 200
    assert set(re.findall(r"https?://[^\s'\"]*", found.text)) <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("path", [path for path, (_, kind) in PAGES.items() if kind == "text/html"])
def test_page_has_no_code_or_style_of_its_own(client, path):
    """The content security policy would refuse them."""
    text = client.get(path).text
    assert re.findall(r"<script[^>]*>([^<]+)</script>|<style| style=| on\w+=", text) == []


def test_identifiers_of_the_page_exist(client):
    page, code = client.get("/").text, client.get("/page.js").text
    ids = set(re.findall(r' id="([^"]+)"', page))
    assert set(re.findall(r'\$\("([^"]+)"\)', code)) <= ids
    assert set(re.findall(r'(?:aria-controls|aria-labelledby|for)="([^"]+)"', page)) <= ids


def test_openapi_describes_every_endpoint_with_our_mistakes(client):
    api = client.get("/openapi.json").json()
    assert list(api["paths"]) == ["/predict", "/recommend", "/fold_in", "/similar", "/items", "/health"]
    assert "HTTPValidationError" not in api["components"]["schemas"]
    for methods in api["paths"].values():
        for operation in methods.values():
            refused = operation["responses"]["422"]["content"]["application/json"]["schema"]
            assert refused == {"$ref": "#/components/schemas/Mistake"}
