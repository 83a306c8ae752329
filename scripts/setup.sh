#!/usr/bin/env bash
# Puts in place what the other scripts need, and nothing that is there already. Sourced by them:
#
#   . scripts/setup.sh; setup_compiler; setup_postgres; setup_rust
#
# As root, missing Debian packages are installed with apt-get. Otherwise they are downloaded (signed
# by Debian, checked by apt) and unpacked under data/tools: nothing outside this directory changes.

setup_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
setup_tools=$setup_root/data/tools
# The oldest Rust that builds this; rust-toolchain.toml names the one it is tested with.
setup_rust_least=1.95

say() { printf '==> %s\n' "$*" >&2; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Installs packages, or unpacks them and what they need that the system does not have.
setup_packages() {
    command -v apt-get >/dev/null || fail "this is no Debian or Ubuntu; install by hand: $*"
    if [ "$(id -u)" = 0 ]; then
        say "installing $*"
        setup_apt_update
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" \
            >/dev/null || fail "apt-get could not install: $*"
    else
        say "unpacking $* under data/tools (no root: nothing is installed)"
        setup_unpack "$setup_tools/root" "$@"
    fi
}

# A fresh container has no package lists.
setup_apt_update() {
    apt-get update -qq || say "the package lists could not be refreshed; going on with the old ones"
}

# setup_unpack DIRECTORY PACKAGE...: with every dependency that is not installed, and those named
# in $setup_also even so.
setup_unpack() {
    local root=$1 wanted=() package archives
    shift
    apt-cache show "$1" >/dev/null 2>&1 ||
        fail "there are no package lists: as root, once, run: apt-get update && apt-get install $*"
    mapfile -t wanted < <(
        apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
            --no-replaces --no-enhances "$@" | grep -E '^[a-z0-9]' | sort -u
    )
    mkdir -p "$root"
    chmod 700 "$setup_root/data"
    archives=$(mktemp -d "$setup_tools/archives.XXXXXX")
    local missing=()
    for package in "${wanted[@]}"; do
        case " $* ${setup_also:-} " in
            *" $package "*) missing+=("$package") ;;
            *) setup_is_installed "$package" || missing+=("$package") ;;
        esac
    done
    # Virtual packages have nothing to download.
    mapfile -t missing < <(
        apt-cache show "${missing[@]}" 2>/dev/null | sed -n 's/^Package: //p' | sort -u
    )
    (
        cd "$archives" || exit
        apt-get download -qq "${missing[@]}" || fail "apt-get could not download all packages"
        for package in *.deb; do dpkg -x "$package" unpacked; done
        setup_merge_usr unpacked
        cp -a unpacked/. "$root/"
    )
    rm -rf "$archives"
}

# Some packages still bring /lib and /bin, which a system has as links into /usr.
setup_merge_usr() {
    local root=$1 directory
    for directory in bin sbin lib lib64; do
        mkdir -p "$root/usr/$directory"
        if [ -d "$root/$directory" ] && [ ! -L "$root/$directory" ]; then
            cp -a "$root/$directory/." "$root/usr/$directory/"
            rm -rf "${root:?}/$directory"
        fi
        ln -sfn "usr/$directory" "$root/$directory"
    done
}

setup_is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# A C compiler links Rust programs and builds the cryptography.
setup_compiler() {
    if command -v cc >/dev/null && printf '#include <stdio.h>\nint main(void){return 0;}' |
        cc -xc -o /dev/null - 2>/dev/null; then
        return
    fi
    if [ "$(id -u)" = 0 ]; then
        setup_packages gcc libc6-dev
        return
    fi
    # Apart from Postgres's libraries: with the C library among them programs would mix two of them.
    local root=$setup_tools/compiler bin=$setup_tools/bin
    if [ ! -x "$bin/cc" ]; then
        say "unpacking a C compiler under data/tools (no root: nothing is installed)"
        rm -rf "$root"
        # The C library is installed, but its linker scripts name files beside the headers.
        setup_also="libc6 libgcc-s1" setup_unpack "$root" gcc libc6-dev
        setup_compiler_wrapper "$root" "$bin"
    fi
    export PATH=$bin:$PATH
}

setup_compiler_wrapper() {
    local root=$1 bin=$2 library own=$1/own-libraries name
    # The compiler needs its own libraries, and for everything else the system's.
    mkdir -p "$own" "$bin"
    for library in "$root"/usr/lib/*-linux-gnu/lib*.so*; do
        name=${library##*/}
        if ! ls /lib/*-linux-gnu/"$name" /usr/lib/*-linux-gnu/"$name" >/dev/null 2>&1; then
            ln -sf "$library" "$own/$name"
        fi
    done
    for name in cc gcc; do
        cat >"$bin/.$name" <<WRAPPER
#!/bin/sh
LD_LIBRARY_PATH='$own' PATH='$root/usr/bin':"\$PATH" \\
    exec '$root/usr/bin/gcc' --sysroot='$root' -B'$root/usr/bin' "\$@"
WRAPPER
    done
    cat >"$bin/.ar" <<WRAPPER
#!/bin/sh
LD_LIBRARY_PATH='$own' exec '$root/usr/bin/ar' "\$@"
WRAPPER
    chmod 755 "$bin"/.[a-z]*
    for name in ar gcc cc; do mv "$bin/.$name" "$bin/$name"; done # cc last: it says "complete"
}

# The server's programs; never a running server.
setup_postgres() {
    local found unpacked=()
    # Root's Postgres runs as a user of its own, who cannot look into this directory.
    [ "$(id -u)" = 0 ] || unpacked=("$setup_tools"/root/usr/lib/postgresql/*/bin)
    for found in "${SWITCHYARD_PG_BIN:-/nonexistent}" /usr/lib/postgresql/*/bin "${unpacked[@]}"; do
        if [ -x "$found/initdb" ] && [ -x "$found/postgres" ]; then return; fi
    done
    if [ "$(id -u)" = 0 ]; then
        # Debian would start a server of its own on port 5432.
        mkdir -p /etc/postgresql-common
        local conf=/etc/postgresql-common/createcluster.conf
        grep -qs '^create_main_cluster' $conf || echo 'create_main_cluster = false' >>$conf
    fi
    setup_packages postgresql
}

# HAProxy and coturn, as programs: the servers Debian would start with them keep out of the way.
# Without root this only tells whether both are there, as an ordinary user may not open their ports.
setup_front() {
    PATH=$PATH:/usr/sbin
    if command -v haproxy >/dev/null && command -v turnserver >/dev/null; then return; fi
    [ "$(id -u)" = 0 ] || return 1
    setup_quietly haproxy coturn
    if [ -d /run/systemd/system ]; then systemctl --quiet disable haproxy coturn || true; fi
}

# Installs packages without starting the servers they bring.
setup_quietly() {
    local policy=/usr/sbin/policy-rc.d ours=no
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        ours=yes
    fi
    setup_packages "$@"
    if [ $ours = yes ]; then rm -f $policy; fi
}

# Cargo downloads over https and needs to know whom to trust.
setup_certificates() {
    # Whoever names authorities of their own (a company's proxy has some) knows better.
    [ -s "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" ] && return
    local authorities=$setup_tools/authorities.crt
    if [ "$(id -u)" = 0 ]; then
        setup_packages ca-certificates
        return
    fi
    if [ ! -s "$authorities" ]; then
        setup_packages ca-certificates
        # What the package's installation would have put together.
        cat "$setup_tools"/root/usr/share/ca-certificates/mozilla/*.crt >"$authorities"
    fi
    export SSL_CERT_FILE=$authorities CARGO_HTTP_CAINFO=$authorities
}

# Rust of at least $setup_rust_least, from rustup or the distribution.
setup_rust() {
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    local version
    # With rustup this also fetches the toolchain that rust-toolchain.toml names.
    version=$(cd "$setup_root" && cargo --version 2>/dev/null | cut -d' ' -f2) || version=
    if [ -n "$version" ] && setup_at_least "$version" "$setup_rust_least"; then return; fi
    if [ -z "$version" ] && apt-cache show rustup >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
        setup_packages rustup
        (cd "$setup_root" && rustup show active-toolchain >/dev/null 2>&1) ||
            (cd "$setup_root" && rustup toolchain install) ||
            fail "rustup could not install Rust: look at its lines above"
        return
    fi
    fail "Rust $setup_rust_least or newer is needed (found: ${version:-none}). Install it with:
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y
then run this again."
}

setup_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1)" = "$2" ]; }

# setup_command NAME PACKAGE: a program from a Debian package.
setup_command() {
    command -v "$1" >/dev/null && return
    # Servers lie where an ordinary user's PATH does not lead.
    PATH=$PATH:$setup_tools/bin:$setup_tools/root/usr/bin:$setup_tools/root/usr/sbin:/usr/sbin
    command -v "$1" >/dev/null || setup_packages "$2"
    local found
    found=$(command -v "$1") || fail "there is no $1 even with the package $2"
    case $found in "$setup_tools/root"/*) setup_wrapper "$1" "$found" ;; esac
}

# setup_wrapper NAME PROGRAM: one that was unpacked finds the libraries unpacked beside it.
setup_wrapper() {
    if ! ldd "$2" 2>/dev/null | grep -q "not found"; then return; fi
    local libraries
    libraries=$(echo "$setup_tools"/root/usr/lib/*-linux-gnu)
    mkdir -p "$setup_tools/bin"
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$libraries" "$2" >"$setup_tools/bin/$1"
    chmod +x "$setup_tools/bin/$1"
    hash -r
}

# A library that shifts a process's clock, for the tests of clocks that are wrong.
setup_faketime() {
    local found
    for found in /usr/lib/*/faketime/libfaketimeMT.so.1 "$setup_tools"/root/usr/lib/*/faketime/libfaketimeMT.so.1; do
        if [ -e "$found" ]; then return; fi
    done
    setup_packages libfaketime
}

# Python with virtual environments. Unpacked packages cannot provide it: without root this only
# tells whether it is there.
setup_python() {
    python3 -c 'import venv, ensurepip' 2>/dev/null && return
    [ "$(id -u)" = 0 ] || return 1
    setup_packages python3 python3-venv
}

# Prometheus's own checker of rules. Without root this only tells whether it is there: the package brings
# a server, which Debian would start.
setup_promtool() {
    command -v promtool >/dev/null && return
    [ "$(id -u)" = 0 ] || return 1
    setup_quietly prometheus
}

# What gives a test a network of its own. Tells whether it is there; only root can install it.
setup_namespace() {
    PATH=$PATH:/usr/sbin:/sbin
    command -v ip >/dev/null && return
    [ "$(id -u)" = 0 ] || return 1
    setup_packages iproute2
}

# A browser and its driver, for the tests that need a real one. Chromium finds its parts only where it
# is installed: without root this only tells whether it is there.
setup_browser() {
    command -v chromium >/dev/null && command -v chromedriver >/dev/null && return
    [ "$(id -u)" = 0 ] || return 1
    apt-cache show chromium-driver >/dev/null 2>&1 || setup_apt_update
    apt-cache show chromium-driver >/dev/null 2>&1 || return 1
    setup_packages chromium chromium-driver
}

# Docker, Compose and debootstrap, for the tests that run containers; root's alone. Where no daemon runs one is
# started: its process is $setup_docker_started, for the caller to end.
setup_docker() {
    setup_docker_started=
    [ "$(id -u)" = 0 ] || return 1
    local log=${TMPDIR:-/tmp}/switchyard-dockerd.log deadline
    PATH=$PATH:/usr/sbin
    setup_command debootstrap debootstrap
    # A client alone, as some machines have it, runs nothing.
    if ! docker info >/dev/null 2>&1; then setup_command dockerd docker.io; fi
    if ! docker compose version >/dev/null 2>&1; then setup_command docker-compose docker-compose; fi
    if docker info >/dev/null 2>&1; then return; fi
    if [ -d /run/systemd/system ]; then
        systemctl start docker || return 1
    else
        setsid dockerd >"$log" 2>&1 &
        # shellcheck disable=SC2034 # the caller's
        setup_docker_started=$!
    fi
    deadline=$((SECONDS + 120))
    until docker info >/dev/null 2>&1; do
        if [ $SECONDS -ge $deadline ]; then
            say "Docker does not start: $(tail -n 1 "$log" 2>/dev/null)"
            [ -z "$setup_docker_started" ] || kill "$setup_docker_started" 2>/dev/null || true
            return 1
        fi
        sleep 1
    done
}
