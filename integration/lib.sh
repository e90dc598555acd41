# Common to integration/run and integration/bench/run: installs what a booted systemd needs. Sourced in the root of the repository by $me.

cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/onecred-integration
step() { printf '\n== %s\n' "$*"; }

# Fails with a message about what is missing to run these suites.
can_run() {
    local suite
    for suite in "$@"; do
        case $suite in host | trixie | sid) ;; *) echo "$me: no suite $suite; there are host, trixie and sid" >&2; exit 2 ;; esac
    done
    [ "$(id -u)" = 0 ] || { echo "$me: a systemd of its own needs root; run it as root" >&2; exit 2; }
    command -v cargo >/dev/null || { echo "$me: no cargo in PATH; install Rust first" >&2; exit 2; }
}

# Installs missing packages and prints their names. Steps that run at the same time do so one after another.
have_packages() {
    local missing=() package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "installing ${missing[*]}"
    (
        flock 6
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >"$cache/apt.log" 2>&1 \
            || { cat "$cache/apt.log" >&2; exit 1; }
    ) 6>"$cache/apt.lock"
}

# Prints the path of a Rust program, and builds it once if necessary: crate, version, name, and flags for cargo install.
cargo_program() {
    local crate=$1 version=$2 name=$3 place=$cache/$1-$2
    shift 3
    (
        flock 7 # somebody else may be building it just now
        [ ! -x "$place/bin/$name" ] || exit 0
        echo "building $crate $version" >&2
        # niced: most of them are needed late, and are built beside what is needed first
        CARGO_TARGET_DIR=$cache/$crate-target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 nice cargo install --quiet --locked --debug "$@" \
            --root "$place" "$crate@$version" >"$cache/$crate.log" 2>&1 || { tail -n 5 "$cache/$crate.log" >&2; exit 1; }
        rm -rf "$cache/$crate-target"
    ) 7>"$cache/$crate.lock" || return 1
    echo "$place/bin/$name"
}

# Builds the binary of a release for packages and benchmarks. $auditable says whether it contains the list of its dependencies.
build_release() {
    use_auditable
    make --silent build
}

# Builds the tests, and the binary that they install in machines, with the same profile, so that common dependencies are built once.
build_installed() {
    local target=${CARGO_TARGET_DIR:-target}
    use_auditable
    [ -z "$auditable" ] || audit_all_builds
    # not optimized: that takes 110 s of processor time more, and saves the cases about 30
    # no benchmark but the storms, which a run also plays
    cargo build --quiet --locked --workspace --lib --bins --tests --bench storm
    # the tests' copy of it has features that only tests need; with the same dependencies this links one more program
    cargo build --quiet --locked --workspace --bin onecred
    # as a release: without symbols, which would be most of it
    install -D --strip "$target/debug/onecred" "$target/installed/onecred"
    ONECRED_BINARY=$(realpath "$target/installed/onecred")
    export ONECRED_BINARY
}

# In a clone without a target directory, uses one in the cache, so that dependencies are compiled once for all clones.
share_target() {
    [ -z "${CARGO_TARGET_DIR:-}" ] && [ ! -e target ] || return 0
    exec 5>"$cache/target.lock"
    flock -n 5 || return 0 # another clone is being tested
    export CARGO_TARGET_DIR=$cache/target
    # a panic says its line without this
    export CARGO_PROFILE_DEV_DEBUG=${CARGO_PROFILE_DEV_DEBUG:-0}
    shared_target=1
}

# Removes from that directory what only this clone can use.
clean_shared_target() {
    [ -n "${shared_target:-}" ] || return 0
    cargo clean --quiet -p onecred -p onecred-integration
    rm -rf "$CARGO_TARGET_DIR/installed" "$CARGO_TARGET_DIR/debian" "$CARGO_TARGET_DIR/release"
}

use_auditable() {
    if auditable=$(cargo_program cargo-auditable 0.7.7 cargo-auditable); then PATH=${auditable%/*}:$PATH; else auditable=""; fi
}

# Makes `cargo build`, `cargo test` and `cargo bench` use cargo-auditable, which wraps rustc. Otherwise our crates would be compiled once with it
# and once without it.
audit_all_builds() {
    local cargo bin=$cache/bin
    case :$PATH: in *":$bin:"*) return 0 ;; esac
    cargo=$(command -v cargo)
    mkdir -p "$bin"
    printf '#!/bin/sh\ncase $1 in build | test | bench) set -- auditable "$@" ;; esac\nexec %q "$@"\n' "$cargo" >"$bin/cargo.$$"
    chmod +x "$bin/cargo.$$"
    mv "$bin/cargo.$$" "$bin/cargo"
    export PATH=$bin:$PATH
}

# The Debian mirror of this machine.
mirror() {
    local codename
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' \
        | awk -v codename="$codename" '$2 == codename { print $1; exit }'
}

# Prints the directory with the root of a Debian release, and builds it if necessary.
debian_root() {
    local release=$1 key root from
    local packages=systemd,systemd-sysv,dbus,dbus-broker,libpam-systemd,libnss-systemd,polkitd,libtss2-esys-3.0.2-0t64,libtss2-rc0t64,libtss2-tcti-swtpm0t64
    # systemd-nspawn reads credentials from sockets, too, and is tested with the newest
    [ "$release" != sid ] || packages+=,systemd-container
    key=$(printf '%s' "$packages" | sha256sum | cut -c1-12)
    root=$cache/$release-$key
    if [ ! -d "$root" ]; then
        from=$(mirror)
        [ -n "$from" ] || { echo "$me: apt has no list of this release's packages to take a mirror from; run apt-get update" >&2; return 1; }
        echo "building a root of $release from $from" >&2
        rm -rf "$root.part"
        mmdebstrap --quiet --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' --include="$packages" \
            "$release" "$root.part" "$from" >&2
        # its package makes it the bus; which one it is, is for the cases to say
        rm -f "$root.part/etc/systemd/system/dbus.service"
        mv "$root.part" "$root"
        remove_other_roots "$release" "$root"
    fi
    echo "$root"
}

# Installs packages and builds roots for these suites, and sets the variables for programs. Only one process at a time does so, and builds: it holds
# a lock on descriptor 9.
prepare() {
    prepare_packages "$@"
    start_roots "$@"
    await_roots "$@"
}

# Removes roots from earlier lists of packages, except those in use.
remove_other_roots() {
    local old
    for old in "$cache/$1"-*; do
        [ "$old" != "$2" ] || continue
        grep -qsF "lowerdir=$old," /proc/[0-9]*/mountinfo || rm -rf "$old"
    done
}

prepare_packages() {
    local suite packages=(systemd systemd-sysv dbus libpam-systemd libnss-systemd polkitd util-linux make gcc libc6-dev python3 python3-venv
        swtpm libtss2-esys-3.0.2-0 libtss2-rc0 libtss2-tcti-swtpm0 man-db mandoc zsh fish)
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
    step "packages"
    for suite in "$@"; do [ "$suite" = host ] || packages+=(mmdebstrap); done
    have_packages "${packages[@]}"
}

# Builds the roots in the background; await_roots waits for them.
start_roots() {
    local suite
    roots=()
    for suite in "$@"; do
        [ "$suite" = host ] && continue
        debian_root "$suite" >"$cache/$suite.root" &
        roots+=("$suite:$!")
    done
}

await_roots() {
    local root suite
    for root in "${roots[@]}"; do
        wait "${root#*:}" || { echo "$me: no root of ${root%:*}" >&2; exit 1; }
        suite=${root%:*}
        export "ONECRED_ROOT_${suite^^}=$(cat "$cache/$suite.root")"
    done
    ONECRED_SUITES=$(IFS=,; echo "$*")
    export ONECRED_SUITES
}
