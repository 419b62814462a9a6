#!/bin/sh
# Carries out, in a machine of its own, what is to be done to the disks of a VM that is off (docs/provisioners.md).
# Nothing of the image is trusted: what it can take over is this machine, which has no network and ends when this does.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
image=/image
here=/detector
changed=false
step=0

event() {
    printf '\n{"event":"%s",%s}\n' "$1" "$2"
}

progress() {
    event progress "\"percent\":$1,\"message\":\"$2\""
}

# Lets go of the image first: only what has been written counts.
end() {
    ok=$1
    message=$2
    kill -9 -1 2>/dev/null
    cd /
    for what in "$image/dev" "$image/proc" "$image"; do
        if grep -q " $what " /proc/mounts && ! umount "$what" 2>/dev/null; then
            sleep 1
            umount "$what" 2>/dev/null || { ok=false; message="$message; its file system is still in use"; }
        fi
    done
    sync
    event result "\"ok\":$ok,\"changed\":$changed,\"message\":\"$message\""
    # So that the console has said it.
    sleep 1
    poweroff -f 2>/dev/null
    echo o >/proc/sysrq-trigger
    while :; do sleep 60; done
}

fail() {
    end false "step $step: $1"
}

# Sets `place` to where a directory of the image is, which is made where it is not there. A link that leads out of the
# image is followed by nobody.
enter() {
    place=$image
    left=${1#/}
    while [ -n "$left" ]; do
        part=${left%%/*}
        case $left in */*) left=${left#*/} ;; *) left= ;; esac
        [ -n "$part" ] || continue
        place=$place/$part
        if [ -L "$place" ]; then
            place=$(readlink -f "$place")
            case $place in
            "$image" | "$image"/*) ;;
            *) fail "a link leads out of the image" ;;
            esac
        fi
        if [ ! -e "$place" ]; then
            [ "$2" = make ] || return 1
            mkdir "$place" && chmod 755 "$place" || fail "a directory cannot be made"
        fi
        [ -d "$place" ] || fail "its directory is none"
    done
}

remove() {
    enter "${1%/*}" find || return 0
    what=$place/${1##*/}
    if [ -e "$what" ] || [ -L "$what" ]; then
        rm -rf "$what" || fail "it cannot be removed"
        changed=true
    fi
}

# put NUMBER PATH MODE OWNER
put() {
    enter "${2%/*}" make
    what=$place/${2##*/}
    new=$place/.detector-new
    [ -L "$what" ] || [ ! -d "$what" ] || fail "there is a directory in its place"
    if [ -L "$what" ] || ! cmp -s "$here/files/$1" "$what"; then
        changed=true
    fi
    rm -rf "$new" && cp "$here/files/$1" "$new" && chmod "$3" "$new" && chown "$4" "$new" || fail "it cannot be written"
    # A link in its place is replaced: to a directory, it would be followed.
    [ ! -L "$what" ] || rm -f "$what" || fail "it cannot be written"
    mv -f "$new" "$what" || fail "it cannot be written"
}

mask() {
    enter /etc/systemd/system make
    what=$place/$1
    if [ "$(readlink "$what")" != /dev/null ]; then
        rm -rf "$what" && ln -s /dev/null "$what" || fail "it cannot be masked"
        changed=true
    fi
}

run() {
    for what in proc dev; do
        if [ -d "$image/$what" ] && [ ! -L "$image/$what" ] && ! grep -q " $image/$what " /proc/mounts; then
            mount -t "$([ $what = dev ] && echo devtmpfs || echo proc)" none "$image/$what" 2>/dev/null
        fi
    done
    changed=true
    HOME=/root LANG=C.UTF-8 chroot "$image" /bin/sh -c "$1" </dev/null
    code=$?
    [ $code = 0 ] || fail "it has ended with code $code"
}

# begin STEP OF WHAT
begin() {
    step=$1
    progress $((10 + 90 * ($1 - 1) / $2)) "step $1 of $2: $3"
}

mkdir -p /proc /sys /dev "$image"
if [ -x /bin/busybox ]; then
    /bin/busybox --install -s /bin 2>/dev/null
fi
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo 0 >/proc/sys/kernel/printk
for module in virtio_pci virtio_mmio virtio_blk ext4 xfs btrfs; do
    modprobe -q "$module" 2>/dev/null
done
left=20
while [ ! -e /sys/block/vda ] && [ $left -gt 0 ]; do
    sleep 1
    left=$((left - 1))
done

# attach DEVICE
attach() {
    for type in ext4 xfs btrfs; do
        mount -t $type -o nosuid,nodev "/dev/$1" "$image" 2>/dev/null && return 0
    done
    return 1
}

root=
. "$here/root"
if [ -z "$root" ]; then
    for device in $(sed -n 's/^.* \(vd[a-z]*[0-9]*\)$/\1/p' /proc/partitions); do
        if attach "$device"; then
            if [ -d "$image/etc" ]; then
                [ -z "$root" ] || end false "$root and $device have a directory etc: name one by the key root"
                root=$device
            fi
            umount "$image"
        fi
    done
    [ -n "$root" ] || end false "there is no file system with a directory etc on its disks"
fi
attach "$root" || end false "there is no file system on $root that can be mounted"
progress 10 "$root is mounted"
. "$here/steps"
end true "$root: all that was to be done is done"
