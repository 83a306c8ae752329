# Settings and secrets: chosen or made once, kept from run to run.
#
#   $etc/deploy.env   what was chosen, NAME=value; Compose and systemd read it
#   $etc/services.env more settings of the services, the operator's
#   $etc/secrets/     passwords and connection strings, each readable to who needs it alone
#   $etc/tls/         certificate and key
# shellcheck shell=bash

etc=${SWITCHYARD_ETC:-/etc/switchyard}
SETTINGS=(PUBLIC_HOST PUBLIC_IP HTTPS_PORT RELAY_PORT PAD_PORT HUB_PORT PEERBOOK_PORT MESH_PORT TURN_PORT
    TURNS_PORT METRICS_PORT DNS_PORT BACK_NET TURN_USER TURN_ALLOWED_PEERS SWITCHYARD_IMAGE POSTGRES_IMAGE HAPROXY_IMAGE
    COTURN_IMAGE NATS_IMAGE PROMETHEUS_IMAGE PROMETHEUS_PORT POSTGRES_MAX_CONNECTIONS POSTGRES_SHARED_BUFFERS
    REPLICAS NOFILE CONNECTIONS CONNECTIONS_PER_10S)
SERVICES=(signal relay peer-linker channel-hub peerbook mesh)

# The environment wins over what was chosen before; a variable set to nothing goes back to the default.
settings_load() {
    local name line value
    if [ -r "$etc/deploy.env" ]; then
        while IFS= read -r line; do
            name=${line%%=*} value=${line#*=}
            case " ${SETTINGS[*]} " in *" $name "*) ;; *) continue ;; esac
            [ -n "${!name+set}" ] || printf -v "$name" %s "$value"
        done <"$etc/deploy.env"
    fi
    local defaults=(HTTPS_PORT=443 RELAY_PORT=444 PAD_PORT=445 HUB_PORT=446 PEERBOOK_PORT=447 MESH_PORT=448
        TURN_PORT=3478 TURNS_PORT=5349 METRICS_PORT=8405)
    for line in "${defaults[@]}"; do
        name=${line%%=*}
        [ -n "${!name-}" ] || printf -v "$name" %s "${line#*=}"
    done
    for name in "${SETTINGS[@]}"; do
        [ -n "${!name+set}" ] || printf -v "$name" %s ''
        [[ ${!name} =~ ^[A-Za-z0-9._:/@,-]*$ ]] || fail "$name: \`${!name}\` has a character that does not belong there"
    done
    case $TURN_USER in *:*) fail "TURN_USER must not contain a colon" ;; esac
}

settings_keep() {
    local owner
    "${mode}_account"
    owner=$OWNER
    run install -d -m 0755 "$etc"
    run install -d -m 0710 -g "${owner#*:}" "$etc/secrets"
    run install -d -m 0711 "$etc/tls"
    turn_pair
    link_arguments
    doctor_arguments
    secret turn "$owner"
    database_secrets "$owner"
    turnserver_conf | keep_file "$etc/secrets/turnserver.conf" "$owner" 0400
    {
        echo "# Kept by deploy.sh: what was chosen. Change it here or by the environment, and run deploy.sh again."
        local name
        for name in "${SETTINGS[@]}"; do [ -z "${!name}" ] || echo "$name=${!name}"; done
        turn_settings
        echo "SECRETS_SEEN=$(secrets_seen)"
        echo "SERVICES_ENV=$etc/services.env"
        echo "SWITCHYARD_ETC=$etc"
    } | keep_file "$etc/deploy.env" root:root 0644
    [ -e "$etc/services.env" ] || keep_file "$etc/services.env" root:root 0640 <"$here/compose/services.env"
}

# Another value when a secret is another one: Compose then makes the containers anew that read it.
secrets_seen() { cat "$etc"/secrets/* 2>/dev/null | sha256sum | cut -c1-16; }

# secret NAME OWNER: 192 random bits, once.
secret() {
    local path=$etc/secrets/$1
    if [ -s "$path" ]; then
        run chown "$2" "$path"
        return
    fi
    if [ "$dry" = yes ]; then echo; else random; fi | keep_file "$path" "$2" 0400
}

# Characters that no format has to escape.
random() { openssl rand -base64 24 | tr '+/' '-_'; }

# One login for each service, and the owner's, which only migrations and the operator use.
database_secrets() {
    local owner=$1 service role
    secret postgres "$owner"
    connection_string switchyard "$etc/secrets/postgres" | keep_file "$etc/secrets/owner.url" "$owner" 0400
    for service in "${SERVICES[@]}"; do
        role=switchyard_${service//-/_}
        secret "$service" root:root
        connection_string "$role" "$etc/secrets/$service" | keep_file "$etc/secrets/$service.url" "$owner" 0400
    done
}

connection_string() {
    local password=dry
    [ "$dry" = yes ] || password=$(cat "$2")
    printf 'postgres://%s:%s@%s/switchyard\n' "$1" "$password" "$DATABASE_AT"
}

# The operator's own pair for TURN, if there is one. A password alone belongs to `peerlink`, as clients assume.
turn_pair() {
    if [ -n "${TURN_PASSWORD-}" ]; then
        [ -n "$TURN_USER" ] || TURN_USER=peerlink
        [[ $TURN_PASSWORD =~ ^[[:graph:]]+$ ]] || fail "TURN_PASSWORD has a character coturn cannot read"
        printf '%s\n' "$TURN_PASSWORD" | keep_file "$etc/secrets/turn-password" "$OWNER" 0400
    else
        secret turn-password "$OWNER"
    fi
}

link_arguments() {
    LINK_ARGUMENTS=("$PUBLIC_HOST" --signal-port "$HTTPS_PORT" --relay-port "$RELAY_PORT" --turn-port "$TURN_PORT")
    if [ -n "$TURN_USER" ]; then
        LINK_ARGUMENTS+=(--turn-user "$TURN_USER" --turn-password-file "$TURN_SEEN_AT-password")
    else
        LINK_ARGUMENTS+=(--turn-secret-file "$TURN_SEEN_AT")
    fi
}

# What the doctor cannot know by itself: ports, certificate, and what coturn takes. By the names that whoever
# runs it reaches the services by.
doctor_arguments() {
    local service host url
    DOCTOR_ARGUMENTS=()
    for service in "${SERVICES[@]}"; do
        host=$("${mode}_host" "$service")
        [ -z "$host" ] || DOCTOR_ARGUMENTS+=(--service "$service=$host:$(admin_port "$service")")
    done
    # From inside a container a loopback address is the container itself.
    case $mode:$PUBLIC_HOST in docker:127.* | docker:localhost | docker:::1) return ;; esac
    DOCTOR_ARGUMENTS+=(--public "$PUBLIC_HOST" --certificate "$CERTIFICATE_SEEN_AT")
    for service in "signal=$HTTPS_PORT" "relay=$RELAY_PORT" "peer-linker=$PAD_PORT" "channel-hub=$HUB_PORT" \
        "peerbook=$PEERBOOK_PORT" "mesh=$MESH_PORT"; do
        DOCTOR_ARGUMENTS+=(--front-port "$service")
    done
    for url in $(turn_urls); do DOCTOR_ARGUMENTS+=(--turn "$url"); done
    if [ -n "$TURN_USER" ]; then
        DOCTOR_ARGUMENTS+=(--turn-user "$TURN_USER" --turn-password-file "$TURN_SEEN_AT-password")
    else
        DOCTOR_ARGUMENTS+=(--turn-secret-file "$TURN_SEEN_AT")
    fi
}

admin_port() {
    case $1 in
        signal) echo 13000 ;; relay) echo 14000 ;; peer-linker) echo 18080 ;; channel-hub) echo 18081 ;;
        peerbook) echo 27777 ;; mesh) echo 18000 ;;
    esac
}

# By UDP, TCP and TLS.
turn_urls() {
    echo "turn:$URL_HOST:$TURN_PORT?transport=udp" "turn:$URL_HOST:$TURN_PORT?transport=tcp" \
        "turns:$URL_HOST:$TURNS_PORT?transport=tcp"
}

# What services hand out. coturn takes one of the two, so they are told of one.
turn_settings() {
    if [ -n "$TURN_USER" ]; then
        echo "TURN_SECRET_FILE="
        echo "TURN_PASSWORD_FILE=$TURN_SEEN_AT-password"
    else
        echo "TURN_SECRET_FILE=$TURN_SEEN_AT"
        echo "TURN_PASSWORD_FILE="
    fi
    echo "TURN_URLS=$(turn_urls | tr ' ' ,)"
    echo "STUN_URLS=stun:$URL_HOST:$TURN_PORT"
}

# The project's file with this machine's values behind it. Later lines win.
turnserver_conf() {
    local external=$PUBLIC_IP
    if [ -n "$TURN_USER" ]; then
        grep -v '^use-auth-secret' "$root/coturn/turnserver.conf"
        printf 'lt-cred-mech\nuser=%s:%s\n' "$TURN_USER" "$(cat "$etc/secrets/turn-password" 2>/dev/null)"
        # All clients have one name: its quota is the total.
        printf 'user-quota=0\n'
    else
        cat "$root/coturn/turnserver.conf"
        printf 'static-auth-secret=%s\n' "$(cat "$etc/secrets/turn" 2>/dev/null)"
        # Whoever reads the link has one name.
        printf 'user-quota=200\n'
    fi
    printf 'realm=%s\n' "$PUBLIC_HOST"
    printf 'cert=%s/tls/fullchain.pem\npkey=%s/tls/privkey.pem\n' "$ETC_SEEN_AT" "$ETC_SEEN_AT"
    printf 'listening-port=%s\ntls-listening-port=%s\n' "$TURN_PORT" "$TURNS_PORT"
    # Exceptions from the file's list of those it never relays to.
    local peer
    for peer in ${TURN_ALLOWED_PEERS//,/ }; do printf 'allowed-peer-ip=%s\n' "$peer"; done
    # Only where the address is not this machine's own.
    if [ -n "$LOCAL_IP" ] && [ "$external" != "$LOCAL_IP" ] && ! ip -o addr 2>/dev/null | grep -qF " $external/"; then
        printf 'external-ip=%s/%s\n' "$external" "$LOCAL_IP"
    fi
    printf 'pidfile=/tmp/turnserver.pid\nuserdb=/tmp/turndb\n'
}

settings_purge() {
    # Only ever what this script makes.
    run rm -rf -- "$etc/secrets" "$etc/tls" "$etc/deploy.env" "$etc/services.env" "$etc/renewed"
    if [ -d "$etc" ]; then run rmdir --ignore-fail-on-non-empty "$etc"; fi
}
