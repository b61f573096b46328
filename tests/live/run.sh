#!/bin/sh
# The live tests, on a containerd of their own below target/live.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top"
why=""
[ "$(id -u)" = 0 ] || why="they need root"
[ -n "$why" ] || sh config/demo/needs.sh || why="containerd, runc or the CNI plugins are missing"
[ -n "$why" ] || [ -w /sys/fs/cgroup ] || why="/sys/fs/cgroup cannot be written"
[ -n "$why" ] || { ip link add selvedge-try type veth peer name selvedge-yrt && ip link delete selvedge-try; } 2>/dev/null || why="no network devices may be made here"
if [ -n "$why" ]; then
  echo "NOT RUN: the live tests (real containerd, real WebSocket): $why"
  exit 0
fi
dir=${CARGO_TARGET_DIR:-target}/live
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
trap 'sh config/demo/containerd.sh down "$dir/containerd" selvedge1' EXIT
trap 'exit 1' INT TERM
sh config/demo/containerd.sh down "$dir/containerd" selvedge1
sh config/demo/containerd.sh up "$dir/containerd" selvedge1 10.90
if ! ctr -a "$dir/containerd/containerd.sock" -n k8s.io run --rm docker.io/library/busybox:1.36 try true >"$dir/try.log" 2>&1; then
  echo "NOT RUN: the live tests: no container runs here: $(tail -1 "$dir/try.log")"
  exit 0
fi
export SELVEDGE_CONTAINERD="$dir/containerd/containerd.sock" SELVEDGE_LIVE="$dir" SELVEDGE_CONTAINERD_RESTART="$top/tests/live/restart.sh"
cargo test --features cloud -- --ignored --test-threads 1 --nocapture "$@"
