# shellcheck shell=bash
# Shared by the scripts; to be sourced.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT

die() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || die "$tool is missing; scripts/setup installs it"
  done
}

# The C files that are ours to format and check.
c_files() {
  find "$ROOT/src" "$ROOT/spec" "$ROOT/bench" -name node_modules -prune -o -name '*.[ch]' -print 2>/dev/null | sort
}
