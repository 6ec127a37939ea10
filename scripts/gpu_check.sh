#!/usr/bin/env bash
# Do the backends agree on a GPU, and how fast are they? Runs the backend parity test
# (tests/backends.rs: forward, gradients, 20 steps, decoding, 500 steps) on an NVIDIA GPU through
# LibTorch-CUDA, and on any GPU through wgpu; then the benches of training and decoding on each.
#
#     bash scripts/gpu_check.sh            # wgpu and libtorch
#     bash scripts/gpu_check.sh wgpu       # only wgpu: any vendor's GPU
#     bash scripts/gpu_check.sh libtorch   # only LibTorch-CUDA
#     bash scripts/gpu_check.sh cuda       # only burn's own CUDA, whose build needs the internet
#
# NOT TRIED ON A GPU: it was written on a machine without one, where only its refusals and the
# path through a software adapter could be run. Please report what it does on yours.
#
# wgpu wants the GPU's Vulkan driver (`vulkaninfo --summary` must list the GPU). LibTorch-CUDA
# wants NVIDIA's driver and fetches the whole of torch 2.9.0 (7 GB with its CUDA libraries) into
# ${USER_LLM_CACHE:-~/.cache/user-llm}/venv-torch-cuda, unless LIBTORCH or LIBTORCH_USE_PYTORCH
# already says where one is.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "gpu_check.sh: $*" >&2; exit 1; }
what=${1:-both}
[[ "$what" =~ ^(both|wgpu|libtorch|cuda)$ ]] || die "usage: gpu_check.sh [wgpu|libtorch|cuda]"
features=() specs=()

if [[ "$what" == wgpu || "$what" == both ]]; then
  features+=(wgpu)
  specs+=(wgpu)
fi

if [[ "$what" != wgpu ]]; then
  nvidia-smi -L 2>/dev/null || die "no NVIDIA driver answers (nvidia-smi); for wgpu alone: bash scripts/gpu_check.sh wgpu"
fi

if [[ "$what" == cuda ]]; then
  features+=(cuda)
  specs+=(cuda:0)
fi

if [[ "$what" == libtorch || "$what" == both ]]; then
  if [[ -z "${LIBTORCH:-}${LIBTORCH_USE_PYTORCH:-}" ]]; then
    venv=${USER_LLM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/user-llm}/venv-torch-cuda
    [[ -x "$venv/bin/python3" ]] || python3 -m venv "$venv"
    "$venv/bin/python3" -m pip install --quiet torch==2.9.0 numpy setuptools
    lib=$("$venv/bin/python3" -c 'import os, torch; print(os.path.join(os.path.dirname(torch.__file__), "lib"))')
    export PATH="$venv/bin:$PATH" LIBTORCH_USE_PYTORCH=1
    export LD_LIBRARY_PATH="$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  fi
  features+=(libtorch)
  specs+=(libtorch:cuda:0)
fi

all=$(IFS=,; echo "${features[*]}")

# The test reads the backends to compare with flex from here, and fails where one is missing.
USER_LLM_TEST_BACKENDS=$(IFS=,; echo "${specs[*]}") \
  cargo test --release --features "$all" --test backends -- --nocapture

for spec in "${specs[@]}"; do
  for measure in "encoder train-3706" "llm decode" "llm tune-enc"; do
    read -r bench measure <<<"$measure"
    echo "$spec: $bench $measure"
    cargo bench --quiet --features "$all" --bench "$bench" -- --backend "$spec" "$measure"
  done
done
