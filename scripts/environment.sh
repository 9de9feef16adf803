# Sourced by the other scripts: the checkout's own Python environment, made on first use.
# shellcheck shell=bash

# ensure_environment ROOT [dev]: returns at once when ROOT/.venv was made for ROOT from what
# pyproject.toml and the constraints say today; that check starts no program.
ensure_environment() {
  local root=$1 kind=${2:-run} python='' candidate
  local stamp=$root/.venv/.made-for-$kind
  if [[ -f $stamp && $(<"$stamp") == "$root
$(<"$root/pyproject.toml")
$(<"$root/scripts/constraints.txt")" ]]; then
    return 0
  fi

  for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      python=$candidate
      break
    fi
  done
  if [[ -z $python ]]; then
    echo "p2prss: Python 3.11 or newer is needed ($(python3 -V 2>&1 || true)): install python3, then run this again" >&2
    exit 1
  fi
  "$python" "$root/scripts/make_environment.py" "$root" "$kind" </dev/null || exit 1
}
