"""The routes of the Gemini REST API, in the form of either back end (docs/model.md#addresses).

``create_emulator`` returns an ASGI application; ``server`` runs it. The emulator is deliberately strict: it
refuses what Google refuses, with Google's messages, and accepts full model ids only.
"""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from app.emulator import faults, messages, rehearsals, responses
from app.emulator.bill import Bill
from app.emulator.calls import Calls, Gates
from app.emulator.counting import count_tokens
from app.emulator.delivery import CutOff, Pieces, Trickle
from app.emulator.errors import FieldFault, GoogleError, invalid_argument
from app.emulator.options import EmulatorOptions
from app.emulator.output import plan_output
from app.emulator.projects import Projects
from app.emulator.published import describe_model
from app.emulator.renderer import Renderer
from app.emulator.requests import parse, read_generate
from app.emulator.rules import BYTES_MAX, BadRules, Call, FaultRules, Rulebook, read_rules

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from starlette.requests import Request

    from app.cards import Catalogue
    from app.domain.card import Card
    from app.emulator.behaviour import Behaviour
    from app.emulator.messages import Dialect
    from app.emulator.requests import ModelRequest
    from app.emulator.responses import ModelResponse

    Handler = Callable[[Request, Dialect], Awaitable[Response]]

JSON = "application/json; charset=UTF-8"
_VERSIONS: dict[Dialect, frozenset[str]] = {
    "gemini": frozenset({"v1", "v1beta"}),
    "vertex": frozenset({"v1", "v1beta1"}),
}
_GEMINI = "/{version}/models"
_VERTEX = (
    "/{version}/publishers/google/models",
    "/{version}/projects/{project}/locations/{location}/publishers/google/models",
)
_DEADLINE_S_MIN = 10
_SYSTEM_PARAMETERS = frozenset(
    {"key", "access_token", "oauth_token", "alt", "fields", "prettyPrint", "callback", "quotaUser", ".xgafv"}
    | {"uploadType", "upload_protocol", "userProject"}
)
"""https://cloud.google.com/apis/docs/system-parameters; each may begin with ``$``."""
_PAGES = frozenset({"pageSize", "pageToken"})
_PAGE_SIZE = 50
_PAGE_SIZE_MAX = 1000


def create_emulator(catalogue: Catalogue, *, options: EmulatorOptions | None = None) -> Starlette:
    """The ASGI application. State (counts, gates) lives as long as it does."""
    return _Emulator(catalogue, options or EmulatorOptions()).build_application()


class _Emulator:
    def __init__(self, catalogue: Catalogue, options: EmulatorOptions) -> None:
        self._catalogue = catalogue
        self._options = options
        self._calls = Calls(options.calls_remembered)
        self._bill = Bill(options.free_queries)
        self._projects = Projects()
        self._gates = Gates(options.hold_s_max)
        self._renderer = Renderer(options)
        self._rulebook = Rulebook(options.faults)

    def build_application(self) -> Starlette:
        routes = [
            Route("/emulator/calls", self._show_calls, methods=["GET"]),
            Route("/emulator/calls", self._reset, methods=["DELETE"]),
            Route("/emulator/bill", self._show_bill, methods=["GET"]),
            Route("/emulator/release/{name}", self._release, methods=["POST"]),
            Route("/emulator/held/{name}", self._show_held, methods=["GET"]),
            Route("/emulator/faults", self._show_faults, methods=["GET"]),
            Route("/emulator/faults", self._put_faults, methods=["PUT"]),
            Route("/emulator/faults", self._clear_faults, methods=["DELETE"]),
            Route("/emulator/projects", self._show_projects, methods=["GET"]),
            Route("/emulator/projects", self._put_projects, methods=["PUT"]),
            Route("/emulator/projects", self._clear_projects, methods=["DELETE"]),
            Route("/emulator/rehearsals", _list_rehearsals, methods=["GET"]),
            *self._build_model_routes("gemini", _GEMINI),
            *(route for prefix in _VERTEX for route in self._build_model_routes("vertex", prefix)),
        ]
        handlers: dict[Any, Any] = {GoogleError: _answer_error, 404: _answer_unknown, 405: _answer_unknown}
        return Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._renderer.close()

    def _build_model_routes(self, dialect: Dialect, prefix: str) -> Iterator[Route]:
        def bind(handler: Handler) -> Any:
            return partial(self._authorise_and_handle, handler=handler, dialect=dialect)

        yield Route(prefix, bind(self._list_models), methods=["GET"])
        yield Route(prefix + "/{model}", bind(self._get_model), methods=["GET"])
        for verb, handler in (
            ("generateContent", self._generate),
            ("streamGenerateContent", self._generate),
            ("countTokens", self._count_tokens),
        ):
            yield Route(f"{prefix}/{{model}}:{verb}", bind(handler), methods=["POST"])

    async def _authorise_and_handle(self, request: Request, handler: Handler, dialect: Dialect) -> Response:
        """Check version and credentials first, as Google's front end does, and count refusals."""
        if request.path_params["version"] not in _VERSIONS[dialect]:
            return _answer_unknown(request, None)
        try:
            request.state.project = self._projects.identify(request, dialect)
            _check_deadline(request)
            _check_query(request)
            return await handler(request, dialect)
        except GoogleError:
            self._calls.refused += 1
            raise

    async def _generate(self, request: Request, dialect: Dialect) -> Response:
        self._calls.running += 1
        try:
            return await self._run_generation(request, dialect)
        finally:
            self._calls.running -= 1

    async def _run_generation(self, request: Request, dialect: Dialect) -> Response:
        card = self._find_card(request, dialect)
        body = await self._read_body(request)
        project = request.state.project
        model_request = await asyncio.to_thread(read_generate, body, card, dialect, project)
        self._projects.take(project, card.id, dialect)
        if dialect == "vertex":
            tier = request.headers.get("x-vertex-ai-llm-shared-request-type", "standard")
            model_request = dataclasses.replace(model_request, tier=tier)
        attempt = self._calls.count_call(model_request.digest, model_request.labels)
        call = Call(model_request.prompt, dict(request.headers), model_request.image_size, card.id, attempt)
        behaviour = self._rulebook.apply(call).overlay(
            rehearsals.combine_directives(model_request.prompt, attempt)
        )
        output = plan_output(model_request, behaviour)
        if output.cut:
            behaviour = dataclasses.replace(behaviour, finish_reason="MAX_TOKENS")
        behaviour = dataclasses.replace(behaviour, pictures=output.pictures)
        if behaviour.gate is not None and not await self._gates.wait(behaviour.gate):
            raise GoogleError(504, "DEADLINE_EXCEEDED", f"Nobody released {behaviour.gate}.")
        if behaviour.error is not None:
            await asyncio.sleep(behaviour.delay_s)
            raise behaviour.error.build_exception()
        pictures: list[responses.Picture] = []
        interim: list[responses.Picture] = []
        if behaviour.block_reason is None:
            latency_s = self._options.latency.draw_seconds(
                card.image_sizes[model_request.image_size].seconds, model_request.digest, attempt
            )
            await asyncio.sleep(latency_s + behaviour.delay_s)
            pictures, interim = await self._renderer.render(model_request, behaviour)
        response = responses.compose(model_request, behaviour, pictures, interim, output)
        usage = responses.build_usage(model_request, behaviour, pictures, output)
        total, read = usage["totalTokenCount"], usage["promptTokenCount"]
        above_bound = max(0, total - read - model_request.output_tokens_max)
        self._calls.bill(
            request.headers.get("x-flashgate-tenant", ""),
            pictures=len(pictures),
            image_tokens=responses.count_image_tokens(model_request, pictures),
            input_tokens=read,
            output_tokens=total - read,
            total_tokens=total,
            above_bound=above_bound,
            calls_above_bound=int(above_bound > 0),
        )
        self._bill.add_call(
            card.id,
            model_request.image_size,
            model_request.tier,
            pictures=len(pictures),
            usage=usage,
            queries=response.count_queries(),
        )
        return _build_response(response, behaviour, request, model_request)

    async def _count_tokens(self, request: Request, dialect: Dialect) -> Response:
        card = self._find_card(request, dialect)
        self._calls.count_tokens += 1
        document = parse(await self._read_body(request), messages.COUNT_REQUESTS[dialect])
        inner = document.get("generateContentRequest", document)
        contents = inner.get("contents", [])
        if not contents:
            raise invalid_argument(
                FieldFault("contents", "* CountTokensRequest.contents: contents is not specified\n")
            )
        resolution = inner.get("generationConfig", {}).get("mediaResolution", "")
        counted = count_tokens(contents, inner.get("systemInstruction"), card, dialect, resolution)
        response: dict[str, Any] = {"totalTokens": sum(count for _, count in counted)}
        if dialect == "vertex":
            texts = [part.get("text", "") for content in contents for part in content.get("parts", [])]
            response["totalBillableCharacters"] = sum(len("".join(text.split())) for text in texts)
        response["promptTokensDetails"] = [{"modality": name, "tokenCount": count} for name, count in counted]
        return JSONResponse(response)

    async def _list_models(self, request: Request, dialect: Dialect) -> Response:
        query = request.query_params
        size, start = query.get("pageSize", str(_PAGE_SIZE)), query.get("pageToken", "0")
        if not size.isdecimal() or not start.isdecimal():
            raise invalid_argument(FieldFault("page_size", "Invalid page size or page token."))
        cards = list(self._catalogue)
        end = int(start) + (min(int(size), _PAGE_SIZE_MAX) or _PAGE_SIZE)
        name = "publisherModels"
        if dialect == "gemini":
            name = "models"
        response: dict[str, Any] = {name: [describe_model(card, dialect) for card in cards[int(start) : end]]}
        if end < len(cards):
            response["nextPageToken"] = str(end)
        return JSONResponse(response)

    async def _get_model(self, request: Request, dialect: Dialect) -> Response:
        return JSONResponse(describe_model(self._find_card(request, dialect), dialect))

    def _find_card(self, request: Request, dialect: Dialect) -> Card:
        """The card of the path's model, by full id. Raises GoogleError 404 with the dialect's own message."""
        model, version = request.path_params["model"], request.path_params["version"]
        card = self._catalogue.resolve(model)
        location = request.path_params.get("location", "global")
        if card is not None and card.id == model and location in card.locations:
            return card
        if dialect == "vertex":
            name = request.url.path.partition(f"/{version}/")[2].partition(":")[0]
            raise GoogleError(
                404,
                "NOT_FOUND",
                f"Publisher Model `{name}` was not found or your project does not have access to it."
                " Please ensure you are using a valid model version.",
            )
        raise GoogleError(
            404,
            "NOT_FOUND",
            f"models/{model} is not found for API version {version}, or is not supported for generateContent."
            " Call ListModels to see the list of available models and their supported methods.",
        )

    async def _read_body(self, request: Request) -> bytes:
        """Read the body. Raises GoogleError 400 as soon as it exceeds the limit."""
        most = self._options.body_bytes_max
        too_long = GoogleError(
            400, "INVALID_ARGUMENT", f"Request payload size exceeds the limit: {most} bytes."
        )
        if int(request.headers.get("content-length", "0")) > most:
            raise too_long
        pieces: list[bytes] = []
        length = 0
        async for piece in request.stream():
            pieces.append(piece)
            length += len(piece)
            if length > most:
                raise too_long
        return b"".join(pieces)

    async def _show_calls(self, _request: Request) -> Response:
        return JSONResponse(self._calls.document())

    async def _show_bill(self, _request: Request) -> Response:
        return PlainTextResponse(self._bill.write_csv(), media_type="text/csv")

    async def _reset(self, _request: Request) -> Response:
        self._calls.reset()
        self._bill.reset()
        self._gates.reset()
        return Response(status_code=204)

    async def _release(self, request: Request) -> Response:
        return JSONResponse({"released": self._gates.release(request.path_params["name"])})

    async def _show_held(self, request: Request) -> Response:
        return JSONResponse({"held": self._gates.waiting(request.path_params["name"])})

    async def _show_faults(self, _request: Request) -> Response:
        return JSONResponse(self._rulebook.document())

    async def _put_faults(self, request: Request) -> Response:
        text = b""
        async for piece in request.stream():
            text += piece
            if len(text) > BYTES_MAX:
                break  # ``read_rules`` reports it
        try:
            self._rulebook.replace(read_rules(text))
        except BadRules as error:
            raise invalid_argument(*(FieldFault(*fault) for fault in error.faults)) from error
        return JSONResponse(self._rulebook.document())

    async def _clear_faults(self, _request: Request) -> Response:
        self._rulebook.replace(FaultRules())
        return Response(status_code=204)

    async def _show_projects(self, _request: Request) -> Response:
        return JSONResponse(self._projects.document())

    async def _put_projects(self, request: Request) -> Response:
        self._projects.replace(await self._read_body(request))
        return Response(status_code=204)

    async def _clear_projects(self, _request: Request) -> Response:
        self._projects.clear()
        return Response(status_code=204)


async def _list_rehearsals(_request: Request) -> Response:
    return JSONResponse(
        {
            name: {"summary": fault.summary, "argument": fault.argument}
            for name, fault in faults.FAULTS.items()
        }
    )


def _check_query(request: Request) -> None:
    """Refuse query parameters that neither the method nor Google's system parameters have."""
    of_method = _PAGES if request.url.path.endswith("/models") else frozenset()
    known = _SYSTEM_PARAMETERS | of_method
    faults = [
        FieldFault(
            name,
            f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.'
            f" Field '{name}' could not be found in request message.",
        )
        for name in request.query_params
        if name.removeprefix("$") not in known
    ]
    if faults:
        raise invalid_argument(*faults)


def _check_deadline(request: Request) -> None:
    deadline = request.headers.get("x-server-timeout", "")
    try:
        too_short = bool(deadline) and float(deadline) < _DEADLINE_S_MIN
    except ValueError:
        too_short = False
    if too_short:
        sentence = (
            f"Manually set deadline {deadline}s is too short. Minimum allowed deadline is {_DEADLINE_S_MIN}s."
        )
        raise GoogleError(400, "INVALID_ARGUMENT", sentence)


def _build_response(
    response: ModelResponse, behaviour: Behaviour, request: Request, model_request: ModelRequest
) -> Response:
    """Build the HTTP response in the form of the method and the rehearsal."""
    headers = {}
    if model_request.dialect == "gemini":
        headers = {"x-gemini-service-tier": model_request.tier}
    pretty = request.query_params.get("prettyPrint") == "true"
    write = partial(responses.write_document, behaviour=behaviour, pretty=pretty)
    if not request.url.path.endswith(":streamGenerateContent"):
        pieces, media_type = write(response.build_document()), JSON
    else:
        chunks = [write(chunk) for chunk in response.build_chunks()]
        if behaviour.delivery in {"stream-error", "stream-cut"}:
            chunks = chunks[:1]
        if behaviour.delivery == "stream-error":
            failed = faults.FAULTS["unavailable"].behaviour.error
            if failed:
                chunks.append(write(failed.build_exception().document()))
        pieces, media_type = _join_chunks(chunks, sse=request.query_params.get("alt") == "sse")
    match behaviour.delivery:
        case "reset" | "truncated" | "dropped":
            return CutOff(pieces, media_type, behaviour.delivery)
        case "broken":
            whole = b"".join(pieces)
            return Pieces([whole[: len(whole) * 2 // 3]], media_type, headers)
        case "trickled":
            return Trickle(pieces, media_type, headers)
        case _:
            return Pieces(pieces, media_type, headers)


def _join_chunks(chunks: list[list[bytes]], *, sse: bool) -> tuple[list[bytes], str]:
    pieces: list[bytes] = []
    if sse:
        for chunk in chunks:
            pieces += [b"data: ", *chunk, b"\r\n\r\n"]
        return pieces, "text/event-stream"
    before = b"["
    for chunk in chunks:
        pieces += [before, *chunk]
        before = b",\r\n"
    return [*pieces, b"]"], JSON


def _answer_error(_request: Request, error: GoogleError) -> Response:
    if not error.status:
        return HTMLResponse(error.html(), error.code)
    return JSONResponse(error.document(), error.code)


def _answer_unknown(request: Request, _error: Exception | None) -> Response:
    page = GoogleError(404, "", f"The requested URL {request.url.path} was not found on this server.")
    return HTMLResponse(page.html(), 404)
