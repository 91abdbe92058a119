"""FastAPI on uvicorn with confluent-kafka. Environment: PORT, KAFKA_BROKERS, TOPIC."""

import asyncio
import os
import threading
import uuid
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from typing import Annotated, Any

import uvicorn
from confluent_kafka import KafkaException, Producer
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import to_json

TOPIC = os.environ["TOPIC"]
RFC_3339 = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$"
STOP_TIMEOUT_SECONDS = 15


def real_time(text: str) -> str:
    datetime.fromisoformat(text.upper())
    return text


Text = Annotated[str, Field(min_length=1)]


class Event(BaseModel):
    type: Text
    data: Any = None
    source: Text = "urn:peer"
    subject: Text = None
    id: Text = Field(default_factory=lambda: str(uuid.uuid4()))
    time: Annotated[str, Field(pattern=RFC_3339), AfterValidator(real_time)] = None


one_or_more = BeforeValidator(lambda body: body if isinstance(body, list) else [body])
Events = TypeAdapter(Annotated[list[Event], one_or_more, Field(min_length=1)])


async def events_of(request: Request) -> list[Event]:
    """The body, parsed and validated by pydantic in one go: FastAPI itself would parse it with Python's json first."""
    try:
        return Events.validate_json(await request.body())
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False, include_input=False))


# Its AIOProducer refuses records that have headers.
producer = Producer(
    {
        "bootstrap.servers": os.environ["KAFKA_BROKERS"],
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",
        "linger.ms": float(os.environ.get("X_LINGER", "1")),
        "delivery.timeout.ms": 10_000,
        "partitioner": "murmur2_random",
    }
)


def publish(event: Event, now: str, loop: asyncio.AbstractEventLoop) -> asyncio.Future:
    delivered = loop.create_future()
    headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", event.id),
        ("ce_source", event.source),
        ("ce_type", event.type),
        ("ce_time", event.time or now),
        ("content-type", "application/json"),
    ]
    producer.produce(
        TOPIC,
        to_json(event.data),
        event.subject,
        headers=headers,
        on_delivery=lambda error, message: reports.append((delivered, error, message)),
    )
    return delivered


reports = []
def settle(done):
    for delivered, error, message in done:
        if delivered.cancelled(): continue
        if error is None: delivered.set_result(message)
        else: delivered.set_exception(KafkaException(error))

def poll_in_thread(loop, stopping):
    global reports
    while not stopping.is_set():
        producer.poll(0.1)
        if reports:
            done, reports = reports, []
            loop.call_soon_threadsafe(settle, done)

async def poll_on_loop(seconds):
    global reports
    while True:
        await asyncio.sleep(seconds)
        producer.poll(0)
        if reports:
            done, reports = reports, []
            settle(done)


@asynccontextmanager
async def lifespan(_app: FastAPI):
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, producer.list_topics, TOPIC, 10)
    if os.environ.get("X_SWITCH"):
        import sys; sys.setswitchinterval(float(os.environ["X_SWITCH"]))
    if os.environ.get("X_POLL", "thread") == "thread":
        stopping = threading.Event()
        threading.Thread(target=poll_in_thread, args=(loop, stopping), daemon=True).start()
    else:
        t = asyncio.create_task(poll_on_loop(float(os.environ["X_POLL"])))
    yield
    await loop.run_in_executor(None, producer.flush, STOP_TIMEOUT_SECONDS)


app = FastAPI(lifespan=lifespan)


@app.get("/ready")
async def ready() -> str:
    return "ready"


async def answer(events):
    loop = asyncio.get_running_loop()
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    try:
        messages = await asyncio.gather(*[publish(event, now, loop) for event in events])
    except (KafkaException, BufferError) as error:
        raise HTTPException(503, str(error))
    receipts = [
        {"id": event.id, "partition": message.partition(), "offset": message.offset()}
        for event, message in zip(events, messages)
    ]
    return Response(to_json({"receipts": receipts}), 202, media_type="application/json")

if os.environ.get("X_BODY") == "declared":
    @app.post("/v1/events")
    async def post(events: Annotated[list[Event], one_or_more, Field(min_length=1)]):
        return await answer(events)
elif os.environ.get("X_BODY") == "request":
    @app.post("/v1/events")
    async def post(request: Request):
        return await answer(await events_of(request))
else:
    @app.post("/v1/events")
    async def post(events: Annotated[list[Event], Depends(events_of)]):
        return await answer(events)


uvicorn.run(
    app,
    host="127.0.0.1",
    port=int(os.environ["PORT"]),
    loop="uvloop",
    http="httptools",
    ws="none",
    access_log=False,
    log_level="warning",
)
