"""Google's system parameters and headers (https://cloud.google.com/apis/docs/system-parameters)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.surfaces.http.parameters import HONOURED, Parameter, check_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import Request

    from app.domain.generation import Notice

_PAYS: Final = "the gateway key decides who pays"
_WHOLE: Final = "answers are passed on whole"
_TEXT: Final = "answers are JSON as the upstream wrote it"
_NO_UPLOAD: Final = "nothing is uploaded here"
_OPERATORS: Final = "the operator decides on provisioned throughput"
_ALT: Final = Parameter("answers are JSON; alt=sse belongs to streamGenerateContent", ("json",), refused=True)
_ALT_STREAM: Final = Parameter("answers are JSON or events", ("json", "sse"), refused=True)
_INTEGERS: Final = "json;enum-encoding=int"
"""What Google's generated REST clients send. They read the words of enumerations as well."""

_COMMON: Final[Mapping[str, Parameter]] = {
    "key": HONOURED,
    "access_token": HONOURED,
    "prettyPrint": Parameter(_TEXT),
    "fields": Parameter(_WHOLE, ("*",), refused=True),
    "callback": Parameter("answers are JSON", refused=True),
    "$.xgafv": Parameter("errors have Google's second format", ("2",), refused=True),
    "quotaUser": Parameter("X-Flashgate-User names the end user"),
    "userProject": Parameter(_PAYS),
    "uploadType": Parameter(_NO_UPLOAD),
    "upload_protocol": Parameter(_NO_UPLOAD),
}
_PAGES: Final = {"pageSize": HONOURED, "pageToken": HONOURED}
QUERIES: Final[Mapping[str, Mapping[str, Parameter]]] = {
    "": {**_COMMON, "alt": _ALT},
    "list": {**_COMMON, **_PAGES, "alt": _ALT},
    "stream": {**_COMMON, "alt": _ALT_STREAM},
}
"""Query parameters by kind of method. Each may also begin with ``$``."""
HEADERS: Final[Mapping[str, Parameter]] = {
    "x-goog-fieldmask": Parameter(_WHOLE, ("*",), refused=True),
    "x-http-method-override": Parameter("send the method itself", refused=True),
    "x-vertex-ai-llm-request-type": Parameter(_OPERATORS, refused=True),
    "x-goog-user-project": Parameter(_PAYS),
    "x-goog-request-params": Parameter("the path routes the request", told=False),
    "x-goog-api-client": Parameter("it names the client", told=False),
}


def check_system_parameters(request: Request) -> tuple[Notice, ...]:
    """Return a notice for each parameter without effect.

    Raises:
        ValidationFailed: A query parameter is unknown, or a value is not supported.
    """
    path = request.url.path
    kind = "list" if path.endswith("/models") else ""
    if path.endswith(":streamGenerateContent"):
        kind = "stream"
    known = QUERIES[kind]
    queries = {**known, **{f"${name.removeprefix('$')}": known[name] for name in known}}
    if request.query_params.get("$alt") == _INTEGERS:
        queries["$alt"] = Parameter("enumerations are words")
    return check_parameters(request, queries, HEADERS)
