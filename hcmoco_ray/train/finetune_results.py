"""What a finished fine-tuning leaves: the chosen model in a folder, its scores on the test data, and what to do next.

<out>/model/          the model, see hcmoco.finetuning.saved_model
<out>/pictures/       first rows of the test data: input, truth, prediction
<out>/table.md        the scores
<out>/results.json    the same for programs, and what they are of
<out>/FINISHED        checksums of these, written last: the same command again only reports; what was changed since is made anew
"""

import json
from typing import Any

import torch

import hcmoco
from hcmoco import license_terms
from hcmoco.data.codecs import encode_png
from hcmoco.finetuning.resolve import Setup
from hcmoco.finetuning.saved_model import save_model
from hcmoco.finetuning.trainer import chosen, make_model
from hcmoco.storage import Folder
from hcmoco.tasks.base import Result, Task
from hcmoco.training.checkpoint import TrainState
from hcmoco_ray.config import FinetuneRecipe
from hcmoco_ray.tracking.client import Tracker, store_uri
from hcmoco_ray.train.run_dir import say
from hcmoco_ray.train.score import ScoreConfig, as_json, figure_lines, markdown, score, sheet

RESULTS, TABLE, SHEET, FINISHED = "results.json", "table.md", "pictures/test.png", "FINISHED"
_LEFT = (RESULTS, TABLE, SHEET, "model/config.json", "model/model.safetensors", "model/README.md")


def close(config: FinetuneRecipe, setup: Setup, state: TrainState, tracker: Tracker) -> dict[str, Any]:
    """Saves the chosen model, scores it and records both; returns the results, for `mark_finished`. Done twice it leaves what it leaves
    done once."""
    task, test, statistics = setup.task, setup.test, setup.statistics
    chosen_step, weights = chosen(config, (state.step, state.model), (state.history["best_step"], state.best))
    model = make_model(config, task, load=False)
    model.load_state_dict(weights)
    facts = {
        "task": config.task.task,
        "recipe": config.name,
        "seed": config.seed,
        "steps": state.step,
        "chosen_step": chosen_step,
        "select": config.select,
        **setup.facts,
        "terms": license_terms.as_json(setup.terms),
    }
    folder = f"{config.out}/model"
    save_model(
        folder,
        model,
        task,
        config.encoder,
        statistics=statistics,
        training=facts,
        card=_card(config, task, facts, None),
    )
    how = ScoreConfig(
        name=f"{config.name}-test",
        out=config.out,
        piece_rows=config.eval_batch_size,
        threads=config.ingest.threads,
        train=config.train,
    )
    result = score(how, folder, setup.tested, test)
    save_model(
        folder,
        model,
        task,
        config.encoder,
        statistics=statistics,
        training=facts,
        card=_card(config, task, facts, result),
    )
    png = encode_png(sheet(folder, setup.tested, test))
    out = Folder(config.out)
    out.write(SHEET, png)
    out.write(TABLE, markdown(result).encode())
    tracker.metrics(state.step, {f"test/{name}": value for name, value in result.figures.items()})
    tracker.picture(SHEET, png)
    tracker.text(TABLE, markdown(result))
    tracker.text("model/place.txt", folder)
    return {
        "hcmoco": hcmoco.__version__,
        "torch": torch.__version__,
        **facts,
        "test": {"rows": result.rows, "digest": test.digest, "figures": result.figures},
        "breakdown": {"columns": result.columns, "rows": result.breakdown},
        "validations": state.history["validations"],
        "main": task.main,
    }


def mark_finished(config: FinetuneRecipe, results: dict[str, Any]) -> None:
    """Writes the results, then the mark that `finished` looks for, with a checksum of every file; the last thing that a run does."""
    folder = Folder(config.out)
    folder.write(RESULTS, as_json(results))
    folder.write(FINISHED, json.dumps({name: folder.sha256(name) for name in _LEFT}, indent=1).encode())


def finished(config: FinetuneRecipe) -> bool:
    """Whether the run in the folder has come to its end, and everything that it left is there as it left it."""
    folder = Folder(config.out)
    try:
        sums = json.loads(folder.read(FINISHED))
        return all(folder.sha256(name) == sums[name] for name in _LEFT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def report(config: FinetuneRecipe) -> None:
    """Prints the figures and where everything is."""
    results = json.loads(Folder(config.out).read(RESULTS))
    test, labels = results["test"], results["labels"]
    figures = "\n".join(f"  {line}" for line in figure_lines(test["figures"]))
    say(
        f"\n{results['task']} with {labels['text']} of the labels ({labels['rows']} rows), seed {results['seed']}, from "
        f"{results['start']['text']}\n"
        f"on {test['rows']} test rows, model of step {results['chosen_step']} of {results['steps']} (select={results['select']}):\n"
        f"{figures}\n\n"
        f"all figures   {config.out}/{TABLE}\n"
        f"picture       {config.out}/{SHEET}\n"
        f"model         {config.out}/model\n"
        f"run           mlflow ui --backend-store-uri {store_uri(config.tracking, config.out)}\n"
        f"next          python pipelines/predict.py IMAGES --weights {config.out}"
    )


def _card(config: FinetuneRecipe, task: Task, facts: dict[str, Any], result: Result | None) -> str:
    scores = "" if result is None else f"\n## Scores on the test data\n\n{markdown(result)}"
    known = license_terms.of_training(facts, "this folder")
    return f"""---
{license_terms.license_lines(known)}
tags: [hcmoco, human-centric, {task.name}]
---

# {task.name}, fine-tuned

An encoder ({config.encoder.name}) with a head for {task.name}, {facts["steps"]} steps on {facts["labels"]["rows"]} labelled rows
({facts["labels"]["text"]}), seed {facts["seed"]}. The encoder started from: {facts["start"]["text"]}.
The model is that of step {facts["chosen_step"]} (select={facts["select"]}).

    python pipelines/predict.py IMAGES --weights THIS_FOLDER --out predictions
    python pipelines/evaluate.py THIS_FOLDER --data FOLDER_OF_SHARDS
{scores}
{license_terms.section(known)}"""
