"""Copies that are begun ahead are what a step would copy itself, and go when their batch goes."""

import dataclasses
import gc

import numpy as np
import pytest
import torch

from hcmoco.cotraining.loader import LabeledBatch
from hcmoco.data import transfer
from hcmoco.data.schema import Batch
from hcmoco.pretraining.loop import pretrain
from hcmoco.training.local import LocalContext
from tests.helpers import local_pretraining as tiny

CPU = torch.device("cpu")


@dataclasses.dataclass
class Rows:
    depth: np.ndarray
    name: str = "rows"
    more: tuple[np.ndarray, ...] = ()


@pytest.fixture(autouse=True)
def _none_left():
    yield
    gc.collect()
    assert transfer._begun == {}


def rows() -> Rows:
    return Rows(np.arange(24, dtype=np.uint16).reshape(4, 3, 2).copy())


def test_a_copy_that_was_begun_is_the_one_that_is_sent():
    batch = rows()
    assert transfer.begin(batch, CPU, also_on_cpu=True) is batch
    sent = transfer.send(batch.depth, CPU)
    assert torch.equal(sent, torch.from_numpy(batch.depth))
    assert sent.dtype == torch.uint16
    assert sent.data_ptr() != batch.depth.ctypes.data
    assert transfer.send(batch.depth, CPU) is sent


@pytest.mark.parametrize("part", [slice(1, 3), slice(0, 4), slice(3, None), slice(2, 2)])
def test_rows_of_it_are_rows_of_the_copy(part):
    batch = transfer.begin(rows(), CPU, also_on_cpu=True)
    sent = transfer.send(batch.depth[part], CPU)
    assert torch.equal(sent, torch.from_numpy(batch.depth[part]))
    if len(sent):
        assert sent.data_ptr() == transfer.send(batch.depth, CPU)[part].data_ptr()


@pytest.mark.parametrize(
    "view", [lambda x: x[:, 1:], lambda x: x[::2], lambda x: x[::-1], lambda x: x.T, lambda x: x.view(np.int16)]
)
def test_any_other_view_is_copied_as_it_is(view):
    batch = transfer.begin(rows(), CPU, also_on_cpu=True)
    expected = np.ascontiguousarray(view(batch.depth))
    assert np.array_equal(transfer.send(view(batch.depth), CPU).numpy(), expected)


def test_an_array_of_no_batch_and_one_for_another_device_are_copied_when_they_are_sent():
    batch = transfer.begin(rows(), torch.device("cpu", 0), also_on_cpu=True)
    for array in (batch.depth, np.array([1.0, 2.0])):
        assert transfer.send(array, CPU).data_ptr() == array.ctypes.data


def test_nothing_is_copied_on_a_cpu():
    batch = transfer.begin(rows(), CPU)
    assert transfer.send(batch.depth, CPU).data_ptr() == batch.depth.ctypes.data


def test_a_batch_may_hold_views():
    batch = transfer.begin(Rows(rows().depth[1:]), CPU, also_on_cpu=True)
    sent = transfer.send(batch.depth, CPU)
    assert sent.data_ptr() != batch.depth.ctypes.data
    assert np.array_equal(sent.numpy(), batch.depth)


def test_a_copy_goes_with_its_batch_and_stays_with_who_has_it():
    batch = transfer.begin(rows(), CPU, also_on_cpu=True)
    sent, expected = transfer.send(batch.depth, CPU), batch.depth.copy()
    del batch
    gc.collect()
    assert transfer._begun == {}
    assert np.array_equal(sent.numpy(), expected)


def test_arrays_of_batches_in_a_batch_are_copied_too(batch):
    labeled = LabeledBatch(
        dataclasses.replace(batch, rgb=batch.rgb.copy()), np.zeros((10, 4, 4), np.uint8), np.ones(10)
    )
    transfer.begin(labeled, CPU, also_on_cpu=True)
    for array in (labeled.parts_BSS, labeled.labeled, labeled.batch.rgb):
        assert transfer.send(array, CPU).data_ptr() != array.ctypes.data
    for field in dataclasses.fields(Batch):
        transfer._begun.pop(id(getattr(batch, field.name)), None)  # the fixture's arrays stay


class CopyingContext(LocalContext):
    """Begins copies as a context does on a GPU."""

    def batches(self, first_step):
        for batch in super().batches(first_step):
            begun = transfer.begin(batch, self.device, also_on_cpu=True)
            assert transfer.send(begun.rgb, self.device).data_ptr() != begun.rgb.ctypes.data
            yield begun
            assert len(transfer._begun) <= 2 * len(dataclasses.fields(batch))


@pytest.mark.parametrize("train", [{}, {"micro_rows": 2}])
def test_a_run_on_copies_has_the_same_bits(train, sources):
    config = tiny.tiny_config(train=train, stages={"stage1_steps": 1, "stage2_steps": 2})
    feed = tiny.tiny_feed(config, sources)
    plain, copied = (
        pretrain(config, feed.plan, kind(feed, threads=1), None).state_dict() for kind in (LocalContext, CopyingContext)
    )
    assert tiny.differences(plain, copied) == []
