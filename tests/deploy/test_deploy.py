"""deploy/: what its files name exists, and they carry the settings that the docs promise."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from hcmoco_ray.config import PretrainRecipe, load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

# Names of KubeRay's v1 API that a typing mistake here would miss; KubeRay drops fields that it does not know.
RAY_JOB = {
    *("entrypoint", "backoffLimit", "submitterConfig", "shutdownAfterJobFinishes"),
    *("ttlSecondsAfterFinished", "rayClusterSpec"),
}
RAY_CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
GROUP = {"rayStartParams", "template"}
WORKER_GROUP = GROUP | {"groupName", "replicas", "minReplicas", "maxReplicas"}


def settings() -> dict[str, str]:
    """The variables of several nodes that docs/failures.md names."""
    text = (ROOT / "docs" / "failures.md").read_text()
    found = dict(re.findall(r"(RAY_(?:health_check_\w+|idle_worker_\w+|JOB_STOP_WAIT_TIME_S))=(\d+)", text))
    assert len(found) == 6
    return found


@pytest.fixture
def job() -> dict:
    return yaml.safe_load((DEPLOY / "kuberay-rayjob.yaml").read_text())


def pods(job: dict) -> list[dict]:
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_the_ray_jobs_fields_are_kuberays(job):
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert set(spec) == RAY_JOB
    assert set(cluster) == RAY_CLUSTER
    assert set(cluster["headGroupSpec"]) == GROUP
    (workers,) = cluster["workerGroupSpecs"]
    assert set(workers) == WORKER_GROUP
    for group in (cluster["headGroupSpec"], workers):  # Go's map[string]string
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    for pod in pods(job):
        assert len(pod["containers"]) == 1
        container = pod["containers"][0]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert all(isinstance(variable["value"], str) for variable in container["env"])


def test_the_ray_job_is_secured_and_resumes(job):
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert job["spec"]["backoffLimit"] > 0
    head, worker = pods(job)
    for pod in (head, worker):
        assert pod["securityContext"]["runAsNonRoot"]
        variables = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
        assert variables == settings()
    (command,) = worker["containers"][0]["args"]
    grace = float(re.search(r"exec python -m hcmoco_ray node --grace (\d+) -- \$KUBERAY_GEN_RAY_START_CMD", command)[1])
    assert grace < worker["terminationGracePeriodSeconds"]
    assert job["metadata"]["annotations"]["ray.io/overwrite-container-cmd"] == "true"


def test_the_ray_job_fits_its_cluster(job):
    import ray

    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:3] == ["python", "pipelines/pretrain.py", "--recipe"]
    recipe = load(PretrainRecipe, words[3], words[4:])
    (workers,) = cluster["workerGroupSpecs"]
    limits = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert recipe.train.workers == workers["replicas"] * int(limits["nvidia.com/gpu"])
    assert recipe.train.cpus_per_worker <= int(limits["cpu"])
    assert recipe.tracking.uri
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_object_stores_fit_into_dev_shm(job):
    """Ray would take 30% of the memory, and put it on the disk where /dev/shm is smaller."""
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (shm,) = (each["emptyDir"] for each in pod["volumes"] if each["name"] == "shm")
        assert shm["medium"] == "Memory"
        available = int(shm["sizeLimit"].removesuffix("Gi")) << 30
        assert 0 < int(group["rayStartParams"]["object-store-memory"]) < available


def test_the_ray_jobs_commented_lines_can_be_used():
    text = (DEPLOY / "kuberay-rayjob.yaml").read_text()
    used = re.sub(r"^( +)# (- \{name: shared|imagePullSecrets)", r"\1\2", text, flags=re.MULTILINE)
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    claim = yaml.safe_load(re.search(r"^    apiVersion: v1\n(?:    .*\n)+", page, re.MULTILINE)[0])
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods(yaml.safe_load(used)):
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
        (shared,) = (each["persistentVolumeClaim"] for each in pod["volumes"] if each["name"] == "shared")
        assert shared == {"claimName": claim["metadata"]["name"]}
        assert {"name": "shared", "mountPath": "/shared"} in pod["containers"][0]["volumeMounts"]


def test_what_the_image_copies_and_a_job_sends_are_the_same_code():
    image = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sent = {
        line[2:]
        for line in (ROOT / ".rayignore").read_text().splitlines()
        if line.startswith("!/") and not line.endswith("/**") and not line.startswith("!/*")
    }
    assert image - sent == {"LICENSE", "README.md"}
    assert sent <= image
    for name in image:
        assert list(ROOT.glob(name)), name


def test_the_settings_of_the_slurm_script_are_those_of_the_docs():
    script = (DEPLOY / "slurm.sh").read_text()
    for name, value in settings().items():
        if name != "RAY_JOB_STOP_WAIT_TIME_S":  # nothing is submitted
            assert f"export {name}=${{{name}:-{value}}}" in script


def test_the_slurm_script_hands_its_variables_to_every_step():
    """`sbatch --export=NONE` would hold for the script's own steps too, which need the token and the address of Ray."""
    steps = re.findall(r"\bsrun (--.*)", (DEPLOY / "slurm.sh").read_text())
    assert len(steps) == 2
    assert all(each.startswith("--export=ALL ") for each in steps)


@pytest.mark.parametrize("script", ["slurm.sh", "mlflow-server.sh"])
def test_bash_reads_the_scripts(script):
    assert subprocess.run(["bash", "-n", DEPLOY / script]).returncode == 0


def test_the_compose_file_names_what_the_server_asks_for():
    services = yaml.safe_load((DEPLOY / "mlflow-compose.yaml").read_text())["services"]
    asked = re.search(r"^: (.*)$", (DEPLOY / "mlflow-server.sh").read_text(), re.MULTILINE)[1]
    assert set(re.findall(r"\$\{(\w+):\?\}", asked)) <= set(services["mlflow"]["environment"])


def test_the_two_constraint_sets_differ_in_pytorch_alone():
    def pins(name: str) -> dict[str, str]:
        lines = (ROOT / name).read_text().splitlines()
        return dict(line.split("==") for line in lines if not line.startswith("#"))

    newest, older = pins("constraints.txt"), pins("constraints-cu128.txt")
    differing = {name for name in newest.keys() | older.keys() if newest.get(name) != older.get(name)}
    assert {"torch", "torchvision"} <= differing
    assert all(re.fullmatch(r"torch|torchcodec|torchvision|triton|(nvidia|cuda)-.*", name) for name in differing)


PRINTED = [
    (page.relative_to(ROOT), command)
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for command in re.findall(r"^    (?:ray job submit|sbatch) (?:.*\\\n)*.*$", page.read_text(), re.MULTILINE)
    if "pretrain" in command and "..." not in command
]


@pytest.mark.parametrize(("page", "command"), PRINTED, ids=[str(page) for page, _ in PRINTED])
def test_a_printed_pretraining_on_several_machines_is_complete(page, command):
    words = shlex.split(command.replace("\\\n", " "))
    words = words[words.index("pipelines/pretrain.py") + 1 :]
    assert words[0] == "--recipe"
    recipe = load(PretrainRecipe, words[1], words[2:])
    assert recipe.tracking.uri, "several machines need a server"
    assert recipe.train.workers > 1
    assert recipe.output_dir.startswith(("s3://", "/shared/"))


def test_the_docs_print_such_commands():
    assert len(PRINTED) >= 4
