"""Passwords and keys in URIs are refused by every config, and shown nowhere."""

import pytest

from hcmoco.config import build, parse_overrides
from hcmoco.errors import UserError
from hcmoco.masking import masked
from hcmoco_ray.cluster.entrypoint import main_wrapper
from hcmoco_ray.config import PretrainRecipe
from hcmoco_ray.paths import resolve_path
from tests.helpers.pretrain_program import RECIPE

SECRET = "Hunter2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://AKIA:Hunter2@b/run", "s3://AKIA:***@b/run"),
        ("s3://AKIA:a/Hunter2/b@b/run", "s3://AKIA:***@b/run"),
        ("postgresql://me:Hunter2@db:5432/x", "postgresql://me:***@db:5432/x"),
        ("mysql+pymysql://me:Hunter2@@db/x", "mysql+pymysql://me:***@db/x"),
        ("https://h/x?token=Hunter2&y=1", "https://h/x?token=***&y=1"),
        ("https://h/x?y=1&X-Amz-Signature=Hunter2", "https://h/x?y=1&X-Amz-Signature=***"),
        (
            "abfss://c@a.dfs.core.windows.net/x?client_secret=Hunter2",
            "abfss://c@a.dfs.core.windows.net/x?client_secret=***",
        ),
        ("abfss://c:Hunter2@a.dfs.core.windows.net/x", "abfss://c:***@a.dfs.core.windows.net/x"),
        ("s3://b/x?secret_key=Hunter2", "s3://b/x?secret_key=***"),
        ("postgresql+psycopg2://me:Hun/ter?2#@db/x", "postgresql+psycopg2://me:***@db/x"),
        ("http://me:Hun/ter2@h:5000/x", "http://me:***@h:5000/x"),
        ("https://Hunter2@h/x", "https://***@h/x"),
        ("'http://me:Hunter2@h/x': refused", "'http://me:***@h/x': refused"),
        (
            "s3://b/x?endpoint_override=http://me:Hunter2@minio:9000",
            "s3://b/x?endpoint_override=http://me:***@minio:9000",
        ),
        (
            "s3://b/x?endpoint_override=http%3A%2F%2Fme%3AHunter2%40minio%3A9000",
            "s3://b/x?endpoint_override=http%3A%2F%2Fme%3A***%40minio%3A9000",
        ),
        ("https://h/x#access_token=Hunter2", "https://h/x#access_token=***"),
        ("invalid header value: 'Bearer Hunter2Hunter2Hunter2'", "invalid header value: 'Bearer ***'"),
        ("of s3://A:Hunter2@b/c and s3://B:Hunter2@d/e", "of s3://A:***@b/c and s3://B:***@d/e"),
    ],
)
def test_what_is_secret_is_masked(text, shown):
    assert masked(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "s3://b/run?endpoint_override=http://127.0.0.1:9000&scheme=http&region=eu-central-1",
        "abfss://container@account.dfs.core.windows.net/x",
        "gs://anonymous@bucket/x",
        "hdfs://user@host:9000/a@b",
        "/data/a:b@c?token=x",
        "http://mlflow:5000",
        "http://mlflow:5000/#/experiments/1?searchFilter=a@b:c",
        "s3://b/x?endpoint_override=http%3A//minio.lab:9000",
        "postgresql://me@db:5432/x",
        "sqlite:///home/a:b@c/mlflow.db",
        "no URI: a:b@c",
    ],
)
def test_what_is_not_secret_stays(text):
    assert masked(text) == text


@pytest.mark.parametrize(
    ("key", "uri", "hint"),
    [
        ("output_dir", f"s3://AKIA:{SECRET}@b/run", "AWS_SECRET_ACCESS_KEY"),
        ("data.sources.indoor.path", f"gs://b/x?access_token={SECRET}", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("model.rgb.init", f"https://h/w.pth?token={SECRET}", "leave it out"),
        ("tracking.uri", f"https://me:{SECRET}@mlflow", "MLFLOW_TRACKING_PASSWORD"),
        ("tracking.uri", f"https://{SECRET}@mlflow", "MLFLOW_TRACKING_PASSWORD"),
        ("tracking.uri", f"postgresql://me:{SECRET}@db/x", "pgpass"),
        ("tracking.uri", f"'postgresql+psycopg2://me:a/b {SECRET}@db/x'", "pgpass"),
    ],
)
def test_a_recipe_with_a_secret_is_refused_by_its_key(key, uri, hint):
    from hcmoco.config import merge

    with pytest.raises(UserError, match=hint) as caught:
        build(PretrainRecipe, merge(RECIPE, parse_overrides([f"{key}={uri}"])), "recipe tiny")
    assert key in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_command_line_with_a_secret_is_refused():
    with pytest.raises(UserError, match="holds a password") as caught:
        resolve_path(f"s3://AKIA:{SECRET}@b/run")
    assert SECRET not in str(caught.value)


def test_what_a_program_says_last_is_masked(capsys):
    @main_wrapper
    def main() -> int:
        raise UserError(f"nothing at https://me:{SECRET}@host/x")

    assert main() == 2
    assert capsys.readouterr().err == "error: nothing at https://me:***@host/x\n"


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_what_the_environment_keeps_secret_is_masked(monkeypatch, name):
    monkeypatch.setenv(name, f"{SECRET}{SECRET}\n")  # the line end of a file, which a client complains about
    assert str(UserError(f"bad value: {SECRET}{SECRET}")) == "bad value: ***"


def test_the_password_of_a_uri_in_the_environment_is_masked_everywhere(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}{SECRET}@mlflow")
    assert masked(f"user me, password {SECRET}{SECRET}") == "user me, password ***"


@pytest.mark.parametrize(
    "program", ["pretrain", "sweep", "prepare", "evaluate", "predict", "report", "label_fractions"]
)
def test_an_argument_that_is_not_understood_is_shown_without_its_secret(capsys, program):
    import importlib

    main = importlib.import_module(f"hcmoco_ray.commands.{program}").main
    with pytest.raises(SystemExit):
        main([f"--tracking-uri=http://me:{SECRET}@mlflow"])
    assert SECRET not in capsys.readouterr().err


def test_a_traceback_shows_no_secret(tmp_path):
    import subprocess
    import sys

    code = f"""
from hcmoco_ray import cli
from hcmoco_ray.commands import report
def fails(arguments):
    raise ValueError("http://me:{SECRET}@mlflow")
report.main = fails
cli.run_command(["report"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: http://me:***@mlflow\n")
    assert "Traceback" in done.stderr
