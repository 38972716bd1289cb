"""What one part of a program asks the cluster for, and so how many parts run at a time."""

from hcmoco.errors import UserError


class Asked:
    """Shares of the cluster for one part.

    Args:
        what: how messages name it: "trial", "cell".
        cpus, gpus: shares of the cluster.
        threads: threads of its CPU arithmetic.
    Raises:
        UserError: nothing that can be asked for.
    """

    def __init__(self, what: str, cpus: float, gpus: float, threads: int):
        for name, value in (("--cpus", cpus), ("--threads", threads)):
            if not value > 0:
                raise UserError(f"{name} {value:g}: must be more than 0")
        if gpus < 0:
            raise UserError(f"--gpus {gpus:g}: must be 0 or more")
        self.what, self.cpus, self.gpus, self.threads = what, cpus, gpus, threads

    @property
    def text(self) -> str:
        """How a plan says it."""
        return f"{self.cpus:g} CPUs" + (f" and {self.gpus:g} GPUs" if self.gpus else "")

    def at_once(self) -> int:
        """Parts that the cluster's resources allow at a time. UserError if none."""
        import ray

        there = ray.cluster_resources()
        allowed = [int(there.get(name, 0) // each) for name, each in (("CPU", self.cpus), ("GPU", self.gpus)) if each]
        if min(allowed) < 1:
            raise UserError(
                f"a {self.what} asks for {self.cpus:g} CPUs and {self.gpus:g} GPUs, the cluster has {there.get('CPU', 0):g} and "
                f"{there.get('GPU', 0):g}; lower --cpus or --gpus"
            )
        return min(allowed)
