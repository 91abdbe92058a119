"""FastAPI with aiokafka. Environment: PORT, KAFKA_BROKERS, TOPIC."""

import asyncio
import os
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

import uvicorn
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from pydantic_core import to_json

TOPIC = os.environ["TOPIC"]


def real_time(text: str) -> str:
    datetime.fromisoformat(text)
    return text


RFC_3339 = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$"
Text = Annotated[str, StringConstraints(min_length=1)]
Time = Annotated[str, StringConstraints(pattern=RFC_3339), AfterValidator(real_time)]


class Event(BaseModel):
    type: Text
    data: Any = None
    source: Text = "urn:peer"
    subject: Text = None
    id: Text = Field(default_factory=lambda: str(uuid4()))
    time: Time = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))


Events = Annotated[list[Event], Field(min_length=1)]
producer: AIOKafkaProducer


@asynccontextmanager
async def lifespan(_: FastAPI):
    global producer
    producer = AIOKafkaProducer(
        bootstrap_servers=os.environ["KAFKA_BROKERS"],
        enable_idempotence=True,
        acks="all",
        compression_type="lz4",
        linger_ms=1,
        max_batch_size=1_000_000,
        request_timeout_ms=10_000,
    )
    await producer.start()
    yield
    # Sends what is waiting first.
    await producer.stop()


app = FastAPI(lifespan=lifespan, openapi_url=None)


@app.get("/ready")
async def ready() -> PlainTextResponse:
    return PlainTextResponse("ready")


@app.post("/v1/events")
async def post(body: Event | Events) -> JSONResponse:
    events = body if isinstance(body, list) else [body]
    try:
        sent = [await send(event) for event in events]
        stored = await asyncio.gather(*sent)
    except KafkaError as error:
        return JSONResponse({"error": str(error)}, 503)
    receipts = [
        {"id": event.id, "partition": record.partition, "offset": record.offset}
        for event, record in zip(events, stored)
    ]
    return JSONResponse({"receipts": receipts}, 202)


def send(event: Event):
    return producer.send(
        TOPIC,
        to_json(event.data),
        event.subject and event.subject.encode(),
        headers=[
            ("ce_specversion", b"1.0"),
            ("ce_id", event.id.encode()),
            ("ce_source", event.source.encode()),
            ("ce_type", event.type.encode()),
            ("ce_time", event.time.encode()),
            ("content-type", b"application/json"),
        ],
    )


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=15,
    )
