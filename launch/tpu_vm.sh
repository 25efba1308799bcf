#!/usr/bin/env bash
# Runs a binary on every host of a TPU slice, and again after pre-emption:
#
#   export TPU_NAME=my-slice ZONE=us-central2-b PROJECT=my-project
#   export TYPE=v5litepod-16 VERSION=v2-alpha-tpuv5-lite   # to create it
#   launch/tpu_vm.sh main --config=configs/4ds_e_boxes.py \
#     --workdir=/mnt/shared/4ds_e_boxes
#
# Needs gcloud, signed in. --workdir must be a folder that all hosts share
# (Filestore, or a mounted bucket). Creates the slice if there is none, copies
# this checkout to every host, installs it, and runs the command there. When
# the binary ends with code 75, or the slice was taken away (no host answers, a
# state other than READY), it makes the slice ready and runs the same command,
# which resumes. Any other code ends the script with that code.
#
# SPOT=1 asks for spot capacity. MAX_RUNS bounds the number of tries (100).
set -uo pipefail

if [[ $# -lt 1 ]]; then
  echo "usage: $0 BINARY [FLAGS...]; see the top of this file" >&2
  exit 2
fi
for name in TPU_NAME ZONE PROJECT; do
  if [[ -z ${!name:-} ]]; then
    echo "$0: set $name" >&2
    exit 2
  fi
done
binary=$1
shift
command=$(printf '%q ' "$binary" "$@")
gcloud=${GCLOUD:-gcloud}
preempted=75
pause=${PAUSE_SECONDS:-30}
root=$(cd "$(dirname "$0")/.." && pwd)
place=(--project="$PROJECT" --zone="$ZONE")

tpu() {
  "$gcloud" compute tpus tpu-vm "$@"
}

state() {
  tpu describe "$TPU_NAME" "${place[@]}" --format='value(state)' 2> /dev/null \
    || echo ABSENT
}

on_all_hosts() {
  tpu ssh "$TPU_NAME" "${place[@]}" --worker=all --command="$1"
}

make_ready() {
  local found
  found=$(state)
  if [[ $found == PREEMPTED || $found == TERMINATED ]]; then
    tpu delete "$TPU_NAME" "${place[@]}" --quiet || return 1
    found=ABSENT
  fi
  if [[ $found == ABSENT ]]; then
    local spot=()
    [[ ${SPOT:-0} == 1 ]] && spot=(--spot)
    tpu create "$TPU_NAME" "${place[@]}" --accelerator-type="${TYPE:?}" \
      --version="${VERSION:?}" "${spot[@]}" || return 1
  fi
  local archive
  archive=$(mktemp -d)/forecasting.tar.gz
  git -C "$root" archive --format=tar.gz --output="$archive" HEAD || return 1
  tpu scp "$archive" "$TPU_NAME:forecasting.tar.gz" "${place[@]}" \
    --worker=all || return 1
  on_all_hosts 'set -e; mkdir -p forecasting; cd forecasting
    tar xzf ../forecasting.tar.gz
    test -d .venv || python3 -m venv .venv
    . .venv/bin/activate; pip install --quiet -e ".[tpu]"'
}

for ((run = 1; run <= ${MAX_RUNS:-100}; run++)); do
  if ! make_ready; then
    echo "$0: $TPU_NAME is not ready; trying again in $pause s" >&2
    sleep "$pause"
    continue
  fi
  on_all_hosts "cd forecasting; . .venv/bin/activate
    FORECASTING_COORDINATOR=auto python -m forecasting.$command"
  code=$?
  [[ $code -eq 0 ]] && exit 0
  # The slice may have gone before the binary could end with its own code.
  found=$(state)
  if [[ $code -ne $preempted && $found == READY ]]; then
    exit "$code"
  fi
  echo "$0: code $code, slice $found; running again" >&2
done
echo "$0: gave up after ${MAX_RUNS:-100} runs" >&2
exit "$preempted"
