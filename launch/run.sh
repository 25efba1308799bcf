#!/usr/bin/env bash
# Runs a binary and runs it again after each pre-emption:
#
#   launch/run.sh main --config=configs/quickstart.py --workdir=runs/quickstart
#
# The binaries save and exit with code 75 on SIGTERM, and resume when started
# again. A SIGTERM to this script means that the machine itself goes: it is
# passed on, and the script ends with code 75 instead of restarting, so that a
# scheduler can requeue the job. Any other code ends it too.
# On several hosts run this same line on each.
set -u

if [[ $# -lt 1 ]]; then
  echo "usage: $0 BINARY [FLAGS...], for example: $0 main --config=..." >&2
  exit 2
fi
binary=$1
shift
preempted=75
stopping=0
child=

stop() {
  stopping=1
  [[ -n $child ]] && kill -TERM "$child" 2> /dev/null
}
trap stop TERM INT

while true; do
  "${PYTHON:-python}" -m "forecasting.$binary" "$@" &
  child=$!
  # The signal may have come before there was a child to pass it on to.
  [[ $stopping -eq 1 ]] && kill -TERM "$child" 2> /dev/null
  # A signal ends `wait` early; the child is still saving then.
  while true; do
    wait "$child"
    code=$?
    kill -0 "$child" 2> /dev/null || break
  done
  # Killed before it could end by itself.
  [[ $stopping -eq 1 && $code -ge 128 ]] && code=$preempted
  [[ $code -eq $preempted && $stopping -eq 0 ]] || exit "$code"
  echo "forecasting.$binary was pre-empted; running it again" >&2
done
