"""Take what a node found of its GPUs for good or bad."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from hcmoco_ray.doctor.verdicts import Verdict

# The oldest driver for any release of a major version of CUDA (NVIDIA's table of minor version compatibility).
_DRIVERS = {11: (450, 80), 12: (525, 60), 13: (580, 65)}


def driver(gpus: Mapping[str, Any], cuda: str | None, torch_version: str) -> Verdict:
    """The NVIDIA driver beside PyTorch's CUDA build."""
    own = gpus["driver"]
    if own is None:
        if not gpus["problem"]:
            return Verdict("-")
        return Verdict(
            "none",
            "Ray counts GPUs there, and no NVIDIA driver answers; install one, or give the container "
            "the GPUs (`--gpus all`)",
        )
    needed = _DRIVERS.get(int(cuda.partition(".")[0])) if cuda else None
    if needed and tuple(map(int, own.split(".")[:2])) < needed:
        oldest = ".".join(map(str, needed))
        return Verdict(
            own,
            f"its NVIDIA driver {own} is too old for PyTorch {torch_version}, built for CUDA {cuda}; install driver "
            f"{oldest} or later, or a PyTorch that is built for an older CUDA",
        )
    return Verdict(f"{own}, CUDA {cuda or 'none'}")


def devices(gpus: Mapping[str, Any], num_gpus: float) -> Verdict:
    """The GPUs: seen, and computing rightly."""
    seen = gpus["devices"]
    kinds = Counter(each["name"].removeprefix("NVIDIA ") for each in seen)
    text = ", ".join(f"{count} x {kind}" for kind, count in kinds.items()) or "none"
    if gpus["driver"] is None and not num_gpus and not gpus["problem"]:
        return Verdict("-")
    if gpus["problem"]:
        return Verdict(
            text,
            f"PyTorch sees no GPU ({gpus['problem']}); install a PyTorch with CUDA for its driver, and "
            "see that CUDA_VISIBLE_DEVICES of `ray start` names GPUs",
        )
    if wrong := [(number, each) for number, each in enumerate(seen) if each["error"]]:
        number, each = wrong[0]
        more = f" (and {len(wrong) - 1} more GPUs there)" if len(wrong) > 1 else ""
        return Verdict(
            f"{len(wrong)} of {len(seen)} fail",
            f"GPU {number}, {each['name']} of compute capability {each['capability']}, fails: {each['error']}{more}; "
            f"if PyTorch is built for such GPUs, look for faults of the device (`nvidia-smi -q -i {number}`, `dmesg`) "
            "and leave it out by CUDA_VISIBLE_DEVICES",
        )
    if len(seen) < num_gpus:
        return Verdict(
            text,
            f"Ray counts {num_gpus:g} GPUs and PyTorch sees {len(seen)}; start Ray with "
            f"--num-gpus={len(seen)}, or mend CUDA_VISIBLE_DEVICES",
        )
    return Verdict(text)
