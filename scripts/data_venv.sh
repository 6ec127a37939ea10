#!/usr/bin/env bash
# Makes a Python environment with what benches/peers/data.py and scripts/check_store.py compare
# with, 0.6 GB, and prints its interpreter:
#
#     python=$(bash scripts/data_venv.sh)
#     python=$(bash scripts/data_venv.sh --if-there)    # makes nothing: empty where there is none
#
# It is kept in ${USER_LLM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/user-llm}/venv-data.
set -euo pipefail
die() { say "error: $*"; exit 1; }
source "$(dirname "$0")/torch.sh"

packages=(duckdb==2.0.0 numpy pandas==3.1.1 polars==2.1.0 pyarrow==26.0.1)
venv=$cache/venv-data
python=$venv/bin/python

has_packages() { [[ -x "$python" ]] && "$python" -c "import duckdb, pandas, polars, pyarrow" 2>/dev/null; }

if ! has_packages; then
  [[ "${1:-}" != --if-there ]] || exit 0
  need_python
  need_space 1500
  say "making $venv ..."
  python3 -m venv --clear "$venv" ||
    die "python3 cannot make environments; on Debian: apt-get install python3-venv"
  "$python" -m pip install --quiet --disable-pip-version-check "${packages[@]}" >&2 ||
    die "pip could not fetch ${packages[*]}"
fi
echo "$python"
