"""Ask every node of the cluster by an actor on each, and wait for none of them longer than it is given."""

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hcmoco.errors import one_line
from hcmoco.storage import Folder, existing_parent, is_local
from hcmoco_ray.cluster import interrupts
from hcmoco_ray.cluster.network import failed_meeting
from hcmoco_ray.cluster.nodes import alive_nodes
from hcmoco_ray.cluster.shared_disk import token_in
from hcmoco_ray.compat import reported_disks, system_config
from hcmoco_ray.doctor.checks import Clock, Probe
from hcmoco_ray.doctor.judge import Answer, Examined, Report, judge
from hcmoco_ray.doctor.verdicts import NodeFacts
from hcmoco_ray.tracking.progress import say

_HEAD = "node:__internal_head__"
_STORAGE_BYTES = 4 << 20
_REDUCED_BYTES = 16 << 20
_AGENT_S = 12.0
# What the others of a group need to say that they have failed too, once one has.
_OTHERS_S = 10.0
_NOT_REACHED = re.compile(r"refused|timed out|unreachable|No route|nothing came", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """What is looked at.

    Attributes:
        storage: URI of a folder that is written to.
        home: folder below which runs lie.
        tracking_uri: of an MLflow server or its database; None: none is asked.
        tracking_variables: MLflow's of this program, with user and password.
        timeout: seconds that a node has for its next answer.
    """

    storage: str
    home: str
    timeout: float
    tracking_uri: str | None = None
    tracking_variables: Mapping[str, str] = field(default_factory=dict)


class _Probe:
    """A node's actor, and what it has been asked for."""

    def __init__(self, facts: NodeFacts, node_id: str, num_gpus: int = 0):
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.facts, self.node_id = facts, node_id
        self.waiting: dict[Any, str] = {}
        self.answers: dict[str, Answer] = {}
        there = NodeAffinitySchedulingStrategy(node_id, soft=False)
        remote: Any = ray.remote(Probe)
        self._probe = remote.options(num_cpus=0, num_gpus=num_gpus, scheduling_strategy=there).remote()

    def ask(self, check: str, *arguments: Any, name: str = "") -> None:
        """Ask for a check, whose answer gets `name`, by default the check's."""
        self.waiting[self._probe.ask.remote(check, *arguments)] = name or check

    @property
    def is_silent(self) -> bool:
        """Whether it did not answer something."""
        return any("silent" in answer for answer in self.answers.values())

    def close(self) -> None:
        import ray

        ray.kill(self._probe)


def examine(request: Request) -> Report:
    """Ask all alive nodes for everything, and judge what they say.

    Raises:
        KeyboardInterrupt: a signal came meanwhile.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = sorted(alive_nodes(), key=lambda node: (_HEAD not in node["Resources"], node["NodeManagerAddress"]))
    lost = sorted({node["NodeManagerAddress"] for node in ray.nodes()} - {node["NodeManagerAddress"] for node in nodes})
    gone = f"; not asked, since Ray has given them up: {', '.join(lost)}" if lost else ""
    say(f"asking {len(nodes)} node{'s' if len(nodes) != 1 else ''}{gone}")
    probes = [_Probe(_facts(node), node["NodeID"]) for node in nodes]
    head = next((each for each in probes if each.facts.is_head), probes[0])
    on_head = NodeAffinitySchedulingStrategy(head.node_id, soft=False)
    remote: Any = ray.remote(Clock)
    clock = remote.options(num_cpus=0, scheduling_strategy=on_head).remote()
    try:
        with _token(request.storage, len(nodes)) as token:
            for each, node in zip(probes, nodes, strict=True):
                each.ask(
                    "machine", str(Path(node["RayletSocketName"].removeprefix("unix://")).parents[1]), request.home
                )
                each.ask("clock", clock)
                each.ask("versions")
                each.ask("storage", request.storage, token, _STORAGE_BYTES)
                if request.tracking_uri:
                    each.ask("mlflow", request.tracking_uri, dict(request.tracking_variables))
                each.ask("gpus", each.facts.num_gpus)
            _collect(probes, request.timeout)
        able = [each for each in probes if not each.is_silent]
        _reduce_all(able, request.timeout)
        _disks_of_silent(probes)
    finally:
        for each in probes:
            each.close()
        ray.kill(clock)
    examined = [Examined(each.facts, each.answers) for each in probes]
    return judge(examined, storage=request.storage, system_config=system_config())


def _facts(node: Mapping[str, Any]) -> NodeFacts:
    resources = node["Resources"]
    return NodeFacts(
        address=node["NodeManagerAddress"],
        hostname=node["NodeManagerHostname"],
        is_head=_HEAD in resources,
        num_gpus=resources.get("GPU", 0.0),
        object_store_bytes=resources.get("object_store_memory", 0.0),
    )


def _token(uri: str, nodes: int) -> AbstractContextManager[str | None]:
    """Return the block in which other nodes can see whether a local folder is theirs too; None where it is not asked.

    Where the folder is not written to, this machine's own check says why.
    """
    if nodes == 1 or not is_local(uri):
        return nullcontext()
    return token_in(existing_parent(Folder(uri).local_path))


def _collect(probes: Sequence[_Probe], timeout: float, *, group: bool = False) -> None:
    """Take the answers as they come. A node that gives none for `timeout` seconds is waited for no longer.

    Args:
        probes: nodes with their questions.
        timeout: seconds.
        group: whether the nodes wait for each other, so that all of them wait in vain once one has failed.
    """
    import ray

    last = {id(each): time.monotonic() for each in probes}
    while pending := {reference: each for each in probes for reference in each.waiting}:
        interrupts.raise_if_interrupted()
        done, _ = ray.wait(list(pending), num_returns=1, timeout=0.5)
        for reference in done:
            each = pending[reference]
            each.answers[each.waiting.pop(reference)] = _answer(reference)
            last[id(each)] = time.monotonic()
            if group and "value" not in each.answers["group"]:
                timeout = min(timeout, _OTHERS_S)
        for each in probes:
            if each.waiting and time.monotonic() - last[id(each)] > timeout:
                silent = {"silent": f"nothing came for {timeout:g} s (--timeout waits longer)"}
                each.answers |= dict.fromkeys(each.waiting.values(), silent)
                each.waiting = {}


def _answer(reference: Any) -> Answer:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        return {"silent": _why_lost(one_line(error, 2000))}


def _why_lost(text: str) -> str:
    """Return the part of Ray's long text that says why an actor's process, or its node, was lost."""
    if found := re.search(r"Worker exit detail: (.*?)\.?( Some common causes|$)", text):
        return f"its process ended at once ({found[1][:200]})"
    found = re.search(r"(?:died|dead) because (.*?)( The actor never .*)?$", text)
    return re.sub(r"Node Id: \w+ *", "", found[1] if found else text).strip()[:200]


def _disks_of_silent(probes: Sequence[_Probe]) -> None:
    """Let the agents of nodes that start no process tell of Ray's disk: a full one is a reason for that."""
    silent = {
        each.node_id: each for each in probes if each.is_silent and "value" not in each.answers.get("machine", {})
    }
    for node_id, disks in reported_disks(silent, _AGENT_S).items() if silent else ():
        (disk, *_) = [size for path, size in disks.items() if path != "/"] or [disks["/"]]
        silent[node_id].answers["agent"] = {"value": {"disk_ray": disk, "settings": {}}}


def _reduce_all(probes: Sequence[_Probe], timeout: float) -> None:
    """Let a worker on each node add up tensors: by gloo on all nodes, by NCCL on those with GPUs."""
    if len(probes) < 2:
        return
    _reduce(probes, "gloo", timeout)
    with_gpus = [each for each in probes if each.facts.num_gpus >= 1]
    if len(with_gpus) < 2:
        return
    own = [_Probe(each.facts, each.node_id, num_gpus=1) for each in with_gpus]
    try:
        for each in own:
            each.ask("ready")
        _collect(own, timeout)
        if busy := [each.facts.address for each in own if "value" not in each.answers["ready"]]:
            why = f"NCCL was not tried: no GPU of {' and '.join(busy)} was free; run it again when one is"
            for each in own:
                each.answers["nccl"] = {"skipped": why}
        else:
            _reduce(own, "nccl", timeout)
        for each, gpu in zip(with_gpus, own, strict=True):
            each.answers["nccl"] = gpu.answers["nccl"]
    finally:
        for each in own:
            each.close()


def _reduce(probes: Sequence[_Probe], backend: str, timeout: float) -> None:
    """Measure one group of all nodes; if that fails, the first with each other, to know which of them is not reached.

    The answers are those of check `backend`.
    """
    answers = _group(probes, backend, timeout)
    if len(probes) > 2 and not all("value" in answer for answer in answers):
        say("the nodes do not all meet: trying them two by two")
        pairs = [_pair(probes[0], each, backend, timeout) for each in probes[1:]]
        of_first = next((first for first, second in pairs if "value" in second), pairs[0][0])
        answers = [of_first, *(second for _, second in pairs)]
    for each, answer in zip(probes, answers, strict=True):
        each.answers[backend] = answer


def _pair(first: _Probe, second: _Probe, backend: str, timeout: float) -> list[Answer]:
    """Measure two nodes in new processes, since those of a group that did not meet may hang."""
    gpus = int(backend == "nccl")
    pair = [_Probe(each.facts, each.node_id, num_gpus=gpus) for each in (first, second)]
    try:
        return _group(pair, backend, timeout)
    finally:
        for each in pair:
            each.close()


def _group(probes: Sequence[_Probe], backend: str, timeout: float) -> list[Answer]:
    """Measure one group; returns each node's answer, in which a failed meeting is told in one line."""
    probes[0].ask("host", timeout)
    _collect(probes[:1], timeout)
    host = probes[0].answers.pop("host")
    if "value" not in host:
        said = host.get("error") or host["silent"]
        why = f"{probes[0].facts.address} opens no port for the others: {said}"
        return [{"error": why}] * len(probes)
    place = host["value"]["address"], host["value"]["port"]
    for rank, each in enumerate(probes):
        each.ask("all_reduce", backend, *place, rank, len(probes), _REDUCED_BYTES, timeout, name="group")
    # A rank waits for the others `timeout` seconds by itself, and then says whom it has not met.
    _collect(probes, 2 * timeout, group=True)
    answers = [each.answers.pop("group") for each in probes]
    addresses = [each.facts.address for each in probes]
    failed = [address for address, answer in zip(addresses, answers, strict=True) if "error" in answer]
    return [_meeting(answer, addresses, failed) for answer in answers]


def _meeting(answer: Answer, addresses: list[str], failed: list[str]) -> Answer:
    """Return a node's answer for the table.

    Args:
        answer: as it gave it.
        addresses: of the group's nodes.
        failed: those that said why they failed; a silent one has waited for them.
    """
    if "value" in answer:
        return answer
    if "silent" in answer and failed:
        return {"skipped": f"an all-reduce was not measured: it waited in vain for {' and '.join(failed)}"}
    reason = (answer.get("error") or answer["silent"]).rstrip(".")
    line = f"its all-reduce with {addresses[0]} fails: {reason}"
    if _NOT_REACHED.search(reason):
        line += "; let every port between these nodes through"
    return {"error": failed_meeting(reason, addresses) or line}
