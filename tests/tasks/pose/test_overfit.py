"""Head, loss, crops, decoding and metric together: a small network learns sixteen people by heart."""

import pytest
import torch

from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.rng import make_rng
from hcmoco.synthetic import PeopleConfig, make_person
from hcmoco.tasks.pose import HeadConfig, PoseConfig, PoseTask
from hcmoco.training.precision import autocast, chosen, native_bfloat16

CPU = torch.device("cpu")


@pytest.mark.slow
def test_sixteen_people_are_learned_by_heart(people_about):
    people = PeopleConfig(size=96, seed=7)
    rows = [make_person(people, number, dataset="people", split="train").to_row(number) for number in range(16)]
    head = HeadConfig(num_convolutions=1, channels=64, anchor_offsets=(2.0,), reduce=64)
    task = PoseTask(PoseConfig(size=96, head=head, scale=(0.9, 1.1)), people_about)
    torch.manual_seed(0)
    model = task.make_model(build_encoder(EncoderConfig(name="test_resnet")))
    steps = 150
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    model.train()
    for step in range(steps):
        batch = task.make_batch(rows, [make_rng(0, "overfit", step, number) for number in range(16)])
        optimizer.zero_grad()
        with autocast(CPU, chosen([native_bfloat16("cpu")])):
            loss = task.losses(model, batch, CPU)["loss"]
        loss.backward()
        optimizer.step()
        schedule.step()
    metric = task.metric()
    batch = task.make_batch(rows, None)
    metric.update(batch, task.predict(model.eval(), batch, CPU))
    assert metric.compute().metrics["acc_10cm"] >= 0.95
