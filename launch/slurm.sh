#!/usr/bin/env bash
# Runs a binary on GPU nodes of a Slurm cluster, requeued after pre-emption:
#
#   sbatch --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 launch/slurm.sh \
#     main --config=configs/4ds_e_boxes.py --workdir=/shared/4ds_e_boxes
#
# One process per GPU, as jax.distributed assumes, which reads Slurm's own
# variables. Slurm sends SIGTERM five minutes before
# the time limit and when it takes the nodes back: the binary saves and ends
# with code 75, upon which the job goes back to the queue and resumes. What does
# not end within GRACE_SECONDS (240), because it has nothing to save, is killed
# and goes back too.
# Submit from the checkout; VENV is its environment (.venv).
#SBATCH --job-name=forecasting
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

if [[ $# -lt 1 ]]; then
  echo "usage: sbatch $0 BINARY [FLAGS...]" >&2
  exit 2
fi
binary=$1
shift
cd "${SLURM_SUBMIT_DIR:-.}" || exit 2
# shellcheck source=/dev/null
[[ -f ${VENV:-.venv}/bin/activate ]] && . "${VENV:-.venv}/bin/activate"
export FORECASTING_COORDINATOR=auto
preempted=75
stopping=0
child=
watch=

stop() {
  stopping=1
  [[ -n $child ]] || return
  kill -TERM "$child" 2> /dev/null
  (
    sleep "${GRACE_SECONDS:-240}"
    kill -KILL "$child"
  ) > /dev/null 2>&1 &
  watch=$!
}
trap stop TERM

# All save together; who is left two minutes later waits for nobody.
"${SRUN:-srun}" --wait=120 \
  "${PYTHON:-python}" -m "forecasting.$binary" "$@" &
child=$!
# A signal ends `wait` early; the processes are still saving then.
while true; do
  wait "$child"
  code=$?
  kill -0 "$child" 2> /dev/null || break
done
[[ -n $watch ]] && kill "$watch" 2> /dev/null
if [[ $code -eq $preempted || ($stopping -eq 1 && $code -ge 128) ]]; then
  "${SCONTROL:-scontrol}" requeue "$SLURM_JOB_ID"
fi
exit "$code"
