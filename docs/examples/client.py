"""Sends one event and prints its receipt. A retry sends the same id, so the event takes effect once.

KAFKATRACE_URL: the producer's address; KAFKATRACE_KEY: the API key, with AUTH=on. Standard library only.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid

ATTEMPTS = 5
TIMEOUT_SECONDS = 30

url = os.environ.get("KAFKATRACE_URL", "http://127.0.0.1:8080") + "/v1/events"
event = {
    "id": str(uuid.uuid4()),
    "source": "/shop",
    "type": "order.placed",
    "subject": "alice",
    "data": {"item": "pen", "count": 3},
}
request = urllib.request.Request(
    url,
    data=json.dumps(event).encode(),
    headers={
        "content-type": "application/json",
        "authorization": "Bearer " + os.environ.get("KAFKATRACE_KEY", "none"),
    },
)

for attempt in range(1, ATTEMPTS + 1):
    wait_seconds = 1
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            print(answer.read().decode())
            break
    except urllib.error.HTTPError as error:
        fault = error.read().decode()
        if error.code != 429 and error.code < 500:
            sys.exit(fault)
        wait_seconds = int(error.headers.get("retry-after", "1"))
    except OSError as error:
        # Without an answer, the event may or may not be stored.
        fault = str(error)
    if attempt == ATTEMPTS:
        sys.exit(fault)
    time.sleep(wait_seconds)
