#!/usr/bin/env bash
# The preparation of MovieLens on a Ballista cluster of two executors on the loopback, held to
# `user-llm data prepare`: the store has to be the same, byte for byte.
#
#     cargo build --release --bin user-llm && cargo build --release -p datasets --example store
#     bash scripts/cluster/check.sh FOLDER_OF_MOVIELENS [OPTION...]
#
# Options, `--min-interactions N` and `--min-history N`, go to both. USER_LLM and STORE name the two
# programs, if they are not in target/release. Fails if a file differs, or if an executor was idle. Needs
# Linux with `unshare` and `ip`, and that people may make namespaces there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [[ -z "${IN_NAMESPACE:-}" ]]; then
  python=$(bash "$here/venv.sh")
  # A network of its own, which is a loopback with two addresses: one for each executor.
  exec env IN_NAMESPACE=1 PYTHON="$python" unshare --user --map-root-user --net bash "$0" "$@"
fi
export PYTHONPATH=$here/..
ip link set lo up
ip address add 127.0.0.2/32 dev lo
target=${CARGO_TARGET_DIR:-$here/../../target}/release
user_llm=${USER_LLM:-$target/user-llm}
store=${STORE:-$target/examples/store}
source=$(realpath "$1")
options=("${@:2}")

work=$(mktemp -d)
nodes=()
# Ballista's executors do not always end when they are asked to.
trap '{ kill -KILL "${nodes[@]}"; wait; rm -rf "$work"; } 2>/dev/null' EXIT
start() {
  : >"$work/$1.log"
  "$PYTHON" "$here/node.py" "${@:2}" >"$work/$1.log" 2>&1 &
  nodes+=($!)
}
# await FILE TEXT: until a log has a line with it.
await() {
  for _ in {1..120}; do
    ! grep --quiet "$2" "$work/$1.log" || return 0
    sleep 0.5
  done
  cat "$work/$1.log" >&2
  return 1
}
# timed NAME COMMAND...: how long a command takes.
timed() {
  local start=${EPOCHREALTIME/./}
  "${@:2}"
  echo "$1: $(((${EPOCHREALTIME/./} - start) / 1000)) ms"
}
start scheduler scheduler
await scheduler "Starting Scheduler"
start executor1 executor 127.0.0.1
start executor2 executor 127.0.0.2
for n in 1 2; do await executor$n "Executor registration succeed"; done

timed "user-llm data prepare" "$user_llm" data prepare "$source" --out "$work/ours" "${options[@]}"
# With a limit, because tasks that executors cannot read are offered to them for ever.
timed "on the cluster" timeout 600 "$PYTHON" "$here/prepare.py" "$source" "$work" "${options[@]}"
timed "checked and written anew" "$store" rewrite "$work/theirs" "$work/origin.json" "$work/anew"

n_jobs=$(grep --count "Job finished" "$work/scheduler.log")
for n in 1 2; do
  log=$work/executor$n.log
  n_tasks=$(grep --count "Finished task" "$log") || { echo "executor $n was idle"; exit 1; }
  task='s|.*Finished task : \[TID [0-9]* \([^/]*\)/.*|\1|p'
  n_met=$(sed --quiet "$task" "$log" | sort --unique | wc --lines)
  echo "executor $n: $n_tasks tasks of $n_met of $n_jobs jobs"
done
diff --recursive --brief "$work/ours" "$work/anew"
(cd "$work/anew" && sha256sum -- *)
echo "$(basename "$source") ${options[*]}: the same store, byte for byte"
