# The stack as systemd units on this machine: programs under /usr/local/lib/switchyard, a Postgres cluster of
# its own, one unit for each service.
# shellcheck shell=bash

prefix=/usr/local/lib/switchyard
state=/var/lib/switchyard
units=/etc/systemd/system
# Where Debian's Postgres keeps the cluster named `switchyard`.
native_cluster() { pg_lsclusters -h 2>/dev/null | awk '$2 == "switchyard" { print; exit }'; }

native_account() {
    if ! getent passwd switchyard >/dev/null; then
        run useradd --system --user-group --home-dir $state --no-create-home --shell /usr/sbin/nologin switchyard
    fi
    OWNER=switchyard:switchyard
    DATABASE_AT=127.0.0.1:${PG_PORT:-5432}
    ETC_SEEN_AT=$etc
    TURN_SEEN_AT=$etc/secrets/turn
    CERTIFICATE_SEEN_AT=$etc/tls/fullchain.pem
}

# Where its admin port is.
native_host() { echo 127.0.0.1; }

native_install() {
    local policy=/usr/sbin/policy-rc.d ours=no
    # The servers that these packages would start are not the stack's.
    if [ ! -e $policy ] && [ $dry = no ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        ours=yes
    fi
    if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        run install -d /etc/postgresql-common
        echo 'create_main_cluster = false' | keep_file /etc/postgresql-common/createcluster.conf root:root 0644
    fi
    packages openssl curl iproute2 procps ca-certificates postgresql haproxy coturn
    if [ $ours = yes ]; then rm -f $policy; fi
    if has_systemd; then
        local unit
        for unit in haproxy coturn; do
            # One that was there before and serves something else stays.
            systemctl is-active --quiet $unit || run systemctl --quiet disable $unit || true
        done
    fi
    native_database_port
}

has_systemd() { [ -d /run/systemd/system ]; }

native_database_port() {
    local version
    if [ -z "$(native_cluster)" ]; then
        version=$(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null | sort -V | tail -n1)
        quietly pg_createcluster "${version:-15}" switchyard --encoding UTF8 --locale C.UTF-8 -- \
            --data-checksums --auth-local=peer --auth-host=scram-sha-256
    fi
    PG_VERSION=$(native_cluster | awk '{ print $1 }')
    PG_PORT=$(native_cluster | awk '{ print $3 }')
}

native_runs() { has_systemd && systemctl is-active --quiet switchyard.target; }

# Replaced one by one, each all of it or nothing: what runs keeps the file it started from.
native_programs() {
    local directory=$binaries program
    if [ -z "$directory" ]; then
        say "building (the first time takes some minutes)"
        run native_build
        directory=$root/target/release
    fi
    run install -d $prefix/bin $prefix/haproxy
    for program in "${SERVICES[@]}" switchyard; do
        [ $dry = yes ] || [ -x "$directory/$program" ] || fail "there is no program $directory/$program"
        run install -m 0755 "$directory/$program" "$prefix/bin/.$program.new"
        run mv -f "$prefix/bin/.$program.new" "$prefix/bin/$program"
    done
    run ln -sfn $prefix/bin/switchyard /usr/local/bin/switchyard
    keep_file $prefix/haproxy/haproxy.cfg root:root 0644 <"$root/haproxy/haproxy.cfg"
}

native_build() {
    (
        cd "$root"
        # shellcheck source=scripts/setup.sh
        . scripts/setup.sh
        setup_certificates
        setup_compiler
        setup_rust
        cargo build --release --locked --bins "${SERVICES[@]/#/-p}" -pswitchyard
    )
}

native_start() {
    local unit
    native_environment | keep_file "$etc/native.env" root:root 0644
    for unit in "$here"/systemd/*; do
        sed "s|/etc/switchyard|$etc|g" "$unit" | keep_file "$units/${unit##*/}" root:root 0644
    done
    native_database
    if ! has_systemd; then
        say "systemd does not run here: the units are in $units, and nothing was started"
        say "Postgres alone: pg_ctlcluster $PG_VERSION switchyard start"
        return
    fi
    run systemctl daemon-reload
    run systemctl --quiet enable switchyard.target switchyard-migrate switchyard-haproxy switchyard-coturn "${SERVICES[@]/#/switchyard@}"
    # A restart each, not a reload: programs and settings may be new ones. Services drain; clients come back.
    run systemctl restart switchyard-migrate "${SERVICES[@]/#/switchyard@}" switchyard-coturn
    run systemctl reload-or-restart switchyard-haproxy
    run systemctl start switchyard.target
    [ $dry = yes ] || wait_until 60 native_ready || fail "not everything is ready: systemctl status 'switchyard*'"
}

native_ready() {
    local service
    for service in "${SERVICES[@]}"; do
        $prefix/bin/switchyard health "127.0.0.1:$(admin_port "$service")" >/dev/null 2>&1 || return 1
    done
}

# Each service reads what has its own prefix.
native_environment() {
    local service name
    for service in "${SERVICES[@]}"; do
        name=${service^^} name=${name//-/_}
        # HAProxy alone is reached from outside.
        printf '%s_LISTEN=127.0.0.1:%s\n' "$name" "$(native_port "$service")"
        printf '%s_TRUSTED_PROXIES=127.0.0.0/8\n' "$name"
        case $service in peer-linker | channel-hub) printf '%s_PROXY_PROTOCOL=accept\n' "$name" ;; esac
        case $service in signal | peerbook | mesh) ;; *) continue ;; esac
        turn_settings | sed -n "s/^TURN_/${name}_&/p"
        printf '%s_TURN_USER=%s\n' "$name" "$TURN_USER"
    done
    printf 'PEERBOOK_PUBLIC_URL=https://%s:%s\n' "$URL_HOST" "$PEERBOOK_PORT"
    printf 'MESH_PUBLIC_URL=https://%s:%s\n' "$URL_HOST" "$MESH_PORT"
    printf 'MESH_STUN_URLS=stun:%s:%s\n' "$URL_HOST" "$TURN_PORT"
    # HAProxy's.
    printf 'TLS_PEM=%s/tls/haproxy.pem\n' "$etc"
    printf 'RUN_AS_USER=%s\nRUN_AS_GROUP=%s\n' "$(id -u switchyard 2>/dev/null)" "$(id -g switchyard 2>/dev/null)"
}

native_port() {
    case $1 in
        signal) echo 3000 ;; relay) echo 4000 ;; peer-linker) echo 8080 ;; channel-hub) echo 8081 ;;
        peerbook) echo 17777 ;; mesh) echo 8000 ;;
    esac
}

# The cluster runs, and has the owner's login and the database.
native_database() {
    local password=dry
    if [ $dry = yes ]; then
        echo "would make: the database switchyard and its owner"
        return
    fi
    pg_conftool "$PG_VERSION" switchyard set max_connections 300
    pg_conftool "$PG_VERSION" switchyard set max_locks_per_transaction 256
    [ "$(native_cluster | awk '{ print $4 }')" = online ] || pg_ctlcluster "$PG_VERSION" switchyard start
    password=$(cat "$etc/secrets/postgres")
    native_sql postgres <<SQL
DO \$\$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'switchyard') THEN
        CREATE ROLE switchyard LOGIN CREATEROLE;
    END IF;
END \$\$;
ALTER ROLE switchyard PASSWORD '$password';
SELECT 'CREATE DATABASE switchyard OWNER switchyard'
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'switchyard') \gexec
SQL
}

# The password goes by a pipe: arguments are for everybody to see.
native_sql() {
    (cd / && setpriv --reuid postgres --regid postgres --init-groups psql -X -q -v ON_ERROR_STOP=1 -p "$PG_PORT" "$1") >/dev/null
}

# Without what the caller exported for this script: the tool reads some of the same names.
native_tool() {
    env -u PUBLIC_HOST -u TURN_USER -u TURN_PASSWORD DATABASE_URL_FILE="$etc/secrets/owner.url" \
        $prefix/bin/switchyard --data $state "$@"
}

native_doctor() {
    [ $dry = no ] || return 0
    native_tool doctor "${DOCTOR_ARGUMENTS[@]}" || warn "the doctor found something; the lines above say what mends it"
}

native_reload_lines() { echo "systemctl reload switchyard-haproxy switchyard-coturn"; }

native_uninstall() {
    local unit
    if has_systemd; then
        run systemctl --quiet disable --now switchyard.target switchyard-haproxy switchyard-coturn "${SERVICES[@]/#/switchyard@}" switchyard-migrate || true
    fi
    for unit in "$here"/systemd/*; do run rm -f "$units/${unit##*/}"; done
    if has_systemd; then run systemctl daemon-reload; fi
    run rm -rf -- $prefix /usr/local/bin/switchyard "$etc/native.env"
    native_database_port_known || return 0
    if [ $purge = yes ]; then
        run pg_dropcluster --stop "$PG_VERSION" switchyard
        run rm -rf -- $state
    else
        run pg_ctlcluster "$PG_VERSION" switchyard stop || true
        say "the database stays: pg_lsclusters shows it"
    fi
}

native_database_port_known() {
    command -v pg_lsclusters >/dev/null && [ -n "$(native_cluster)" ] || return 1
    PG_VERSION=$(native_cluster | awk '{ print $1 }')
}
