"""A real S3 server on this machine, in a process of its own: moto's. It keeps its objects in memory.

It takes any key until `enforce` is called.
"""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pyarrow import fs

from tests.helpers.waiting import wait_until

# No key of the person who runs the tests is used, and no server is asked for one.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
_PROGRAM = """
import sys, threading
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address=sys.argv[1], port=0, verbose=False)
server.start()
print("%s:%d" % server.get_host_and_port(), flush=True)
threading.Event().wait()
"""


@dataclass(frozen=True)
class S3Server:
    """A server.

    Attributes:
        address: host and port.
        process: of the server.
    """

    address: str
    process: subprocess.Popen

    @property
    def query(self) -> str:
        return f"endpoint_override={self.address}&scheme=http"

    def uri(self, path: str) -> str:
        """The URI of bucket/folder."""
        return f"s3://{path}?{self.query}"

    def make_bucket(self, name: str) -> None:
        store, _ = fs.FileSystem.from_uri(f"{self.uri(name)}&allow_bucket_creation=true")
        store.create_dir(name)

    def make_user(self, *actions: str) -> dict[str, str]:
        """The environment of a new user who may do these actions, for example s3:ListBucket."""
        import json

        import boto3

        iam = boto3.client("iam", endpoint_url=f"http://{self.address}", region_name="us-east-1")
        name = f"user-{len(iam.list_users()['Users'])}"
        iam.create_user(UserName=name)
        policy = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": [*actions, "s3:Nothing"], "Resource": "*"}],
        }
        iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {**ENVIRONMENT, "AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    def enforce(self) -> None:
        """From now on keys and what their users may do are checked."""
        url, kind = f"http://{self.address}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(url, b"0", kind, method="POST")).close()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def served(host: str = "127.0.0.1") -> Iterator[S3Server]:
    """Starts a server at an address of this machine, on a free port, and ends it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, host],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**environment, **ENVIRONMENT},
    )
    try:
        address = next((line.strip() for line in process.stdout if line.startswith(f"{host}:")), "")
        assert address, "the S3 server did not start"
        wait_until(lambda: _answers(address), process)
        yield S3Server(address, process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{address}/moto-api/", timeout=60).close()
        return True
    except OSError:
        return False
