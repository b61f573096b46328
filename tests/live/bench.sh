#!/bin/sh
# `make bench`: figures on a containerd of its own. The agent that is measured is
# the device build, or SELVEDGE_BINARY (make release builds a static one); the
# stand-in is another process. `sh tests/live/bench.sh updates` takes only the
# figures of twin updates, which need no containerd; `pods` only the others.
set -eu
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "NOT RUN: the bench needs root"; exit 0; }
sh config/demo/needs.sh
target=${CARGO_TARGET_DIR:-target}
if [ -z "${SELVEDGE_BINARY:-}" ]; then
  cargo build --release
  mkdir -p "$target/live"
  cp "$target/release/selvedge" "$target/live/selvedge"
  SELVEDGE_BINARY=$(cd "$target/live" && pwd)/selvedge
fi
export SELVEDGE_BINARY
cargo build --release --features cloud --benches
if [ "${1:-}" = updates ]; then
  exec env SELVEDGE_CONTAINERD=none cargo bench --quiet --features cloud -- updates
fi
sh tests/live/with-containerd.sh cargo bench --quiet --features cloud -- "$@"
