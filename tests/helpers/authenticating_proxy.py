"""A reverse proxy that lets nobody through without a user and a password, or a token, as a company's gateway does."""

import base64
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_OWN = {"host", "authorization", "connection", "transfer-encoding", "content-length", "server", "date"}


class AuthenticatingProxy:
    """Runs from `with` on, on a free port of 127.0.0.1.

    Args:
        behind: URI of the server that it guards.
        user: who is let through.
        password: of the user.
        token: of one who comes with a token; None: nobody does.

    Attributes:
        refused: how many requests were not let through.
    """

    def __init__(self, behind: str, user: str, password: str, token: str | None = None):
        self.refused = 0
        allowed = {f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
        allowed |= {f"Bearer {token}"} if token else set()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Authorization") not in allowed:
                    proxy.refused += 1
                    return self.send(401, {"WWW-Authenticate": 'Basic realm="mlflow"'}, b"not let through")
                headers = {name: value for name, value in self.headers.items() if name.lower() not in _OWN}
                request = urllib.request.Request(
                    behind + self.path, data=content or None, headers=headers, method=self.command
                )
                try:
                    reply = opener.open(request, timeout=60)
                except urllib.error.HTTPError as error:
                    reply = error
                with reply:
                    self.send(reply.status, dict(reply.headers.items()), reply.read())

            def send(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in _OWN:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "AuthenticatingProxy":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
