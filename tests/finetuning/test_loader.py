"""What a cluster's reading tasks are sent."""

import pickle
import subprocess
import sys

import pytest

from hcmoco.finetuning.encoder_init import load_encoder_init
from hcmoco.finetuning.resolve import resolve
from tests.helpers import local_finetuning as tiny

LARGE = {"torch", "torchvision", "timm"}


@pytest.mark.parametrize(("kind", "item"), [("train", (1, 0)), ("validation", (1,))])
def test_a_reader_gives_the_items_and_imports_nothing_large(people_shards, tmp_path, kind, item):
    """A loader holds the task and with it PyTorch, whose import takes seconds of each process that reads."""
    config = tiny.tiny_config()
    run = resolve(config, people_shards, people_shards, load_encoder_init(config.init, config.encoder, "rgb"))
    loader = run.train_loader() if kind == "train" else run.eval_loader()
    reader, read = tmp_path / "reader", tmp_path / "item"
    reader.write_bytes(pickle.dumps(loader.item_reader))
    code = (
        "import pickle, sys\n"
        f"table = pickle.load(open({str(reader)!r}, 'rb'))(*{item})\n"
        f"pickle.dump(table, open({str(read)!r}, 'wb'))\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not LARGE & set(done.stdout.split())
    assert pickle.loads(read.read_bytes()).equals(loader.item(*item))
