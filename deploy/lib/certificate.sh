# The certificate: from a public authority for a domain name, else self-signed for the address. Apps pin a
# self-signed one, so it is made once and kept for as long as the host is the same.
# shellcheck shell=bash

certificate_keep() {
    local tls=$etc/tls
    if [ $acme = auto ] && ! is_address "$PUBLIC_HOST" && [[ $PUBLIC_HOST == *.* ]]; then
        certificate_from_authority && return
        warn "no certificate for $PUBLIC_HOST from the authority: a self-signed one takes its place. \
Port 80 has to be reachable and DNS to name this machine; then run deploy.sh again"
    fi
    if [ -s "$tls/fullchain.pem" ] && [ "$(cat "$tls/host" 2>/dev/null)" = "$PUBLIC_HOST" ]; then
        say "kept: $(certificate_fingerprint)"
    elif [ $dry = yes ]; then
        printf 'would make: a self-signed ECDSA P-256 certificate for %s\n' "$PUBLIC_HOST"
        return
    else
        certificate_make
    fi
    certificate_install "$tls/fullchain.pem" "$tls/privkey.pem"
}

# ECDSA P-256: the cheapest handshake clients agree on.
certificate_make() {
    local draft names
    if is_address "$PUBLIC_HOST"; then names=IP:$PUBLIC_HOST; else names=DNS:$PUBLIC_HOST,IP:$PUBLIC_IP; fi
    case $names in *IP:127.0.0.1*) ;; *) names=$names,IP:127.0.0.1 ;; esac
    draft=$(mktemp -d "$etc/tls/new.XXXXXX")
    cat >"$draft/config" <<CONFIG
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = ${PUBLIC_HOST:0:64}
[extensions]
subjectAltName = $names,DNS:localhost
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
CONFIG
    # Nobody renews a certificate whose fingerprint others have written down.
    openssl req -x509 -config "$draft/config" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 7300 \
        -keyout "$draft/privkey.pem" -out "$draft/fullchain.pem" 2>/dev/null || fail "openssl made no certificate"
    mv "$draft/privkey.pem" "$draft/fullchain.pem" "$etc/tls/"
    rm -r "$draft"
    printf '%s\n' "$PUBLIC_HOST" >"$etc/tls/host"
    say "made: $(certificate_fingerprint)"
}

# certificate_install CHAIN KEY: where HAProxy and coturn look. The account that runs them owns the files,
# root's group may read: HAProxy's master has root's number but none of root's powers.
certificate_install() {
    local tls=$etc/tls owner=${OWNER%%:*}:root
    if [ $dry = yes ]; then return; fi
    cat "$1" "$2" | keep_file "$tls/haproxy.pem" "$owner" 0440
    [ "$1" = "$tls/fullchain.pem" ] || keep_file "$tls/fullchain.pem" "$owner" 0444 <"$1"
    [ "$2" = "$tls/privkey.pem" ] || keep_file "$tls/privkey.pem" "$owner" 0440 <"$2"
    chown "$owner" "$tls/fullchain.pem" "$tls/privkey.pem"
    chmod 0440 "$tls/privkey.pem"
    chmod 0444 "$tls/fullchain.pem"
}

# certbot answers on port 80, which nothing here uses, now and whenever it renews.
certificate_from_authority() {
    local more=(--register-unsafely-without-email)
    packages certbot
    [ -z "$email" ] || more=(--email "$email")
    [ -z "${ACME_SERVER-}" ] || more+=(--server "$ACME_SERVER")
    certificate_hook | keep_file "$etc/renewed" root:root 0755
    run certbot certonly --standalone --non-interactive --agree-tos --keep-until-expiring --key-type ecdsa \
        --elliptic-curve secp256r1 --cert-name switchyard -d "$PUBLIC_HOST" --deploy-hook "$etc/renewed" "${more[@]}" || return 1
    if [ $dry = yes ]; then return; fi
    printf '%s\n' "$PUBLIC_HOST" >"$etc/tls/host"
    certificate_install /etc/letsencrypt/live/switchyard/fullchain.pem /etc/letsencrypt/live/switchyard/privkey.pem
}

# What certbot calls with the new certificate: in place, then both programs read it without losing anybody.
certificate_hook() {
    cat <<HOOK
#!/usr/bin/env bash
# Kept by deploy.sh.
set -Eeuo pipefail
etc=$etc dry=no acme=no OWNER=$OWNER
. '$here/lib/common.sh'
. '$here/lib/certificate.sh'
certificate_install "\$RENEWED_LINEAGE/fullchain.pem" "\$RENEWED_LINEAGE/privkey.pem"
$("${mode}_reload_lines")
HOOK
}

certificate_fingerprint() {
    openssl x509 -in "$etc/tls/fullchain.pem" -noout -fingerprint -sha256 | sed 's/.*=/SHA-256 /'
}

certificate_tell() {
    printf 'certificate   %s\n' "$(certificate_fingerprint)"
    printf '              %s\n' "$(openssl x509 -in "$etc/tls/fullchain.pem" -noout -enddate | sed 's/notAfter=/until /')"
}
