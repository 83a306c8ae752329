#!/usr/bin/env bash
# Makes the images that the tests run: a base by debootstrap, on it Postgres, HAProxy and coturn, systemd, and
# the services' own image from programs that are built already. As root, with Docker running.
#
# usage: make.sh CACHE [PROGRAMS IMAGE]
#
#   CACHE      directory that keeps the base system between runs
#   PROGRAMS   directory of the services' programs
#   IMAGE      what to call the image of them
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$1 programs=${2-} image=${3-}
# Names of images are the machine's: who comes second finds them made.
exec 9>"${TMPDIR:-/tmp}/switchyard-test-images.lock"
flock 9
free=$(df -Pk "$(docker info --format '{{.DockerRootDir}}')" | awk 'NR == 2 { print int($4 / 1024) }')
if [ "$free" -lt 4096 ]; then
    echo "only $free MiB are free where Docker keeps images and containers; these take up to 4096" >&2
    exit 1
fi
# The programs were linked here: the base has to have this system's libraries.
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
base=$cache/$suite.tar

mkdir -p "$cache"
if [ ! -s "$base" ]; then
    system=$(mktemp -d "$cache/system.XXXXXX")
    trap 'rm -rf -- "$system"' EXIT
    debootstrap --variant=minbase --include=ca-certificates "$suite" "$system" >"$cache/debootstrap.log" 2>&1 || {
        tail -n 20 "$cache/debootstrap.log" >&2
        exit 1
    }
    cp /etc/resolv.conf "$system/etc/" # until Docker puts its own there
    tar -C "$system" -cf "$base.new" .
    mv "$base.new" "$base"
fi
# Layers are Docker's to keep: what did not change is not made again.
export DOCKER_BUILDKIT=0
known=$(docker image inspect --format '{{ index .Config.Labels "base" }}' switchyard-test/base 2>/dev/null || true)
stamp=$(stat -c %Y-%s "$base")
if [ "$known" != "$stamp" ]; then
    docker import --change "LABEL base=$stamp" "$base" switchyard-test/base >/dev/null
fi
for target in postgres front systemd; do
    docker build -q --target "$target" -t "switchyard-test/$target" "$here" >/dev/null
done
[ -n "$programs" ] || exit 0
context=$(mktemp -d "$cache/context.XXXXXX")
trap 'rm -rf -- "$context"' EXIT
mkdir "$context/bin"
for program in signal relay peer-linker channel-hub peerbook mesh switchyard; do
    install -m 0755 "$programs/$program" "$context/bin/"
done
strip --strip-debug "$context"/bin/* 2>/dev/null || true # only ever smaller
printf 'FROM switchyard-test/runtime\nLABEL switchyard.test=1\nCOPY bin/ /usr/local/bin/\n' >"$context/Dockerfile"
docker build -q --build-arg RUNTIME_IMAGE=switchyard-test/base --target runtime -t switchyard-test/runtime - \
    <"$here/../../../deploy/Dockerfile" >/dev/null
docker build -q -t "$image" "$context" >/dev/null
