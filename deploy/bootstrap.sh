#!/usr/bin/env bash
# Fetches Switchyard and hands over to deploy.sh; for a fresh Debian or Ubuntu machine:
#
#   wget -qO- https://HOST/PATH/deploy/bootstrap.sh | SWITCHYARD_REPOSITORY=https://HOST/PATH.git bash
#   … | bash -s -- --native --public example.org        # options are those of deploy.sh
#
# Environment: SWITCHYARD_REPOSITORY (a Git address), SWITCHYARD_VERSION (a tag, branch or commit),
# SWITCHYARD_SOURCE [/opt/switchyard], and what deploy.sh reads. May be run again: it then updates.
#
# Everything is in functions, so that a download that breaks off does nothing.
set -Eeuo pipefail

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

main() {
    local source=${SWITCHYARD_SOURCE:-/opt/switchyard} version=${SWITCHYARD_VERSION:-} repository=${SWITCHYARD_REPOSITORY:-}
    printf '__SWITCHYARD_STAGE__:0:Fetching Switchyard\n'
    command -v apt-get >/dev/null || fail "this is neither Debian nor Ubuntu"
    if ! command -v git >/dev/null; then
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends git ca-certificates >/dev/null ||
            fail "apt-get could not install git"
    fi
    if [ -d "$source/.git" ]; then
        as_root git -C "$source" fetch --quiet --tags origin
        as_root git -C "$source" checkout --quiet --detach "${version:-origin/HEAD}"
    else
        [ -n "$repository" ] || fail "SWITCHYARD_REPOSITORY has to name the Git repository to fetch"
        as_root git clone --quiet "$repository" "$source"
        [ -z "$version" ] || as_root git -C "$source" checkout --quiet --detach "$version"
    fi
    exec "$source/deploy/deploy.sh" "$@"
}

main "$@"
