"""GraphQL over HTTP: queries, mutations, and subscriptions as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, cast

from asgiref.sync import sync_to_async
from cross_web import AsyncHTTPRequestAdapter, HTTPException
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from strawberry.django.views import AsyncGraphQLView, TemporalHttpResponse
from strawberry.exceptions import MissingQueryError
from strawberry.http import GraphQLRequestData
from strawberry.http.base import BaseRequestProtocol
from strawberry.schema.base import BaseSchema
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType

from rail_async_tasks.errors import TaskError, Unauthenticated
from rail_async_tasks.graphql.console import console_page
from rail_async_tasks.graphql.context import RequestContext
from rail_async_tasks.graphql.errors import INTERNAL_ERROR
from rail_async_tasks.graphql.frames import decode_json
from rail_async_tasks.graphql.schema import get_schema
from rail_async_tasks.ledger.connections import release_connections
from rail_async_tasks.runtime import host
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.graphql")

EVENTS_ONLY = (
    "A subscription is answered by events: send `Accept: text/event-stream`, or use a WebSocket."
)


# No CSRF token is asked for: changes are taken from POST with a JSON body alone, which a foreign
# page cannot send without the browser asking us first.
@method_decorator(csrf_exempt, name="dispatch")
class TaskGraphQLView(AsyncGraphQLView[RequestContext, None]):
    """The endpoint. A GET for text/html answers with the console, which needs no network."""

    def __init__(self, **kwargs: Any) -> None:
        self.context: RequestContext | None = None
        # The schema is built at the first request: a URL configuration must import in any case.
        super().__init__(
            schema=cast("BaseSchema", None),
            subscription_protocols=[GRAPHQL_SSE_PROTOCOL],
            multipart_uploads_enabled=False,
            **kwargs,
        )

    async def dispatch(  # type: ignore[override]
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        try:
            self.schema = get_schema()
            return await self.run(request=request)
        except HTTPException as error:
            response = _refusal(error.status_code, error.reason)
            if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
                response["Allow"] = "GET, POST"
            return response
        except Unauthenticated as error:
            response = _refusal(401, error.message, code=error.code)
            response["WWW-Authenticate"] = "Bearer"
            return response
        except TaskError as error:
            logger.exception("GraphQL cannot be served.")
            message = str(error) if settings.DEBUG else error.message
            return _refusal(503, message, code=error.code)
        except Exception as error:  # an authenticator, a user's manager, a router of the project's
            logger.exception("A GraphQL request failed.")
            message = f"{error!r:.1000}" if settings.DEBUG else "Internal server error."
            return _refusal(500, message, code=INTERNAL_ERROR)

    async def get_context(self, request: HttpRequest, response: HttpResponse) -> RequestContext:
        context = self.context = RequestContext(request=request, response=response)
        await context.authenticate()
        return context

    def should_render_graphql_ide(self, request: BaseRequestProtocol) -> bool:
        """Only a browser gets a page; whoever takes anything meant to send a query."""
        return (
            request.method == "GET"
            and "query" not in request.query_params
            and "text/html" in request.headers.get("accept", "")
        )

    async def render_graphql_ide(self, request: HttpRequest) -> HttpResponse:
        return console_page()

    def decode_json(self, data: str | bytes) -> object:
        return decode_json(data)

    async def parse_http_body(
        self, request: AsyncHTTPRequestAdapter
    ) -> GraphQLRequestData | list[GraphQLRequestData]:
        if request.method == "POST":
            media_type = (request.content_type or "").partition(";")[0].strip().lower()
            if media_type != "application/json":
                raise HTTPException(415, "POST takes application/json only.")
            if not isinstance(self.parse_json(await request.get_body()), dict):
                raise HTTPException(400, "The body must be a JSON object.")
        return await super().parse_http_body(request)

    async def execute_single(
        self,
        request: HttpRequest,
        request_adapter: AsyncHTTPRequestAdapter,
        sub_response: TemporalHttpResponse,
        context: RequestContext,
        root_value: None,
        request_data: GraphQLRequestData,
    ) -> ExecutionResult:
        """What is answered by one JSON object, which a subscription is not."""
        method = request_adapter.method
        try:
            return await self.schema.execute(
                request_data.query,
                root_value=root_value,
                variable_values=request_data.variables,
                context_value=context,
                operation_name=request_data.operation_name,
                allowed_operation_types=OperationType.from_http(method)
                - {OperationType.SUBSCRIPTION},
                operation_extensions=request_data.extensions,
            )
        except CannotGetOperationTypeError as error:
            raise HTTPException(400, error.as_http_error_reason()) from error
        except InvalidOperationTypeError as error:
            if error.operation_type is OperationType.SUBSCRIPTION:
                raise HTTPException(406, EVENTS_ONLY) from error
            raise HTTPException(400, error.as_http_error_reason(method)) from error
        except MissingQueryError as error:
            raise HTTPException(400, "The body has no GraphQL query.") from error

    async def create_streaming_response(
        self,
        request: HttpRequest,
        stream: Callable[[], AsyncIterator[Any]],
        sub_response: TemporalHttpResponse,
        headers: Mapping[str, str],
    ) -> HttpResponseBase:
        if not isinstance(request, ASGIRequest):
            # It would hold one of few workers to the task's end, and send all events then.
            raise HTTPException(501, "Subscriptions need an ASGI server; this one is WSGI.")
        response = await super().create_streaming_response(
            request, lambda: _without_farewell(stream(), self.context), sub_response, headers
        )
        # GZipMiddleware leaves alone what says how it is encoded; it would hold events back.
        response["Content-Encoding"] = "identity"
        return response


async def _without_farewell(
    stream: AsyncIterator[Any], context: RequestContext | None
) -> AsyncIterator[Any]:
    """The events, but for a `complete` that only says that this process is going away."""
    released = False
    async with aclosing(cast("AsyncGenerator[Any, None]", stream)) as events:
        async for event in events:
            ended = context is not None and context.ended
            if host.is_going_away() and not ended and str(event).startswith("event: complete"):
                return
            if not released and str(event).startswith("event: next"):
                released = True  # the row has been read: what follows comes over the bus
                await sync_to_async(release_connections)()
            yield event


def _refusal(status: int, message: str, **extensions: str) -> JsonResponse:
    error: dict[str, Any] = {"message": message}
    if extensions:
        error["extensions"] = extensions
    return JsonResponse({"errors": [error]}, status=status)
