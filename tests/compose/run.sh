#!/bin/sh
# Build the images (GNOMON_BUILT=yes: they are there), bring docker-compose.yml up, wait for a report with rows, kill
# one container of each kind and wait for it to work again, then take everything down. Called by `make compose-test`.
set -eu
cd "$(dirname "$0")/../.."
began=$(date +%s)
say() { echo "$(($(date +%s) - began)) s: $1"; }
if docker compose version >/dev/null 2>&1; then compose="docker compose"; else compose=docker-compose; fi
compose="$compose --project-name gnomon-compose-test --ansi never"
settings=$(mktemp)
trap '$compose down --volumes --timeout 20 >/dev/null 2>&1 || true; rm -f "$settings"' EXIT
# Where no registry of images is reached (or GNOMON_STAND_INS=yes), Debian's packages stand in for them.
if [ "${GNOMON_STAND_INS:-}" = yes ] || ! docker pull --quiet "$(. ./.env && echo "$GNOMON_PYTHON_IMAGE")" >/dev/null 2>&1; then
    echo "no image registry answers: stand-ins from Debian's packages"
    tests/compose/images.sh >"$settings"
    set -a && . "$settings" && set +a
    export DOCKER_BUILDKIT=0
    network="--network host"
fi
python=${GNOMON_PYTHON_IMAGE:-$(. ./.env && echo "$GNOMON_PYTHON_IMAGE")}
for target in service demo; do
    image=gnomon:local
    [ $target = service ] || image=gnomon-demo:local
    [ "${GNOMON_BUILT:-}" = yes ] || docker build ${network:-} --quiet --build-arg "PYTHON_IMAGE=$python" --target $target --tag $image . >/dev/null
    say "$(docker image inspect --format "$image: {{.Size}} bytes" $image)"
done

seen() { # the captures that a deployment has joined, 0 where there is no report yet
    $compose run --rm -T report ledger --format json 2>/dev/null |
        python3 -c 'import json, sys; print(sum(row.get("seen") or 0 for row in json.load(sys.stdin)["rows"] if row.get("deployment") == sys.argv[1]))' "$1" 2>/dev/null || echo 0
}
wait_beyond() { # deployment, captures, seconds
    end=$(($(date +%s) + $3))
    while now=$(seen "$1"); [ "$now" -le "$2" ]; do
        [ "$(date +%s)" -lt "$end" ] || { echo "FAILED: $1 stands at $now captures"; $compose ps; $compose logs --tail 20; exit 1; }
        sleep 2
    done
    say "$1: $now captures joined"
}

$compose up --detach --no-build >/dev/null 2>&1 || { $compose ps; $compose logs --tail 20; exit 1; }
wait_beyond challenger 0 600
wait_beyond control 0 300
$compose ps
for service in score-challenger join-challenger score-control labels maintenance postgres kafka; do
    # The flights of a year end: they are sent again, so that there is traffic all the time.
    $compose up --detach --no-build --no-deps flights >/dev/null 2>&1
    before=$(seen challenger)
    docker kill "$($compose ps -q $service)" >/dev/null
    say "killed $service at $before captures"
    $compose up --detach --no-build --no-deps $service >/dev/null 2>&1
    wait_beyond challenger "$before" 300
done
echo "what the sandbox of a worker holds in the scorer's container:"
$compose exec -T score-challenger gnomon doctor 2>/dev/null | grep -i sandbox || true
$compose run --rm -T report agreement
$compose down --volumes --timeout 20 >/dev/null 2>&1
trap - EXIT
rm -f "$settings"
[ -z "$(docker ps --quiet --filter name=gnomon-compose-test)" ] && say "nothing is left"
