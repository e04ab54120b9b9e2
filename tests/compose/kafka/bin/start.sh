#!/bin/sh
set -eu
properties=/tmp/server.properties
# KAFKA_LOG_DIRS=x -> log.dirs=x
env | sed -n 's/^KAFKA_\([A-Z_]*\)=/\1=/p' | while IFS='=' read -r name value; do
    case $name in HEAP_OPTS | OPTS) continue ;; esac
    printf '%s=%s\n' "$(printf %s "$name" | tr 'A-Z_' 'a-z.')" "$value"
done >"$properties"
export CLASSPATH="/opt/kafka/libs/*"
run="java ${KAFKA_HEAP_OPTS:--Xmx512m}"
$run kafka.tools.StorageTool format --ignore-formatted --cluster-id "${CLUSTER_ID:-Z25vbW9uLXRlc3RzLTAwMQ}" --config "$properties"
exec $run kafka.Kafka "$properties"
