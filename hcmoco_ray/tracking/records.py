"""Define what is sent to the process that writes to MLflow: data sets and models, as plain values.

This module imports nothing that is not there anyway, because that process imports it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

URI, SHA256 = "hcmoco.uri", "hcmoco.sha256"
"""Tags: where the weights are, and the SHA-256 of their config.json, which has those of the other files."""

Point = tuple[float, int, int]
"""A point of a metric: value, time in ms since 1970, step."""


@dataclass(frozen=True)
class Pyfunc:
    """What makes a logged model loadable.

    Attributes:
        reference: content of reference.json.
        signature: see `pyfunc.interface`.
        example: a row of input.
        requirements: of pip.
        weights: folder or URI of weights that are copied into the logged model; None: they stay where they are.
    """

    reference: Mapping[str, Any]
    signature: Mapping[str, Any]
    example: Mapping[str, Any]
    requirements: tuple[str, ...]
    weights: str | None = None


@dataclass(frozen=True)
class LoggedModel:
    """The weights of a run at a step.

    Attributes:
        name: of the model, without characters that MLflow refuses; see `model_name`.
        kind: "encoders", or the task.
        step: optimizer steps.
        params: of the model.
        tags: of the model.
        metrics: names of the run's metrics whose newest point, if it is of `step`, was measured with these weights,
            and name and digest of the data set that they were measured on.
        pyfunc: what MLflow loads it by; None: MLflow cannot load it.
    """

    name: str
    kind: str
    step: int
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    pyfunc: Pyfunc | None = None

    def with_metrics(self, metrics: Mapping[str, tuple[str, str]]) -> "LoggedModel":
        """Return the model with more metrics."""
        return replace(self, metrics={**self.metrics, **metrics})

    @property
    def sha256(self) -> str:
        """SHA-256 of config.json of the weights: it tells whether a model was logged before."""
        return self.tags[SHA256]


@dataclass(frozen=True)
class DataSet:
    """A data set as MLflow keeps it. Plain values, so that the process that writes need not read shards.

    Attributes:
        name: of its folder.
        digest: of its content.
        source_type: "local", or the scheme of the URI: what MLflow finds its reader of sources by.
        source: JSON of that reader: {"uri": ...}, without a secret.
        columns: JSON of MLflow's schema.
        profile: JSON: number of rows, of all and of those with each modality.
        tags: context, license and more, by key.
    """

    name: str
    digest: str
    source_type: str
    source: str
    columns: str
    profile: str
    tags: Mapping[str, str] = field(default_factory=dict)
