#!/usr/bin/env bash
# Our speed and memory beside other programs', on this machine, in one run:
#
#     bash benches/peers/run.sh encoder                  # beside PyTorch 2.9.0; a table
#     bash benches/peers/run.sh encoder --json           # a line of JSON a measure
#     bash benches/peers/run.sh encoder --only train-3706 evaluate-6040 --rounds 5
#     bash benches/peers/run.sh encoder --smoke          # tiny, and PyTorch only where it is already
#     bash benches/peers/run.sh data [...]               # preparing data, beside pandas and Polars
#     bash benches/peers/run.sh llm [...]                # beside PyTorch (transformers, peft) and llama.cpp
#
# What is measured and how: docs/benchmarks.md. CARGO_FLAGS are handed to cargo as they are (in CI
# `--workspace --features …`, so that nothing is compiled twice).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..

group=${1:-}
case $group in
  encoder) name="PyTorch 2.9.0" venv=torch_venv.sh flags= ;;
  data) name="pandas or Polars" venv=data_venv.sh flags="-p datasets" ;;
  llm) name="PyTorch 2.9.0 or llama.cpp" venv=llm_venv.sh flags= ;;
  *) echo "usage: run.sh encoder|data|llm [--json] [--smoke] [--rounds N] [--only MEASURE...]" >&2; exit 2 ;;
esac
shift

peer=() smoke=
if [[ " $* " == *" --smoke "* ]]; then
  smoke=1
  python=$(bash "$root/scripts/$venv" --if-there)
else
  python=$(bash "$root/scripts/$venv")
fi
[[ -z "$python" ]] || peer=("$python" "$here/$group.py")

# shellcheck disable=SC2086 # several flags in one variable
ours=$(cd "$root" && cargo build --release ${CARGO_FLAGS:-$flags} --bench "$group" --message-format=json |
  python3 -c '
import json, sys
built = (json.loads(line) for line in sys.stdin)
# All that cargo says is read: it fails where nobody listens any more.
benches = [m["executable"] for m in built if m.get("executable") and m["target"]["kind"] == ["bench"]]
print(benches[0])')

# Generated data of MovieLens 20M's size, 0.5 GB, and the stores that both sides make of it.
if [[ "$group" == data ]]; then
  folder=$(mktemp -d "${TMPDIR:-/var/tmp}/user-llm-data.XXXXXX")
  trap 'rm -rf "$folder"' EXIT
  export USER_LLM_BENCH_DATA=$folder/movielens
  "$ours" --make "$USER_LLM_BENCH_DATA" ${smoke:+--events 20000}
fi
# The same weights for all: llama.cpp gets them in f32, 0.5 GB, like the others.
if [[ "$group" == llm && -z "$smoke" ]]; then
  USER_LLM_BENCH_MODEL=$("$ours" --fetch)
  folder=$(mktemp -d "${TMPDIR:-/var/tmp}/user-llm-llm.XXXXXX")
  trap 'rm -rf "$folder"' EXIT
  export USER_LLM_BENCH_MODEL USER_LLM_BENCH_F32=$folder/f32.gguf
  "${peer[@]}" --convert "$USER_LLM_BENCH_MODEL" "$USER_LLM_BENCH_F32"
fi
python3 "$here/compare.py" --ours "$ours" --peer "${peer[@]}" --peer-name "$name" "$@"
