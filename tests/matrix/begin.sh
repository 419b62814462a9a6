export PATH=/usr/sbin:/usr/bin HOME=/root DETECTOR_BIN=/binaries/detector DETECTOR_TESTS_SLOWNESS=6
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
mkdir /dev/shm
mount -t tmpfs shm /dev/shm
ip link set lo up
cd /tmp
power_off() {
    echo o >/proc/sysrq-trigger
    read -r _ </dev/ttyS0
}
