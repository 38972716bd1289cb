"""The service around `ray start --block`. Its announcement to a real cluster is tested in tests/cluster."""

import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hcmoco_ray.cluster.node_service import SpotNotice, serve


@contextmanager
def metadata_service(answers: list[bytes | None]):
    """AWS's metadata service as far as it is asked: a token, and one answer after the other; None is a 404."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self):
            seen.append(("PUT", self.path, self.headers["X-aws-ec2-metadata-token-ttl-seconds"]))
            self._answer(b"token-1")

        def do_GET(self):
            seen.append(("GET", self.path, self.headers["X-aws-ec2-metadata-token"]))
            self._answer(answers.pop(0))

        def _answer(self, body):
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


def notice(seconds: float) -> bytes:
    end = datetime.now(UTC) + timedelta(seconds=seconds)
    return json.dumps({"action": "terminate", "time": end.strftime("%Y-%m-%dT%H:%M:%SZ")}).encode()


def test_the_notice_of_a_spot_instance(monkeypatch):
    with metadata_service([None, notice(90), b"not JSON", notice(-10)]) as (address, seen):
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", address)
        spot = SpotNotice()
        assert spot.seconds_left() is None
        assert 60 < spot.seconds_left() <= 90
        assert spot.seconds_left() is None
        assert spot.seconds_left() == 0
    assert spot.seconds_left() is None  # nobody answers
    assert [each for each in seen if each[0] == "PUT"] == [("PUT", "/latest/api/token", "300")]
    assert {each for each in seen if each[0] == "GET"} == {("GET", "/latest/meta-data/spot/instance-action", "token-1")}


@pytest.mark.parametrize("status", [0, 3])
def test_the_command_s_status_is_the_service_s(status):
    code = "import sys; from hcmoco_ray.commands.node import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--", sys.executable, "-c", f"raise SystemExit({status})"]
    assert subprocess.run(command).returncode == status


def test_a_notice_ends_the_command_in_time(capfd):
    """No Ray runs here: that it cannot be told does not keep the machine."""
    assert serve([sys.executable, "-c", "import time; time.sleep(10000)"], 30, lambda: 1.0) == 0
    assert "this node will be taken away in 1 s: Ray is told" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "name the command that starts Ray"),
        (["--", "ray", "start", "--head"], "`ray start` needs --block here"),
        (["--", "no-such-program", "start", "--block"], "no-such-program is neither on PATH nor beside"),
        (["--grace", "0", "--", "ray", "start", "--block"], "--grace 0: must be more than 0"),
    ],
)
def test_mistakes(arguments, line):
    command = [sys.executable, "-m", "hcmoco_ray", "node", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert line in done.stderr
