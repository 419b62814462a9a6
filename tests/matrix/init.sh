#!/bin/busybox sh
# The guest's first process. What it says on the second serial line is read by the host.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
exec </dev/null >/dev/ttyS1 2>&1
echo "== kernel $($b uname -r)"
for module in /modules/*; do
    $b insmod "$module" || echo "== trouble cannot load ${module##*/}"
done
$b mount -t tmpfs -o mode=755 root /root
cd /root || exit
$b mkdir -p usr binaries etc proc sys dev tmp run var/lib root
share() {
    $b mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,ro,msize=512000 "$1" "$2" ||
        echo "== trouble cannot mount what the host shares as $1"
}
share usr usr
share binaries binaries
for directory in bin sbin lib lib64; do
    [ ! -e usr/$directory ] || $b ln -s usr/$directory $directory
done
echo root:x:0:0:root:/root:/bin/sh >etc/passwd
echo root:x:0: >etc/group
# The group of the daemon's socket in a test.
echo daemon:x:1: >>etc/group
$b cp /begin begin
for place in proc sys dev; do
    $b mount -o move /$place $place
done
exec $b switch_root /root /bin/sh /begin
