"""The least that FastAPI can do: read a JSON body, judge it with a model of one field, and answer in JSON."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Asked(BaseModel):
    """A body."""

    prompt: str


@app.get("/readyz")
async def ready() -> dict[str, bool]:
    """Whether it listens."""
    return {"ready": True}


@app.post("/v1/images:generate", status_code=429)
async def generate(asked: Asked) -> dict[str, str]:
    """The same small refusal for everybody."""
    return {"detail": asked.prompt}
