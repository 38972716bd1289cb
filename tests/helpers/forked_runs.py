"""Runs of several workers, and runs that are killed: `python forked_runs.py JOBS.json`, each job in processes of its
own.

A program and no test: the processes are forked from one that has imported everything and opened nothing, so that each
costs little. A job is {"call": name of a function below, "world": W, "arguments": {...}}; the function is called as
`call(rank, world, **arguments)`. Written for each job are the exit codes of its processes, negative where a signal
ended them.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from hcmoco.config import build
from hcmoco.data.shards.reader import Shards
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.finetuning.encoder_init import load_encoder_init
from hcmoco.finetuning.resolve import resolve
from hcmoco.finetuning.trainer import Finetuning
from hcmoco.pretraining.loop import pretrain
from hcmoco.training import averaging, distributed
from hcmoco.training.checkpoint import States, TrainState
from hcmoco.training.flat_grads import FlatParameters
from hcmoco.training.optim import OptimConfig, build_optimizer
from hcmoco.training.precision import settle
from tests.helpers import local_pretraining as tiny
from tests.helpers.averaging import averaged, fails_in_backward
from tests.helpers.global_batch import layers, run_in_float64, step_in_float64
from tests.helpers.waiting import CEILING


class WorkerContext(tiny.StoppingContext):
    """One of several workers. The ranks in `killed` die by SIGKILL when they ask for the batch of step `stop`."""

    def __init__(self, loader, states, *, rank, world, killed=(), **settings):
        super().__init__(loader, states, **settings)
        self.rank, self.world, self.killed = rank, world, killed

    def batches(self, first_step):
        where = {"rank": self.rank, "world": self.world, "first_step": first_step}
        items = (self.loader.item(*number) for number in self.loader.own_items(**where))
        for batch in self.loader.batches(items, **where, threads=1, ahead=1):
            if batch.step == self.stop and self.rank in self.killed:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    def save(self, state: TrainState) -> None:
        if self.rank == 0:
            self.states.write(state)
            self.saved.append(state.step)
        distributed.barrier()


def train(rank, world, *, sources, states, out, over, stop=None, killed=(), kill_at_file=None, bucket=None):
    """A pre-training. Leaves in `out` each worker's final state, and rank 0's log.

    Args:
        bucket: bytes of a bucket of gradients.
    """
    averaging.BUCKET_BYTES = bucket or averaging.BUCKET_BYTES
    config = tiny.tiny_config(**over)
    feed = tiny.tiny_feed(config, [Shards.open(each) for each in sources])
    context = WorkerContext(
        feed, states, rank=rank, world=world, stop=stop, killed=killed, num_checkpoints=config.train.num_checkpoints
    )
    if kill_at_file is not None:
        die_at_file(states, kill_at_file)
    run = pretrain(config, feed.plan, context, tiny.tiny_views() if config.probe.every and rank == 0 else None)
    if out:
        States(f"{out}/rank-{rank}").write(run.state_dict())
        if rank == 0:
            Path(out, "log.json").write_text(json.dumps(context.logged))


def die_at_file(folder, number):
    """From here on the process dies by SIGKILL before it opens, renames or deletes for the `number`-th time something
    in `folder`."""
    count = 0

    def hook(event, arguments):
        nonlocal count
        if event in ("open", "os.rename", "os.remove") and str(arguments[0]).startswith(str(folder)):
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

    sys.addaudithook(hook)


def write_state(rank, world, *, folder, keep, step, kill_at_file):
    """Writes a state of `step` steps whose every tensor says so, and dies on the way."""
    states = States(folder, keep)
    die_at_file(folder, kill_at_file)
    states.write(numbered_state(step))


def numbered_state(step: int) -> TrainState:
    """A state whose every tensor says of which step it is."""
    tensors = {name: torch.full((50,), float(step)) for name in ("a", "b")}
    return TrainState(step=step, stage=1, identity={"of": step}, model=tensors, optimizer=tensors, bank=tensors)


def muon(rank, world, *, out):
    """Three steps of Muon from gradients that all workers have; leaves each worker's weights in `out`."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.Conv2d(6, 6, 3), torch.nn.Conv2d(6, 6, 3))
    flat = FlatParameters(net)
    optimizer = build_optimizer(OptimConfig(name="muon", lr=0.01), flat)
    for _ in range(3):
        flat.gradients.copy_(torch.randn(len(flat.gradients)))
        optimizer.step()
    torch.save(net.state_dict(), f"{out}/{world}-{rank}.pt")


def collectives(rank, world, *, lanes, out):
    """What each worker gets from the functions of `distributed`, for lanes of two rows."""
    mine = torch.tensor([lane * 2 + row for lane in range(rank, lanes, world) for row in range(2)])
    wide = mine[:, None, None] * torch.ones(1, 2, 3) + torch.arange(3) / 10
    same_step = "fine"
    try:
        distributed.check_same_step(4)
        distributed.check_same_step(4 + rank)
    except RuntimeError as error:
        same_step = str(error)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), torch.nn.Conv2d(2, 2, 3)).to(
        memory_format=torch.channels_last
    )
    flat = FlatParameters(model)
    for number, each in enumerate(model.parameters()):
        if rank or number:  # rank 0 does not use the first
            each.grad.fill_(rank + number)
    model[1].running_mean[:] = float(rank)
    model[1].num_batches_tracked += 5 + (rank == 1)
    averaging.Averaging(flat, model).finish()
    result = {
        "indices": distributed.gather_lanes(mine, lanes // world).tolist(),
        "rows": distributed.gather_lanes(wide, lanes // world).tolist(),
        "mean": distributed.mean_over_workers(torch.tensor([rank, 1.0])).tolist(),
        "same step": same_step,
        "gradients": [each.grad.unique().tolist() for each in model.parameters()],
        "running mean": model[1].running_mean.tolist(),
        "batches": model[1].num_batches_tracked.item(),
    }
    Path(out, f"{world}-{rank}.json").write_text(json.dumps(result))


def settled(rank, world, *, out):
    """What each worker makes of auto: where all compute in bfloat16, where the last does not, and where the first one's
    state says so."""
    config, last = tiny.tiny_config(train={"precision": "auto"}), rank == world - 1
    begun = [settle(config, False, {"train": {"precision": each}}) for each in ("bfloat16", "float32")]
    result = [each.train.precision for each in (settle(config, True, None), settle(config, not last, None), *begun)]
    Path(out, f"{world}-{rank}.json").write_text(json.dumps(result))


def in_float64(run, encoders):
    """Batch norm as in evaluation, so that a row does not see the others, and inputs in the weights' precision."""
    for module in run.model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    for encoder in encoders:
        encoder.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(), *inputs[1:]))


def pretraining_step(rank, world, *, sources, over, full, out):
    """The gradient of one step of a pre-training, averaged over the workers."""
    feed, run = run_in_float64(world, sources, over, full)
    in_float64(run, (run.model.rgb, run.model.depth, run.model.keypoints))
    write_gradient(rank, world, feed, run, out)


def finetuning_step(rank, world, *, source, values, out):
    """The same of a fine-tuning from scratch."""
    torch.set_default_dtype(torch.float64)
    config, shards = build(FinetuneConfig, values, "test"), Shards.open(source)
    setup = resolve(config, shards, shards, load_encoder_init(config.init, config.encoder, "depth"))
    run = Finetuning(config, setup.task, setup.plan, setup.identity, torch.device("cpu"))
    in_float64(run, (run.model.encoder,))
    write_gradient(rank, world, setup.train_loader(), run, out)


def write_gradient(rank, world, feed, run, out):
    items = (feed.item(0, lane) for lane in range(rank, feed.plan.lanes, world))
    run.train_step(next(feed.batches(items, rank=rank, world=world, first_step=0, threads=1, ahead=1)))
    found = {name: each.grad.clone() for name, each in run.model.named_parameters()}
    found |= {f"norm/{name}": each for name, each in getattr(run, "gradient_norms", {}).items()}
    torch.save(found, f"{out}/{world}-{rank}.pt")


CALLS = {
    each.__name__: each
    for each in (
        *(train, write_state, muon, collectives, settled, pretraining_step, finetuning_step),
        *(layers, step_in_float64, averaged, fails_in_backward),
    )
}


def run_jobs(folder: Path, jobs: list[dict]) -> list[list[int]]:
    """Has a program of its own do `jobs`, one after the other; gives the exit codes of every job's processes.

    AssertionError, with the end of what they wrote, where a process failed that nothing was to kill.
    """
    (folder / "jobs.json").write_text(json.dumps(jobs))
    root = Path(__file__).resolve().parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "OMP_NUM_THREADS": "1",
    }
    program = [sys.executable, __file__, str(folder / "jobs.json"), str(folder / "codes.json")]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=CEILING, check=False)
    assert done.returncode == 0, done.stderr
    codes = json.loads((folder / "codes.json").read_text())
    for job, each in zip(jobs, codes, strict=True):
        assert each == [0] * job["world"] or "stop" in job["arguments"] or "kill_at_file" in job["arguments"], (
            done.stderr[-3000:]
        )
    return codes


def process(job: dict, rank: int, meeting: str) -> None:
    """The life of a worker; never returns."""
    status = 1
    try:
        torch.set_num_threads(1)
        if job["world"] > 1:
            settings = {"rank": rank, "world_size": job["world"], "timeout": timedelta(seconds=CEILING)}
            dist.init_process_group("gloo", init_method=f"file://{meeting}", **settings)
        CALLS[job["call"]](rank, job["world"], **job["arguments"])
        if job["world"] > 1:
            dist.destroy_process_group()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def main(jobs: str, codes: str) -> None:
    results = []
    for job in json.loads(Path(jobs).read_text()):
        with tempfile.TemporaryDirectory() as folder:
            children = []
            for rank in range(job["world"]):
                child = os.fork()
                if not child:
                    process(job, rank, f"{folder}/meeting")
                children.append(child)
            results.append([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
    Path(codes).write_text(json.dumps(results))


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # here alone: tests import this module too
    main(*sys.argv[1:])
