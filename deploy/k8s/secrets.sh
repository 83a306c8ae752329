#!/usr/bin/env bash
# Prints the Secrets the manifests name, with fresh random passwords. Pipe it into the cluster, once:
#
#   kubectl create namespace switchyard; kubectl create namespace switchyard-turn
#   deploy/k8s/secrets.sh | kubectl create -f -
#
# `create` on purpose: a second run is refused by the cluster, so that what was made stays. The
# certificate (Secret switchyard-tls in both namespaces) is yours: cert-manager's, or
#
#   kubectl -n NAMESPACE create secret tls switchyard-tls --cert=fullchain.pem --key=privkey.pem
#
# Environment: TURN_USER and TURN_PASSWORD for one static pair instead of credentials that expire.
set -euo pipefail

case ${1:-} in
    '') ;;
    -h | --help)
        sed -n '2,/^set -/{/^set -/!s/^# \{0,1\}//p}' "$0"
        exit
        ;;
    *)
        echo "unknown option $1; see $0 --help" >&2
        exit 2
        ;;
esac

services=(signal relay peer-linker channel-hub peerbook mesh)

# A letter, then letters and digits: nothing any format would have to escape or take for a number.
password() { printf k; head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

# secret NAMESPACE NAME TYPE; then lines of `key: value`, indented by the caller.
secret() {
    printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: { name: %s, namespace: %s }\ntype: %s\nstringData:\n' \
        "$2" "$1" "$3"
}

url() { printf 'postgres://%s:%s@postgres-rw:5432/switchyard' "$1" "$2"; }

owner=$(password)
turn=$(password) turn_user=${TURN_USER-} turn_password=${TURN_PASSWORD-}
if [ -n "$turn_user$turn_password" ]; then
    # What coturn and YAML read as it is.
    for value in "$turn_user" "$turn_password"; do
        [[ $value =~ ^[A-Za-z0-9._~@%+=/-]+$ ]] || {
            echo "TURN_USER and TURN_PASSWORD: both, of letters, digits and ._~@%+=/-" >&2
            exit 2
        }
    done
    turn=
fi
nats=$(password)

secret switchyard switchyard-owner kubernetes.io/basic-auth
printf '  username: switchyard\n  password: %s\n' "$owner"

secret switchyard switchyard-database Opaque
logins=
printf '  owner: %s\n' "$(url switchyard "$owner")"
for service in "${services[@]}"; do
    role=switchyard_${service//-/_}
    own=$(password)
    printf '  %s: %s\n' "$service" "$(url "$role" "$own")"
    logins+="    ALTER ROLE $role LOGIN PASSWORD '$own';"$'\n'
done
printf '  logins.sql: |\n%s' "$logins"

for namespace in switchyard switchyard-turn; do
    secret $namespace switchyard-turn Opaque
    # What is empty counts as not set.
    printf "  secret: '%s'\n  user: '%s'\n  password: '%s'\n" "$turn" "$turn_user" "$turn_password"
done

secret switchyard switchyard-nats Opaque
printf '  user: switchyard\n  password: %s\n  url: nats://switchyard:%s@nats:4222\n' "$nats" "$nats"
