"""A server with a certificate of a private authority: refused in one line, and reached once its file is named."""

import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hcmoco.errors import StorageError, UserError
from hcmoco.storage import Folder


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Path:
    """A folder with the authority's certificate `ca.pem`, and `server.pem` of the name localhost."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("authority")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=own",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile names",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def port(authority: Path) -> Iterator[int]:
    """Of a server that has nothing."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # a client that does not trust it hangs up

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem", authority / "server.key")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_store_of_files(s3_environment, authority, port):
    uri = f"s3://bucket/run?region=us-east-1&endpoint_override=https%3A//localhost:{port}"
    with pytest.raises(StorageError, match=r"does not trust its certificate; name the authority.*tls_ca_file_path"):
        Folder(uri).check_readable()
    with pytest.raises(StorageError, match="RESOURCE_NOT_FOUND"):  # it is no store
        Folder(f"{uri}&tls_ca_file_path={authority / 'ca.pem'}").check_readable()


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE"])
def test_a_tracking_server(tmp_path, authority, port, monkeypatch, variable):
    from hcmoco_ray.tracking.mlflow_store import open_store

    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with pytest.raises(UserError, match="does not trust; set MLFLOW_TRACKING_SERVER_CERT_PATH"):
        open_store(f"https://localhost:{port}", "hcmoco")
    monkeypatch.setenv(variable, str(authority / "ca.pem"))
    with pytest.raises(UserError, match="cannot be opened") as caught:  # it is no tracking server
        open_store(f"https://localhost:{port}", "hcmoco")
    assert "404" in str(caught.value)
