#!/usr/bin/env bash
# What every method costs on one GPU (gpu.py), in under six minutes: one JSON line after each row, on the screen and in the file given.
#   benchmarks/gpu.sh [file]
# Runs with what is there and downloads nothing. COMFYUI_PATH names a ComfyUI; without one diffusers' UNets are measured, and without
# either their cross-attentions alone, which take torch and numpy.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu.jsonl}
PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} timeout 358 "${PYTHON:-python3}" benchmarks/gpu.py | tee "$out"
