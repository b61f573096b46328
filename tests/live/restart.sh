#!/bin/sh
# Ends the containerd of with-containerd.sh and starts it again after a while.
exec "$(dirname "$0")/../../config/demo/containerd.sh" restart "$SELVEDGE_LIVE/containerd" "$SELVEDGE_BRIDGE" "$SELVEDGE_SUBNET"
