#!/usr/bin/env bash
# The environment of scripts/torch_venv.sh with what benches/peers/llm.py compares with besides:
# transformers, peft, and llama.cpp, which is compiled here (about five minutes on two cores; its
# build tools come by pip). Prints its interpreter:
#
#     python=$(bash scripts/llm_venv.sh)
#     python=$(bash scripts/llm_venv.sh --if-there)    # makes nothing: empty where there is none
set -euo pipefail
here=$(dirname "$0")
die() { say "error: $*"; exit 1; }
source "$here/torch.sh"

packages=(transformers==5.23.0 peft==0.21.2 gguf==0.19.0 llama-cpp-python==0.3.36)
python=$(bash "$here/torch_venv.sh" "$@")
[[ -n "$python" ]] || exit 0

has_packages() { "$python" -c "import transformers, peft, gguf, llama_cpp" 2>/dev/null; }

if ! has_packages; then
  [[ "${1:-}" != --if-there ]] || exit 0
  say "installing ${packages[*]} ..."
  "$python" -m pip install --quiet --disable-pip-version-check "${packages[@]}" >&2 ||
    die "pip could not install ${packages[*]}"
fi
echo "$python"
