"""Batch norm with all workers' rows is torch's own layer on all of them, for uneven shares and workers without rows."""

import pytest
import torch
from torch import nn

from hcmoco.errors import UserError
from hcmoco.models.sync_batch_norm import synchronize_batch_norm
from tests.helpers import forked_runs
from tests.helpers.global_batch import LAYERS, layer, layer_rows

COUNTS = {"uneven": [3, 1, 2], "one without rows": [4, 0, 2], "only one with rows": [0, 6]}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layers")
    jobs = []
    for number, counts in enumerate([*COUNTS.values(), [0, 0]]):
        (folder / str(number)).mkdir()
        arguments = {"counts": counts, "out": str(folder / str(number))}
        jobs.append({"call": "layers", "world": len(counts), "arguments": arguments})
    forked_runs.run_jobs(folder, jobs)
    return {
        name: [torch.load(folder / str(number) / f"{rank}.pt") for rank in range(len(counts))]
        for number, (name, counts) in enumerate([*COUNTS.items(), ("none", [0, 0])])
    }


def whole(name: str, counts: list[int]) -> dict[str, torch.Tensor]:
    """What torch's layer gives for all rows on one worker, the loss being the sum of the workers' losses."""
    made = layer(name)
    x = layer_rows(name).requires_grad_()
    for _ in range(2):
        y = made(x)
    weights = torch.cat([layer_rows(name)[:count] for count in counts])
    (y.sin() * weights.cos()).sum().backward()
    return {"y": y.detach(), "x": x.grad, **made.state_dict()} | {
        f"gradient of {key}": each.grad for key, each in made.named_parameters()
    }


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("name", LAYERS)
def test_workers_together_are_the_layer_on_all_rows(found, name, counts):
    workers = [each[name] for each in found[counts]]
    expected = whole(name, COUNTS[counts])
    together = dict(workers[0])
    with_rows = [each for each, count in zip(workers, COUNTS[counts], strict=True) if count]
    together |= {key: torch.cat([each[key] for each in with_rows]) for key in ("y", "x")}
    # Gradients of weights are added up later, with those of all other weights.
    for key in ("gradient of weight", "gradient of bias"):
        if key in expected:
            together[key] = sum(each[key] for each in workers)
    assert together.keys() == expected.keys()
    assert expected["x"].abs().max() > 1e-3
    for key, value in expected.items():
        torch.testing.assert_close(together[key], value, rtol=1e-9, atol=1e-9, msg=key)
    for worker in workers[1:]:
        assert all(torch.equal(worker[key], workers[0][key]) for key in worker if key in layer(name).state_dict())


@pytest.mark.parametrize("name", LAYERS)
def test_without_any_row_nothing_moves(found, name):
    for worker in found["none"]:
        assert all(torch.equal(worker[name][key], value) for key, value in layer(name).state_dict().items())
        assert not any(each.any() for key, each in worker[name].items() if key.startswith("gradient"))


def test_names_and_values_of_the_state_stay_and_one_worker_computes_as_before():
    plain, synchronized = (nn.Sequential(nn.Linear(5, 5), layer("1d").float()) for _ in range(2))
    synchronized.load_state_dict(plain.state_dict())
    synchronize_batch_norm(synchronized)
    x = torch.randn(6, 5)
    assert torch.equal(plain(x), synchronized(x))
    assert {key: each.tolist() for key, each in plain.state_dict().items()} == {
        key: each.tolist() for key, each in synchronized.state_dict().items()
    }
    assert type(synchronized[1]) is not nn.BatchNorm1d


def test_a_layer_that_cannot_share_is_refused():
    with pytest.raises(UserError, match=r"layer 1 \(BatchNorm3d\)"):
        synchronize_batch_norm(nn.Sequential(nn.ReLU(), nn.BatchNorm3d(2)))
