# Sourced by the scripts beside it, with $bin set. `bootstrap [EXTRA]` leaves $python: the one in .venv, which has zlb,
# its dependencies and those of the extra. The usual call costs two comparisons; only a first or stale one builds.

root=${bin%/bin}

bootstrap() {
    python=$root/.venv/bin/python
    # The stamps are written last: a copy of the setup.cfg that was installed, and the place, for a .venv cannot move.
    if [ -x "$python" ] && cmp -s "$root/setup.cfg" "$root/.venv/zlb-setup${1:+-$1}.cfg" &&
        IFS= read -r place <"$root/.venv/zlb-place" && [ "$place" = "$root" ]; then
        return
    fi
    found=$(find_python) || exit
    "$found" -I "$bin/bootstrap.py" "$@" || exit
}

# $PYTHON if it is set, else the first new enough; a name may exist and yet not run (pyenv), so each is tried.
find_python() {
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3 python3.13 python3.12 python3.11; fi
    for candidate; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    echo "zlb: needs Python 3.11 or newer, tried: $*; set PYTHON to one" >&2
    return 1
}
