"""Between ASGI and the operations: reads and checks a request, answers it, and never leaks.

It is an ASGI application of its own for each path, below Starlette's router: reading the body
and writing the answer directly costs a third of what request and response objects do, and
attaching a sandbox is meant to cost little more than the kernel takes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope, Send

from linkspan.api.operation import JSON, Answer, Call, Operation, Service, Stream, read_query
from linkspan.api.refusals import answer_error, explain_body, refuse
from linkspan.errors import InvalidRequest

MOST_BODY = 1024 * 1024
"""Bytes of a request's body; the longest sensible one (thousands of ports) is far below."""

_encoder = msgspec.json.Encoder()


class TooLarge(Exception):
    """The body is longer than MOST_BODY."""


class ClientGone(Exception):
    """The client left before it had said everything."""


class PathEndpoint:
    """All operations on one path."""

    def __init__(self, service: Service, operations: Iterable[Operation]) -> None:
        self.service = service
        self.operations = {operation.method: operation for operation in operations}
        self.decoders = {
            method: msgspec.json.Decoder(operation.takes)
            for method, operation in self.operations.items()
            if operation.takes is not None
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        method = scope["method"]
        operation = self.operations.get("GET" if method == "HEAD" else method)
        if operation is None:
            await send_answer(send, self.refuse_method(scope))
            return
        try:
            call = await self._read(operation, scope, receive)
            if method == "HEAD" and operation.streams:
                answer = await self._answer_head(operation, call)
            elif operation.streams or operation.waits:
                await self._answer_slowly(operation, call, receive, send)
                return
            else:
                found = await operation.handler(call)
                assert isinstance(found, Answer)
                answer = found
        except ClientGone:
            return
        except TooLarge:
            message = f"the body is longer than {MOST_BODY} bytes"
            answer = self.refuse(413, "too_large", message)
        except Exception as error:
            answer = self.answer_error(error, f"{method} {scope['path']}")
        await send_answer(send, answer, body=method != "HEAD")

    def refuse(self, status: int, code: str, message: str) -> Answer:
        """An answer that says no, as clients of this API read it."""
        return refuse(status, code, message)

    def answer_error(self, error: BaseException, doing: str) -> Answer:
        """The answer for an exception, as clients of this API read it."""
        return answer_error(error, doing)

    def read_query(self, operation: Operation, pairs: list[tuple[str, str]]) -> dict[str, Any]:
        """The query as the handler wants it. Raises InvalidRequest."""
        return read_query(operation.query, pairs)

    def refuse_method(self, scope: Scope) -> Answer:
        """The answer for a method that the path does not have."""
        allowed = ", ".join(sorted(self.operations))
        message = f"{scope['method']} is not possible on {scope['path']}; possible: {allowed}"
        answer = self.refuse(405, "method_not_allowed", message)
        answer.headers = (("allow", allowed),)
        return answer

    async def _read(self, operation: Operation, scope: Scope, receive: Receive) -> Call:
        query_text = scope["query_string"].decode("latin-1")
        pairs = parse_qsl(query_text, keep_blank_values=True) if query_text else []
        query = self.read_query(operation, pairs)
        body = None
        if operation.takes is not None:
            body = await self._decode(operation, receive)
        return Call(service=self.service, path=scope["path_params"], query=query, body=body)

    async def _decode(self, operation: Operation, receive: Receive) -> Any:
        data = await read_body(receive)
        if operation.body_optional and not data.strip():
            data = b"{}"
        try:
            return self.decoders[operation.method].decode(data)
        except msgspec.MsgspecError as error:
            raise InvalidRequest(explain_body(error, operation.takes)) from None
        except UnicodeDecodeError:
            raise InvalidRequest("the body is not JSON: it is not UTF-8") from None
        except RecursionError:
            raise InvalidRequest("the body is nested too deeply") from None

    async def _answer_head(self, operation: Operation, call: Call) -> Answer:
        """What a stream would begin with."""
        found = await operation.handler(call)
        if isinstance(found, Answer):
            return found
        await _close(found.pieces)
        return Answer(204, headers=(("content-type", found.content_type),))

    async def _answer_slowly(
        self, operation: Operation, call: Call, receive: Receive, send: Send
    ) -> None:
        """Work until it is done, the client leaves, or the daemon ends."""
        if operation.takes is None:
            await read_body(receive)  # what comes next from the client is that it has left
        work = asyncio.ensure_future(self._work_slowly(operation, call, send))
        gone = asyncio.ensure_future(_wait_for_disconnect(receive))
        closing = asyncio.ensure_future(self.service.closing.wait())
        others = (gone, closing)
        try:
            await asyncio.wait((work, *others), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for other in others:
                other.cancel()
            if not work.done():
                work.cancel()
            await asyncio.gather(work, *others, return_exceptions=True)

    async def _work_slowly(self, operation: Operation, call: Call, send: Send) -> None:
        started = False
        pieces = None
        try:
            answer = await operation.handler(call)
            if isinstance(answer, Answer):
                started = True
                await send_answer(send, answer)
                return
            pieces = answer.pieces
            started = True
            await _start_stream(send, answer)
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.CancelledError:
            if self.service.closing.is_set():
                await self._end_early(send, started)
            raise
        except Exception as error:
            refusal = self.answer_error(error, f"{operation.method} {operation.path}")
            if not started:
                await send_answer(send, refusal)
            else:
                # The status has gone out; a cut connection tells the client all the same.
                raise
        finally:
            if pieces is not None:
                await _close(pieces)

    async def _end_early(self, send: Send, started: bool) -> None:
        with contextlib.suppress(Exception):
            if started:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                refusal = self.refuse(503, "unreachable", "the daemon is stopping")
                await send_answer(send, refusal)


async def read_body(receive: Receive) -> bytes:
    """The whole body.

    Raises:
        TooLarge: more than MOST_BODY bytes came.
        ClientGone: it was cut off.
    """
    message = await receive()
    data: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body", False):
        if len(data) > MOST_BODY:
            raise TooLarge
        return data
    parts = [data]
    size = len(data)
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        if size > MOST_BODY:
            raise TooLarge
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        parts.append(part)


async def send_answer(send: Send, answer: Answer, body: bool = True) -> None:
    """Encode and send; then what was to be done afterwards."""
    headers = [(name.encode(), value.encode()) for name, value in answer.headers]
    data = b""
    if answer.status != 204:
        data = answer.value if isinstance(answer.value, bytes) else _encoder.encode(answer.value)
        if answer.content_type == JSON:
            data += b"\n"
        headers.append((b"content-type", answer.content_type.encode()))
        headers.append((b"content-length", b"%d" % len(data)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": data if body else b""})
    if answer.afterwards is not None:
        answer.afterwards()


async def _close(pieces: AsyncIterator[bytes]) -> None:
    """End a source of pieces early."""
    close = getattr(pieces, "aclose", None)
    if close is not None:
        with contextlib.suppress(Exception):
            await close()


async def _start_stream(send: Send, stream: Stream) -> None:
    headers = [(b"content-type", stream.content_type.encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    # An empty piece makes the server send the status at once, before anything happens.
    await send({"type": "http.response.body", "body": b"", "more_body": True})


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
