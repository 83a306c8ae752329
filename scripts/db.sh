#!/usr/bin/env bash
# A throw-away Postgres for tests: on loopback, gone with its directory.
#
# usage: scripts/db.sh start DIR   makes and starts it, prints its URL (a superuser's)
#        scripts/db.sh url DIR     prints the URL of a started one
#        scripts/db.sh stop DIR    stops it and removes DIR
#
# Started by root it runs as the user `postgres` (or `nobody`), because Postgres refuses to run as
# root. Nothing it holds is meant to survive: fsync is off.
set -euo pipefail

usage() { sed -n '2,/^set -/{/^set -/!s/^# \{0,1\}//p}' "$0" >&2; }
[ $# = 2 ] || { usage; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
command=$1
directory=$(realpath -m "$2")

find_programs() {
    local found
    for found in "${SWITCHYARD_PG_BIN:-/nonexistent}" \
        $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) \
        "$here"/data/tools/root/usr/lib/postgresql/*/bin; do
        if [ -x "$found/initdb" ]; then
            programs=$found
            case $found in
                "$here"/data/tools/*)
                    LD_LIBRARY_PATH=$(echo "$here"/data/tools/root/usr/lib/*-linux-gnu)
                    export LD_LIBRARY_PATH
                    ;;
            esac
            return
        fi
    done
    echo "PostgreSQL is not installed: apt-get install postgresql" >&2
    exit 1
}

# Runs a command as whoever may run Postgres.
as_user() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid="$owner" --regid="$(id -g "$owner")" --clear-groups "$@"
    else
        "$@"
    fi
}

free_port() {
    local port
    for _ in $(seq 100); do
        port=$((20000 + RANDOM % 10000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    echo "no free port" >&2
    exit 1
}

start() {
    local password port
    mkdir -p "$directory"
    chmod 755 "$directory"
    if [ "$(id -u)" = 0 ]; then chown "$owner" "$directory"; fi
    # scram, because anybody on this machine could connect to a loopback port.
    password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    (umask 077 && printf '%s' "$password" >"$directory/password")
    if [ "$(id -u)" = 0 ]; then chown "$owner" "$directory/password"; fi
    cd "$directory"
    as_user "$programs/initdb" -D "$directory/data" -U postgres -E UTF8 --locale=C.UTF-8 --no-sync \
        --auth=scram-sha-256 --pwfile="$directory/password" >"$directory/initdb.log" 2>&1 || {
        cat "$directory/initdb.log" >&2
        exit 1
    }
    for _ in 1 2 3; do # another program may take the port first
        port=$(free_port)
        if as_user "$programs/pg_ctl" -D "$directory/data" -w -t 60 -l "$directory/data/log" -o "-p $port \
            -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=400 \
            -c fsync=off -c full_page_writes=off -c jit=off -c max_locks_per_transaction=256 -c authentication_timeout=10s \
            -c shared_buffers=256MB -c autovacuum_naptime=20s" start >/dev/null; then
            url="postgres://postgres:$password@127.0.0.1:$port/postgres"
            (umask 077 && printf '%s\n' "$url" >"$directory/url")
            cat "$directory/url"
            return
        fi
    done
    cat "$directory/data/log" >&2
    exit 1
}

stop() {
    if [ -f "$directory/data/postmaster.pid" ]; then
        cd "$directory"
        as_user "$programs/pg_ctl" -D "$directory/data" -w -m immediate stop >/dev/null || true
        cd /
    fi
    # Only ever remove what start made.
    if [ -f "$directory/password" ]; then rm -rf -- "$directory"; fi
}

if id postgres >/dev/null 2>&1; then owner=postgres; else owner=nobody; fi
case $command in
    start) find_programs && start ;;
    url) cat "$directory/url" ;;
    stop) find_programs && stop ;;
    *) usage; exit 2 ;;
esac
