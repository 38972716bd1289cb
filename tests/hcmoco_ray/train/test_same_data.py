"""Data that a model is trained on and tested on are told of in one line, however their path is written."""

import pytest

from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.writer import write_shards
from hcmoco_ray.commands import label_fractions
from hcmoco_ray.commands.prepare import main as prepare
from hcmoco_ray.train.same_data import same_data
from tests.hcmoco_ray.train.test_masking import export, warnings
from tests.helpers import finetune_program as tiny
from tests.helpers.people_made_here import ABOUT, make_persons

QUICK = ("steps=1", "num_evals=1", "select=last")
MEANS = (
    "the scores say how well it is remembered, not what they are on other people; name other data, unless you mean it"
)


@pytest.fixture(scope="module")
def home(ray_session, finetune_home):
    """With the people of both splits, those of training by another way, too; and people in their rooms."""
    for each, more in (("train", ()), ("test", ()), ("test", ("--masked-depth", "false"))):
        values = tiny.PEOPLE[each]
        place = finetune_home / (values["path"] if not more else "data/room")
        split = ("--split", "test") if each == "test" else ()
        given = [f"--{name}={value}" for name, value in values["people"].items()]
        assert prepare(["people", "--out", str(place), *given, *split, *more]) == 0
    (finetune_home / "data/link").symlink_to("people")
    return finetune_home


def test_a_fine_tuning_and_an_evaluation_on_what_was_trained_on(home):
    same = ("data.test.path=data/link/", "data.test.people=null", "output_dir=runs/same")
    run = tiny.call(home, "parsing-rgb", *QUICK, *same)
    assert run.status == 0, run
    assert warnings(run) == [f"warning: data.test is the same data as data.train: {MEANS}"]
    how = ["--piece-rows", "12", "--threads", "1"]
    scored = tiny.evaluate(home, "runs/same", "data/./people", *how, "--out", "scored")
    assert scored.status == 0, scored
    (line,) = warnings(scored)
    assert line.startswith(f"warning: {home / 'data/people'} is the same data as the model of ")
    assert line.endswith(f"was trained on: {MEANS}")
    other = tiny.evaluate(home, "runs/same", "data/people-test", *how, "--out", "scored-other")
    assert (other.status, warnings(other)) == (0, [])


@pytest.mark.slow
@pytest.mark.long
def test_a_grid_tells_of_its_data_once(home, capsys):
    init = export(home / "unmasked-start", "unmasked")
    (home / "grid.yaml").write_text(f"""
recipe: {home / "parsing-depth.yaml"}
output_dir: runs/grid-of-rooms
baseline: scratch
inits: {{scratch: scratch, other: {init}}}
experiments:
- {{tasks: [parsing-depth], labels: {{num_samples: 6}}, seeds: [0]}}
""")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HCMOCO_HOME", str(home))
        room = ("data.test.path=data/room", "data.test.people=null")
        assert label_fractions.main(["--grid", str(home / "grid.yaml"), "steps=1", "num_evals=1", *room]) == 0
    encoder, model = (line for line in capsys.readouterr().out.splitlines() if line.startswith("warning:"))
    assert encoder.startswith("warning: the encoder was trained on depth that is unmasked")
    assert "depth of data.train (" in encoder
    assert model.startswith(
        "warning: the model was trained on depth that is masked to the person, depth of data.test ("
    )
    assert "prepare it again with --segment" in model


def test_a_part_of_the_training_data_is_told_with_its_rows(tmp_path):
    persons = make_persons(40)
    for name, some in (("train", persons), ("test", persons[30:]), ("other", make_persons(5, seed=1))):
        write_shards(str(tmp_path / name), some, ABOUT, seed=1)
    train, test, other = (Shards.open(str(tmp_path / name)) for name in ("train", "test", "other"))
    told = same_data({"data.train": train}, {"data.test": test})
    assert told == f"warning: 10 of 10 rows of data.test are in data.train, too: {MEANS}"
    assert same_data({"data.train": train}, {"data.test": other, "data.held_out": None}) == ""
