"""Projects with keys and quotas of their own, and what Google says to who may not call."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.domain.requirements import describe_requirement
from app.emulator.errors import (
    PROJECT_CAP,
    QUOTA_WORDS,
    FieldFault,
    GoogleError,
    build_quota_details,
    error_info,
    invalid_argument,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from app.emulator.messages import Dialect

GEMINI_SERVICE = "generativelanguage.googleapis.com"
VERTEX_SERVICE = "aiplatform.googleapis.com"
_MINUTE_S = 60.0


class Project(BaseModel):
    """A Google Cloud project.

    Attributes:
        id: As in the paths of Vertex AI.
        keys: API keys that belong to it.
        requests_per_minute: Quota of each model; None for no quota.
        state: ``suspended`` and ``capped`` (by its monthly spending cap) refuse every call.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    keys: frozenset[str] = frozenset()
    requests_per_minute: int | None = Field(None, ge=0)
    state: Literal["active", "suspended", "capped"] = "active"


class _Projects(BaseModel):
    model_config = ConfigDict(extra="forbid")

    projects: tuple[Project, ...]


class Projects:
    """The projects in force. Without any, every key is accepted and nothing is limited."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._projects: tuple[Project, ...] = ()
        self._calls: dict[tuple[str, str], deque[float]] = {}
        self._counts: dict[str, Counter[str]] = {}

    def replace(self, text: bytes) -> None:
        """Replace the projects by those of a JSON document; calls that were counted stay counted."""
        try:
            self._projects = _Projects.model_validate_json(text).projects
        except ValidationError as error:
            faults = [
                FieldFault(
                    ".".join(map(str, each["loc"])), describe_requirement(each["type"], each.get("ctx"))
                )
                for each in error.errors(include_url=False, include_input=False)
            ]
            raise invalid_argument(*faults) from None

    def clear(self) -> None:
        """Forget the projects and what was counted."""
        self._projects = ()
        self._calls.clear()
        self._counts.clear()

    def document(self) -> dict[str, object]:
        """Calls by project: ``served``, and ``refused`` for want of a quota or a right."""
        return {"projects": {name: dict(counts) for name, counts in self._counts.items()}}

    def identify(self, request: Request, dialect: Dialect) -> str:
        """The project that a call belongs to; empty without projects.

        Raises:
            GoogleError: There are no credentials, or they are not those of an active project.
        """
        key = _find_credential(request)
        if not key:
            raise _build_missing_credential(dialect)
        if key == "invalid":
            raise _build_invalid_key(GEMINI_SERVICE)
        if not self._projects:
            return ""
        name = request.path_params.get("project")
        matches = (each for each in self._projects if (each.id == name if name else key in each.keys))
        project = next(matches, None)
        if project is None and name:
            raise _build_no_permission(request.url.path)
        if project is None:
            raise _build_invalid_key(GEMINI_SERVICE if dialect == "gemini" else VERTEX_SERVICE)
        if project.state == "suspended":
            self._count(project.id, "refused")
            raise _build_suspended(project.id)
        return project.id

    def take(self, project_id: str, model: str, dialect: Dialect) -> None:
        """Count a generation. Raises GoogleError 429 where the project's quota or its money is used up."""
        project = next((each for each in self._projects if each.id == project_id), None)
        if project is None:
            return
        if project.state == "capped":
            self._count(project_id, "refused")
            raise GoogleError(429, "RESOURCE_EXHAUSTED", PROJECT_CAP)
        calls, now = self._calls.setdefault((project_id, model), deque()), self._clock()
        while calls and calls[0] <= now - _MINUTE_S:
            calls.popleft()
        quota = project.requests_per_minute
        if quota is not None and len(calls) >= quota:
            self._count(project_id, "refused")
            wait_s = calls[0] + _MINUTE_S - now if calls else _MINUTE_S
            raise _build_quota_error(quota, wait_s, model, dialect)
        calls.append(now)
        self._count(project_id, "served")

    def _count(self, project_id: str, what: str) -> None:
        self._counts.setdefault(project_id, Counter())[what] += 1


def _find_credential(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    bearer = token if scheme.lower() == "bearer" else ""
    return request.headers.get("x-goog-api-key") or request.query_params.get("key") or bearer


def _build_missing_credential(dialect: Dialect) -> GoogleError:
    if dialect == "vertex":
        sentence = (
            "Request is missing required authentication credential. Expected OAuth 2 access token, login"
            " cookie or other valid authentication credential."
        )
        return GoogleError(
            401, "UNAUTHENTICATED", sentence, (error_info("CREDENTIALS_MISSING", service=VERTEX_SERVICE),)
        )
    sentence = (
        "Method doesn't allow unregistered callers (callers without established identity). Please use API Key"
        " or other form of API consumer identity to call this API."
    )
    return GoogleError(403, "PERMISSION_DENIED", sentence)


def _build_invalid_key(service: str) -> GoogleError:
    info = error_info("API_KEY_INVALID", service=service)
    return GoogleError(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", (info,))


def _build_no_permission(path: str) -> GoogleError:
    resource = "/".join(path.split("/")[2:]).partition(":")[0]
    info = error_info("IAM_PERMISSION_DENIED", permission="aiplatform.endpoints.predict", resource=resource)
    sentence = (
        f"Permission 'aiplatform.endpoints.predict' denied on resource '//{VERTEX_SERVICE}/{resource}'"
        " (or it may not exist)."
    )
    return GoogleError(403, "PERMISSION_DENIED", sentence, (info,))


def _build_suspended(project_id: str) -> GoogleError:
    consumer = f"projects/{project_id}"
    info = error_info("CONSUMER_SUSPENDED", consumer=consumer, service=GEMINI_SERVICE)
    sentence = f"Permission denied: Consumer '{consumer}' has been suspended."
    return GoogleError(403, "PERMISSION_DENIED", sentence, (info,))


def _build_quota_error(quota: int, wait_s: float, model: str, dialect: Dialect) -> GoogleError:
    if dialect == "vertex":
        metric = f"{VERTEX_SERVICE}/generate_content_requests_per_minute_per_project_per_base_model"
        sentence = (
            f"Quota exceeded for {metric} with base model: {model}. Please submit a quota increase request."
            " https://cloud.google.com/vertex-ai/docs/generative-ai/quotas-genai."
        )
        return GoogleError(429, "RESOURCE_EXHAUSTED", sentence)
    details = build_quota_details(
        "GenerateRequestsPerMinutePerProjectPerModel", str(quota), f"{wait_s:.9f}s", model
    )
    return GoogleError(429, "RESOURCE_EXHAUSTED", QUOTA_WORDS, details)
