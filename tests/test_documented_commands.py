"""Every command that a page, a recipe's comment or a program's help prints is one that its program takes.

Nothing runs: each line goes through the parser of its program, and its recipe with its keys through the config.
"""

import importlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from hcmoco.errors import UserError
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.config import FinetuneRecipe, PretrainRecipe

ROOT = Path(__file__).parents[1]
BEGINNINGS = ("python pipelines/", "python tuning/", "python -m hcmoco_ray", "hcmoco ", "make ", "ray ", "sbatch ")

# Words that stand for a reader's own, and what they are tried with.
PLACEHOLDERS = {
    "NAME": "mpii",
    "TASK": "parsing-rgb",
    "HEAD": "head",
    "MLFLOW": "mlflow",
    "BUCKET": "bucket",
    "DOWNLOAD": "downloads",
    "mine.yaml": "people-cpu",  # of the folder that the program looks in
    "=...": "=own",
    "[key=value ...]": "",
}

# Lines that no parser here takes, with the reason.
UNPARSED = {
    "hcmoco              0.2.0 (ca6b311d)           0.2.0 (ca6b311d)           0.2.0 (ca6b311d)": "a row of a table",
    "python pipelines/prepare.py street --source street --out data/street": "the page adds this reader",
    "python pipelines/pretrain.py objective.joint_cross=true output_dir=runs/cross": "the page adds this term",
    "ray job submit -- hcmoco pretrain optim.lr=-1": "the page says that it is refused",
    "python -m hcmoco_ray": "the page names it; it is no whole command",
    "python pipelines/finetune.py visible-joints init=scratch num_samples=17": "the page adds this task",
    "python pipelines/pretrain.py model.rgb.name=two_scales model.depth.name=two_scales output_dir=runs/two-scales": (
        "the page adds this backbone"
    ),
}


@dataclass(frozen=True)
class Line:
    """A command as it is printed, its continued lines joined.

    Attributes:
        page: path of its file below the checkout.
        text: of the command, without its comment.
    """

    page: str
    text: str


def printed() -> list[Line]:
    """Every command line of the pages, the recipes, the files in deploy/ and the programs' help."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*.md")]
    others = [*ROOT.glob("recipes/**/*.yaml"), *ROOT.glob("hcmoco_ray/commands/*.py"), *ROOT.glob("deploy/*.yaml")]
    found = []
    for path in sorted([*pages, *others]):
        text = path.read_text()
        if path.suffix == ".yaml":
            text = re.sub(r"^#(  +)", r"  \1", text, flags=re.MULTILINE)  # what a comment sets off
        name = str(path.relative_to(ROOT))
        commands = [*blocks(text, path.suffix == ".md"), *(inline(text) if path.suffix == ".md" else [])]
        found += [Line(name, each) for each in dict.fromkeys(commands) if each.startswith(BEGINNINGS)]
    return found


def blocks(text: str, markdown: bool) -> Iterator[str]:
    """Yield the commands of a text in lines that are set off: between fences, or by two, in Markdown by four spaces."""
    fenced, lines = False, iter(text.splitlines())
    for line in lines:
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    " if markdown else "  "):
            while line.endswith("\\"):
                line = f"{line[:-1].rstrip()} {next(lines).strip()}"
            for part in re.split(r" && |(?<!\S)&(?!\S)|\s{3,}or\s{3,}", line):
                yield re.sub(r"\s#\s.*$", "", part).strip()


def inline(text: str) -> list[str]:
    """The commands inside the sentences of a Markdown text; a name such as `ray start` alone is none."""
    found = re.findall(
        r"`((?:python |hcmoco |make |sbatch |ray job submit -- )[^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S)
    )
    return [each.removesuffix(" ...") for each in found]


def words(text: str) -> list[str]:
    """The words of a command, with the reader's own in place."""
    for placeholder, own in PLACEHOLDERS.items():
        before = "" if placeholder.startswith("=") else r"(?<![\w.-])"
        text = re.sub(rf"{before}{re.escape(placeholder)}(?![\w-])", own, text)
    return shlex.split(text)


def check(command: list[str]) -> None:
    """Let the command's own program parse it. Raises what it raises: UserError, SystemExit, a click error."""
    match command:
        case ["python", "-m", "hcmoco_ray", program, *arguments] | ["hcmoco", program, *arguments]:
            assert program in cli.PROGRAMS
            check_program(program, arguments)
        case ["python", script, *arguments]:
            assert (ROOT / script).is_file(), script
            check_program(Path(script).stem, arguments)
        case ["make", *arguments]:
            check_make(tuple(arguments))
        case ["sbatch", *arguments]:
            script = next(number for number, word in enumerate(arguments) if not word.startswith("-"))
            assert (ROOT / arguments[script]).is_file()
            check(arguments[script + 1 :])
        case ["ray", "job", "submit", *arguments]:
            check_ray(["job", "submit", *arguments])
            check(arguments[arguments.index("--") + 1 :])
        case ["ray", *arguments]:
            check_ray(arguments)
        case _:
            raise AssertionError(f"{command[0]} is no program that is known here")


def check_program(program: str, arguments: list[str]) -> None:
    """Let a program parse its arguments, and build the configs that they name."""
    module = importlib.import_module(f"hcmoco_ray.commands.{program}")
    if program == "node":
        check(module.parse(arguments).command)
        return
    parser = module.parser()
    intermixed = any(action.dest == "overrides" for action in parser._actions)
    given = (parser.parse_intermixed_args if intermixed else parser.parse_args)(arguments)
    if program == "pretrain":
        run_config.load(PretrainRecipe, given.recipe, given.overrides)
    elif program == "finetune":
        values = cli.task_values(given.task, given.recipe, given.overrides)
        assert values.get("init")
        run_config.check(FinetuneRecipe, values, given.recipe)
    elif program == "sweep":
        check_sweep(given)
    elif program in ("label_fractions", "ablation", "backbones"):
        check_grid(given)
    elif program == "versatility":
        from hcmoco_ray.experiments.versatility.run import load

        load(given.recipe, given.overrides, given.seeds)
    elif program == "prepare" and hasattr(given, "kind"):
        from hcmoco_ray.prepare.reader import from_arguments

        from_arguments(given.kind, given)
        assert getattr(given, "check", False) or given.output_dir


def check_sweep(given) -> None:
    from hcmoco.config import build, load_recipe
    from hcmoco_ray.experiments.sweep.config import SweepConfig
    from hcmoco_ray.experiments.sweep.run import SWEEPS

    sweep = build(SweepConfig, load_recipe(cli.recipe_file(given.sweep, SWEEPS)), given.sweep)
    run_config.load(PretrainRecipe, sweep.recipe, given.overrides)


def check_grid(given) -> None:
    from hcmoco_ray.experiments.grid.config import load_grid

    grid = load_grid(given.grid, given.seeds)
    for task, recipe in {(task, each.recipe or grid.recipe) for each in grid.experiments for task in each.tasks}:
        values = cli.task_values(task, recipe, [*given.overrides, "init=scratch"])
        run_config.check(FinetuneRecipe, values, given.grid)


@cache
def check_make(arguments: tuple[str, ...]) -> None:
    """Let make say what it would do, and check the programs that it would run."""
    done = subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for run in re.findall(r"bin/python ((?:pipelines|tuning)/.*)$", done.stdout, re.MULTILINE):
        check(["python", *shlex.split(run)])


def check_ray(arguments: list[str]) -> None:
    """Let Ray's own command line parse, as it does before it does anything."""
    import click
    from ray.scripts.scripts import cli as command

    name, context = "ray", None
    while isinstance(command, click.Group):
        context = click.Context(command, info_name=name, parent=context)
        name, command, arguments = command.resolve_command(context, arguments)
    command.make_context(name, list(arguments), parent=context)


LINES = printed()


@pytest.mark.parametrize("line", LINES, ids=[f"{line.page}: {line.text}" for line in LINES])
def test_a_printed_command_is_one(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    if line.text in UNPARSED:
        with pytest.raises((UserError, SystemExit, AssertionError)):
            check(words(line.text))
    else:
        check(words(line.text))


def test_lines_without_a_parser_are_still_printed():
    assert set(UNPARSED) <= {line.text for line in LINES}


@pytest.mark.parametrize(
    "text",
    [
        "python pipelines/pretrain.py --recipe people-gpu train.worker=4",
        "python pipelines/pretrain.py --recipe people-gpus",
        "python pipelines/pretrain.py --recipes people-gpu",
        "python pipelines/pretrain.py optim.lr=-1",
        "python pipelines/finetune.py pose fraction=0.1",
        "python pipelines/finetune.py poses init=scratch",
        "python pipelines/finetune.py pose init=scratch samples=17",
        "python pipelines/prepare.py mpii --source mpii --pading 1.25 --out data/x",
        "python pipelines/prepare.py mpii --source mpii",
        "python pipelines/prepares.py verify x",
        "python tuning/label_fractions.py --grid people-cpu step=3",
        "python tuning/sweep.py --sweep people-cpu train.worker=4",
        "python tuning/versatility.py --recipe people-cpu seed=1",
        "python -m hcmoco_ray doktor",
        "hcmoco doctor --storages x",
        "python -m hcmoco_ray node -- ray start --address=HEAD:6379",
        "python -m hcmoco_ray node -- ray start --block --adress=HEAD:6379",
        "make pretrains",
        'make pretrain ARGS="stages.stage2_step=200"',
        "make tables SEEDS=many",
        "ray job submit --working-dirs . -- python pipelines/pretrain.py",
        "ray job submit --working-dir . -- python pipelines/pretrain.py out=x",
        "ray ups cluster.yaml",
        "sbatch --nodes=2 deploy/slurm.sh python pipelines/pretrain.py train.worker=8",
        "sbatch --nodes=2 deploy/slurms.sh python pipelines/pretrain.py",
    ],
)
def test_a_mistake_in_a_command_is_found(text, monkeypatch):
    import click

    monkeypatch.chdir(ROOT)
    with pytest.raises((UserError, SystemExit, AssertionError, click.ClickException)):
        check(words(text))


def test_commands_are_found_in_every_kind_of_place():
    set_off = "    make a \\\n        b=1  # why\n    make c && ray d &\n"
    text = f"A `make nothing` in a line.\n\n{set_off}\n```sh\nhcmoco e\n```\n"
    assert [each for each in blocks(text, markdown=True) if each] == ["make a b=1", "make c", "ray d", "hcmoco e"]
    pages = {line.page for line in LINES}
    assert {"README.md", "docs/cluster.md", "recipes/people-gpu.yaml", "hcmoco_ray/commands/sweep.py"} <= pages
