"""Decide which MLflow store a program logs to: the recipe's, else the environment's, else one in the output folder.

`MLFLOW_TRACKING_URI` may hold a user and a password. They reach the store's client, and are neither saved nor shown.
A run that is resumed takes them from the environment again.
"""

import os
import re
import shlex
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from pydantic import Field, field_validator

from hcmoco.config import FREE, Config
from hcmoco.errors import UserError
from hcmoco.masking import masked, split_user

URI, EXPERIMENT = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"
_USER, _PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql")
_LONGEST_NAME = 500


class TrackingConfig(Config):
    """The MLflow store of a run."""

    # None: SQLite in the output folder; else http(s)://..., sqlite:///..., postgresql://..., mysql://...
    uri: str | None = None
    experiment: str = "hcmoco"
    run_name: str | None = None  # None: MLflow invents one
    system_metrics_interval: int = Field(
        30,
        ge=0,
        description="seconds between two samples of each node's CPUs, memory, disk and GPUs, which a pre-training or a "
        "fine-tuning logs as system/<node>/...; 0: none",
        json_schema_extra=FREE,
    )
    log_weights: bool = Field(
        False,
        description="log a copy of a fine-tuned model's weights, which MLflow loads wherever its artifacts are "
        "reached; false: the logged model names the folder of the weights, and is loaded where that is reached",
        json_schema_extra=FREE,
    )

    @field_validator("uri")
    @classmethod
    def _known_scheme(cls, uri: str | None) -> str | None:
        if uri is not None and (wrong := _wrong_uri(uri)):
            raise ValueError(f"must be null (SQLite in the output folder) or {wrong}")
        return uri

    @field_validator("experiment")
    @classmethod
    def _not_empty(cls, experiment: str) -> str:
        if not _is_name(experiment):
            raise ValueError(f"must have 1 to {_LONGEST_NAME} characters")
        return experiment


def _wrong_uri(uri: str) -> str | None:
    """Return what the URI of a store must do; None if this one does."""
    scheme, separator, rest = uri.partition("://")
    if separator and scheme in ("http", "https") and not rest.rpartition("@")[2].strip("/"):
        return f"name a host, for example {scheme}://mlflow.example.org:5000"
    if separator and scheme.partition("+")[0] in _SCHEMES and (scheme != "sqlite" or rest.startswith("/")):
        return None
    return f"start with one of {', '.join(f'{each}://' for each in _SCHEMES).replace('sqlite://', 'sqlite:///')}"


def _is_name(experiment: str) -> bool:
    return bool(experiment.strip()) and len(experiment) <= _LONGEST_NAME


def _environment_uri() -> str | None:
    return os.environ.get(URI, "").strip() or None


def _public(uri: str) -> str:
    """Return the URI of a store as it may be saved: without a password, and of a server without a user."""
    bare, password = split_user(uri)
    if password is None:
        return uri
    scheme, _, rest = bare.partition("://")
    if scheme not in ("http", "https"):
        return bare
    return f"{scheme}://{rest.partition('@')[2]}"


def with_environment(config: TrackingConfig) -> TrackingConfig:
    """Return the config with what the environment says where the recipe and the command line say nothing.

    `uri: null` in a recipe is the store in the output folder, whatever the environment says.

    Raises:
        UserError: a variable has a value that is not allowed.
    """
    own: dict[str, str] = {}
    uri, experiment = _environment_uri(), os.environ.get(EXPERIMENT)
    if uri and "uri" not in config.model_fields_set:
        if wrong := _wrong_uri(uri):
            raise UserError(f"{URI}={masked(uri)} must {wrong}; correct it, unset it, or set tracking.uri")
        if uri.startswith("http") and split_user(uri)[1] is not None and not _user_and_password(uri):
            raise UserError(
                f"{URI}={masked(uri)} has a user or a token alone in front of @, which MLflow does not send; set "
                f"{_USER} and {_PASSWORD}, or MLFLOW_TRACKING_TOKEN, and leave it out of the URI"
            )
        own["uri"] = _public(uri)
    if experiment and "experiment" not in config.model_fields_set:
        if not _is_name(experiment):
            raise UserError(f"{EXPERIMENT} must have 1 to {_LONGEST_NAME} characters; correct it, or unset it")
        own["experiment"] = experiment
    return config.model_copy(update=own) if own else config


def _user_and_password(uri: str) -> tuple[str, str] | None:
    """Return the user and the password in a server's URI; None unless it has both."""
    bare, password = split_user(uri)
    user = bare.partition("://")[2].rpartition("@")[0]
    return (unquote(user), unquote(password)) if password and user.strip(":") else None


ConfigT = TypeVar("ConfigT", bound=Config)


def resolved(config: ConfigT) -> ConfigT:
    """Return a program's config with its key `tracking` as `with_environment` gives it."""
    own: TrackingConfig = config.tracking  # type: ignore[attr-defined]
    tracking = with_environment(own)
    return config if tracking == own else config.model_copy(update={"tracking": tracking})


def store_uri(config: TrackingConfig, out: str | Path) -> str:
    """Return the tracking URI, absolute, so that it means the same in every process, and without a password.

    Raises:
        UserError: no URI is given, and the output directory is not local; or no URI can name SQLite's file.
    """
    if config.uri is not None:
        path = config.uri.removeprefix("sqlite:///")
        return config.uri if path == config.uri else _sqlite(Path(path))
    if "://" in str(out) and not str(out).startswith("file://"):
        raise UserError(
            f"tracking.uri is not set and the output folder {out} is not local, so SQLite cannot live there; "
            f"give a tracking server (tracking.uri=http://host:5000, or {URI} in the environment) or a local file "
            "(tracking.uri=sqlite:///path/mlflow.db)"
        )
    return _sqlite(Path(str(out).removeprefix("file://")) / "mlflow.db")


def _sqlite(path: Path) -> str:
    """Return the URI of an SQLite file. SQLAlchemy and MLflow decode %20 in it, and end it at a question mark."""
    if found := re.search(r"\?|%[0-9a-fA-F]{2}", str(path.absolute())):
        raise UserError(
            f"the MLflow store {path} has {found[0]} in it, which means something else in the URI of a store; choose "
            "another output_dir, or set tracking.uri=sqlite:////var/tmp/mlflow.db or that of a server"
        )
    return f"sqlite:///{path.absolute()}"


def private_access(config: TrackingConfig, out: str | Path) -> tuple[str, dict[str, str]]:
    """Return what a client of the store is given: neither is to be shown or saved.

    Returns:
        The URI, with the password of a database, and MLflow's variables of the environment, with a server's user and
        password.
    """
    uri = store_uri(config, out)
    # A token that is read from a file often ends in a line break, which no header may hold.
    variables = {
        key: value.rstrip("\r\n") for key, value in os.environ.items() if key.startswith("MLFLOW_") and key != URI
    }
    whole = _environment_uri()
    if whole is None or config.uri is None or _public(whole) != config.uri:
        return uri, variables
    if not whole.startswith("http"):
        return (uri if whole.startswith("sqlite") else whole), variables
    own = _user_and_password(whole)
    return uri, {**variables, **({_USER: own[0], _PASSWORD: own[1]} if own else {})}


def described(config: TrackingConfig, out: str | Path) -> str:
    """Return the line that says where the tracking goes, and why.

    Args:
        config: as `with_environment` returns it.
        out: output directory of the program.
    """
    whole = _environment_uri()
    if config.uri is None:
        why = f"in the output folder: neither tracking.uri nor {URI} is set"
        if whole:
            why = f"in the output folder, as tracking.uri says; {URI} is not used"
    elif whole and _public(whole) == config.uri:
        why = f"{URI}" + (", with its user and password" if split_user(whole)[1] is not None else "")
    else:
        why = "tracking.uri" + (f"; {URI}={masked(whole)} is not used" if whole else "")
    experiment, named = config.experiment, os.environ.get(EXPERIMENT)
    of = ""
    if named:
        of = f" ({EXPERIMENT})" if named == experiment else f" (tracking.experiment; {EXPERIMENT}={named} is not used)"
    return masked(f"tracking: {store_uri(config, out)} ({why}), experiment {experiment}{of}")


def how_to_see(config: TrackingConfig, out: str | Path) -> str:
    """Return where a person sees the runs: a server's address, or the command that serves the store."""
    uri = store_uri(config, out)
    if uri.startswith("http"):
        return f"{uri} (experiment {config.experiment})"
    if private_access(config, out)[0] != uri:
        return f'mlflow ui --backend-store-uri "${URI}"'
    return f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
