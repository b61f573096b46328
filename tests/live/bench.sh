#!/bin/sh
# `make bench`: figures on a containerd of its own below target/live. The agent
# that is measured is the device build, or SELVEDGE_BINARY (make release builds a
# static one); the stand-in is another process.
set -eu
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "NOT RUN: the bench needs root"; exit 0; }
sh config/demo/needs.sh
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/live"
dir=$(cd "$target/live" && pwd)
agent=${SELVEDGE_BINARY:-}
if [ -z "$agent" ]; then
  cargo build --release
  cp "$target/release/selvedge" "$dir/selvedge"
  agent=$dir/selvedge
fi
cargo build --release --features cloud --benches
trap 'sh config/demo/containerd.sh down "$dir/containerd" selvedge1' EXIT
trap 'exit 1' INT TERM
sh config/demo/containerd.sh down "$dir/containerd" selvedge1
sh config/demo/containerd.sh up "$dir/containerd" selvedge1 10.90
SELVEDGE_CONTAINERD="$dir/containerd/containerd.sock" SELVEDGE_BINARY=$agent cargo bench --quiet --features cloud
