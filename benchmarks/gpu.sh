#!/usr/bin/env bash
# What every method costs on one GPU (gpu.py), in under six minutes: one JSON line after each row, on the screen and in the file given.
#   benchmarks/gpu.sh [file]
# Runs with the torch, transformers and diffusers that are there and downloads nothing. COMFYUI_PATH names a ComfyUI; without one,
# diffusers' UNets are measured.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu.jsonl}
PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} timeout 358 "${PYTHON:-python3}" benchmarks/gpu.py | tee "$out"
