"""An HTTP server whose routes misbehave on purpose."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from aiohttp import web


class Server:
    """Routes that misbehave, and what they saw."""

    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.url = ""
        self.released = asyncio.Event()
        self.document_fetches = 0

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self.record])
        app.router.add_route("*", "/echo", self.echo)
        app.router.add_route("*", "/pets/{id}", self.echo)
        app.router.add_get("/hang", self.hang)
        app.router.add_get("/flood", self.flood)
        app.router.add_get("/drip", self.drip)
        app.router.add_get("/drop", self.drop)
        app.router.add_get("/cut", self.cut)
        app.router.add_get("/redirect/{status}", self.redirect)
        app.router.add_post("/redirect/{status}", self.redirect)
        app.router.add_get("/loop", self.loop)
        app.router.add_get("/answer", self.answer)
        app.router.add_get("/openapi.json", self.openapi)
        return app

    @web.middleware
    async def record(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.seen.append(request)
        self.bodies.append(await request.read())
        response: web.StreamResponse = await handler(request)
        return response

    async def echo(self, request: web.Request) -> web.Response:
        body = (await request.read()).decode()
        return web.json_response(
            {
                "method": request.method,
                "path": request.raw_path,
                "headers": dict(request.headers),
                "body": body,
            }
        )

    async def hang(self, request: web.Request) -> web.Response:
        await self.released.wait()
        return web.Response()

    async def flood(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)

    async def drip(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"{")
        await self.released.wait()
        return response

    async def drop(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async def cut(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"{")
        assert request.transport is not None
        request.transport.close()
        return response

    async def redirect(self, request: web.Request) -> web.Response:
        target = request.query.get("to", "/echo")
        return web.Response(status=int(request.match_info["status"]), headers={"Location": target})

    async def loop(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/loop"})

    async def answer(self, request: web.Request) -> web.Response:
        headers = {"Content-Type": request.query.get("type", "application/json")}
        if "after" in request.query:
            headers["Retry-After"] = request.query["after"]
        body = base64.urlsafe_b64decode(request.query.get("body", ""))
        return web.Response(
            status=int(request.query.get("status", 200)), body=body, headers=headers
        )

    async def openapi(self, request: web.Request) -> web.Response:
        self.document_fetches += 1
        pet = [{"$ref": "#/components/parameters/id"}]
        parameters: list[dict[str, Any]] = [
            {"name": "tags", "in": "query", "schema": {"type": "array"}},
            {"name": "X-Mode", "in": "header"},
        ]
        body: dict[str, Any] = {"requestBody": {"content": {"application/json": {}}}}
        operation = {"operationId": "updatePet", "parameters": parameters, **body}
        return web.json_response(
            {
                "openapi": "3.0.3",
                "servers": [{"url": "/"}],
                "paths": {"/pets/{id}": {"parameters": pet, "put": operation}},
                "components": {
                    "parameters": {"id": {"name": "id", "in": "path", "required": True}}
                },
            }
        )
