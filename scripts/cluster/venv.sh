#!/usr/bin/env bash
# Makes a Python environment with Ballista, 0.5 GB, and prints its interpreter:
#
#     python=$(bash scripts/cluster/venv.sh)
#
# It is kept in ${USER_LLM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/user-llm}/venv-cluster.
set -euo pipefail
die() { say "error: $*"; exit 1; }
source "$(dirname "$0")/../torch.sh"

venv=$cache/venv-cluster
python=$venv/bin/python

if ! [[ -x "$python" ]] || ! "$python" -c "import ballista" 2>/dev/null; then
  need_python
  need_space 1500
  say "making $venv ..."
  python3 -m venv --clear "$venv" ||
    die "python3 cannot make environments; on Debian: apt-get install python3-venv"
  "$python" -m pip install --quiet --disable-pip-version-check datafusion==54.0.0 pyarrow==26.0.1 >&2 ||
    die "pip could not fetch datafusion and pyarrow"
  # Its wheel is for glibc 2.39 (Debian 13, Ubuntu 24.04); where that is not there, pip would build
  # all of it.
  site=$("$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --platform "manylinux_2_39_$(uname -m)" --target "$site" ballista==54.1.0 >&2 ||
    die "pip has no Ballista for this machine"
  "$python" "$(dirname "$0")/old_glibc.py" "$site"/ballista/*.so
  "$python" -c "import ballista" || die "Ballista cannot be loaded"
fi
echo "$python"
