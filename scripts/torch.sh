# Which torch this project goes with, and where it is kept; sourced by libtorch.sh and torch_venv.sh,
# which say what `die` does.

TORCH_VERSION=2.9.0 # the version tch 0.22 is written for

cache=${USER_LLM_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set; set USER_LLM_CACHE instead}/.cache}/user-llm}

say() { echo "$(basename "$0"): $*" >&2; }

need_python() {
  command -v python3 >/dev/null || die "no python3; on Debian: apt-get install python3 python3-pip"
  python3 -m pip --version >/dev/null 2>&1 ||
    die "python3 ($(command -v python3)) has no pip; on Debian: apt-get install python3-pip"
}

# need_space MEGABYTES: makes the cache, and looks whether so much is free there.
need_space() {
  local free
  mkdir -p "$cache" || die "cannot make $cache; set USER_LLM_CACHE to a folder that can be written"
  free=$(df -Pk "$cache" | awk 'NR == 2 { print $4 }')
  ((free > $1 * 1024)) ||
    die "$cache has $((free / 1024)) MB free, $1 are needed; set USER_LLM_CACHE to a folder on a larger disk"
}
