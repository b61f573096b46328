#!/bin/sh
# `make run`: a stand-in cloud, this machine as its edge node, one Deployment,
# one thermometer.
# Everything lives below ./run and is gone after Ctrl-C but logs and the image.
#
#   run.sh SELVEDGE [SECONDS]    stays until Ctrl-C, or SECONDS after the pod runs
set -eu
here=$(cd "$(dirname "$0")" && pwd)
selvedge=$(realpath "$1") stay=${2:-}
mkdir -p run
run=$(realpath run)
cloud="$selvedge cloud --state $run/cloud"
export SELVEDGE_CONFIG="$run/selvedge.toml"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# Nothing interrupts it; the agent has ended before its runtime does.
clean() {
  trap - EXIT
  trap '' INT TERM
  say "cleaning up"
  for name in sensor wish agent mosquitto cloud; do
    [ -f "$run/$name.pid" ] || continue
    pid=$(cat "$run/$name.pid") tries=0
    kill "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null && [ $tries -lt 50 ]; do
      tries=$((tries + 1))
      sleep 0.1
    done
    rm -f "$run/$name.pid"
  done
  "$here/containerd.sh" down "$run/containerd" selvedge0
  rm -rf "$run/cloud" "$run/state" "$run/kubelet" "$run/pods" "$run/containers" "$run"/*.crt "$run"/*.key "$run/selvedge.toml" "$run"/mosquitto.conf "$run/mqtt.sock" "$run/delta"
  find /sys/fs/cgroup -depth -type d -path '*/selvedge-demo*' -exec rmdir {} \; 2>/dev/null || true
  echo "logs are in $run: agent.log, cloud.log, mosquitto.log, containerd/log"
}

sh "$here/needs.sh"

[ ! -f "$run/agent.pid" ] || clean
trap clean EXIT
trap 'exit 0' INT TERM

say "containerd, of its own"
"$here/containerd.sh" up "$run/containerd" selvedge0 10.89

say "mosquitto, of its own"
cat >"$run/mosquitto.conf" <<CONF
listener 0 $run/mqtt.sock
allow_anonymous true
user $(id -un)
CONF
mosquitto -c "$run/mosquitto.conf" >"$run/mosquitto.log" 2>&1 &
echo $! >"$run/mosquitto.pid"
"$here/thermometer.sh" wait "$run"

say "cloud"
$cloud run --port 11000 --https-port 11002 --manifests "$here/manifests" >"$run/cloud.log" 2>&1 &
echo $! >"$run/cloud.pid"
tries=0
until $cloud token >"$run/token" 2>/dev/null; do
  tries=$((tries + 1))
  [ $tries -lt 100 ] || { cat "$run/cloud.log" >&2; exit 1; }
  sleep 0.1
done

say "join"
cat >"$SELVEDGE_CONFIG" <<TOML
[edgehub]
ca = "$run/ca.crt"
certificate = "$run/node.crt"
key = "$run/node.key"
[metamanager]
dir = "$run/state"
[edged]
runtime = "$run/containerd/containerd.sock"
root = "$run/kubelet"
pod_logs = "$run/pods"
container_logs = "$run/containers"
cgroup_root = "selvedge-demo"
# Your disk may be fuller than that of a device.
eviction_disk = 0
eviction_memory = "0"
[eventbus]
server = "unix://$run/mqtt.sock"
[dmi]
socket = "$run/dmi.sock"
[control]
socket = "$run/control.sock"
TOML
"$selvedge" join --cloud 127.0.0.1:11000 --https-port 11002 --token-file "$run/token" --node demo

say "agent"
"$selvedge" run >"$run/agent.log" 2>&1 &
echo $! >"$run/agent.pid"
# What the cloud had before the node came, it sends with its next round.
ready() { $cloud get pods | grep -q ' 1/1 .*Running' && "$selvedge" get devices | grep -q thermometer; }
tries=0
until ready 2>/dev/null; do
  tries=$((tries + 1))
  [ $tries -lt 300 ] || { tail -20 "$run/agent.log" >&2; $cloud get pods; $cloud get events; exit 1; }
  sleep 0.1
done
"$here/thermometer.sh" run "$run"
$cloud get nodes
$cloud get pods
$cloud get devices
say "$ selvedge status"
"$selvedge" status
pod=$($cloud get pods | awk 'NR == 2 { print $2 }')
say "$ selvedge logs $pod"
"$selvedge" logs "$pod" --tail 3
say "$ selvedge twin watch default/thermometer"
timeout 6 "$selvedge" twin watch default/thermometer || true
say "running until Ctrl-C; in another terminal:"
cat <<TEXT
  export SELVEDGE_CONFIG=$run/selvedge.toml
  $selvedge get pods
  $selvedge logs $pod -f
  $cloud get events
  $cloud get devicestatuses
  edit $here/manifests/hello.yaml and see it follow
  edit the setpoint in $here/manifests/thermometer.yaml and see the temperature follow
TEXT
if [ -n "$stay" ]; then sleep "$stay"; else wait; fi
