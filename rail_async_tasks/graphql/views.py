"""GraphQL over HTTP: queries, mutations, and subscriptions as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any, cast

from cross_web import AsyncHTTPRequestAdapter, HTTPException
from django.core.exceptions import RequestDataTooBig
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.decorators import classonlymethod
from strawberry import Schema
from strawberry.django.views import AsyncGraphQLView, TemporalHttpResponse
from strawberry.exceptions import MissingQueryError
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.http.base import BaseRequestProtocol
from strawberry.http.streaming import HTTPStreamTransport
from strawberry.schema.base import BaseSchema
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from rail_async_tasks.auth.context import RequestContext
from rail_async_tasks.auth.open_connections import Place, caller_key, streams
from rail_async_tasks.graphql import answers
from rail_async_tasks.graphql import errors as client_errors
from rail_async_tasks.graphql.accept import EVENT_STREAM, GRAPHQL_RESPONSE, HTML, JSON, Accept
from rail_async_tasks.graphql.bodies import decode_json, let_go, read_body
from rail_async_tasks.graphql.console import console_page
from rail_async_tasks.graphql.documents import operation_type
from rail_async_tasks.graphql.limited import refusal_in_turn, served
from rail_async_tasks.graphql.refusals import refused, refused_handshake
from rail_async_tasks.graphql.schema import console_is_on, get_schema
from rail_async_tasks.graphql.streams import EventStream, only, shared_events, without_farewell
from rail_async_tasks.own_views import own_view

EVENTS_ONLY = (
    "A subscription is answered by events: send `Accept: text/event-stream`, or use a WebSocket."
)
_USE_ASGI = (
    'start "uvicorn root.asgi:application"; or, for `manage.py runserver`, install daphne and put'
    ' "daphne" first in INSTALLED_APPS.'
)
NO_STREAMS = f"Server-sent events need an ASGI server, and this one is WSGI: {_USE_ASGI}"
NO_SOCKETS = f"A WebSocket needs an ASGI server, and this one is WSGI: {_USE_ASGI}"
NO_MUTATION_BY_GET = "mutations are not allowed when using GET"
TOO_BIG = "The body has more bytes than DATA_UPLOAD_MAX_MEMORY_SIZE allows."
NOT_ACCEPTABLE = (
    "The Accept header allows none of application/json, application/graphql-response+json and "
    "text/event-stream: name one of them without parameters, or leave the header out."
)


class EventsOnly(HTTPException):
    """A subscription was requested without accepting an event stream."""

    def __init__(self) -> None:
        super().__init__(406, EVENTS_ONLY)


class TaskGraphQLView(AsyncGraphQLView[RequestContext, None]):
    """The endpoint. A GET for text/html answers with the console, which needs no network.

    One instance serves one request, so it also keeps what was negotiated for the answer.
    """

    stream_transport_classes_by_protocol: Mapping[str, type[HTTPStreamTransport]] = {
        GRAPHQL_SSE_PROTOCOL: EventStream
    }

    def __init__(self, schema: Schema | None = None, **kwargs: Any) -> None:
        self._own_schema = schema
        self.context: RequestContext | None = None
        self.accept = Accept(None)
        self.media_type: str | None = JSON
        self.operation: GraphQLRequestData | None = None  # which events answer
        self.place: Place | None = None  # the stream's among those of the caller
        self.status: int | None = None  # where the operation was refused as a whole
        # The schema of the settings is built at the first request: a URL configuration must import
        # in any case.
        super().__init__(
            schema=cast("BaseSchema", schema),
            subscription_protocols=[GRAPHQL_SSE_PROTOCOL],
            multipart_uploads_enabled=False,
            **kwargs,
        )

    # The base class writes `self` for the class.
    @classonlymethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., Any]:  # noqa: N805
        """Returns the view for a URL pattern. `schema` replaces the schema of the settings.

        It asks for no CSRF token: a change comes by POST with a JSON body only, which a foreign
        page cannot send without the browser asking us first.
        """
        return own_view(super().as_view(**initkwargs))

    async def dispatch(  # type: ignore[override]
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        self.accept = Accept(request.headers.get("accept"))
        # Under WSGI an open stream would occupy one of few workers.
        streams = [EVENT_STREAM] if isinstance(request, ASGIRequest) else []
        self.media_type = self.accept.best(JSON, GRAPHQL_RESPONSE, *streams)
        if not streams and request.headers.get("upgrade", "").lower() == "websocket":
            return refused_handshake(NO_SOCKETS, self.media_type)
        response = await self._answer(request)
        patch_vary_headers(response, ["Accept"])
        return response

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        try:
            self.schema = get_schema() if self._own_schema is None else served(self._own_schema)
            return await self.run(request=request)
        except Exception as error:  # noqa: BLE001 - whatever it is, a client gets JSON
            return refused(error, self.media_type)

    async def get_context(self, request: HttpRequest, response: HttpResponse) -> RequestContext:
        context = self.context = RequestContext(request=request, response=response)
        await context.authenticate()
        return context

    def should_render_graphql_ide(self, request: BaseRequestProtocol) -> bool:
        """Returns whether a browser asks: a client that accepts anything meant to send a query."""
        return (
            request.method == "GET"
            and console_is_on()
            and "query" not in request.query_params
            and self.accept.best(JSON, HTML) == HTML
        )

    async def render_graphql_ide(self, request: HttpRequest) -> HttpResponse:
        return console_page()

    def decode_json(self, data: str | bytes) -> object:
        return decode_json(data)

    async def parse_http_body(
        self, request: AsyncHTTPRequestAdapter
    ) -> GraphQLRequestData | list[GraphQLRequestData]:
        if self.media_type is None:
            # Refused before the execution: a mutation must not run without an answer.
            if self.accept.names(EVENT_STREAM):
                raise HTTPException(501, NO_STREAMS)
            raise HTTPException(406, NOT_ACCEPTABLE)
        if request.method == "POST":
            media_type = (request.content_type or "").partition(";")[0].strip().lower()
            if media_type != "application/json":
                raise HTTPException(415, "POST takes application/json only.")
            try:
                body = await read_body(request)
            except RequestDataTooBig:
                raise HTTPException(413, TOO_BIG) from None
            if not isinstance(self.parse_json(body), dict):
                raise HTTPException(400, "The body must be a JSON object.")
        data = await super().parse_http_body(request)
        assert isinstance(data, GraphQLRequestData)  # a list was refused above
        if self.media_type == EVENT_STREAM:
            data.protocol = "sse"
            kind = operation_type(data.query, data.operation_name)
            if request.method == "GET" and kind is OperationType.MUTATION:
                raise HTTPException(405, NO_MUTATION_BY_GET)
            # A client that misses the end of a mutation's one result would send it again.
            if self.context is not None:
                self.context.ended = kind in (OperationType.QUERY, OperationType.MUTATION)
        else:
            data.protocol = "http"
        return data

    async def execute_operation(
        self,
        request: HttpRequest,
        request_adapter: AsyncHTTPRequestAdapter,
        request_data: GraphQLRequestData | list[GraphQLRequestData],
        context: RequestContext,
        root_value: None,
        sub_response: TemporalHttpResponse,
    ) -> Any:
        assert isinstance(request_data, GraphQLRequestData)
        answers.begin()
        too_complex = await refusal_in_turn(self.schema, request_data.query)
        if too_complex is not None:
            let_go(request)
            error = client_errors.graphql_error(too_complex)
            result = PreExecutionError(data=None, errors=[error])
            return only(result) if request_data.protocol == "sse" else result
        arguments = (request, request_adapter, request_data, context, root_value, sub_response)
        if request_data.protocol == "sse":
            return await self._stream(arguments)
        try:
            return await super().execute_operation(*arguments)
        except EventsOnly:
            # The client prefers JSON, but accepts events, the only format of a subscription.
            if not self.accept.names(EVENT_STREAM):
                raise
            request_data.protocol = "sse"
            return await self._stream(arguments)

    async def _stream(self, arguments: tuple[Any, ...]) -> Any:
        """Executes an operation that events answer. Raises `TooMany` before it does."""
        request, _, self.operation, context, _, _ = arguments
        self.place = streams.open(caller_key(context.user, request))
        try:
            return await super().execute_operation(*arguments)
        except BaseException:
            self.place.close()
            raise

    async def execute_single(
        self,
        request: HttpRequest,
        request_adapter: AsyncHTTPRequestAdapter,
        sub_response: TemporalHttpResponse,
        context: RequestContext,
        root_value: None,
        request_data: GraphQLRequestData,
    ) -> ExecutionResult:
        """Executes a query or mutation, which one JSON object answers."""
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
            raise HTTPException(400, client_errors.unknown_operation(error)) from error
        except InvalidOperationTypeError as error:
            if error.operation_type is OperationType.SUBSCRIPTION:
                raise EventsOnly from error
            raise HTTPException(405, error.as_http_error_reason(method)) from error
        except MissingQueryError as error:
            raise HTTPException(400, "The request has no GraphQL query.") from error

    async def process_result(
        self, request: HttpRequest, result: ExecutionResult
    ) -> GraphQLHTTPResponse:
        """Returns the result as JSON; a refused request has no data and its own status.

        That is what application/graphql-response+json means. Clients of application/json read
        the errors of a 200.
        """
        response = await super().process_result(request, result)
        if self.media_type == GRAPHQL_RESPONSE and client_errors.is_request_error(result):
            del response["data"]
            accident = any(map(client_errors.is_accident, result.errors or ()))
            self.status = 500 if accident else 400
        return response

    def create_response(
        self,
        response_data: GraphQLHTTPResponse | list[GraphQLHTTPResponse],
        sub_response: HttpResponse,
    ) -> HttpResponseBase:
        response = super().create_response(response_data, sub_response)
        too_large = answers.too_large(len(cast("HttpResponse", response).content))
        if too_large is not None:
            error = client_errors.graphql_error(too_large).formatted
            response = super().create_response({"data": None, "errors": [error]}, sub_response)
        if self.media_type == GRAPHQL_RESPONSE:
            response["Content-Type"] = GRAPHQL_RESPONSE
            if self.status is not None and not sub_response.status_code:
                response.status_code = self.status
        return response

    async def create_streaming_response(
        self,
        request: HttpRequest,
        stream: Callable[[], AsyncIterator[Any]],
        sub_response: TemporalHttpResponse,
        headers: Mapping[str, str],
    ) -> HttpResponseBase:
        if not isinstance(request, ASGIRequest):
            # It would occupy one of few workers until the task's end, and send all events then.
            if self.place is not None:
                self.place.close()
            raise HTTPException(501, NO_STREAMS)
        events = partial(without_farewell, context=self.context, place=self.place)
        if type(self) is TaskGraphQLView and self.operation is not None:
            stream = partial(shared_events, self.schema, self.context, self.operation, stream)
        response = await super().create_streaming_response(
            request, lambda: events(stream()), sub_response, headers
        )
        if self.place is not None:
            self.place.close_with(response)
        # GZipMiddleware, which would buffer events, skips responses with a Content-Encoding.
        response["Content-Encoding"] = "identity"
        return response
