"""Every setting of one process: the configs of all parts, with those that only the start-up reads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.domain.bill_labels import BillLabel
from app.domain.config import Config
from app.domain.policy import RequestConfig, TimeConfig
from app.generation.conversations import ConversationConfig
from app.generation.operations import OperationConfig
from app.identity.tokens import IapConfig, IdentityConfig
from app.ledger.durable import DurabilityConfig
from app.ledger.policy import LedgerConfig
from app.ledger.provider_cap import ProviderConfig
from app.pictures.opening import PicturesConfig
from app.settings.variables import FLAT, EnvironmentSource
from app.store.access import RedisConfig
from app.store.embedded import EmbeddedConfig
from app.surfaces.http.context import SurfaceConfig
from app.upstream.breaker import BreakerConfig
from app.upstream.credentials import Credential, list_pools, read_credentials
from app.upstream.google.backend import ANSWER_BYTES_MAX, GLOBAL, IMAGE_STYLE, ImageStyle, Kind, RequestType
from app.upstream.retries import RetryConfig
from app.upstream.slots import SlotConfig


def _check_order(text: str) -> str:
    names = [name.strip() for name in text.split(",")]
    if names != ["auto"] and not set(names) <= set(get_args(Kind)):
        raise ValueError("must be auto, or one or more of emulator, gemini and vertex, such as vertex,gemini")
    return ",".join(names)


Order = Annotated[str, AfterValidator(_check_order)]


class VertexConfig(Config):
    """Vertex AI."""

    project: str | None = Field(None, description="Google Cloud project whose Vertex AI is called.")
    location: str = Field(
        GLOBAL, description="Vertex AI location of all calls; the present cards offer global only."
    )
    base_url: str | None = Field(None, description="Address of Vertex AI, in place of Google's own.")
    request_type: RequestType | None = Field(
        None,
        description="Which Vertex AI capacity is used: dedicated is Provisioned Throughput only, shared "
        "never uses it; unset to use it first.",
    )
    provisioned_price: float = Field(
        1,
        ge=0,
        le=100,
        description="Price of a call that Provisioned Throughput served, as a share of the standard list "
        "price: 0 if it is prepaid and costs budgets in `usd` nothing.",
    )
    labels: frozenset[BillLabel] = Field(
        frozenset(),
        description="What the labels of calls, by which Google's bill can be split, are made from: any of "
        "tenant, project and request; unset for no labels.",
    )


class GeminiConfig(Config):
    """The Gemini Developer API."""

    api_key: SecretStr | None = Field(None, description="Key of the Gemini Developer API.")
    base_url: str | None = Field(
        None, description="Address of the Gemini Developer API, in place of Google's own."
    )


class EmulatorConfig(Config):
    """The emulator."""

    base_url: str | None = Field(
        None,
        description="Address of a running emulator; unset for one that flashgate starts, which needs the "
        "extra `emulator`.",
    )
    faults: Path | None = Field(
        None, description="YAML file of the faults that the emulator started by flashgate rehearses."
    )
    latency_factor: float = Field(
        0.001,
        ge=0,
        le=10,
        description="Share of the model's own latency that the emulator started by flashgate takes: 1 is as "
        "slow as the model, 0.001 a thousandth.",
    )


class ClientConfig(Config):
    """What commands use that call a running gateway; the gateway itself ignores it."""

    url: str | None = Field(
        None, description="Base URL of the gateway that commands call; unset for this machine at its port."
    )
    api_key: SecretStr | None = Field(
        None,
        description="Gateway key of `flashgate generate`, `edit`, `estimate` and `budgets`; unset for the "
        "demo's.",
    )


class Settings(Config, BaseSettings):
    """The process.

    A setting's variable is ``FLASHGATE_`` with the names of its group and its field; groups marked ``FLAT``
    leave theirs out (``app/settings/variables.py``).
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 in a container.")
    port: int = Field(8080, ge=0, le=65535, description="Port of the API; 0 for any that is free.")
    admin_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of /v1/admin, and of /metrics without a key; unset for the API's port.",
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="Port of /metrics without a key, for Prometheus to scrape."
    )
    body_bytes_max: int = Field(
        135_000_000, ge=1, description="Largest request body, in bytes; 14 images of 7 MB fit in base64."
    )
    keep_alive_s: int = Field(
        620,
        ge=1,
        description="How long an idle connection is kept open, in seconds; must exceed the idle timeout of "
        "any load balancer in front, which is 600 s for Google's.",
    )
    reader_timeout_s: float = Field(
        60,
        ge=1,
        description="How long a client may read nothing of a response, in seconds, before the connection is "
        "closed.",
    )
    drain_s: float = Field(
        6, ge=0, description="How long running requests may take to finish after SIGTERM, in seconds."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest severity that is logged."
    )
    log_format: Literal["json", "text"] = Field(
        "json", description="Format of the log: one JSON object a line, or text."
    )
    trace_project: str | None = Field(
        None,
        description="Google Cloud project of the trace names in the log; unset for the one of Vertex AI.",
    )
    budget_metrics_s: float = Field(
        15,
        ge=0,
        le=3600,
        description="Seconds between two readings of all budgets, which one replica exports as metrics; 0 "
        "to export none.",
    )
    otlp_endpoint: str | None = Field(
        None,
        description="OpenTelemetry collector that gets traces by OTLP over HTTP, such as "
        "http://127.0.0.1:4318; unset for no traces. The other variables of OpenTelemetry's SDK apply, such "
        "as OTEL_TRACES_SAMPLER and OTEL_EXPORTER_OTLP_HEADERS.",
    )
    state_dir: Path = Field(
        Path(".flashgate"), description="Directory of the demo key, the pepper and the embedded server."
    )
    client: Annotated[ClientConfig, FLAT] = ClientConfig()
    surface: Annotated[SurfaceConfig, FLAT] = SurfaceConfig()
    request: Annotated[RequestConfig, FLAT] = RequestConfig()
    conversation: ConversationConfig = ConversationConfig()
    operations: OperationConfig = OperationConfig()

    tenants_file: Path | None = Field(
        None,
        description="YAML file of tenants, keys and budgets, read again on SIGHUP; unset for the demo "
        "tenant.",
    )
    key_pepper: SecretStr | None = Field(
        None,
        description="Secret under which keys are hashed; all replicas must share the same pepper. Unset to "
        "make one in the state directory.",
    )
    admin_key: SecretStr | None = Field(
        None,
        min_length=32,
        description="Key of the Admin API, at least 32 characters; where it is set there is no demo tenant.",
    )
    identity: IdentityConfig = IdentityConfig()
    iap: IapConfig = IapConfig()

    redis: RedisConfig = RedisConfig()
    embedded: EmbeddedConfig = EmbeddedConfig()
    allow_embedded_store: bool = Field(
        default=False,
        description="Whether a service on Cloud Run may run without a store of its own; budgets and cache "
        "are lost with its single instance.",
    )
    cloud_run_service: str | None = Field(
        None,
        description="Name of the Cloud Run service, set by Cloud Run; a store, tenants, a pepper and a back "
        "end are then required.",
    )
    pictures: PicturesConfig = PicturesConfig()
    ledger: Annotated[LedgerConfig, FLAT] = LedgerConfig()
    durability: Annotated[DurabilityConfig, FLAT] = DurabilityConfig()
    journal_dir: Path | None = Field(
        None,
        description="Directory where a replica keeps what it settled and what the store has not "
        "acknowledged; unset for `journal` in the state directory, if that exists.",
    )

    upstream: Order = Field(
        "auto",
        description="Back ends in the order in which they are tried, such as vertex,gemini; auto is Vertex "
        "AI if its project is set, else Gemini if its key is, else the emulator, and after it those of the "
        "credentials' file.",
    )
    upstream_by_model: Mapping[str, Order] = Field(
        {},
        description="Order of back ends for some models: `gemini-3-pro-image=vertex,gemini`.",
    )
    credentials_file: Path | None = Field(
        None,
        description="YAML file of several projects and keys of Google, with pools and caps of their own; "
        "it holds no secret itself.",
    )
    upstream_image_style: ImageStyle = Field(
        IMAGE_STYLE,
        description="Member of Google's body that carries ratio and size: image_config, or its successor "
        "response_format.",
    )
    upstream_answer_bytes_max: int = Field(
        ANSWER_BYTES_MAX,
        ge=1_000_000,
        description="Largest response of a back end, in bytes; a larger one counts as a failure.",
    )
    times: Annotated[TimeConfig, FLAT] = TimeConfig()
    vertex: VertexConfig = VertexConfig()
    gemini: GeminiConfig = GeminiConfig()
    emulator: EmulatorConfig = EmulatorConfig()
    provider: ProviderConfig = ProviderConfig()
    upstream_slots: SlotConfig = SlotConfig()
    upstream_retry: RetryConfig = RetryConfig()
    upstream_breaker: BreakerConfig = BreakerConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment, and nothing else; arguments come first."""
        return init_settings, EnvironmentSource(settings_cls)

    @model_validator(mode="after")
    def _check_platform_signature(self) -> Self:
        if self.identity.signature == "platform" and self.cloud_run_service is None:
            raise ValueError(
                "FLASHGATE_IDENTITY_SIGNATURE=platform is accepted on Cloud Run only: anywhere else nobody "
                "has verified the signature"
            )
        return self

    @property
    def back_ends(self) -> tuple[Kind, ...]:
        """The back ends that the settings choose, in the order in which they are asked."""
        return self._order(self.upstream)

    @property
    def all_back_ends(self) -> tuple[Kind, ...]:
        """Every back end that some model may be asked of."""
        orders = (self.back_ends, *self.back_ends_by_model.values())
        return tuple(dict.fromkeys(kind for order in orders for kind in order))

    @property
    def back_ends_by_model(self) -> dict[str, tuple[Kind, ...]]:
        """The orders of models that have their own."""
        return {model: self._order(order) for model, order in self.upstream_by_model.items()}

    def _order(self, text: str) -> tuple[Kind, ...]:
        if text != "auto":
            named: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
            return tuple(dict.fromkeys(named[name] for name in text.split(",")))
        kinds: list[Kind] = []
        if self.vertex.project:
            kinds = ["vertex"]
        elif self.gemini.api_key:
            kinds = ["gemini"]
        kinds += [each.back_end for each in self.credentials]
        return tuple(dict.fromkeys(kinds or ("emulator",)))

    @cached_property
    def credentials(self) -> tuple[Credential, ...]:
        """The credentials of the file. Raises ConfigurationError."""
        if self.credentials_file is None:
            return ()
        return read_credentials(self.credentials_file)

    def has_unnamed(self, kind: Kind) -> bool:
        """Whether the back end has a credential of the settings beside those of the file.

        Vertex AI and the emulator need none of the settings, so they have one where the file names none.
        """
        configured = {
            "vertex": self.vertex.project,
            "gemini": self.gemini.api_key,
            "emulator": self.emulator.base_url if not self.credentials else None,
        }
        return bool(configured[kind]) or all(each.back_end != kind for each in self.credentials)

    @property
    def pools(self) -> frozenset[str]:
        """The names that tenants may use as their pool."""
        has_unnamed = any(self.has_unnamed(kind) for kind in self.all_back_ends)
        return list_pools(self.credentials, has_unnamed=has_unnamed)

    @property
    def location(self) -> str:
        """Where all calls are made, as a location of Vertex AI; ``global`` where some may go anywhere."""
        if "gemini" in self.all_back_ends:
            return GLOBAL
        return self.vertex.location

    @property
    def ports(self) -> dict[str, int]:
        """The ports to listen on, by the variable of each, the callers' first; two may be one."""
        ports = {"PORT": self.port, "FLASHGATE_ADMIN_PORT": self.admin_port}
        ports["FLASHGATE_METRICS_PORT"] = self.metrics_port
        return {name: port for name, port in ports.items() if port is not None}

    @property
    def pictures_url(self) -> str:
        """Where the bytes of pictures are stored; by default beside the embedded store, or in the store."""
        if self.pictures.url is not None:
            return self.pictures.url
        return "file:" if self.redis.url is None else "redis:"

    @property
    def has_demo(self) -> bool:
        """Whether there is the tenant demo: where nobody has said which tenants there are, or shall be."""
        return self.tenants_file is None and self.admin_key is None

    @property
    def deployment_faults(self) -> tuple[str, ...]:
        """What makes this configuration one that must not serve, each with its remedy; none off Cloud Run.

        An instance there is one of many and soon gone, so whatever it would make for itself is lost on the
        way: keys that nobody can know, budgets that start again at zero, pictures of the emulator.
        """
        if self.cloud_run_service is None:
            return ()
        faults = []
        if self.redis.url is None and not self.allow_embedded_store:
            faults.append(
                "FLASHGATE_REDIS_URL is not set: each instance would keep budgets and cache of its own and "
                "lose them when it ends; FLASHGATE_ALLOW_EMBEDDED_STORE=true accepts that, for a single "
                "instance"
            )
        if self.has_demo:
            faults.append(
                "FLASHGATE_TENANTS_FILE and FLASHGATE_ADMIN_KEY are not set: the demo tenant's key would be "
                "made inside the instance, where nobody can read it"
            )
        if self.key_pepper is None:
            faults.append(
                "FLASHGATE_KEY_PEPPER is not set: each instance would make one of its own, and no key would "
                "fit"
            )
        if self.upstream == "auto" and self.back_ends == ("emulator",):
            faults.append(
                "FLASHGATE_VERTEX_PROJECT and FLASHGATE_GEMINI_API_KEY are not set; "
                "FLASHGATE_UPSTREAM=emulator lets the emulator answer, on purpose"
            )
        return tuple(faults)
