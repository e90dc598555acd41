# Overlays a machine's root on a lower one and becomes its PID 1. machine/ runs it in separate namespaces. It starts few processes, because a run
# boots about a hundred machines.
# STATE: the machine's directory outside, with `seed`, which is overlaid on the root, and `dev`, which becomes /dev; LOWER: the root below; LAYERS:
# directories to overlay, one per line; NAME: the host name; PREPARE: a script for chroot, may be empty; ENVIRONMENT: variables for PID 1, may be empty.
set -eu
work=$STATE/work
mount -t tmpfs -o mode=755 "onecred-$NAME" "$work"
mkdir "$work/upper" "$work/overlay" "$work/root"
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$work/upper,workdir=$work/overlay" "$work/root"
cd "$work/root"

# Disables what the lower root enables, mounts, logs and generates. logind takes a quarter of a boot, and D-Bus activates it if a case needs it.
rm -rf ./etc/systemd/system ./etc/systemd/user ./etc/rc?.d ./etc/init.d ./etc/fstab ./etc/crypttab ./etc/machine-id \
    ./etc/onecred ./var/log/journal ./usr/lib/systemd/system-generators ./usr/lib/systemd/system/multi-user.target.wants/systemd-logind.service
# Copied, not overlaid: overlayfs does not allow a lower directory inside another, and the root below may be /.
mapfile -t layers <<<"$LAYERS"
cp -a --no-preserve=ownership "${layers[@]/%//.}" .
hostname "$NAME"

fstab=$STATE/fstab
root=$work/root
{
    echo "proc $root/proc proc nosuid,nodev,noexec,X-mount.mkdir"
    for path in sys sysrq-trigger; do
        [ ! -e "/proc/$path" ] || echo "$root/proc/$path $root/proc/$path none bind,ro,nosuid,nodev,noexec"
    done
    echo "sysfs $root/sys sysfs ro,nosuid,nodev,noexec,X-mount.mkdir"
    echo "cgroup2 $root/sys/fs/cgroup cgroup2 nosuid,nodev,noexec"
    echo "dev $root/dev tmpfs mode=755,nosuid,X-mount.mkdir"
    echo "devpts $root/dev/pts devpts newinstance,ptmxmode=0666,mode=620,gid=5,X-mount.mkdir"
    echo "shm $root/dev/shm tmpfs mode=1777,nosuid,nodev,X-mount.mkdir"
    echo "run $root/run tmpfs mode=755,nosuid,nodev,X-mount.mkdir"
    echo "tmp $root/tmp tmpfs mode=1777,nosuid,nodev,X-mount.mkdir"
} >"$fstab"
mount --all --fstab "$fstab"
cp -a "$STATE/dev/." ./dev
if [ -n "$PREPARE" ]; then chroot . sh -euc "$PREPARE" >&2; fi

# PID 1 says READY=1 to this socket when it has booted, as it would to systemd-nspawn.
mkdir -p ./run/host .outside
: >./run/host/notify
mount --bind "$STATE/notify" ./run/host/notify

pivot_root . .outside
# rshared: without it 257 starts units whose credential directory does not exist.
# shellcheck disable=SC2086 # they are words
exec env -i $ENVIRONMENT container=onecred NOTIFY_SOCKET=/run/host/notify PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -euc '
    cd /
    umount -l /.outside
    rmdir /.outside
    mount --make-rshared /
    exec setpriv --bounding-set=-sys_module,-sys_rawio,-sys_time /usr/lib/systemd/systemd --show-status=0'
