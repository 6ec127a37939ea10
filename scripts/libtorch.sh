#!/usr/bin/env bash
# Fetches LibTorch 2.9.0 (the version tch 0.22 is written for) and says how to use it:
#
#     eval "$(bash scripts/libtorch.sh)"
#     cargo run --release --features libtorch -p cli -- ...
#
# Wants Linux on x86-64 with glibc 2.28 or newer, python3 with pip, and gcc. Takes the libraries
# out of the wheels on PyPI: 0.9 GB to download once, 0.5 GB kept in
# ${USER_LLM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/user-llm}/libtorch. A second run only prints.
# Progress goes to standard error, the two `export` lines to standard output.
#
# LD_LIBRARY_PATH is needed to run what was built as well as to build it.
#
# This is LibTorch for the CPU. With an NVIDIA GPU use the whole of torch instead (7 GB):
#
#     python3 -m venv ~/torch && ~/torch/bin/pip install torch==2.9.0 numpy
#     export PATH="$HOME/torch/bin:$PATH" LIBTORCH_USE_PYTORCH=1
#     export LD_LIBRARY_PATH="$(python3 -c 'import os, torch; print(os.path.join(os.path.dirname(torch.__file__), "lib"))')${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
#     unset LIBTORCH
#
# On macOS, and on Linux on ARM, the same lines work (DYLD_LIBRARY_PATH on macOS).
set -euo pipefail

CUDA_RUNTIME=12.8.90 # what the metadata of torch 2.9.0 asks for; CUPTI has the same number
FILES=(lib/libc10.so lib/libtorch_cpu.so lib/libgomp.so.1 lib/libgomp.so lib/libcudart.so.12
  lib/libcupti.so.12 lib/libtorch.so include/torch/csrc/api/include/torch/torch.h)

# `false` makes the caller's eval fail too.
die() { say "error: $*"; echo false; exit 1; }
source "$(dirname "$0")/torch.sh"
dir=$cache/libtorch

complete() {
  local file
  [[ "$(cat "$1/build-version" 2>/dev/null)" == "$TORCH_VERSION" ]] || return 1
  for file in "${FILES[@]}"; do [[ -s "$1/$file" ]] || return 1; done
}

if ! complete "$dir"; then
  [[ "$(uname -sm)" == "Linux x86_64" ]] ||
    die "this recipe is for Linux on x86-64, not '$(uname -sm)'; the head of this file says what to do here"
  command -v gcc >/dev/null || die "no gcc; on Debian: apt-get install gcc"
  need_python
  need_space 2000

  # Beside the final folder, so that the last step is one rename and a run that was cut short
  # leaves nothing that looks complete.
  tmp=$(mktemp -d "$cache/libtorch.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  say "fetching torch $TORCH_VERSION and two CUDA libraries it links to (0.9 GB) ..."
  # The C++ libraries are the same in the wheel for each Python, so this one need not match
  # the Python that runs pip.
  python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$tmp/wheels" \
    --implementation cp --python-version 3.11 --abi cp311 --abi none \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --platform manylinux_2_5_x86_64 --platform manylinux1_x86_64 \
    "torch==$TORCH_VERSION" "nvidia-cuda-runtime-cu12==$CUDA_RUNTIME" \
    "nvidia-cuda-cupti-cu12==$CUDA_RUNTIME" >&2 ||
    die "pip could not fetch torch $TORCH_VERSION (its message is above); is PyPI reached from here?"

  say "unpacking ..."
  python3 - "$tmp" <<'PYTHON' || die "could not unpack the wheels"
import glob, os, shutil, sys, zipfile

tmp = sys.argv[1]
out = os.path.join(tmp, "libtorch")
libraries = {
    "torch/lib/libc10.so", "torch/lib/libtorch_cpu.so", "torch/lib/libgomp.so.1",
    "nvidia/cuda_runtime/lib/libcudart.so.12", "nvidia/cuda_cupti/lib/libcupti.so.12",
}
for wheel in glob.glob(os.path.join(tmp, "wheels", "*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith("/"):
                continue
            if name in libraries:
                target = os.path.join(out, "lib", os.path.basename(name))
            elif name.startswith("torch/include/"):
                target = os.path.join(out, name[len("torch/"):])
            else:
                continue
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with archive.open(name) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
PYTHON
  ln -s libgomp.so.1 "$tmp/libtorch/lib/libgomp.so"
  # torch-sys links to -ltorch, which in the wheel only pulls in the CUDA libraries.
  gcc -shared -o "$tmp/libtorch/lib/libtorch.so" -Wl,-soname,libtorch.so -x c /dev/null ||
    die "gcc could not make the stub libtorch.so"
  echo "$TORCH_VERSION" >"$tmp/libtorch/build-version"
  complete "$tmp/libtorch" || die "the wheels lack one of: ${FILES[*]}"

  if complete "$dir"; then
    say "another run made $dir meanwhile"
  else
    rm -rf "$dir"
    mv -T "$tmp/libtorch" "$dir" || die "could not move LibTorch to $dir"
  fi
  say "LibTorch $TORCH_VERSION is in $dir"
fi

[[ -z "${LIBTORCH_USE_PYTORCH+set}" ]] || echo "unset LIBTORCH_USE_PYTORCH" # it would win over LIBTORCH
printf 'export LIBTORCH=%q\n' "$dir"
path=$dir/lib
case ":${LD_LIBRARY_PATH:-}:" in
  *":$path:"*) path=$LD_LIBRARY_PATH ;;
  *) path=$path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} ;;
esac
printf 'export LD_LIBRARY_PATH=%q\n' "$path"
