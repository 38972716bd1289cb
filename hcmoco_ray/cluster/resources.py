"""The share of the cluster that one part of a program requests, and so how many parts run at a time."""

from hcmoco.errors import UserError


class ResourceRequest:
    """CPUs and GPUs for one trial or experiment.

    Args:
        what: how messages name it, such as "trial".
        cpus: more than 0; fractions are allowed.
        gpus: 0 or more; fractions are allowed.
        threads: threads of its CPU arithmetic, at least 1.
    Raises:
        UserError: a value is out of range.
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
        """The request as a plan prints it."""
        return f"{self.cpus:g} CPUs" + (f" and {self.gpus:g} GPUs" if self.gpus else "")

    def at_once(self) -> int:
        """Return how many such requests the cluster can fulfill at a time.

        Raises:
            UserError: it cannot fulfill one.
        """
        import ray

        total = ray.cluster_resources()
        requested = {"CPU": self.cpus, "GPU": self.gpus}
        allowed = [int(total.get(name, 0) // count) for name, count in requested.items() if count]
        if min(allowed) < 1:
            raise UserError(
                f"a {self.what} asks for {self.cpus:g} CPUs and {self.gpus:g} GPUs, the cluster has "
                f"{total.get('CPU', 0):g} and {total.get('GPU', 0):g}; lower --cpus or --gpus"
            )
        return min(allowed)
