#!/bin/sh
# `make live`: the live tests, or why they cannot run here.
set -eu
cd "$(dirname "$0")/../.."
not_run() {
  echo "NOT RUN: the live tests (real containerd, real WebSocket): $1"
  PATH=$PATH:/usr/sbin command -v mosquitto >/dev/null || exit 0
  exec cargo test --features cloud -- --ignored --nocapture live::mosquitto
}
if [ "${1:-}" = beside ]; then
  shift
  if ! tried=$(ctr -a "$SELVEDGE_CONTAINERD" -n k8s.io run --rm docker.io/library/busybox:1.36 try true 2>&1); then
    not_run "no container runs here: $tried"
  fi
  exec cargo test --features cloud -- --ignored --test-threads 1 --nocapture "$@"
fi
[ "$(id -u)" = 0 ] || not_run "they need root"
sh config/demo/needs.sh || not_run "containerd, runc, the CNI plugins or mosquitto are missing"
[ -w /sys/fs/cgroup ] || not_run "/sys/fs/cgroup cannot be written"
{ ip link add selvedge-try type veth peer name selvedge-yrt && ip link delete selvedge-try; } 2>/dev/null || not_run "no network devices may be made here"
sh tests/live/with-containerd.sh sh tests/live/run.sh beside "$@"
