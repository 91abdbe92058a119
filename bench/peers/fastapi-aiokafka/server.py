"""FastAPI on uvicorn with aiokafka. Environment: PORT, KAFKA_BROKERS, TOPIC."""

import asyncio
import os
import uuid
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from typing import Annotated, Any

import uvicorn
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from fastapi import FastAPI, HTTPException, Request, Response
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

DELIVERY_TIMEOUT_SECONDS = 10


async def publish(producer: AIOKafkaProducer, event: Event) -> asyncio.Future:
    """Returns, once the record is queued, what is done when it is stored."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", event.id.encode()),
        ("ce_source", event.source.encode()),
        ("ce_type", event.type.encode()),
        ("ce_time", event.time.encode()),
        ("content-type", b"application/json"),
    ]
    key = None if event.subject is None else event.subject.encode()
    return await producer.send(TOPIC, event.data, key, headers=headers)


@asynccontextmanager
async def lifespan(app: FastAPI):
    producer = app.state.producer = AIOKafkaProducer(
        bootstrap_servers=os.environ["KAFKA_BROKERS"],
        enable_idempotence=True,
        acks="all",
        compression_type="lz4",
        # It has one request in flight per broker: what comes in the meantime goes out together next.
        linger_ms=0,
        max_batch_size=512 * 1024,
        request_timeout_ms=DELIVERY_TIMEOUT_SECONDS * 1000,
    )
    await producer.start()
    await producer.partitions_for(TOPIC)
    yield
    await producer.stop()


app = FastAPI(lifespan=lifespan)


@app.get("/ready")
async def ready() -> str:
    return "ready"


@app.post("/v1/events")
async def post(events: Events, request: Request) -> Response:
    producer = request.app.state.producer
    try:
        # Its own timeout does not end what waits for a broker that is gone.
        async with asyncio.timeout(DELIVERY_TIMEOUT_SECONDS):
            stored = await asyncio.gather(*[await publish(producer, event) for event in events])
    except (KafkaError, TimeoutError) as error:
        raise HTTPException(503, repr(error)) from error
    receipts = [{"id": event.id, "partition": at.partition, "offset": at.offset} for event, at in zip(events, stored)]
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
