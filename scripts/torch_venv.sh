#!/usr/bin/env bash
# Makes a Python environment that has PyTorch 2.9.0 and numpy, and prints its interpreter:
#
#     python=$(bash scripts/torch_venv.sh)
#     python=$(bash scripts/torch_venv.sh --if-there)    # makes nothing: empty where there is none
#
# It is kept in ${USER_LLM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/user-llm}/venv-torch. PyTorch's own
# index has a build without CUDA (0.2 GB to download); where it is not reached, PyPI's is taken
# with all CUDA libraries (3 GB, 7 on disk), since `import torch` wants them even on a CPU.
set -euo pipefail
die() { say "error: $*"; exit 1; }
source "$(dirname "$0")/torch.sh"

venv=$cache/venv-torch
python=$venv/bin/python

has_torch() {
  [[ -x "$1" ]] && "$1" -c "
import numpy, torch
assert torch.__version__.split('+')[0] == '$TORCH_VERSION'" 2>/dev/null
}

if ! has_torch "$python"; then
  [[ "${1:-}" != --if-there ]] || exit 0
  need_python
  need_space 10000
  say "making $venv ..."
  python3 -m venv --clear "$venv" ||
    die "python3 cannot make environments; on Debian: apt-get install python3-venv"
  install() { "$python" -m pip install --quiet --disable-pip-version-check "$@" >&2; }
  install --timeout 10 --retries 0 --index-url https://download.pytorch.org/whl/cpu \
    "torch==$TORCH_VERSION" numpy 2>/dev/null || {
    say "PyTorch's own index is not reached from here; fetching torch $TORCH_VERSION from PyPI (3 GB) ..."
    install "torch==$TORCH_VERSION" numpy || die "pip could not fetch torch $TORCH_VERSION"
  }
  has_torch "$python" || die "torch was installed into $venv, but cannot be imported"
fi
echo "$python"
