import os
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from qpipe.config.schema import TrackingConfig
from qpipe.errors import TrackingError
from qpipe.tracking import store

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


def attempt(start, address, seconds=1.0):
    host, port = address
    before = os.environ.get(RETRIES)
    begin = time.monotonic()
    config = TrackingConfig(uri=f"http://{host}:{port}", timeout=seconds)
    with pytest.raises(TrackingError) as caught, start(config=config):
        pytest.fail("the run was started")
    assert os.environ.get(RETRIES) == before
    assert "\n" not in str(caught.value)
    return str(caught.value), time.monotonic() - begin


@pytest.fixture
def listener():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening


def test_nobody_listens(start):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
    message, seconds = attempt(start, address)
    assert "Connection refused" in message
    assert seconds < 5


def test_a_server_that_accepts_but_never_answers(start, listener):
    message, seconds = attempt(start, listener.getsockname())
    assert "did not answer within 1 s (tracking.timeout)" in message
    assert seconds < 6


def test_importing_mlflow_is_not_the_servers_time(start, monkeypatch, listener):
    """Where many jobs start at once the import takes longer than a server's whole time."""
    given = []

    def no_answer(seconds, question):
        given.append(seconds)
        raise TimeoutError

    monkeypatch.setattr(store, "_keep_mlflow_quiet", lambda: time.sleep(2))
    monkeypatch.setattr(store, "answer_within", no_answer)
    message, _ = attempt(start, listener.getsockname(), seconds=60)
    assert "did not answer within 60 s" in message
    assert 58.5 < given[0] <= 60


def test_a_server_that_sends_byte_by_byte(start, listener):
    stop = threading.Event()

    def drip(connection):
        with connection, suppress(OSError):  # the first one hangs up at once
            while not stop.wait(0.2):
                connection.send(b"H")

    def serve():
        with suppress(OSError):
            while True:
                threading.Thread(target=drip, args=[listener.accept()[0]], daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    message, seconds = attempt(start, listener.getsockname())
    stop.set()
    assert "did not answer" in message
    assert seconds < 6


@pytest.mark.parametrize(
    ("status", "message"), [(500, "500 error"), (401, "error code 401"), (404, "error code 404"), (200, "valid JSON")]
)
def test_a_server_that_answers_with_an_error(start, status, message):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<html>\n<p>no</p>" + b"x" * 5000)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        received, seconds = attempt(start, server.server_address)
        server.shutdown()
    assert message in received
    assert len(received) < 400
    assert seconds < 6
