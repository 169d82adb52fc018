"""The root path: with and without it, a request reaches the same path, and needs the same key."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import BODY, Words, served
from udr.errors import ConfigError
from udr.retrieval import Retriever
from udr_service import Settings, create_app
from udr_service.auth import Scope, append, new_key


@pytest.mark.parametrize("given", ["/udr", "udr/", "/udr/"])
def test_the_root_path_may_be_left_in_place_or_taken(retriever: Retriever, given: str) -> None:
    with served(retriever, root_path=given) as client:
        for prefix in ("", "/udr"):
            assert client.post(f"{prefix}/v1/retrieve", json=BODY).status_code == 200
            assert client.get(f"{prefix}/playground/page.js").status_code == 200
            assert "X-Udr-Index-Version" in client.get(f"{prefix}/v1/info").headers
        assert client.get("/udr").headers["Content-Type"] == client.get("/").headers["Content-Type"]
        assert client.get("/udrx/v1/info").status_code == client.get("/udr/udr/v1/info").status_code == 404
        assert client.get("/udr/v1/openapi.json").json()["servers"] == [{"url": "/udr"}]
        missing = client.get("/udr/v1/tasks/none")
        assert (missing.status_code, missing.json()["instance"]) == (404, "/v1/tasks/none")


def test_no_path_below_the_root_path_gets_by_without_its_key(retriever: Retriever, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    key, entry = new_key("app", Scope.READ)
    append(path, entry)
    app = create_app(retriever, Settings(root_path="/a/b", keys=path), Words())
    with TestClient(app, headers={"X-Api-Key": key}) as client:
        assert client.post("/a/b/v1/retrieve", json=BODY).status_code == 200
        assert client.get("/a/b/metrics").status_code == client.post("/a/b/v1/admin/reload").status_code == 403
        del client.headers["X-Api-Key"]
        assert client.get("/a/b/livez").status_code == 200
        assert client.post("/a/b/v1/retrieve", json=BODY).status_code == 401


@pytest.mark.parametrize("path", ["/v1", "/metrics/x", "/a b", "/a//b", "/ü", "https://a.example"])
def test_root_paths_that_are_ambiguous_or_no_paths_are_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"setting root_path \(--root-path or UDR_ROOT_PATH\): must"):
        Settings.read(root_path=path)
    assert Settings.read(root_path="/").root_path == ""
