# What every stage uses. Sourced by deploy.sh.
# shellcheck shell=bash

say() { printf '==> %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# stage NUMBER TEXT: for people, and a line for programs that watch.
stage() {
    printf '__SWITCHYARD_STAGE__:%s:%s\n' "$1" "$2"
    say "$2"
}

# run COMMAND...: does it, or says it.
run() {
    if [ "$dry" = yes ]; then
        printf 'would run:'
        printf ' %q' "$@"
        printf '\n'
    else
        "$@"
    fi
}

# As run, without what the command has to say unless it fails.
quietly() {
    local said
    if [ "$dry" = yes ]; then
        run "$@"
    else
        said=$("$@" 2>&1) || { printf '%s\n' "$said" >&2 && return 1; }
    fi
}

# keep_file PATH OWNER:GROUP MODE: what comes on stdin, all of it or nothing; nothing when it is the same.
keep_file() {
    local path=$1 owner=$2 mode=$3 draft
    if [ "$dry" = yes ]; then
        cat >/dev/null
        printf 'would write: %s (%s, %s)\n' "$path" "$owner" "$mode"
        return
    fi
    draft=$(mktemp "$path.XXXXXX")
    cat >"$draft"
    chown "$owner" "$draft"
    chmod "$mode" "$draft"
    if [ -f "$path" ] && cmp -s "$draft" "$path" &&
        [ "$(stat -c %u:%g:%a "$draft")" = "$(stat -c %u:%g:%a "$path")" ]; then
        rm -f "$draft"
    else
        mv -f "$draft" "$path"
    fi
}

# Asks on the terminal, also when this script comes through a pipe.
ask() {
    local answer=
    [ "$yes" = no ] && [ "$dry" = no ] || return 0
    if ! { printf '%s [y/N] ' "$1" >/dev/tty && read -r answer </dev/tty; } 2>/dev/null; then
        fail "there is nobody to ask; --yes says yes"
    fi
    case $answer in y* | Y*) ;; *) fail "nothing was done" ;; esac
}

# Everything here needs root; sudo hands on the settings and nothing else.
become_root() {
    if [ "$(id -u)" = 0 ] || [ "$dry" = yes ]; then return; fi
    command -v sudo >/dev/null || fail "run this as root"
    exec sudo --preserve-env="$(IFS=,; echo "${SETTINGS[*]} SWITCHYARD_ETC TURN_PASSWORD ACME_SERVER" | tr ' ' ,)" \
        "$here/deploy.sh" "$@"
}

# packages NAME...: those that are missing.
packages() {
    local missing=() package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    # A fresh machine has no lists of packages yet.
    apt-cache show "${missing[@]}" >/dev/null 2>&1 || run apt-get update -qq
    quietly env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" ||
        fail "apt-get could not install: ${missing[*]}"
}

# wait_until SECONDS COMMAND...: until the command succeeds.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 1
    done
}
