"""From the answers of all nodes to the table's rows, and to the lines below it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hcmoco_ray.doctor import gpu_verdicts, verdicts
from hcmoco_ray.doctor.verdicts import NodeFacts, Verdict

Answer = Mapping[str, Any]
"""Of a check: `{"value": values}`; `{"error": a line}` where it failed; `{"silent": why}` where the node did not
answer; `{"skipped": why}` where it was not tried."""

ROWS = {
    "machine": (
        *("own name", "memory", "Ray's disk", "HCMOCO_HOME", "/dev/shm", "open files"),
        *("loss noticed after", "job stop waits", "idle kept for", "end announced"),
    ),
    "versions": ("Python", "Ray", "PyTorch", "hcmoco"),
    "clock": ("clock",),
    "gpus": ("driver", "GPUs"),
    "storage": ("storage",),
    "mlflow": ("MLflow",),
    "gloo": ("all-reduce, gloo",),
    "nccl": ("all-reduce, NCCL",),
}
"""Rows of the table by the check that fills them."""

_ORDER = (
    *("answers", "Python", "Ray", "PyTorch", "hcmoco", "driver", "GPUs", "storage", "MLflow", "clock"),
    *("all-reduce, gloo", "all-reduce, NCCL", "own name", "Ray's disk", "HCMOCO_HOME", "memory", "/dev/shm"),
    *("open files", "loss noticed after", "job stop waits", "idle kept for", "end announced"),
)
_INSTALL = "install the same version on all nodes, for example by constraints.txt"
_FAILED = {
    "machine": "what its machine has cannot be read ({}); look into Ray's logs there",
    "versions": "a package cannot be imported there ({}); install it as on the other nodes",
    "clock": "its clock cannot be compared with the head's ({}); let every port between the two through",
    "gpus": "its GPUs cannot be asked ({}); run `nvidia-smi` there",
    "storage": "{}; mend that there (docs/storage.md), or choose another place with --storage",
    "mlflow": "MLflow does not answer it ({}); start the server, let its port through, or set MLFLOW_TRACKING_URI and "
    "MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN where this program runs",
    "gloo": "{}",
    "nccl": "{}",
}


@dataclass(frozen=True)
class Examined:
    """A node with what it answered."""

    node: NodeFacts
    answers: dict[str, Answer] = field(default_factory=dict)

    def value(self, check: str) -> Any:
        """What a check measured; None where it did not."""
        return self.answers.get(check, {}).get("value")


@dataclass(frozen=True)
class Report:
    """What is shown: for each node the verdict of each row, by the row's name."""

    examined: Sequence[Examined]
    verdicts: Sequence[Mapping[str, Verdict]]

    @property
    def rows(self) -> list[str]:
        """Names of the rows in order, without those that say nothing of any node."""
        return [row for row in _ORDER if any(each.get(row, Verdict("-")).text != "-" for each in self.verdicts)]

    def lines(self, level: str) -> list[tuple[str, str]]:
        """The node and the line of each fault, or of each piece of advice, which is given once for all its nodes."""
        found: dict[str, list[str]] = {}
        lines = []
        for each, verdicts_ in zip(self.examined, self.verdicts, strict=True):
            for row in _ORDER:
                verdict = verdicts_.get(row)
                if verdict is None or not verdict.line or verdict.level != level:
                    continue
                if level == "fault":
                    lines.append((f"node {each.node.address} ({each.node.hostname})", verdict.line))
                else:
                    found.setdefault(verdict.line, []).append(each.node.address)
        for line, addresses in found.items():
            shown = ", ".join(addresses[:3]) + (f" and {len(addresses) - 3} more" if len(addresses) > 3 else "")
            lines.append((f"node{'s' if len(addresses) > 1 else ''} {shown}", line))
        return lines


def judge(examined: Sequence[Examined], *, storage: str, system_config: Mapping[str, Any]) -> Report:
    """Return what the answers of all nodes mean.

    Args:
        examined: all alive nodes.
        storage: URI that was tried.
        system_config: of Ray's head, as far as it was given one.
    """
    common = _usual_versions(examined)
    return Report(examined, [_of_node(each, len(examined), common, storage, system_config) for each in examined])


def _usual_versions(examined: Sequence[Examined]) -> dict[str, str]:
    own = [(each.node.is_head, _versions(each.value("versions"))) for each in examined if each.value("versions")]
    common = {}
    for row in ROWS["versions"] if own else ():
        of_head = next((versions[row] for is_head, versions in own if is_head), None)
        common[row] = verdicts.usual([versions[row] for _, versions in own], of_head)
    return common


def _versions(value: Mapping[str, Any]) -> dict[str, str]:
    code = f"{value['hcmoco']} ({value['code']})"
    return {"Python": value["python"], "Ray": value["ray"], "PyTorch": value["torch"], "hcmoco": code}


def _of_node(
    each: Examined, nodes: int, common: Mapping[str, str], storage: str, system_config: Mapping[str, Any]
) -> dict[str, Verdict]:
    shown = {"answers": Verdict("yes")}
    silent = [check for check in ROWS if "silent" in each.answers.get(check, {})]
    if silent:
        why = each.answers[silent[0]]["silent"].rstrip(".")
        shown["answers"] = Verdict(
            "no",
            f"it does not answer: {why} (asked for: {', '.join(silent)}); see that the machine is up and not "
            "overloaded, that all ports between the nodes are open and hcmoco is installed there, and look into Ray's "
            "logs there (session_latest/logs)",
        )
    for check, rows in ROWS.items():
        answer = each.answers.get(check, {})
        if "value" in answer:
            shown |= _of_check(check, answer["value"], each, nodes, common, storage, system_config)
        elif "error" in answer:
            shown |= dict.fromkeys(rows, Verdict("?"))
            shown[rows[0]] = Verdict("failed", _FAILED[check].format(answer["error"].rstrip(".")))
        elif "skipped" in answer:
            shown[rows[0]] = Verdict("not measured", answer["skipped"], "advice")
        elif "silent" in answer:
            shown |= dict.fromkeys(rows, Verdict("?"))
    if agent := each.value("agent"):
        shown["Ray's disk"] = verdicts.ray_disk(agent)
    return shown


def _of_check(
    check: str,
    value: Any,
    each: Examined,
    nodes: int,
    common: Mapping[str, str],
    storage: str,
    system_config: Mapping[str, Any],
) -> dict[str, Verdict]:
    node = each.node
    if check == "machine":
        return {
            "own name": verdicts.name(value, node, nodes),
            "memory": verdicts.memory(value),
            "Ray's disk": verdicts.ray_disk(value),
            "HCMOCO_HOME": verdicts.home_disk(value),
            "/dev/shm": verdicts.shared_memory(value, node),
            "open files": verdicts.open_files(value),
            "loss noticed after": verdicts.node_loss(value, node, nodes, system_config),
            "job stop waits": verdicts.stop_wait(value, node, nodes),
            "idle kept for": verdicts.idle_processes(value, nodes),
            "end announced": verdicts.notice(value, nodes),
        }
    if check == "versions":
        own = _versions(value)
        mends = {**dict.fromkeys(own, _INSTALL), "hcmoco": "bring the same checkout to all nodes, or install it there"}
        whats = {**{row: row for row in own}, "hcmoco": "the code of hcmoco"}
        return {row: verdicts.version(own[row], common[row], whats[row], mends[row]) for row in own}
    if check == "gpus":
        versions = each.value("versions") or {"cuda": None, "torch": "(unknown)"}
        return {
            "driver": gpu_verdicts.driver(value, versions["cuda"], versions["torch"]),
            "GPUs": gpu_verdicts.devices(value, node.num_gpus),
        }
    if check == "clock":
        return {"clock": verdicts.clock(value)}
    if check == "storage":
        return {"storage": verdicts.storage(value, storage)}
    if check == "mlflow":
        return {"MLflow": Verdict(f"{value['median_ms']:.0f} ms")}
    return {ROWS[check][0]: verdicts.gigabytes_per_s(value)}
