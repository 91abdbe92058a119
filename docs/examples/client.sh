#!/bin/sh
# Sends one event and prints its receipt. A retry sends the same id, so the event takes effect once.
# KAFKATRACE_URL: the producer's address; KAFKATRACE_KEY: the API key, with AUTH=on.
set -eu
url=${KAFKATRACE_URL:-http://127.0.0.1:8080}/v1/events
id=sh-$$-$(date +%s)
event='{"id":"'$id'","source":"/shop","type":"order.placed","subject":"alice","data":{"item":"pen","count":3}}'

# --retry retries after 408, 429, 500 and 502 to 504, and waits as long as Retry-After says.
exec curl --silent --show-error --fail-with-body --max-time 30 --retry 5 --retry-connrefused \
  --header 'content-type: application/json' --header "authorization: Bearer ${KAFKATRACE_KEY:-none}" \
  --data "$event" "$url"
