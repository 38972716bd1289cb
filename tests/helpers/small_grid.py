"""A grid of fine-tunings of seconds each, over one small pre-training."""

from pathlib import Path

PEOPLE = {"domain": "indoor", "size": 64, "seed": 1}
FINETUNE = {
    "name": "tiny",
    "output_dir": "unused",
    "task": {"size": 64},
    "encoder": {"name": "test_resnet"},
    "data": {
        "train": {"path": "data/train", "people": {**PEOPLE, "count": 40}},
        "test": {"path": "data/test", "people": {**PEOPLE, "count": 12, "seed": 2}},
    },
    "steps": 40,
    "num_evals": 2,
    "num_val_rows": 4,
    "train": {"precision": "float32", "lanes": 1, "batch_size_per_lane": 8, "window_steps": 4, "save_every": 10},
}
SEEDS = list(range(5))


def grid(shared: Path, tracking: str | None = None) -> dict:
    """The grid; its pre-training tracks where it does."""
    pretrained = {"pretrain": str(shared / "pretrain.yaml"), "output_dir": "runs/pretrained"}
    return {
        "recipe": str(shared / "finetune.yaml"),
        "output_dir": "runs/grid",
        "baseline": "scratch",
        "inits": {"scratch": "scratch", "hcmoco": pretrained},
        "experiments": [
            {"tasks": ["parsing-rgb", "parsing-depth"], "labels": labels, "seeds": SEEDS}
            for labels in ({"fraction": 0.5}, {"fraction": 1.0})
        ],
        **({"tracking": {"uri": tracking}} if tracking else {}),
    }
