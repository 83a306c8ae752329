# The machine: what it has to be, what is free, how others reach it.
# shellcheck shell=bash

check_system() {
    local id='' ID_LIKE='' VERSION_ID='' memory
    [ -r /etc/os-release ] && id=$(. /etc/os-release && echo "$ID $ID_LIKE")
    case " $id " in
        *" debian "* | *" ubuntu "*) ;;
        *) fail "this is neither Debian nor Ubuntu: $id" ;;
    esac
    command -v apt-get >/dev/null || fail "there is no apt-get"
    case $(uname -m) in
        x86_64 | aarch64) ;;
        *) warn "nobody has tried this on $(uname -m)" ;;
    esac
    memory=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
    [ "$memory" -ge 900 ] || warn "$memory MiB of memory is little; 1 GiB is enough for a few hundred users"
    [ "$(df -Pk /var | awk 'NR == 2 { print int($4 / 1024) }')" -ge 2048 ] ||
        warn "less than 2 GiB are free under /var"
    [ "$(date +%Y)" -ge 2026 ] ||
        fail "the clock says $(date): clients whose clocks are right would be refused (timedatectl set-ntp true)"
}

# Ports are free, or ours already.
check_ports() {
    local taken=() port ours=()
    if "${mode}_runs"; then return; fi
    command -v ss >/dev/null || return 0
    # The relay of names, on the loopback.
    if [ "$mode" = docker ]; then ours=("${DNS_PORT:-8453}"); fi
    for port in "$HTTPS_PORT" "$RELAY_PORT" "$PAD_PORT" "$HUB_PORT" "$PEERBOOK_PORT" "$MESH_PORT" \
        "$TURN_PORT" "$TURNS_PORT" "$METRICS_PORT" "${ours[@]}"; do
        if ss -Hltn "sport = $port" | grep -q .; then taken+=("$port"); fi
    done
    [ ${#taken[@]} = 0 ] || fail "something listens on port ${taken[*]} already; ss -ltnp shows what. \
Stop it, or choose other ports (deploy.sh --help)"
}

update_system() {
    if [ $upgrade = no ]; then
        say "left alone, as asked"
        return
    fi
    run apt-get update -qq || warn "the package lists could not be refreshed"
    quietly env DEBIAN_FRONTEND=noninteractive apt-get upgrade -qq -y -o Dpkg::Options::=--force-confold ||
        warn "not every package could be upgraded"
}

is_address() { is_ipv4 "$1" || [[ $1 == *:* ]]; }
is_ipv4() { [[ $1 =~ ^[0-9]{1,3}(\.[0-9]{1,3}){3}$ ]]; }
is_private() {
    case $1 in
        10.* | 127.* | 169.254.* | 192.168.* | 172.1[6-9].* | 172.2[0-9].* | 172.3[01].* | 100.6[4-9].* | 100.[7-9][0-9].* | 100.1[01][0-9].* | 100.12[0-7].*) ;;
        *) return 1 ;;
    esac
}

# PUBLIC_HOST is what clients are told, PUBLIC_IP what coturn says it is, LOCAL_IP what it has.
find_address() {
    # On a machine where --dry-run has installed nothing there may be no `ip`.
    LOCAL_IP=$(ip -4 route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p' | head -n1) || true
    [ -n "$LOCAL_IP" ] || LOCAL_IP=$(hostname -I 2>/dev/null | tr ' ' '\n' | grep -E '^[0-9.]+$' | head -n1) || true
    if [ -z "$PUBLIC_IP" ] && [ -n "$PUBLIC_HOST" ]; then
        if is_address "$PUBLIC_HOST"; then
            PUBLIC_IP=$PUBLIC_HOST
        else
            PUBLIC_IP=$(getent ahostsv4 "$PUBLIC_HOST" | awk 'NR == 1 { print $1 }') || true
            [ -n "$PUBLIC_IP" ] || warn "$PUBLIC_HOST has no address yet: set its DNS entry"
        fi
    fi
    [ -n "$PUBLIC_IP" ] || PUBLIC_IP=$LOCAL_IP
    # Behind a NAT only somebody outside knows.
    if [ -z "$PUBLIC_IP" ] || { [ -z "$PUBLIC_HOST" ] && is_private "$PUBLIC_IP"; }; then
        local seen
        seen=$(address_from_outside) && PUBLIC_IP=$seen
    fi
    [ -n "$PUBLIC_IP" ] || PUBLIC_IP=127.0.0.1
    [ -n "$PUBLIC_HOST" ] || PUBLIC_HOST=$PUBLIC_IP
    case $PUBLIC_HOST in *:*) URL_HOST="[$PUBLIC_HOST]" ;; *) URL_HOST=$PUBLIC_HOST ;; esac
    say "reached as $PUBLIC_HOST, address $PUBLIC_IP"
}

address_from_outside() {
    local service seen
    for service in https://api.ipify.org https://ifconfig.me/ip; do
        if seen=$(curl -4 -fsS --max-time 5 "$service" 2>/dev/null) && is_ipv4 "$seen"; then
            printf '%s\n' "$seen"
            return
        fi
    done
    return 1
}
