"""Why a store does not answer, in the reader's words: of servers that are away, and of some that are none."""

import contextlib
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hcmoco.errors import UserError
from hcmoco_ray.tracking import mlflow_store
from tests.helpers.free_port import free_port

# Of urllib3, requests and MLflow, which no line may hold.
CLUTTER = ("HTTPConnection", "HTTPSConnection", "Max retries", "Caused by", "Errno", "api/2.0", "<html", "exception")


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    """No proxy, and no second try; MLflow's variables go with the test."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    wait(monkeypatch, 60)


def wait(monkeypatch, seconds: int) -> None:
    """Let a client wait so long for an answer, and ask once."""
    settings = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    monkeypatch.setattr(mlflow_store, "_PROBE", settings)
    monkeypatch.setattr(mlflow_store, "_SECOND_PROBE", settings)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def line(uri: str) -> str:
    """The one line of a store that cannot be opened."""
    with pytest.raises(UserError) as caught:
        mlflow_store.open_store(uri, "hcmoco")
    said = str(caught.value)
    assert said.startswith(f"the MLflow store {uri} ")
    assert not [each for each in CLUTTER if each in said.removeprefix(f"the MLflow store {uri} ")], said
    assert "\n" not in said
    return said


def nobody() -> str:
    """Where no server listens."""
    return f"http://127.0.0.1:{free_port('127.0.0.1')}"


@contextlib.contextmanager
def answering(status: int, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a server that answers everything with an HTML page."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "13")
            self.end_headers()
            self.wfile.write(b"<html></html>")

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # a client that does not trust it hangs up

    with Server(("127.0.0.1", 0), Handler) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="module")
def certified(tmp_path_factory) -> tuple[ssl.SSLContext, str]:
    """TLS with a certificate that signs itself, of the name localhost, and the file of it."""
    folder = tmp_path_factory.mktemp("certificate")
    command = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost"
    done = [*command.split(), "-addext", "subjectAltName=DNS:localhost"]
    try:
        subprocess.run(["openssl", *done], cwd=folder, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context, str(folder / "cert.pem")


def test_nobody_listens():
    assert "cannot be opened: connection refused; start the server" in line(nobody())


def test_a_name_that_is_not_known():
    assert "this machine does not know the name of its host" in line("http://no-such-host.invalid:5000")


def test_a_server_that_takes_connections_and_never_answers(monkeypatch):
    wait(monkeypatch, 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "cannot be opened: no answer in 1 s; " in line(f"http://127.0.0.1:{server.getsockname()[1]}")
        server.settimeout(5)
        for _ in range(2):  # it may only have been busy: it was asked again
            server.accept()[0].close()


def test_a_server_that_hangs_up():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.recv(1)
                    connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        assert "closes the connection without an answer" in line(f"http://127.0.0.1:{server.getsockname()[1]}")
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, "HTTP status 404"),
        (503, "HTTP status 503"),
        (200, "not an MLflow server"),
        (403, "does not accept this user or token"),
    ],
)
def test_a_server_that_is_another(status, said):
    with answering(status) as port:
        assert said in line(f"http://127.0.0.1:{port}")


def test_tls_where_there_is_none_and_none_where_there_is(certified):
    with answering(404) as port:
        assert "try http:// in place of https://" in line(f"https://127.0.0.1:{port}")
    with answering(404, certified[0]) as port:
        assert "if it speaks TLS, give https://" in line(f"http://127.0.0.1:{port}")


def test_certificates(certified, monkeypatch):
    context, file = certified
    with answering(404, context) as port:
        assert "does not trust; set MLFLOW_TRACKING_SERVER_CERT_PATH" in line(f"https://localhost:{port}")
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", file)
        assert "HTTP status 404" in line(f"https://localhost:{port}")
        said = line(f"https://127.0.0.1:{port}")
        assert "its TLS certificate is not accepted: " in said
        assert "MLFLOW_TRACKING_SERVER_CERT_PATH" not in said


def test_a_proxy_that_is_away(monkeypatch):
    monkeypatch.setenv("http_proxy", nobody())
    assert "its proxy does not serve: connection refused" in line("http://mlflow.invalid:5000")


def test_an_address_that_is_none():
    assert "not the address of a server" in line("http://127.0.0.1:99999")
