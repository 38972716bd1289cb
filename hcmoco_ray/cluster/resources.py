"""The share of the cluster that one part of a program requests, and so how many parts run at a time."""

from collections.abc import Mapping

from hcmoco.errors import UserError
from hcmoco_ray.cluster.nodes import alive_nodes

Resources = Mapping[str, float]


def count_fitting(node: Resources, bundle: Resources) -> int:
    """Return how often the resources of a bundle fit into those of one node."""
    # Ray counts in ten-thousandths: 0.3 + 0.3 + 0.3 + 0.1 are one CPU.
    return min(round(node.get(name, 0) * 10_000) // round(count * 10_000) for name, count in bundle.items() if count)


class ResourceRequest:
    """CPUs and GPUs for one trial or experiment.

    Args:
        what: how messages name it, such as "trial".
        cpus: of each worker, more than 0; fractions are allowed.
        gpus: of each worker, 0 or more; fractions are allowed for a single worker.
        threads: threads of a worker's CPU arithmetic, at least 1.
        workers: processes that train together, at least 1; each has its CPUs and GPUs on one node.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(self, what: str, cpus: float, gpus: float, threads: int, workers: int = 1):
        for name, value in (("--cpus", cpus), ("--threads", threads)):
            if not value > 0:
                raise UserError(f"{name} {value:g}: must be more than 0")
        if gpus < 0:
            raise UserError(f"--gpus {gpus:g}: must be 0 or more")
        if workers > 1 and gpus != round(gpus):
            raise UserError(
                f"--gpus {gpus:g}: the {workers} workers of a {what} need whole GPUs, since NCCL refuses two of them "
                "on one; give --gpus 1, or set train.workers=1"
            )
        self.what, self.cpus, self.gpus, self.threads, self.workers = what, cpus, gpus, threads, workers

    @property
    def text(self) -> str:
        """The request as a plan prints it."""
        counts = [(self.cpus, "CPU"), *([(self.gpus, "GPU")] if self.gpus else [])]
        return " and ".join(f"{count:g} {what}{'' if count == 1 else 's'}" for count, what in counts)

    @property
    def bundle(self) -> dict[str, float]:
        """What each worker requests of one node."""
        return {"CPU": self.cpus, "GPU": self.gpus}

    def at_once(self) -> int:
        """Return how many such requests the nodes that are there now can fulfill at a time.

        Raises:
            UserError: the nodes cannot fulfill one.
        """
        room = self.room()
        if not room:
            nodes = [node["Resources"] for node in alive_nodes()]
            if self.workers > 1:
                fitting = sum(count_fitting(node, self.bundle) for node in nodes)
                raise UserError(
                    f"a {self.what} has {self.workers} workers, each of which asks for {self.text} of one "
                    f"node; the {len(nodes)} {'node' if len(nodes) == 1 else 'nodes'} of the "
                    f"cluster can hold {fitting} of them; lower train.workers, --cpus or --gpus, or add nodes"
                )
            most = {name: max((node.get(name, 0) for node in nodes), default=0) for name in ("CPU", "GPU")}
            raise UserError(
                f"a {self.what} asks for {self.text} of one node; no node of the cluster has more than "
                f"{most['CPU']:g} CPUs and {most['GPU']:g} GPUs; lower --cpus or --gpus"
            )
        return room

    def room(self) -> int:
        """Return how many such requests fit on the nodes that are there now, 0 if there is none."""
        # Ray reserves the places of all workers of one at once, or none of them: what fits cannot block itself.
        return sum(count_fitting(node["Resources"], self.bundle) for node in alive_nodes()) // self.workers
