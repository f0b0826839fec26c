"""Reading a request's body: bounded in size and time, and never decompressed."""

import asyncio
from http import HTTPStatus

from aiohttp import web

from webhook_gateway.problems import Problem

LARGEST_BODY = 64 * 1024


def check_media(request: web.Request) -> None:
    """Raises Problem 415. Before reading: aiohttp would hand out the decompressed body, and no signature fits that."""
    if request.headers.getall("Content-Encoding", []):
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Bodies are taken without a content encoding.", unread=True)
    kind = request.content_type
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The content type must be application/json.", unread=True)


async def read_body(request: web.Request, timeout: float) -> bytes:
    """The raw bytes as received. Raises Problem 413 and 408."""
    too_large = Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A body has at most {LARGEST_BODY} bytes.", unread=True)
    if (request.content_length or 0) > LARGEST_BODY:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(timeout):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > LARGEST_BODY:
                    raise too_large
    except TimeoutError:
        raise Problem(HTTPStatus.REQUEST_TIMEOUT, "The body did not arrive in time.", unread=True) from None
    return bytes(body)
