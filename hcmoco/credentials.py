"""Keep passwords and keys out of URIs, which are saved in configs, manifests and tracking runs.

A URI of a recipe or a command line that holds one is refused: a command line is shown to every user of Ray's dashboard.
"""

from collections.abc import Mapping
from typing import Any

from hcmoco.errors import UserError
from hcmoco.masking import masked, split_user

_ENVIRONMENT = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use ~/.aws/credentials",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "gcs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "abfs": "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or use `az login`",
    "abfss": "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or use `az login`",
    "http": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for a tracking server",
    "https": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for a tracking server",
    "postgresql": "use ~/.pgpass, or set MLFLOW_TRACKING_URI to the whole URI",
    "mysql": "name an option file with ?read_default_file=, or set MLFLOW_TRACKING_URI to the whole URI",
}


def refuse_secret(uri: str, what: str = "") -> None:
    """Refuse a URI that holds a password or a secret key.

    Args:
        uri: a URI or a path; a path without `://` holds no secret.
        what: key or option that gives it, for the message.

    Raises:
        UserError: it holds one. The message shows the URI without it.
    """
    password = split_user(uri)[1]
    shown = masked(uri.replace(password, "***") if password else uri)
    if shown != uri:
        named = f"{what} = " if what else ""
        raise UserError(
            f"{named}{shown!r} holds a password or a secret key, which would be saved and shown; leave it out of the "
            f"URI and {advice(uri)}"
        )


def advice(uri: str) -> str:
    """Return how to give a store its key without the URI, by the URI's scheme: a clause."""
    scheme = uri.partition("://")[0].lower().partition("+")[0]  # postgresql+psycopg2 names a driver
    return _ENVIRONMENT.get(scheme, "give it by the environment")


def refuse_secrets(values: Any, where: str, key: str = "") -> None:
    """Refuse a config, as a recipe gives it, if a URI anywhere in it holds a password or a secret key.

    Args:
        values: a mapping, list or scalar.
        where: the config, for the message.
        key: dotted key of `values`.

    Raises:
        UserError: one does; the message names its key.
    """
    if isinstance(values, Mapping):
        for name, value in values.items():
            refuse_secrets(value, where, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list | tuple):
        for number, value in enumerate(values):
            if not isinstance(value, int | float):  # a manifest has millions of them
                refuse_secrets(value, where, f"{key}.{number}")
    elif isinstance(values, str):
        refuse_secret(values, f"{where}: {key}")
