"""The app: endpoints, pages, and error responses of one line of JSON."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import quote

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.exceptions import HTTPException

from ratinglab.errors import UserError, did_you_mean
from ratinglab.serving import schemas
from ratinglab.serving.guard import Guard
from ratinglab.serving.reloading import CurrentRun
from ratinglab.serving.serve_options import ServeOptions
from ratinglab.serving.service import Service

PAGES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/docs": ("endpoints.html", "text/html"),
    "/endpoints.js": ("endpoints.js", "text/javascript"),
}
"""File and media type at each path of the pages."""
DESCRIPTION = """\
Predicted ratings, recommended items and similar items of a run. Ids are as in the data: 42 and "42" are the same.
A mistake in a request gets status 422 and one line that names the key, the rule and the value."""
RUN_HEADER = "ratinglab-run"
"""Header with the percent-encoded folder of the run that computed a response."""


def build_app(current: CurrentRun, options: ServeOptions) -> Guard:
    """Build the app that serves the current run, with all limits."""
    app = FastAPI(
        title="ratinglab",
        version=version("ratinglab"),
        description=DESCRIPTION,
        docs_url=None,  # its scripts load from a CDN; /docs is one of PAGES
        redoc_url=None,
        lifespan=partial(_lifespan, current, options),
        responses={422: {"model": schemas.Mistake, "description": "A mistake in the request"}},
    )
    app.router.route_class = _StrictRoute
    _add_endpoints(app, current)
    for path, (name, media_type) in PAGES.items():
        page = Response(files("ratinglab.serving").joinpath(name).read_bytes(), media_type=media_type)
        app.add_route(path, page, methods=["GET"], include_in_schema=False)
    app.add_exception_handler(UserError, _on_mistake)
    app.add_exception_handler(RequestValidationError, _on_mistake)
    app.add_exception_handler(HTTPException, partial(_on_refusal, app))
    app.add_exception_handler(Exception, _on_fault)
    return Guard(app, names=options.names, max_body_bytes=options.max_body_bytes)


@asynccontextmanager
async def _lifespan(current: CurrentRun, options: ServeOptions, _: FastAPI) -> AsyncIterator[None]:
    """Limit the threads that compute responses, and reload the run while the app runs."""
    to_thread.current_default_thread_limiter().total_tokens = options.threads
    reload_requested, loop = asyncio.Event(), asyncio.get_running_loop()
    with suppress(NotImplementedError, RuntimeError, ValueError, AttributeError):  # Windows, or not the main thread
        loop.add_signal_handler(signal.SIGUSR1, reload_requested.set)
    task = asyncio.create_task(_reload(current, reload_requested, seconds=options.reload_seconds))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _reload(current: CurrentRun, reload_requested: asyncio.Event, *, seconds: float | None) -> None:
    """Reload the run on request; also check for changes every `seconds`, unless that is None."""
    thread = CapacityLimiter(1)  # beside the threads that compute responses
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(reload_requested.wait(), seconds)
        force = reload_requested.is_set()
        reload_requested.clear()
        await to_thread.run_sync(partial(current.reload, force=force), limiter=thread)


class _StrictRoute(APIRoute):
    """Route that accepts only strict JSON with its content type."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler in a check of the body."""
        handle = super().get_route_handler()

        async def check_and_handle(request: Request) -> Response:
            if self.body_field is not None:
                # forms of other web pages cannot declare JSON; FastAPI's own check would let other bytes through
                media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if media_type != "application/json":
                    raise HTTPException(415, f"content-type must be application/json, got {media_type[:80] or 'none'}")
                _check_json(await request.body())
            return await handle(request)

        return check_and_handle


def _check_json(body: bytes) -> None:
    """Refuse JSON that Python's parser accepts against the standard or cannot parse.

    Raises:
        UserError: the body is not JSON in UTF-8, holds NaN or Infinity, half of a surrogate pair or a number with too
            many digits, is nested too deeply, or has a key twice.
    """
    try:
        from_json(body, allow_inf_nan=False)
        json.loads(body.decode(), object_pairs_hook=_refuse_repeated_keys)
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"the body is not valid JSON: {str(error).splitlines()[0]}") from error


def _refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> None:
    """Raise UserError for a repeated key, of which Python would keep the last value."""
    seen = set[str]()
    for key, _ in pairs:
        if key in seen:
            raise UserError(f"the body has the key {key[:60]!r} twice")
        seen.add(key)


def _add_endpoints(app: FastAPI, current: CurrentRun) -> None:
    """Add the endpoints. They are plain functions, so FastAPI runs them in threads."""

    def service_for(response: Response) -> Service:
        """Return the current service, and name its run in a header of the response."""
        service = current.service
        response.headers[RUN_HEADER] = quote(str(service.run.folder))
        return service

    @app.post("/predict", summary="Predict the ratings of pairs of a user and an item.")
    def predict(request: schemas.PredictRequest, response: Response) -> schemas.PredictResponse:
        return service_for(response).predict(request)

    @app.post("/recommend", summary="Recommend items to a known user.")
    def recommend(request: schemas.RecommendRequest, response: Response) -> schemas.RecommendResponse:
        return service_for(response).recommend(request)

    @app.post("/fold_in", summary="Recommend items to a new user with a few ratings.")
    def fold_in(request: schemas.FoldInRequest, response: Response) -> schemas.FoldInResponse:
        return service_for(response).fold_in(request)

    @app.post("/similar", summary="Find the items most similar to one.")
    def similar(request: schemas.SimilarRequest, response: Response) -> schemas.SimilarResponse:
        return service_for(response).similar(request)

    @app.head("/items", include_in_schema=False)
    @app.get("/items", summary="Search for items by title or id.")
    def items(request: Annotated[schemas.ItemsRequest, Query()], response: Response) -> schemas.ItemsResponse:
        return service_for(response).items(request)

    @app.head("/health", include_in_schema=False)
    @app.get("/health", summary="Describe the run that answers.")
    def health(response: Response) -> schemas.Health:
        return service_for(response).health()


async def _on_mistake(_: Request, error: Exception) -> JSONResponse:
    detail = schemas.explain(error.errors()) if isinstance(error, RequestValidationError) else str(error)
    return _one_line_response(422, detail)


async def _on_refusal(app: FastAPI, request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path, detail = request.url.path, error.detail
    if error.status_code == 404:
        paths = [getattr(route, "path", "") for route in app.routes]
        detail = f"there is no path {path[:80]}{did_you_mean(path[:80], paths)}"
    elif error.status_code == 405 and error.headers is not None:
        detail = f"{path} takes {error.headers.get('Allow', 'other methods')}, got {request.method[:20]}"
    return _one_line_response(error.status_code, detail, headers=error.headers)


async def _on_fault(_: Request, __: Exception) -> JSONResponse:
    # Starlette re-raises the exception, and uvicorn logs its traceback
    return _one_line_response(500, "internal error; the server's log has the traceback")


def _one_line_response(status: int, detail: str, *, headers: Any = None) -> JSONResponse:
    """Answer with one line. Replaces line breaks, which keys and titles may contain."""
    detail = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", detail)
    return JSONResponse({"detail": detail}, status_code=status, headers=headers)
