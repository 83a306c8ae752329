#!/usr/bin/env bash
# Puts the whole stack on this Debian or Ubuntu machine and prints the link an app reads it from.
#
# usage: deploy.sh [OPTION]...
#
#   --native            systemd units and this machine's own Postgres instead of Docker
#   --public HOST       name or address others reach this machine by [detected]
#   --dry-run           say what would be done; change nothing
#   --yes               do not ask
#   --no-upgrade        leave the system's installed packages as they are
#   --self-signed       no certificate from a public authority even for a domain name
#   --email ADDRESS     where that authority writes to
#   --image NAME        with Docker: use this image of the services instead of building it
#   --binaries DIR      with --native: programs that are built already
#   --profile NAME      with Docker: mesh, nats, monitoring; may be repeated [mesh]
#   --uninstall         stop and remove; data, secrets and certificates stay
#   --purge             with --uninstall: those too
#
# Environment: PUBLIC_HOST, PUBLIC_IP; TURN_USER and TURN_PASSWORD for one static pair instead of
# credentials that expire; HTTPS_PORT, RELAY_PORT, PAD_PORT, HUB_PORT, PEERBOOK_PORT, MESH_PORT,
# TURN_PORT, TURNS_PORT; TURN_ALLOWED_PEERS for private addresses or ranges that coturn may relay to all the
# same, as in a LAN; SWITCHYARD_ETC [/etc/switchyard]; ACME_SERVER.
#
# May be run again at any time: what was chosen or made before is kept, secrets and certificate above
# all. Lines of the form __SWITCHYARD_STAGE__:NUMBER:TEXT on stdout tell programs how far it is.
set -Eeuo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)

# shellcheck source=deploy/lib/common.sh
. "$here/lib/common.sh"
# shellcheck source=deploy/lib/settings.sh
. "$here/lib/settings.sh"
# shellcheck source=deploy/lib/checks.sh
. "$here/lib/checks.sh"
# shellcheck source=deploy/lib/certificate.sh
. "$here/lib/certificate.sh"
# shellcheck source=deploy/lib/docker.sh
. "$here/lib/docker.sh"
# shellcheck source=deploy/lib/native.sh
. "$here/lib/native.sh"

mode=docker dry=no yes=no upgrade=yes acme=auto uninstall=no purge=no
email='' binaries='' profiles=() arguments=("$@")

usage() { sed -n '2,/^set -/{/^set -/!s/^# \{0,1\}//p}' "$here/deploy.sh"; }

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --native) mode=native ;;
            --dry-run) dry=yes ;;
            --yes | -y) yes=yes ;;
            --no-upgrade) upgrade=no ;;
            --self-signed) acme=no ;;
            --uninstall) uninstall=yes ;;
            --purge) purge=yes ;;
            --public | --email | --image | --binaries | --profile)
                [ $# -ge 2 ] || fail "$1 needs a value"
                case $1 in
                    --public) PUBLIC_HOST=$2 ;;
                    --email) email=$2 ;;
                    --image) SWITCHYARD_IMAGE=$2 ;;
                    --binaries) binaries=$(cd "$2" && pwd) || fail "there is no directory $2" ;;
                    --profile) profiles+=("$2") ;;
                esac
                shift
                ;;
            -h | --help) usage && exit ;;
            *) fail "unknown option $1; see deploy.sh --help" ;;
        esac
        shift
    done
    [ ${#profiles[@]} -gt 0 ] || profiles=(mesh)
}

install_all() {
    stage 1 "Checking the machine"
    check_system
    settings_load
    check_ports
    stage 2 "Updating the system"
    update_system
    stage 3 "Installing what is needed"
    "${mode}_install"
    stage 4 "Finding the address"
    find_address
    stage 5 "Keeping settings and secrets"
    settings_keep
    stage 6 "Keeping the certificate"
    certificate_keep
    stage 7 "Getting the programs"
    "${mode}_programs"
    stage 8 "Starting"
    "${mode}_start"
    stage 9 "Looking whether it works"
    "${mode}_doctor"
    stage 10 "Ready"
    tell
}

# What people and apps need to know.
tell() {
    if [ $dry = yes ]; then
        say "nothing was changed"
        return
    fi
    printf '\n'
    certificate_tell
    cat <<LINES
signal        wss://$URL_HOST:$HTTPS_PORT
relay         https://$URL_HOST:$RELAY_PORT
peer-linker   wss://$URL_HOST:$PAD_PORT
channel-hub   wss://$URL_HOST:$HUB_PORT
peerbook      https://$URL_HOST:$PEERBOOK_PORT
mesh          https://$URL_HOST:$MESH_PORT
TURN          turn:$URL_HOST:$TURN_PORT  turns:$URL_HOST:$TURNS_PORT
Open in the firewall, if there is one:
    ufw allow $HTTPS_PORT,$RELAY_PORT,$PAD_PORT,$HUB_PORT,$PEERBOOK_PORT,$MESH_PORT,$TURN_PORT,$TURNS_PORT/tcp
    ufw allow $TURN_PORT,$TURNS_PORT/udp && ufw allow 49152:51819/udp

LINES
    "${mode}_tool" link "${LINK_ARGUMENTS[@]}"
}

main() {
    read_arguments "$@"
    become_root "${arguments[@]}"
    if [ $uninstall = yes ]; then
        settings_load
        stage 1 "Removing"
        [ $purge = no ] || ask "This deletes every message, account and secret of the stack. Go on?"
        "${mode}_uninstall"
        [ $purge = no ] || settings_purge
        stage 2 "Removed"
        return
    fi
    install_all
}

main "$@"
