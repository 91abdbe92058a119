"""FastAPI on uvicorn with confluent-kafka. Environment: PORT, KAFKA_BROKERS, TOPIC."""

import asyncio
import os
import uuid
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from typing import Annotated, Any

import uvicorn
from confluent_kafka import KafkaException, Producer
from fastapi import FastAPI, HTTPException, Response
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic_core import to_json

TOPIC = os.environ["TOPIC"]
RFC_3339 = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$"


def real_time(text: str) -> str:
    datetime.fromisoformat(text.upper())
    return text


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Text = Annotated[str, Field(min_length=1)]


class Event(BaseModel):
    type: Text
    # Serialised here, so that what cannot be is refused before anything is sent.
    data: Annotated[Any, AfterValidator(to_json)] = b"null"
    source: Text = "urn:peer"
    subject: Text = None
    id: Text = Field(default_factory=lambda: str(uuid.uuid4()))
    time: Annotated[str, Field(pattern=RFC_3339), AfterValidator(real_time)] = Field(default_factory=now)


one_or_more = BeforeValidator(lambda body: body if isinstance(body, list) else [body])
Events = Annotated[list[Event], one_or_more, Field(min_length=1)]

STOP_TIMEOUT_SECONDS = 15
# The least that the event loop can tell from nothing: with less it would never sleep.
POLL_SECONDS = 0.001

# Its AIOProducer refuses records that have headers.
producer = Producer(
    {
        "bootstrap.servers": os.environ["KAFKA_BROKERS"],
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",
        "linger.ms": 1,
        "delivery.timeout.ms": 10_000,
        "partitioner": "murmur2_random",
    }
)
polling = False


def poll(loop: asyncio.AbstractEventLoop) -> None:
    """Settles what was delivered, on the event loop: a thread that polls contends with it and took more CPU."""
    global polling
    producer.poll(0)
    polling = len(producer) > 0
    if polling:
        loop.call_later(POLL_SECONDS, poll, loop)


def publish(event: Event, loop: asyncio.AbstractEventLoop) -> asyncio.Future:
    global polling
    delivered = loop.create_future()

    def report(error, message) -> None:
        if delivered.done():
            return
        if error is None:
            delivered.set_result({"id": event.id, "partition": message.partition(), "offset": message.offset()})
        else:
            delivered.set_exception(KafkaException(error))

    headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", event.id),
        ("ce_source", event.source),
        ("ce_type", event.type),
        ("ce_time", event.time),
        ("content-type", "application/json"),
    ]
    producer.produce(TOPIC, event.data, event.subject, headers=headers, on_delivery=report)
    if not polling:
        polling = True
        loop.call_later(POLL_SECONDS, poll, loop)
    return delivered


@asynccontextmanager
async def lifespan(_app: FastAPI):
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, producer.list_topics, TOPIC, 10)
    yield
    await loop.run_in_executor(None, producer.flush, STOP_TIMEOUT_SECONDS)


app = FastAPI(lifespan=lifespan)


@app.get("/ready")
async def ready() -> str:
    return "ready"


@app.post("/v1/events")
async def post(events: Events) -> Response:
    loop = asyncio.get_running_loop()
    try:
        receipts = await asyncio.gather(*[publish(event, loop) for event in events])
    except (KafkaException, BufferError) as error:
        raise HTTPException(503, repr(error)) from error
    return Response(to_json({"receipts": receipts}), 202, media_type="application/json")


uvicorn.run(
    app,
    host="127.0.0.1",
    port=int(os.environ["PORT"]),
    loop="uvloop",
    http="httptools",
    ws="none",
    access_log=False,
    log_level="warning",
    timeout_keep_alive=60,
)
