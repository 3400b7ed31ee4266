"""The process that serves: its address, its start and its end."""

import http.client
import json
import os
import signal
import socket
import sys
import time
import urllib.request

import pytest

pytest.importorskip("fastapi")

from served_run import serve_options, write_served_run

from ratinglab.errors import ConflictError, UserError
from ratinglab.options import check_options
from ratinglab.serving.server import listen, serve


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_served_run(tmp_path_factory.mktemp("runs") / "run")


def test_missing_packages_are_one_line(monkeypatch):
    options = serve_options("x")
    monkeypatch.setattr("ratinglab.errors.find_spec", lambda name: None)
    with pytest.raises(ConflictError, match=r"^serve needs fastapi, uvicorn: pip install 'ratinglab\[serve\]'$"):
        check_options(options)


def test_blank_host_is_refused():
    with pytest.raises(ConflictError, match=r"^host must not be blank$"):
        check_options(serve_options("x", host=" "))


def test_port_in_use_is_an_error_before_the_run_loads(folder):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"^port: {port} of 127.0.0.1 is in use; port=0 takes a free one$"):
            serve(serve_options("nowhere", port=port))


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("nowhere.invalid", "host: 'nowhere.invalid' is not a known name or address"),
        ("a" * 100, "is not a known name or address"),
        ("192.0.2.1", "host: 192.0.2.1 is not an address of this computer"),
    ],
)
def test_unusable_host_is_an_error(host, message):
    with pytest.raises(UserError, match=message):
        listen(host, 0)


def test_port_of_a_closed_server_is_free_at_once():
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = first.accept()
        accepted.close()  # now the server's side waits (TIME_WAIT) after the client has also closed
        client.close()
    listen("127.0.0.1", port).close()


def test_answers_are_sent_without_delay():
    """With the protocol unset, asyncio leaves Nagle's algorithm on, and each answer takes 40 ms longer."""
    with listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def port_of(line):
    """Read the port in the line that the server prints when it is ready."""
    assert line.startswith("serving ")
    return int(line.split(" at http://127.0.0.1:")[1].split()[0])


def running_on(port):
    """Return the folder of the run that answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=20) as response:
        return json.load(response)["run"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signal_lets_a_request_finish_and_then_ends_the_server(start, tmp_path, folder, name):
    started = start(tmp_path, "serve", str(folder), "port=0")
    (line,) = started.until("serving ")
    assert line.startswith(f"serving {folder} at ")
    body = json.dumps({"user_id": 0, "k": 20, "why": 20}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port_of(line), timeout=20)
    connection.request("GET", "/health")
    connection.getresponse().read()  # the server has accepted the connection
    connection.putrequest("POST", "/recommend")
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", str(len(body)))
    connection.endheaders(body[:5])
    time.sleep(0.2)
    os.kill(started.pid, signal.Signals[name])
    time.sleep(0.3)
    connection.send(body[5:])
    assert len(json.load(connection.getresponse())["recommended"]) > 0
    assert started.end() == (128 + signal.Signals[name], "", f"stopped by {name}\n")


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="signals")
def test_signal_reloads_and_a_killed_server_starts_again_on_its_port(start, tmp_path, folder):
    started = start(tmp_path, "serve", f"run={folder.parent}/latest", "port=0")
    note, line = started.until("serving ")
    assert note.startswith(f"run={folder.parent}/latest: ")
    port = port_of(line)
    assert running_on(port) == str(folder)
    newer = write_served_run(folder.parent / "newer", model="mf")
    os.kill(started.pid, signal.SIGUSR1)
    deadline = time.monotonic() + 20
    while running_on(port) != str(newer):
        assert time.monotonic() < deadline
    assert started.end(signal.SIGKILL)[0] == -signal.SIGKILL
    again = start(tmp_path, "serve", f"run={newer}", f"port={port}")
    again.until("serving ")
    assert running_on(port) == str(newer)
    again.end(signal.SIGTERM)
