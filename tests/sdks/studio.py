"""A server on this machine that plays the three APIs, keeps account strictly, and counts what reaches it."""

from __future__ import annotations

import threading
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

__all__ = ["PRICE", "Studio"]

PRICE = 8
_CREATED = "2026-01-01T00:00:00Z"


class Studio:
    def __init__(self, credits: int, limit: int) -> None:
        self.url = ""
        self.credits = credits
        self.limit = limit
        self.submits = 0
        self.balances = 0
        self.refused: list[int] = []
        self.tasks: dict[str, bool] = {}
        self.broken = False
        self.go = threading.Event()
        self.go.set()
        self.drawing = 0
        self.app = Starlette(
            routes=[
                Route("/v1/organization", self.organization),
                Route("/v1/text_to_image", self.submit, methods=["POST"]),
                Route("/v1/tasks/{task}", self.runway_task),
                Route("/dream-machine/v1/credits", self.luma_credits),
                Route("/dream-machine/v1/generations/image", self.submit, methods=["POST"]),
                Route("/dream-machine/v1/generations/{task}", self.luma_task),
                Route("/v1/balance", self.balance),
                Route("/v1/images/generations", self.draw, methods=["POST"]),
            ]
        )

    @property
    def running(self) -> int:
        return sum(self.tasks.values()) + self.drawing

    def end_all(self) -> None:
        self.tasks = dict.fromkeys(self.tasks, False)

    def _refusal(self) -> JSONResponse | None:
        self.submits += 1
        status = 402 if self.credits < PRICE else 429 if self.running >= self.limit else 0
        if not status:
            self.credits -= PRICE
            return None
        self.refused.append(status)
        return JSONResponse({"error": {"message": "no"}}, status)

    def _asked(self, document: dict[str, Any]) -> Response:
        self.balances += 1
        return Response(status_code=502) if self.broken else JSONResponse(document)

    # Runway and Luma: tasks ------------------------------------------------------------------------------------------

    async def submit(self, request: Request) -> Response:
        refusal = self._refusal()
        if refusal is not None:
            return refusal
        task = f"task-{len(self.tasks) + 1}"
        self.tasks[task] = True
        return JSONResponse({"id": task, "state": "queued", "estimatedCost": {"credits": PRICE}}, 201)

    async def organization(self, request: Request) -> Response:
        model = {"maxConcurrentGenerations": self.limit, "maxDailyGenerations": None}
        tier = {"maxMonthlyCreditSpend": 9999, "models": {"gen4_image": model}}
        return self._asked({"creditBalance": self.credits, "tier": tier, "usage": {"models": {}}})

    async def runway_task(self, request: Request) -> Response:
        task = request.path_params["task"]
        document: dict[str, Any] = {"id": task, "createdAt": _CREATED, "estimatedCost": {"credits": PRICE}}
        if self.tasks[task]:
            return JSONResponse({**document, "status": "RUNNING", "progress": 0.5})
        return JSONResponse({**document, "status": "SUCCEEDED", "output": ["https://media.invalid/1.png"]})

    async def luma_credits(self, request: Request) -> Response:
        return self._asked({"credit_balance": float(self.credits)})

    async def luma_task(self, request: Request) -> Response:
        task = request.path_params["task"]
        return JSONResponse({"id": task, "state": "dreaming" if self.tasks[task] else "completed"})

    # Pictures: the answer is the work --------------------------------------------------------------------------------

    async def balance(self, request: Request) -> Response:
        return self._asked({"balance": self.credits})

    async def draw(self, request: Request) -> Response:
        refusal = self._refusal()
        if refusal is not None:
            return refusal
        self.drawing += 1
        try:
            while not self.go.is_set():  # noqa: ASYNC110 - it is set in another thread
                await anyio.sleep(0.002)
        finally:
            self.drawing -= 1
        return JSONResponse({"created": 1, "data": [{"b64_json": "cG5n"}]})
