# What integration/run and integration/bench/run share: what a booted systemd needs, installed. Sourced in the repository's root by $me.

cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/onecred-integration
step() { printf '\n== %s\n' "$*"; }

# Ends with a word on what is missing to run these suites.
can_run() {
    local suite
    for suite in "$@"; do
        case $suite in host | trixie | sid) ;; *) echo "$me: no suite $suite; there are host, trixie and sid" >&2; exit 2 ;; esac
    done
    [ "$(id -u)" = 0 ] || { echo "$me: a systemd of its own needs root; run it as root" >&2; exit 2; }
    command -v cargo >/dev/null || { echo "$me: no cargo in PATH; install Rust first" >&2; exit 2; }
}

# Installs the packages that are missing, and says which.
have_packages() {
    local missing=() package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >"$cache/apt.log" 2>&1 \
        || { cat "$cache/apt.log" >&2; return 1; }
}

# Prints where a program of Rust is, built if need be, once for all: its crate, version and name, and flags for cargo install.
cargo_program() {
    local crate=$1 version=$2 name=$3 place=$cache/$1-$2
    shift 3
    if [ ! -x "$place/bin/$name" ]; then
        echo "building $crate $version" >&2
        CARGO_TARGET_DIR=$cache/$crate-target cargo install --quiet --locked --debug "$@" \
            --root "$place" "$crate@$version" >"$cache/$crate.log" 2>&1 || { tail -n 5 "$cache/$crate.log" >&2; return 1; }
        rm -rf "$cache/$crate-target"
    fi
    echo "$place/bin/$name"
}

# Builds the binary that is installed, the same way for all who need it, so that it is built once. $auditable says by what it tells what it is made of.
build_release() {
    if auditable=$(cargo_program cargo-auditable 0.7.7 cargo-auditable); then PATH=${auditable%/*}:$PATH; else auditable=""; fi
    make --silent build
}

# Where this machine itself gets its Debian from.
mirror() {
    local codename
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' \
        | awk -v codename="$codename" '$2 == codename { print $1; exit }'
}

# Prints the folder with the root of a Debian release, built if need be.
debian_root() {
    local release=$1 key root from
    local packages=systemd,systemd-sysv,dbus,dbus-broker,libpam-systemd,libnss-systemd,polkitd,libtss2-esys-3.0.2-0t64,libtss2-rc0t64,libtss2-tcti-swtpm0t64
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
    fi
    echo "$root"
}

# Installs packages and builds roots for these suites, one process at a time (descriptor 9 holds the lock), and says so to the programs.
prepare() {
    local suite root packages=(systemd systemd-sysv dbus libpam-systemd libnss-systemd polkitd util-linux make gcc libc6-dev python3 python3-venv
        swtpm libtss2-esys-3.0.2-0 libtss2-rc0 libtss2-tcti-swtpm0 man-db mandoc zsh fish)
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
    step "packages"
    for suite in "$@"; do [ "$suite" = host ] || packages+=(mmdebstrap); done
    have_packages "${packages[@]}"
    for suite in "$@"; do
        [ "$suite" = host ] && continue
        root=$(debian_root "$suite")
        export "ONECRED_ROOT_${suite^^}=$root"
    done
    ONECRED_SUITES=$(IFS=,; echo "$*")
    export ONECRED_SUITES
}
