# Lays a machine's root over a lower one and becomes its PID 1. Run by machine/ in namespaces of its own.
# STATE: the machine's folder outside; LOWER: the root below; LAYERS: folders to be laid over it, a line each; NAME: the host name; PREPARE: a script for chroot, may be empty;
# ENVIRONMENT: variables for PID 1, may be empty.
set -eu
work=$STATE/work
mount -t tmpfs -o mode=755 "onecred-$NAME" "$work"
mkdir "$work/upper" "$work/overlay" "$work/root"
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$work/upper,workdir=$work/overlay" "$work/root"
cd "$work/root"
[ "$(stat -f -c %T .)" = overlayfs ] || { echo "no overlay at $PWD" >&2; exit 1; }

# What the lower root itself enables, mounts, logs and generates is none of this machine's business.
rm -rf ./etc/systemd/system ./etc/systemd/user ./etc/rc?.d ./etc/init.d ./etc/fstab ./etc/crypttab ./etc/machine-id \
    ./etc/onecred ./var/log/journal ./usr/lib/systemd/system-generators
mkdir -p ./etc/systemd/system ./run ./tmp ./proc ./sys ./dev
# Copied, not overlaid: overlayfs wants no lower folder inside another, and the root below may be /.
printf '%s' "$LAYERS" | while IFS= read -r layer; do cp -a --no-preserve=ownership "$layer/." .; done
ln -sf /usr/lib/systemd/system/multi-user.target ./etc/systemd/system/default.target
# These need a kernel, a console or a network of their own, or only cost time.
for unit in console-getty.service ldconfig.service systemd-firstboot.service systemd-networkd.service \
    systemd-resolved.service systemd-timesyncd.service systemd-journal-catalog-update.service dev-hugepages.mount dev-mqueue.mount \
    sys-fs-fuse-connections.mount systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-user-sessions.service; do
    ln -sf /dev/null "./etc/systemd/system/$unit"
done
# It takes a quarter of a boot, and the bus starts it where a case needs it.
rm -f ./usr/lib/systemd/system/multi-user.target.wants/systemd-logind.service
tr -d - </proc/sys/kernel/random/uuid >./etc/machine-id
echo "$NAME" >./etc/hostname
hostname "$NAME"

mount -t proc -o nosuid,nodev,noexec proc ./proc
for path in sys sysrq-trigger; do
    [ -e "./proc/$path" ] || continue
    mount --bind "./proc/$path" "./proc/$path"
    mount -o remount,bind,ro,nosuid,nodev,noexec "./proc/$path"
done
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs ./sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 ./sys/fs/cgroup
mount -t tmpfs -o mode=755,nosuid dev ./dev
mkdir ./dev/pts ./dev/shm ./dev/mqueue ./dev/hugepages
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts ./dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev shm ./dev/shm
for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "./dev/${node%:*}" c 1 "${node#*:}"; done
mknod -m 666 ./dev/tty c 5 0
ln -s pts/ptmx ./dev/ptmx
ln -s /proc/self/fd ./dev/fd
for stream in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${stream%:*}" "./dev/${stream#*:}"; done
mount -t tmpfs -o mode=755,nosuid,nodev run ./run
mount -t tmpfs -o mode=1777,nosuid,nodev tmp ./tmp
if [ -n "$PREPARE" ]; then chroot . sh -euc "$PREPARE" >&2; fi

# PID 1 says READY=1 to this socket when it has booted, as it would to systemd-nspawn.
mkdir ./run/host
: >./run/host/notify
mount --bind "$STATE/notify" ./run/host/notify

mkdir .outside
pivot_root . .outside
# rshared: without it 257 starts units whose credential directory does not exist.
# shellcheck disable=SC2086 # they are words
exec env -i $ENVIRONMENT container=onecred NOTIFY_SOCKET=/run/host/notify PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -euc '
    cd /
    umount -l /.outside
    rmdir /.outside
    mount --make-rshared /
    exec setpriv --bounding-set=-sys_module,-sys_rawio,-sys_time /usr/lib/systemd/systemd --show-status=0'
