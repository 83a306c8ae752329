# The stack in containers.
# shellcheck shell=bash

# The user of the image, by number: this machine need not know it.
docker_account() {
    OWNER=10001:10001
    DATABASE_AT=postgres:5432
    ETC_SEEN_AT=/etc/switchyard
    TURN_SEEN_AT=/run/secrets/turn
    CERTIFICATE_SEEN_AT=/run/secrets/certificate
}

# Where the doctor's container finds its admin port; nothing when it is not deployed.
docker_host() {
    case $1:" ${profiles[*]} " in
        mesh:*" mesh "*) echo mesh ;;
        mesh:*) ;;
        *) echo "$1" ;;
    esac
}

docker_install() {
    local wanted=(openssl curl iproute2 ca-certificates) candidate
    command -v docker >/dev/null || wanted+=(docker.io)
    if ! has_compose; then
        for candidate in docker-compose-plugin docker-compose-v2 docker-compose; do
            if apt-cache show "$candidate" >/dev/null 2>&1; then
                wanted+=("$candidate")
                break
            fi
        done
    fi
    packages "${wanted[@]}"
    [ $dry = no ] || return 0
    if ! docker info >/dev/null 2>&1; then
        if [ -d /run/systemd/system ]; then systemctl enable --now docker; fi
        wait_until 30 docker info >/dev/null 2>&1 || fail "Docker does not run: systemctl status docker"
    fi
    has_compose || fail "there is no Docker Compose: apt-get install docker-compose"
}

has_compose() { docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null; }

# Compose on this stack, whichever of the two there is.
compose() {
    local command=(docker-compose) arguments=() profile
    if docker compose version >/dev/null 2>&1; then command=(docker compose); fi
    for profile in "${profiles[@]}"; do arguments+=(--profile "$profile"); done
    # Settings come from the file alone, not half from there and half from whoever runs this.
    # Docker may take its time on a busy machine; docker-compose 1.29 gives up after a minute unless told.
    run env -i PATH="$PATH" HOME="${HOME:-/root}" COMPOSE_HTTP_TIMEOUT=600 ${DOCKER_HOST:+DOCKER_HOST="$DOCKER_HOST"} \
        "${command[@]}" --project-name "${SWITCHYARD_PROJECT:-switchyard}" --env-file "$etc/deploy.env" \
        -f "$here/compose/docker-compose.yml" "${arguments[@]}" "$@"
}

docker_runs() { docker ps -q --filter "label=com.docker.compose.project=${SWITCHYARD_PROJECT:-switchyard}" 2>/dev/null | grep -q .; }

docker_programs() {
    if [ -n "$SWITCHYARD_IMAGE" ]; then
        say "the image is $SWITCHYARD_IMAGE"
        return
    fi
    say "building the image (the first time takes some minutes)"
    run docker build -f "$here/Dockerfile" -t switchyard "$root"
}

docker_start() {
    local ran=no
    if docker_runs; then ran=yes; fi
    compose up -d --remove-orphans
    [ $dry = no ] || return 0
    # Containers that did not change still serve what they read when they started.
    if [ $ran = yes ]; then compose kill -s USR2 haproxy coturn; fi
    if ! wait_until 300 docker_healthy; then
        compose logs --tail 20
        compose ps
        fail "not everything is healthy after five minutes: the lines above say why"
    fi
    say "every container is healthy"
}

docker_healthy() {
    local states
    states=$(docker ps -a --filter "label=com.docker.compose.project=${SWITCHYARD_PROJECT:-switchyard}" \
        --filter label=com.docker.compose.oneoff=False \
        --format '{{.Label "com.docker.compose.service"}} {{.Status}}') || return 1
    [ -n "$states" ] && ! grep -vE '^migrate Exited \(0\)|\(healthy\)|^(names|nats|prometheus) Up' <<<"$states" >/dev/null
}

docker_tool() { compose run --rm --no-deps -T tools "$@"; }

docker_doctor() { docker_tool doctor "${DOCTOR_ARGUMENTS[@]}" || warn "the doctor found something; the lines above say what mends it"; }

docker_reload_lines() {
    local project=${SWITCHYARD_PROJECT:-switchyard}
    cat <<LINES
for program in haproxy coturn; do
    docker ps -q --filter label=com.docker.compose.project=$project --filter label=com.docker.compose.service=\$program |
        xargs -r docker kill -s USR2
done
LINES
}

docker_uninstall() {
    if [ ! -r "$etc/deploy.env" ] || ! command -v docker >/dev/null; then
        say "there is nothing to remove"
        return
    fi
    profiles=(mesh nats monitoring tools)
    if [ $purge = yes ]; then compose down --volumes --remove-orphans; else compose down --remove-orphans; fi
}
