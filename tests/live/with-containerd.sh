#!/bin/sh
# Runs a command beside a containerd of its own below target/live, and takes that
# away afterwards: with-containerd.sh COMMAND...
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
dir=${CARGO_TARGET_DIR:-$top/target}/live
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
export SELVEDGE_LIVE="$dir" SELVEDGE_CONTAINERD="$dir/containerd/containerd.sock"
export SELVEDGE_BRIDGE=selvedge1 SELVEDGE_SUBNET=10.90 SELVEDGE_CONTAINERD_RESTART="$top/tests/live/restart.sh"
down() { sh "$top/config/demo/containerd.sh" down "$dir/containerd" $SELVEDGE_BRIDGE; }
trap down EXIT
trap 'exit 1' INT TERM
down
sh "$top/config/demo/containerd.sh" up "$dir/containerd" $SELVEDGE_BRIDGE $SELVEDGE_SUBNET
"$@"
