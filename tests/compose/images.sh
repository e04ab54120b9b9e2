#!/bin/sh
# Make stand-ins for the images that docker-compose.yml names, for an engine that reaches no image registry: Debian's
# packages for Python, Java and PostgreSQL, Maven's jars for Kafka. Needs root, debootstrap and an engine.
#   tests/compose/images.sh      prints the settings for .env
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

if ! docker image inspect gnomon-test/debian >/dev/null 2>&1; then
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$root/debian" >&2
    # Certificates and pip's settings of this machine: an image is built with the same access to packages.
    cp /etc/ssl/certs/ca-certificates.crt "$root/debian/etc/ssl/certs/"
    [ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$root/debian/etc/"
    rm -rf "$root/debian"/var/cache/apt/*.bin "$root/debian"/var/cache/apt/archives/*.deb \
        "$root/debian"/usr/share/doc "$root/debian"/usr/share/man "$root/debian"/usr/share/locale
    ln -s python3 "$root/debian/usr/bin/python"
    tar -C "$root/debian" -c . | docker import - gnomon-test/debian >&2
fi
docker build --network host --tag gnomon-test/postgres:15.0 "$here/postgres" >&2
jars=$(cd "$here/../.." && .venv/bin/python -c 'from tests.support.servers.kafka_node import broker_jars; print(broker_jars())')
mkdir "$root/kafka"
cp -r "$here/kafka/." "$root/kafka"
cp -r "$jars" "$root/kafka/libs"
docker build --network host --tag gnomon-test/kafka:4.1 "$root/kafka" >&2
docker tag gnomon-test/debian gnomon-test/python:3.11

cat <<'END'
GNOMON_PYTHON_IMAGE=gnomon-test/python:3.11
GNOMON_KAFKA_IMAGE=gnomon-test/kafka:4.1
GNOMON_POSTGRES_IMAGE=gnomon-test/postgres:15.0
END
