#!/bin/bash
# Runs a program of this checkout on a Ray cluster made of a Slurm job's nodes. Options before the script's name are sbatch's:
#
#   sbatch --nodes=4 --gpus-per-node=8 --cpus-per-task=64 deploy/slurm.sh \
#     python pipelines/pretrain.py --recipe people-gpu train.workers=32 output_dir=/shared/run tracking.uri=http://mlflow:5000
#
# Submit it in the checkout, on a disk that all nodes mount. docs/slurm.md says what it does at the time limit and after a loss.
#SBATCH --job-name=hcmoco
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=hcmoco-%j.log
set -euo pipefail

if [ $# = 0 ] || [ -z "${SLURM_JOB_ID:-}" ]; then
    echo "usage: sbatch [options] deploy/slurm.sh python pipelines/pretrain.py ..." >&2
    exit 2
fi
cd "$SLURM_SUBMIT_DIR"
venv=${VENV:-$PWD/.venv}
if [ -x "$venv/bin/python" ]; then PATH=$venv/bin:$PATH; fi
if [ -L "$venv/bin/python" ] && [ ! -x "$venv/bin/python" ]; then
    echo "error: node $(hostname): the Python of $venv, $(readlink -m "$venv/bin/python"), is not installed there" >&2
    exit 2
fi
command -v ray > /dev/null || {
    echo "error: no ray in $venv/bin or in PATH; call sbatch in the checkout and run \`make install\` there, or set VENV" >&2
    exit 2
}
# Nodes do not start in the same second, and some read Python from a slow disk. Ray's own limit is 30 s.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=${RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT:-900}

# Each node says at once what it lacks. Otherwise the first one would wait for it until the time above is over.
# shellcheck disable=SC2016  # the variables are those of the inner shell
look='
fault() { echo "error: node $(hostname): $1" >&2; exit 2; }
cd "$1" 2> /dev/null || fault "there is no folder $1; the checkout must be on a disk that all nodes mount"
command -v ray > /dev/null || fault "there is no ray in $2/bin or in PATH; the environment must be on a disk that all nodes mount"
address=$(python -c "import ray.util; print(ray.util.get_node_ip_address())") || fault "Python, or Ray, does not start"
case $SLURM_JOB_NUM_NODES:$address in
    1:*) ;;
    *:127.*) fault "Ray takes $address for its address; give it a default route, or put its own address beside its name in /etc/hosts" ;;
esac
'
timeout "$RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT" srun --export=ALL --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \
    --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" bash -c "$look" look "$PWD" "$venv" || {
    echo "error: no training was started, since not every node of the job is ready" >&2
    exit 2
}

# The address at which Ray on the other nodes will find this one: not the node's own name, which may be a loopback address here.
export RAY_ADDRESS
RAY_ADDRESS=$(python -c 'import ray.util; print(ray.util.get_node_ip_address())'):$((20000 + SLURM_JOB_ID % 10000))

# What the head's task tells this script, which runs on the same node: the driver's process id, and the status of it all. The statuses of
# the other tasks do not count.
export HCMOCO_JOB_FILES
HCMOCO_JOB_FILES=$(mktemp -d "/tmp/hcmoco-$SLURM_JOB_ID-XXXXXX")
trap 'rm -rf "$HCMOCO_JOB_FILES"' EXIT
# shellcheck disable=SC2016  # the variables are those of the inner shells
task='"$@"; status=$?; [ "$SLURM_PROCID" != 0 ] || echo $status > "$HCMOCO_JOB_FILES/status"; exit $status'
# shellcheck disable=SC2016
driver='echo $$ > "$HCMOCO_JOB_FILES/pid"; exec "$@"'

# Ray of this job, and of nobody else.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_USAGE_STATS_ENABLED=0
# A silent node is given up after about 9 s, and processes that read are kept (docs/failures.md).
export RAY_health_check_initial_delay_ms=${RAY_health_check_initial_delay_ms:-1000}
export RAY_health_check_period_ms=${RAY_health_check_period_ms:-1000}
export RAY_health_check_timeout_ms=${RAY_health_check_timeout_ms:-2000}
export RAY_health_check_failure_threshold=${RAY_health_check_failure_threshold:-3}
export RAY_idle_worker_killing_time_threshold_ms=${RAY_idle_worker_killing_time_threshold_ms:-20000}
ulimit -n "$(ulimit -Hn)"
SLURM_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

# Slurm sends USR1 to this script alone, some time before the limit. The driver then saves a state and ends with status 75.
asked=
# shellcheck disable=SC2317  # called by the trap
ask_for_a_state() {
    asked=yes
    echo "$(date +%T) asking for a state"
    if started; then kill -USR1 "$(cat "$HCMOCO_JOB_FILES/pid")" || true; fi
}
started() { [ -s "$HCMOCO_JOB_FILES/pid" ]; }
ended() { [ -s "$HCMOCO_JOB_FILES/status" ]; }
trap ask_for_a_state USR1

# A node that is lost must not end the tasks of the others (--kill-on-bad-exit=0, --wait=0). The tasks need what is exported here, also
# where the job was submitted with --export=NONE (--export=ALL).
srun --export=ALL --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=0 --wait=0 \
    bash -c "$task" task \
    ray symmetric-run --address="$RAY_ADDRESS" --min-nodes="$SLURM_JOB_NUM_NODES" --temp-dir="/tmp/ray-$(id -un)" \
    --num-cpus="$SLURM_CPUS_PER_TASK" --object-store-memory="${OBJECT_STORE_BYTES:-2147483648}" -- \
    bash -c "$driver" driver "$@" &
srun=$!

# A trap runs when `wait` returns, which a signal makes it do. If no driver has started when the state is asked for, nothing is to be saved.
while kill -0 $srun 2> /dev/null && ! ended && { [ -z "$asked" ] || started; }; do
    sleep 1 &
    wait $! || true
done
# The head has stopped its Ray; the other nodes would take a minute to see that.
kill $srun 2> /dev/null || true
wait $srun || true
ended || ray stop --force > /dev/null 2>&1 || true

if started && ended; then status=$(cat "$HCMOCO_JOB_FILES/status"); else status=1; fi
# 75: saved and stopped. 138: USR1 came before the program could take it.
if [ -n "$asked" ] && { ! started || [ "$status" = 75 ] || [ "$status" = 138 ]; }; then
    echo "$(date +%T) back to the queue; the same command resumes"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
# Ray's own lines, as it stops, hide those of the program.
if ! started; then
    echo "error: the program was not started; Ray's lines above say why" >&2
elif [ "$status" != 0 ]; then
    echo "error: the program ended with status $status; its own lines are above those of Ray, which stopped after it" >&2
fi
exit "$status"
