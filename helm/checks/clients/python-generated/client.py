"""A client as its user would write it, on what openapi-python-client makes of the description: ../../clients-openapi.ts runs it."""

import asyncio
import datetime
import json
import sys

from api import Client
from api.api.events import post_events, post_stream_events
from api.models import CloudEvent, PlainEvent, Problem, Receipts

answers = []


def take(response):
    if isinstance(response.parsed, Receipts):
        detail = [receipt.id for receipt in response.parsed.receipts]
    else:
        assert isinstance(response.parsed, Problem)
        detail = [fault.pointer for fault in response.parsed.errors]
    answers.append({"status": int(response.status_code), "detail": detail})


client = Client(base_url=sys.argv[1], timeout=20)
take(post_events.sync_detailed(client=client, body=PlainEvent(type_="t", id="1", data={"x": 1})))
extended = PlainEvent(type_="t", id="é", subject=None, data=[1])
extended["priority"] = 3
take(post_events.sync_detailed(client=client, body=extended))
event = CloudEvent(
    specversion="1.0",
    id="4",
    source="/shop",
    type_="t",
    time=datetime.datetime(2026, 1, 31, tzinfo=datetime.timezone.utc),
    data={"x": 1},
)
take(post_events.sync_detailed(client=client, body=event))
take(post_stream_events.sync_detailed("events", client=client, body=event, x_request_id="mine"))
take(asyncio.run(post_events.asyncio_detailed(client=client, body=event)))
take(post_events.sync_detailed(client=client, body=PlainEvent(type_="")))
print(json.dumps(answers))
