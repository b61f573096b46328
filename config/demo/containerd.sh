#!/bin/sh
# A containerd of its own below DIR: own root, state, socket, CNI bridge and two
# images made here, so that no registry is needed. Nothing of the machine's own
# containerd is touched.
#
#   containerd.sh up DIR BRIDGE SUBNET16    e.g. up run/containerd selvedge0 10.89
#   containerd.sh down DIR BRIDGE
#   containerd.sh restart DIR BRIDGE SUBNET16    containers stay
#
# With SELVEDGE_SLICES=1 systemd groups its processes.
set -eu

die() { echo "containerd.sh: $*" >&2; exit 1; }

# image FILE NAME ENTRYPOINT-JSON: a docker archive with busybox and nothing else
image() {
  work=$(mktemp -d)
  mkdir -p "$work/root/bin" "$work/root/tmp" "$work/root/etc"
  chmod 1777 "$work/root/tmp"
  cp "$(command -v busybox)" "$work/root/bin/busybox"
  for applet in $("$work/root/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$work/root/bin/$applet"
  done
  echo 'root:x:0:0:root:/:/bin/sh' >"$work/root/etc/passwd"
  tar -C "$work/root" --owner=0 --group=0 --sort=name --mtime=@0 -cf "$work/layer.tar" .
  layer=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
  case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=arm ;; esac
  printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/bin"],%s},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$arch" "$3" "$layer" >"$work/config.json"
  printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$2" >"$work/manifest.json"
  tar -C "$work" -cf "$1" manifest.json config.json layer.tar
  rm -r "$work"
}

up() {
  dir=$1 bridge=$2 subnet=$3
  mkdir -p "$dir/net.d"
  dir=$(cd "$dir" && pwd)
  for bin in /usr/lib/cni /opt/cni/bin; do [ -x "$bin/bridge" ] && plugins=$bin; done
  slices=false
  [ -z "${SELVEDGE_SLICES:-}" ] || slices=true
  [ -n "${plugins:-}" ] || die "no CNI plugins: apt-get install containernetworking-plugins"
  cat >"$dir/config.toml" <<TOML
version = 2
root = "$dir/root"
state = "$dir/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "$dir/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "selvedge.local/pause:1"
  stream_server_address = "127.0.0.1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$plugins"
    conf_dir = "$dir/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = $slices
TOML
  bridge_plugin=$(printf '"type":"bridge","bridge":"%s","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","dataDir":"%s/ipam","ranges":[[{"subnet":"%s.0.0/16"}]],"routes":[{"dst":"0.0.0.0/0"}]}' "$bridge" "$dir" "$subnet")
  portmap_plugin='"type":"portmap","capabilities":{"portMappings":true}'
  name="\"cniVersion\":\"0.4.0\",\"name\":\"$bridge\""
  echo "{$name,\"plugins\":[{$bridge_plugin},{$portmap_plugin}]}" >"$dir/net.d/10-$bridge.conflist"
  # Each by itself, for the end.
  mkdir -p "$dir/plugins"
  echo "{$name,$bridge_plugin}" >"$dir/plugins/bridge"
  echo "{$name,$portmap_plugin}" >"$dir/plugins/portmap"
  setsid containerd -c "$dir/config.toml" >>"$dir/log" 2>&1 &
  echo $! >"$dir/pid"
  tries=0
  until ctr -a "$dir/containerd.sock" version >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || die "containerd does not start; see $dir/log"
    sleep 0.1
  done
  [ -f "$dir/busybox.tar" ] || image "$dir/busybox.tar" docker.io/library/busybox:1.36 '"Cmd":["sh"]'
  [ -f "$dir/pause.tar" ] || image "$dir/pause.tar" selvedge.local/pause:1 '"Entrypoint":["/bin/sh","-c","trap '"'exit 0'"' TERM INT; while :; do sleep 86400 & wait; done"]'
  for archive in "$dir/busybox.tar" "$dir/pause.tar"; do
    ctr -a "$dir/containerd.sock" -n k8s.io images import "$archive" >/dev/null
  done
}

# ended PID: waits until a process is gone, five seconds at most
ended() {
  tries=0
  while kill -0 "$1" 2>/dev/null && [ $tries -lt 50 ]; do
    tries=$((tries + 1))
    sleep 0.1
  done
}

# release DIR BRIDGE ID NETNS: takes back what CNI gave a sandbox: its address and
# link, the rules of iptables, the network namespace
release() {
  for bin in /usr/lib/cni /opt/cni/bin; do
    [ -x "$bin/bridge" ] || continue
    for plugin in portmap bridge; do
      CNI_COMMAND=DEL CNI_CONTAINERID=$3 CNI_NETNS=$4 CNI_IFNAME=eth0 CNI_PATH=$bin "$bin/$plugin" <"$1/plugins/$plugin" >/dev/null 2>&1 || true
    done
    break
  done
  ip netns delete "${4##*/}" 2>/dev/null || true
  rm -f /var/lib/cni/results/*-"$3"-*
}

# Containers, their shims, mounts, addresses and network namespaces go too.
down() {
  dir=$(cd "$1" 2>/dev/null && pwd) || return 0
  ctr="ctr -a $dir/containerd.sock -n k8s.io"
  sandboxes=""
  for id in $($ctr containers list -q 2>/dev/null); do
    netns=$($ctr containers info "$id" 2>/dev/null | grep -o '/run/netns/[^"]*' | head -n 1) || true
    [ -z "$netns" ] || sandboxes="$sandboxes $id=/var$netns"
  done
  for id in $($ctr tasks list -q 2>/dev/null); do $ctr tasks kill -s KILL "$id" >/dev/null 2>&1 || true; done
  for id in $($ctr tasks list -q 2>/dev/null); do $ctr tasks delete -f "$id" >/dev/null 2>&1 || true; done
  for id in $($ctr containers list -q 2>/dev/null); do $ctr containers delete "$id" >/dev/null 2>&1 || true; done
  for sandbox in $sandboxes; do release "$dir" "$2" "${sandbox%%=*}" "${sandbox#*=}"; done
  if [ -f "$dir/pid" ]; then
    kill "$(cat "$dir/pid")" 2>/dev/null || true
    ended "$(cat "$dir/pid")"
  fi
  # Shims outlive containerd; they name its socket.
  pkill -f "containerd-shim.*-address $dir/containerd.sock" 2>/dev/null || true
  # State, pods and anything else below the folder that holds this one.
  grep -o " $(dirname "$dir")/[^ ]*" /proc/mounts | sort -r | while read -r mount; do umount -l "$mount" 2>/dev/null || true; done
  ip link delete "$2" 2>/dev/null || true
  rm -rf "$dir/state" "$dir/pid" "$dir/ipam"
}

restart() {
  kill "$(cat "$1/pid")"
  sleep 1.5
  up "$@"
}

case ${1:-} in
  up) up "$2" "$3" "$4" ;;
  down) down "$2" "$3" ;;
  restart) restart "$2" "$3" "$4" ;;
  *) sed -n '2,11p' "$0"; exit 2 ;;
esac
