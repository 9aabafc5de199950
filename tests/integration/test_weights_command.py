"""``occframe weights``: terms are shown, a download goes on where it stopped, and nothing wrong gets a name."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import fsspec
import pytest
from click.testing import CliRunner, Result

import occframe.cli.weights
import occframe.weights
import occframe_registry
from occframe.errors import OccframeError
from occframe.fetching import fetch_file

DATA = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(DATA).hexdigest()


class Server(BaseHTTPRequestHandler):
    """Serves DATA in parts; ``cut`` ends the first answer early, ``ranges`` off serves it from the beginning always."""

    cut: int | None = None
    ranges = True
    asked: list[str]

    def do_GET(self) -> None:
        given = self.headers.get("Range", "")
        type(self).asked.append(given)
        start = int(given.removeprefix("bytes=").rstrip("-")) if given and self.ranges else 0
        body = DATA[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.cut is None else body[: self.cut])
        type(self).cut = None

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def server() -> Iterator[tuple[type[Server], str]]:
    class Own(Server):
        asked: list[str] = []  # noqa: RUF012

    with HTTPServer(("127.0.0.1", 0), Own) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        yield Own, f"http://127.0.0.1:{served.server_port}/weights.bin"
        served.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The registry knows `sample`, whose bytes are DATA."""
    real = next(iter(occframe_registry.weights().values()))
    facts = {"name": "sample", "file": "sample.bin", "bytes": len(DATA), "sha256": SHA256, "url": ""}
    entry = type(real)(**{**vars(real), **facts})
    monkeypatch.setattr(occframe.cli.weights, "entries", lambda: {"sample": entry})
    monkeypatch.setattr(occframe_registry, "weights", lambda: {"sample": entry})
    monkeypatch.setenv("OCCFRAME_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights" / "sample.bin"


def weights(*arguments: str) -> Result:
    return CliRunner().invoke(occframe.cli.weights.weights, arguments)


def test_licence_and_terms_are_shown_and_have_to_be_accepted(cache, server):
    refused = weights("fetch", "sample", "--from", server[1])
    assert "licence: Apache-2.0" in refused.stderr
    assert "terms: the training data" in refused.stderr
    assert isinstance(refused.exception, OccframeError)
    assert "--accept-licence" in refused.exception.remedy
    assert server[0].asked == []
    assert weights("fetch", "sample", "--from", server[1], "--accept-licence").exit_code == 0
    assert cache.read_bytes() == DATA
    assert occframe.weights.locate_weights("registry:sample") == str(cache)
    assert "is there already" in weights("fetch", "sample").stdout


def test_a_download_that_was_cut_goes_on_where_it_stopped(cache, server):
    server[0].cut = 300_000
    arguments = ("fetch", "sample", "--from", server[1], "--accept-licence")
    first = weights(*arguments)
    assert isinstance(first.exception, OccframeError)
    assert "run the same command again to go on" in first.exception.remedy
    assert not cache.exists()
    part = cache.with_name("sample.bin.part")
    kept = part.stat().st_size
    assert 0 < kept <= 300_000
    assert weights(*arguments).exit_code == 0
    assert server[0].asked == ["", f"bytes={kept}-"]
    assert cache.read_bytes() == DATA
    assert not part.exists()


def test_a_server_without_parts_begins_again(cache, server):
    cache.parent.mkdir(parents=True)
    cache.with_name("sample.bin.part").write_bytes(DATA[:1000])
    server[0].ranges = False
    assert weights("fetch", "sample", "--from", server[1], "--accept-licence").exit_code == 0
    assert cache.read_bytes() == DATA


@pytest.mark.parametrize(
    ("content", "message"),
    [(DATA[:-1] + b"x", "is not the file that was meant"), (DATA + b"x", "is longer than"), (DATA[:-1], "ended after")],
)
def test_another_file_never_gets_the_name(cache, tmp_path, content, message):
    (tmp_path / "other.bin").write_bytes(content)
    with pytest.raises(OccframeError, match=message):
        fetch_file(str(tmp_path / "other.bin"), cache, size=len(DATA), sha256=SHA256)
    assert not cache.exists()


def test_any_file_system_will_do(cache):
    with fsspec.open("memory://mirror/sample.bin", "wb") as file:
        file.write(DATA)
    assert weights("fetch", "sample", "--from", "memory://mirror/sample.bin", "--accept-licence").exit_code == 0
    assert cache.read_bytes() == DATA


def test_offline_nothing_is_asked(cache, server, tmp_path, monkeypatch):
    monkeypatch.setenv("OCCFRAME_OFFLINE", "1")
    refused = weights("fetch", "sample", "--from", server[1], "--accept-licence")
    assert "OCCFRAME_OFFLINE is set" in str(refused.exception)
    assert server[0].asked == []
    (tmp_path / "copy.bin").write_bytes(DATA)
    assert weights("fetch", "sample", "--from", str(tmp_path / "copy.bin"), "--accept-licence").exit_code == 0


def test_without_an_address_the_origin_is_named(cache):
    refused = weights("fetch", "sample", "--accept-licence")
    assert "only its origin: https://" in str(refused.exception)
    assert SHA256 in str(refused.exception)


def test_verify_and_list_tell_what_is_here(cache):
    (entry,) = json.loads(weights("list", "--json").stdout)
    assert entry["here"] is False
    assert "absent" in weights("list").stdout
    assert weights("verify").exit_code == 0
    cache.parent.mkdir(parents=True)
    cache.write_bytes(DATA)
    assert weights("verify", "sample").stdout.startswith("ok")
    cache.write_bytes(DATA[:-1])
    wrong = weights("verify")
    assert wrong.stdout.startswith("WRONG")
    assert isinstance(wrong.exception, OccframeError)
    assert isinstance(weights("verify", "samples").exception, OccframeError)
