"""CloudEvents' SDK for Python as a sender and a reader: ../../clients-sdks.ts says what comes in and goes out."""

import base64
import json
import sys

import requests
from cloudevents.http import CloudEvent, to_binary, to_json, to_structured
from cloudevents.kafka import KafkaMessage, from_binary

ATTRIBUTES = ("id", "source", "type", "subject", "time", "datacontenttype", "dataschema")
TIMEOUT_SECONDS = 20


def event_of(given):
    attributes = {name: given[name] for name in ATTRIBUTES if name in given}
    data = None if given["data"] is None else base64.b64decode(given["data"])
    if data is not None and given["datacontenttype"] == "application/json":
        data = json.loads(data)
    return CloudEvent({**attributes, **given["extensions"]}, data)


def send(session, url, order):
    try:
        events = [event_of(one) for one in order["events"]]
        if order["mode"] == "binary":
            headers, body = to_binary(events[0])
        elif order["mode"] == "structured":
            headers, body = to_structured(events[0])
        else:
            # The SDK does not support batches.
            headers = {"content-type": "application/cloudevents-batch+json"}
            body = b"[" + b",".join(to_json(one) for one in events) + b"]"
        answer = session.post(url, headers=headers, data=body, timeout=TIMEOUT_SECONDS)
        return {"status": answer.status_code, "body": answer.text}
    except Exception as error:
        return {"error": repr(error)}


def read(record):
    try:
        headers = {name: base64.b64decode(value) for name, value in record["headers"]}
        value = None if record["value"] is None else base64.b64decode(record["value"])
        event = from_binary(KafkaMessage(headers, None, value), data_unmarshaller=lambda data: data)
        attributes = event.get_attributes()
        return {
            **{name: attributes[name] for name in ATTRIBUTES if attributes.get(name) is not None},
            "extensions": {
                name: value for name, value in attributes.items() if name not in ATTRIBUTES and name != "specversion"
            },
            "data": None if event.data is None else base64.b64encode(event.data).decode(),
        }
    except Exception as error:
        return {"error": repr(error)}


orders = json.load(sys.stdin)
with requests.Session() as session:
    sends = [send(session, orders["url"], one) for one in orders["sends"]]
json.dump({"sends": sends, "records": [read(one) for one in orders["records"]]}, sys.stdout)
