"""The keys of results.json, which fine-tunings, evaluations and experiments write, and their names in version 0.1."""

_RENAMED = {
    "figures": "metrics",
    "main": "primary_metric",
    "breakdown": "per_class",
    "chosen_step": "selected_step",
    "validations": "evals",
    "start": "init",
}


def upgrade_results(values: dict) -> dict:
    """Give the content of a results.json of version 0.1 today's keys; today's is returned as it is.

    An experiment of a grid had the name of its encoder initialization under `init` and what was loaded under `start`;
    both are `init` now.

    Args:
        values: the file's mapping.
    Returns:
        A new mapping; `test` is renamed too.
    """
    name = values.get("init")
    result = {_RENAMED.get(key, key): value for key, value in values.items() if key != "init"}
    if "start" not in values and "init" in values:
        result["init"] = name
    elif isinstance(name, str):
        result["init"] = {"name": name, **result["init"]}
    if isinstance(result.get("test"), dict):
        result["test"] = {_RENAMED.get(key, key): value for key, value in result["test"].items()}
    return result
