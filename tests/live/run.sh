#!/bin/sh
# The live tests, on a containerd of their own below target/live.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top"
why=""
[ "$(id -u)" = 0 ] || why="they need root"
[ -n "$why" ] || sh config/demo/needs.sh || why="containerd, runc or the CNI plugins are missing"
[ -n "$why" ] || [ -w /sys/fs/cgroup ] || why="/sys/fs/cgroup cannot be written"
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
export SELVEDGE_CONTAINERD="$dir/containerd/containerd.sock" SELVEDGE_LIVE="$dir" SELVEDGE_CONTAINERD_RESTART="$top/tests/live/restart.sh"
cargo test --features cloud -- --ignored --test-threads 1 --nocapture "$@"
