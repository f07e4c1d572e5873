#!/usr/bin/env bash
# The main job on this machine: a cluster up, a manifest applied, a container answering over the
# address that the WebAssembly bridge driver gave it. Says how to go on and leaves it running.
set -euo pipefail
davit=${1:-target/release/davit}
data=${DATA_DIR:-/var/lib/davit}
listen=${LISTEN:-127.0.0.1:6443}
here=$(cd "$(dirname "$0")/.." && pwd)

[ "$(id -u)" = 0 ] || { echo "demo: davit runs containers and needs root; run: sudo make demo" >&2; exit 1; }
log=$(mktemp -t davit-demo-XXXXXX.log)
"$davit" up --data-dir "$data" --listen "$listen" >"$log" 2>&1 &
up=$!
fail() { echo "demo: $1; the log is $log" >&2; tail -n 20 "$log" >&2; kill "$up" 2>/dev/null || true; exit 1; }

ask() { exec 3<>"/dev/tcp/$1/8080" && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && cat <&3; }

echo "demo: starting davit (log: $log)"
for _ in $(seq 300); do
  "$davit" get nodes --data-dir "$data" 2>/dev/null | grep -q ' Ready' && break
  kill -0 "$up" 2>/dev/null || fail "davit up ended"
  sleep 0.2
done
"$davit" get nodes --data-dir "$data" | grep -q ' Ready' || fail "the node is not ready after a minute"

echo "demo: applying examples/web.yaml"
"$davit" apply -f "$here/examples/web.yaml" --data-dir "$data"
answer=
for _ in $(seq 300); do
  ip=$("$davit" get pods -n web -o wide --data-dir "$data" 2>/dev/null | awk '/ Running /{for (i = 1; i <= NF; i++) if ($i ~ /^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$/) {print $i; exit}}')
  if [ -n "$ip" ] && answer=$(ask "$ip" 2>/dev/null); then
    break
  fi
  sleep 0.2
done
[ -n "$answer" ] || fail "no container answered within a minute"

echo
echo "demo: http://$ip:8080/ answers:"
printf '%s\n' "$answer" | tr -d '\r' | sed '1,/^$/d; s/^/    /'
cat <<END

davit is running (pid $up). Go on with:
    export KUBECONFIG=$data/kubeconfig && $davit kubeconfig --data-dir $data > \$KUBECONFIG
    kubectl get pods -A -o wide
    kubectl -n web scale deployment/web --replicas=5
    $davit logs -n web deployment/web --data-dir $data
Take everything down again:
    kill $up; $davit down --data-dir $data
END
