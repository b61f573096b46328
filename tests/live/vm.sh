#!/bin/sh
# `make live-vm`: the live stories on a machine with systemd and cgroup v2, first
# with cgroups made here, then with slices: a virtual one, from Debian's packages.
# Volumes are tried once more with an agent that systemd started by its unit.
# Takes root, 2 GB below target/ and a quarter of an hour: its processor is
# emulated, which works everywhere.
#
#   vm.sh [TESTS [TESTS OF THE UNIT]]    e.g. vm.sh live::stories::limits
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top"
[ "$(id -u)" = 0 ] && [ "$(uname -m)" = x86_64 ] || { echo "NOT RUN: the virtual machine needs root on an x86_64"; exit 0; }
sh config/demo/needs.sh qemu-system-x86_64:qemu-system-x86 mmdebstrap:mmdebstrap

built=$(cargo test --features cloud --test selvedge --no-run 2>&1) || { echo "$built"; exit 1; }
tests=$(echo "$built" | sed -n 's/.*Executable.*(\(.*\))/\1/p')
vm=${CARGO_TARGET_DIR:-$top/target}/vm
mkdir -p "$vm"
inside=systemd-sysv,dbus,udev,kmod,iproute2,iptables,procps,containerd,runc,containernetworking-plugins,busybox-static,linux-image-cloud-amd64
[ -f "$vm/system.tar" ] || mmdebstrap --quiet --variant=minbase --include=$inside bookworm "$vm/system.tar"

root=$vm/root
rm -rf "$root" "$vm/disk"
mkdir -p "$root"
tar -C "$root" -xf "$vm/system.tar"
mkdir -p "$root$top/target/debug" "$root$top/tests"
cp -r config "$root$top/"
cp -r tests/live "$root$top/tests/"
strip -o "$root$top/target/debug/selvedge" "$(dirname "$tests")/../selvedge"
strip -o "$root$top/stories" "$tests"
cat >"$root$top/go" <<GO
#!/bin/sh
export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
ip link set lo up
modprobe -a br_netfilter overlay veth bridge
cd $top
for slices in "" 1; do
  echo "slices: \${slices:-0}, \$(uname -r), controllers \$(cat /sys/fs/cgroup/cgroup.controllers)"
  SELVEDGE_SLICES=\$slices sh tests/live/with-containerd.sh ./stories --ignored --test-threads 1 ${1:-live::stories} || {
    tail -n 30 target/live/*/agent.log
    exit 1
  }
  # And on a kernel without openat2.
  more='SystemCallFilter=~openat2'
  [ -z "\$slices" ] || more=TimeoutStopSec=15
  echo "the agent is started by its unit, with \$more"
  SELVEDGE_UNIT="\$more" SELVEDGE_SLICES=\$slices sh tests/live/with-containerd.sh ./stories --ignored --test-threads 1 live::volumes ${2:-live::hostile} || {
    tail -n 30 target/live/*/agent.log
    systemctl status --no-pager selvedge
    exit 1
  }
done
echo "all stories passed"
GO
cat >"$root/etc/systemd/system/go.service" <<UNIT
[Unit]
After=dbus.service
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=$top/go
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
TimeoutStartSec=infinity
UNIT
chmod +x "$root$top/go"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../go.service "$root/etc/systemd/system/multi-user.target.wants/"
ln -s /dev/null "$root/etc/systemd/system/serial-getty@ttyS0.service"
# The sources may lie below /tmp, which is emptied at each start.
mkdir -p "$root/etc/tmpfiles.d"
ln -s /dev/null "$root/etc/tmpfiles.d/tmp.conf"
rm -f "$root"/etc/systemd/system/multi-user.target.wants/containerd.service
truncate -s 4G "$vm/disk"
mke2fs -q -t ext4 -d "$root" "$vm/disk"
timeout 3000 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -nographic -no-reboot -nic none \
  -kernel "$root"/boot/vmlinuz-* -initrd "$root"/boot/initrd.img-* \
  -append "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0" \
  -drive "file=$vm/disk,format=raw,if=virtio,cache=unsafe" </dev/null | sed -u 's/\r//' | tee "$vm/console"
rm -rf "$root" "$vm/disk"
grep -q "^all stories passed" "$vm/console"
