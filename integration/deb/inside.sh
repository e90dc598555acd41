#!/usr/bin/env bash
# The life cycle of the Debian package, on a booted machine without onecred. /srv/deb contains two versions of the package, the fake Connect
# server, its vault and its token.
set -euo pipefail
old=(/srv/deb/onecred_*-1_*.deb) new=(/srv/deb/onecred_*-2_*.deb)
export DEBIAN_FRONTEND=noninteractive

step() { printf -- '-- %s\n' "$*"; }
fail() {
    printf 'FAILED: %s\n' "$*"
    journalctl --no-pager -n 60
    exit 1
}
# Waits for a condition that cannot be waited for in a better way. The caller limits the time of the whole script.
until_is() {
    local what=$1 tries=0
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || fail "waited in vain until $what"
        sleep 0.1
    done
}
is() { [ "$(systemctl show --value -p "$2" "$1")" = "$3" ] || fail "$1: $2 is $(systemctl show --value -p "$2" "$1"), not $3"; }
gets() {
    local got
    got=$(systemd-run --quiet --unit="$1" --collect --wait --pipe -p "LoadCredential=$2:/run/onecred/credential.sock" \
        sh -c 'cat "$CREDENTIALS_DIRECTORY/"*') || fail "$1 did not start"
    [ "$got" = "$3" ] || fail "$1 got another value"
}
# grep must read to the end: otherwise a signal ends journalctl, which fails the line
says() { journalctl --sync; journalctl --no-pager -u "$1" | grep -F "$2" >/dev/null; }

# The same for a unit that asks at the sealed socket.
gets_sealed() {
    local got
    got=$(systemd-run --quiet --unit="$1" --collect --wait --pipe -p "LoadCredentialEncrypted=$2:/run/onecred/sealed.sock" \
        sh -c 'cat "$CREDENTIALS_DIRECTORY/"*') || fail "$1 did not start"
    [ "$got" = "$3" ] || fail "$1 got another value"
}
# Simulates the store of a version with other formats: both the lists and the snapshots differ.
store_of_format() {
    local file count=0
    for file in /run/onecred/store/*; do
        case ${file##*/} in
        *.json) echo "{\"format\": $1, \"entries\": {\"a\": [1]}}" >/run/onecred/store/new.test ;;
        *)
            count=$((count + 1))
            cp "$file" /run/onecred/store/new.test
            printf 'onecred%s' "$1" | dd of=/run/onecred/store/new.test conv=notrunc status=none
            ;;
        esac
        mv /run/onecred/store/new.test "$file"
    done
    [ $count -gt 0 ] || fail "there is no snapshot"
}

limits=/etc/systemd/system/systemd-creds.socket.d/10-onecred.conf
stock=$(systemctl show -p MaxConnectionsPerSource -p MaxConnections systemd-creds.socket)
systemd=$(dpkg-query -W -f '${Version}' systemd)
# The limits of systemd's socket for credentials: the drop-in's, or systemd's own. The socket stays active throughout.
has_limits() {
    local shown
    shown=$(systemctl show -p MaxConnectionsPerSource -p MaxConnections systemd-creds.socket)
    case $1 in
    onecred)
        [ -s $limits ] || fail "$limits is missing"
        [ "$shown" = $'MaxConnections=4096\nMaxConnectionsPerSource=256' ] || fail "the drop-in is not applied: $shown"
        ;;
    stock)
        [ ! -e $limits ] && [ ! -L $limits ] && [ ! -e ${limits%/*} ] || fail "$limits is still there"
        [ "$shown" = "$stock" ] || fail "the limits are not systemd's own again: $shown"
        ;;
    esac
    [ "$(systemctl show --value -p ActiveEnterTimestampMonotonic systemd-creds.socket)" = "$listening" ] || fail "systemd-creds.socket was restarted"
}
listening=$(systemctl show --value -p ActiveEnterTimestampMonotonic systemd-creds.socket)
# Simulates an upgrade or downgrade of the systemd package: its version changes, and dpkg runs the triggers of its files.
becomes_systemd() {
    sed -i "/^Package: systemd\$/,/^\$/s/^Version: .*/Version: $1/" /var/lib/dpkg/status
    [ "$(dpkg-query -W -f '${Version}' systemd)" = "$1" ] || fail "dpkg does not take $1 for the version of systemd"
    dpkg-trigger --by-package=systemd /usr/lib/systemd/systemd
    dpkg --triggers-only onecred >/dev/null
}

find / -xdev -name '*onecred*' | sort >/srv/before

step "install"
dpkg -i "${old[@]}" >/dev/null
for unit in onecred.socket onecred-sealed.socket onecred-resolver.socket; do is $unit UnitFileState enabled; is $unit ActiveState active; done
is onecred-publish.target UnitFileState disabled
id onecred >/dev/null || fail "no user"
[ -d /etc/onecred ] || fail "no /etc/onecred"
[ -z "$(ls /etc/onecred)" ] || fail "the package put something into /etc/onecred"
for file in man/man1/onecred-check.1.gz man/man5/secrets.json.5.gz man/man5/org.onecred.Credentials1.5.gz man/man8/onecred.service.8.gz \
    bash-completion/completions/onecred zsh/site-functions/_onecred fish/vendor_completions.d/onecred.fish \
    onecred/secrets.schema.json polkit-1/actions/org.onecred.credentials1.policy doc/onecred/copyright; do
    [ -s "/usr/share/$file" ] || fail "no /usr/share/$file"
done
onecred check /usr/share/doc/onecred/examples/secrets.json >/dev/null || fail "the example is not fine"
is onecred.service Type notify-reload
if dpkg --compare-versions "$systemd" ge 258~; then expected=onecred; else expected=stock; fi
has_limits $expected

step "upgrades and downgrades of systemd bring and remove the drop-in; a file of the administrator's stays"
becomes_systemd 257.9-1
has_limits stock
becomes_systemd 258.1-1
has_limits onecred
mkdir -p ${limits%/*}
printf '[Socket]\nMaxConnections=2048\n' >${limits%/*}/override.conf
becomes_systemd 259.1-1
is systemd-creds.socket MaxConnections 2048
is systemd-creds.socket MaxConnectionsPerSource 256
rm $limits ${limits%/*}/override.conf
ln -s /dev/null $limits
becomes_systemd 257.9-1
becomes_systemd 258.1-1
[ "$(readlink $limits)" = /dev/null ] || fail "the administrator's mask of the drop-in is gone"
rm $limits
becomes_systemd "$systemd"
rmdir ${limits%/*} 2>/dev/null || true
has_limits $expected

step "a unit before anything is configured: refused, and told"
if systemd-run --quiet --unit=early --wait -p LoadCredential=key:/run/onecred/credential.sock true; then fail "it started"; fi
says early "refused" || fail "early was not told why"

step "a secret, the file that it is published to, and a unit"
cp /srv/deb/token /etc/onecred/token
chmod 600 /etc/onecred/token
cat >/etc/onecred/secrets.json <<'JSON'
{
  "source": { "kind": "connect", "url": "http://127.0.0.1:8080" },
  "secrets": [
    { "name": "db-password", "reference": "op://My Vault/db/password", "units": ["app*"], "target": "/run/secrets/db-password", "deadline": "10m" },
    { "name": "user", "reference": "op://My Vault/Case Item/username", "units": ["waiter"], "deadline": "10m" }
  ]
}
JSON
systemctl restart onecred-resolver.service
systemctl reload-or-restart onecred.service
systemctl start fake-connect.service
until_is "Connect listens" bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080'
gets app1 db-password hunter2
gets_sealed app-sealed db-password hunter2
systemctl start onecred-file@db-password.service
[ "$(cat /run/secrets/db-password)" = hunter2 ] || fail "the published file holds something else"

step "an upgrade, while a unit waits for a 1Password that is away"
systemctl stop fake-connect.service
# only now: what units on this machine may have is fetched ahead
cp /srv/deb/waiter.service /etc/systemd/system/
systemctl start --no-block waiter.service
until_is "the waiter is told that it waits" says waiter.service "is waiting for 1Password"
opened=$(systemctl show --value -p ActiveEnterTimestampMonotonic onecred.socket)
before=$(systemctl show --value -p MainPID onecred.service)
dpkg -i "${new[@]}" >/dev/null
[ "$(systemctl show --value -p ActiveEnterTimestampMonotonic onecred.socket)" = "$opened" ] || fail "the socket was closed"
[ "$(systemctl show --value -p MainPID onecred.service)" != "$before" ] || fail "the old provider still runs"
[ ! -e /srv/got ] || fail "the waiter ran without its secret"
gets app2 db-password hunter2 # what was fetched before the upgrade is there after it
systemctl start fake-connect.service
until_is "the waiter has its secret" test -s /srv/got
[ "$(cat /srv/got)" = carol ] || fail "the waiter got another value"

step "a downgrade, to a version whose store has another format: what it can't read it fetches anew"
store_of_format 9
dpkg -i "${old[@]}" >/dev/null 2>&1
gets app3 db-password hunter2
says onecred.service "a snapshot in the store can't be used, and is removed: it is not of this version's format" || fail "nothing was said of the store"
systemctl restart onecred-file@db-password.service || fail "the file can't be published any more"
[ "$(cat /run/secrets/db-password)" = hunter2 ] || fail "the published file holds something else"
is onecred.service NRestarts 0

step "an upgrade from such a version, and a downgrade that knows the format"
store_of_format 0
dpkg -i "${new[@]}" >/dev/null 2>&1
gets app4 db-password hunter2
systemctl stop fake-connect.service
dpkg -i "${old[@]}" >/dev/null 2>&1
gets app5 db-password hunter2
gets_sealed app6 db-password hunter2
systemctl start fake-connect.service
until_is "Connect listens" bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080'

# The units and the configuration that the NixOS module makes, in a folder.
install_nix() {
    systemctl stop onecred.service onecred-resolver.service run-onecred-store.mount
    cp -r "$1/units/." /etc/systemd/system/
    cp "$1/secrets.json" /etc/onecred/
    systemd-tmpfiles --create - <"$1/tmpfiles.conf"
    systemctl daemon-reload
}
remove_nix() {
    local unit
    while IFS= read -r unit; do rm "/etc/systemd/system/$unit"; done < <(cd "$1/units" && find . -type f)
    find /etc/systemd/system -name '*.d' -empty -delete
    rm -r /run/onecred/by-name /run/onecred/sealed-by-name
    systemctl daemon-reload
}
if [ -d /srv/nix ]; then
    step "units as the NixOS module makes them: a token that comes later, one line for a service, an environment file, IDs of a module's own, a path"
    rm /etc/onecred/token
    install_nix /srv/nix/machine
    systemctl start onecred-token.path
    if systemctl start one-line.service 2>/dev/null; then fail "one-line started without a token"; fi
    says one-line.service "no token" || fail "one-line was not told why"
    install -D -m 600 /srv/deb/token /persist/root/.config/op/token
    until_is "one-line is started again" says one-line.service "Finished one-line.service"
    for unit in environment hard-coded plain by-socket reader; do systemctl start $unit.service || fail "$unit did not start"; done
    systemctl stop onecred-token.path
    remove_nix /srv/nix/machine

    step "OpNix's options: services start after their secrets"
    install -m 600 /srv/deb/token /etc/opnix-token
    for made in /srv/nix/opnix-*; do
        install_nix "$made"
        # in one step, so that only their order makes them wait
        mapfile -t readers < <(cd "$made/units" && grep -l "^ExecStart=.*hunter2" -- *.service)
        [ ${#readers[@]} -gt 0 ] || fail "no service in $made"
        systemctl start "${readers[@]}" || fail "${readers[*]}: not all of them started"
        systemctl is-active --quiet opnix-secrets.service || fail "opnix-secrets.service did not start"
        systemctl stop opnix-secrets.service
        remove_nix "$made"
    done
    journalctl --sync
    if journalctl --no-pager -b | grep -F "ordering cycle"; then fail "units wait for each other"; fi
    cp /srv/deb/token /etc/onecred/token
fi

step "remove"
dpkg -r onecred >/dev/null
for unit in onecred.socket onecred-sealed.socket onecred-resolver.socket onecred.service; do
    [ "$(systemctl show --value -p ActiveState $unit)" != active ] || fail "$unit still runs"
done
if findmnt -rn -t ramfs | grep -E ' ?/run/(onecred|secrets)'; then fail "secrets are still in memory"; fi
if grep -qx onecred /proc/[0-9]*/comm 2>/dev/null; then fail "a process is still there"; fi
[ -s /etc/onecred/secrets.json ] || fail "the configuration went"
[ -s /etc/onecred/token ] || fail "the token went with remove"
[ ! -e /usr/lib/systemd/system/onecred.service ] || fail "units are still there"
[ -z "$(find /etc/systemd/system -path '*onecred.service.d*')" ] || fail "the drop-in is still there"
has_limits stock

step "purge"
dpkg -P onecred >/dev/null
[ ! -e /etc/onecred/token ] || fail "the token is still there"
[ -s /etc/onecred/secrets.json ] || fail "the admin's configuration went"
[ -z "$(find /etc/systemd/system /var/lib/systemd/deb-systemd-helper-enabled -name 'onecred*')" ] || fail "something is still enabled"
# what remains belongs to the administrator, a user without files, or to dpkg's and systemd's records of any package
find / -xdev -name '*onecred*' | sort | comm -13 /srv/before - \
    | grep -vE '^(/srv/|/tmp/|/run/(systemd|udev)|/var/(log|cache)/|/etc/onecred$|/var/lib/(dpkg|systemd/(timers|catalog)))' >/srv/left || true
[ ! -s /srv/left ] || fail "left behind: $(cat /srv/left)"
[ ! -e /run/onecred ] || fail "left in /run/onecred: $(ls -A /run/onecred)"
[ "$(ls /etc/onecred)" = secrets.json ] || fail "left in /etc/onecred: $(ls /etc/onecred)"
[ "$(systemctl is-system-running)" != starting ] || fail "systemd is busy"
step "fine"
