# Shared by the scripts beside it; source it, do not run it:
#     . "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
#
# Gives ROOT (the checkout), VENV, PYTHON (of the venv), and the functions below.

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=${LINKSPAN_VENV:-$ROOT/.venv}
PYTHON=$VENV/bin/python
# Debian keeps nft, runc and conntrack out of an ordinary user's PATH.
PATH=$PATH:/usr/sbin:/sbin

# say TEXT...: one line of progress, on standard error so that output stays clean.
say() { printf '%s\n' "$*" >&2; }

# fail TEXT...: say why, and stop.
fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# print_help FILE: the comment at the top of a script, from its second line to the first blank.
print_help() { sed -n '2,/^$/s/^# \{0,1\}//p' "$1"; }

is_root() { [ "$(id -u)" -eq 0 ]; }

# can_be_root: whether as_root has a way to work.
can_be_root() { is_root || command -v sudo >/dev/null; }

# as_root COMMAND...: run it as root, by sudo if need be.
as_root() {
    if is_root; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        fail "needs root for: $* (become root, or install sudo)"
    fi
}

# quietly COMMAND...: its output only if it fails.
quietly() {
    local output
    if ! output=$("$@" 2>&1 </dev/null); then
        printf '%s\n' "$output" | tail -n 40 >&2
        fail "failed: $*"
    fi
}

# find_python: prints the first Python that is new enough and can make virtual environments.
find_python() {
    local candidate
    for candidate in "${LINKSPAN_PYTHON:-python3}" /usr/bin/python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import ensurepip, sqlite3, sys, venv; sys.exit(sys.version_info < (3, 11))' \
            2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer with venv and sqlite3 found (set LINKSPAN_PYTHON)"
}

# ensure_setup: packages and venv are there; quick when they already are.
# Without a way to become root, only the venv is made.
ensure_setup() {
    if can_be_root; then
        "$ROOT/scripts/setup"
    else
        "$ROOT/scripts/setup" --python
    fi
}
