"""Opens the concrete parts and closes them in reverse: the only file that names them all."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Literal

from app.backends import open_upstream
from app.cards import load_catalogue
from app.domain.end_user import build_end_user
from app.domain.errors import ConfigurationError, StoreUnavailable
from app.domain.policy import Policy, RequestConfig
from app.generation.conversations import Conversations
from app.generation.gateway import Gateway
from app.generation.operations import LongRunning
from app.identity.certificates import Certificates
from app.identity.tokens import IAP, GoogleIdTokens, TokenPolicy
from app.ledger.adjustments import RedisBudgetAdjustments
from app.ledger.durable import DurableLedger
from app.ledger.journal import Journal, JournalUnavailable
from app.ledger.operations import RedisOperations
from app.ledger.provider_cap import PROVIDER_LEDGER, CappedImageModel, ProviderConfig
from app.ledger.purging import RedisCache
from app.ledger.redis import RedisLedger
from app.ledger.reports import RedisReports
from app.ledger.restoring import Restorer
from app.ledger.trial import Trial
from app.media.pdf import PageCounter
from app.media.self_test import LiftingBroken, check_lifting
from app.observability.budgets import BudgetMetrics
from app.observability.observed import ObservedDirectory, ObservedLedger, ObservedResults
from app.pictures.opening import Place, open_picture_store
from app.registry.directory import StoredDirectory
from app.registry.local_copy import LocalCopy
from app.resilience.diagnosis import describe_system_error
from app.results.index import Index
from app.results.redis import RedisResults
from app.results.sweeping import Sweep
from app.store.access import Access, AccessTokens
from app.store.breaker import StoreBreaker
from app.store.capacity import StoreCapacity
from app.store.client import LEDGER_TIMEOUT_S, UnsafeEviction, check_eviction, open_clients
from app.store.embedded import EmbeddedStore, EmbeddedStoreFailed
from app.store.keys import BUDGET_METRICS
from app.store.lease import Lease
from app.store.topologies import describe_address
from app.surfaces.http.context import Limits, Service
from app.tenants.administration import Administration
from app.tenants.directory import FileDirectory, MemoryDirectory, load_pepper, open_demo_directory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from pydantic import SecretStr

    from app.cards import Catalogue
    from app.generation.ports import ImageModel
    from app.observability.live import LiveRequests
    from app.observability.metrics import Metrics
    from app.settings import Settings
    from app.store.client import StoreClients
    from app.upstream.credentials import Credential
    from app.upstream.failover import FailoverImageModel

START_FAULTS = (
    ConfigurationError,
    EmbeddedStoreFailed,
    JournalUnavailable,
    LiftingBroken,
    UnsafeEviction,
    ValueError,
)
"""What keeps the gateway from starting, in words for the operator."""


def start_fault(fault: Exception) -> str:
    """Why the gateway cannot start, for the person at the terminal; empty where only the log can tell."""
    if isinstance(fault, START_FAULTS):
        return str(fault)
    if isinstance(fault, OSError) and describe_system_error(fault):
        words = f"{type(fault).__qualname__}: {describe_system_error(fault)}"
        return words if fault.filename is None else f"{fault.filename}: {words}"
    return ""


def check_deployment(settings: Settings) -> None:
    """Refuse to serve where the platform would make the settings mean something else.

    Raises:
        ConfigurationError: With every fault; see ``Settings.deployment_faults``.
    """
    if settings.deployment_faults:
        raise ConfigurationError("the environment on Cloud Run", settings.deployment_faults)


def open_directory(settings: Settings, pepper: bytes, catalogue: Catalogue) -> MemoryDirectory:
    """Tenants and keys from the file, or the tenant demo. Raises ConfigurationError with every fault.

    Where an operator's key is set, tenants are made with it, and the demo would be one that nobody asked for.
    """
    if settings.tenants_file is not None:
        return FileDirectory(settings.tenants_file, pepper, catalogue, settings.pools)
    if settings.admin_key is not None:
        return MemoryDirectory((), pepper, pools=settings.pools)
    return open_demo_directory(settings.state_dir, pepper, settings.pools)


@asynccontextmanager
async def open_gateway(settings: Settings, metrics: Metrics, live: LiveRequests) -> AsyncIterator[Service]:
    """Everything that serves a request, open; closed in reverse on leaving, running work drained first."""
    check_deployment(settings)
    check_lifting()
    async with AsyncExitStack() as stack:
        catalogue = load_catalogue().with_provisioned_price(settings.vertex.provisioned_price)
        pepper = _pepper(settings)
        declared = open_directory(settings, pepper, catalogue)
        clients = await open_store(settings, stack)
        capacity = StoreCapacity(clients.blobs)
        breaker = _breaker("ledger", metrics, clients)
        ledger = RedisLedger(clients.ledger, settings.ledger, capacity, breaker)
        trial = await _first_trial(clients, ledger)
        stored = StoredDirectory(declared, clients.ledger, pepper, catalogue, copy=_local_copy(settings))
        directory = await stack.enter_async_context(stored)
        metrics.register_tenants(tenant.id for tenant in directory.list_tenants())
        await stack.enter_async_context(capacity)
        await stack.enter_async_context(ledger)
        durable = _durable(settings, ledger, clients, breaker, metrics, stack)
        await stack.enter_async_context(durable)
        cap = _provider_cap(settings, clients, catalogue)
        model = await open_upstream(settings, stack, metrics, catalogue, cap)
        content, sweep = await _open_results(settings, clients, directory, capacity, metrics)
        await stack.enter_async_context(sweep)
        results = ObservedResults(content, metrics)
        gateway = Gateway(
            catalogue=catalogue,
            ledger=ObservedLedger(durable, metrics),
            results=results,
            conversations=Conversations(results, settings.conversation),
            model=model,
            policy=_build_policy(settings, catalogue, model.capabilities),
            times=settings.times,
        )
        operations = _operations(settings, gateway, clients, metrics, breaker, capacity, live)
        # Last in, first out: the gateway ends its work, then the operations are recorded.
        stack.push_async_callback(operations.aclose)
        stack.push_async_callback(gateway.aclose, settings.drain_s)
        reports = RedisReports(clients.ledger, catalogue.cells)
        administration = _administration(clients, directory, ledger, durable, content, reports, pepper)
        await stack.enter_async_context(_budget_metrics(settings, administration, clients, metrics))
        yield Service(
            gateway=gateway,
            operations=operations,
            directory=ObservedDirectory(directory, metrics),
            limits=_limits(settings, catalogue, model.capabilities),
            page_counter=PageCounter(),
            readiness=_readiness(gateway, trial, model),
            conditions=lambda: (
                durable.conditions() | capacity.conditions() | sweep.conditions() | model.conditions()
            ),
            store=_describe_store(settings, clients),
            list_credentials=model.list_credentials,
            list_live=live.list_requests,
            render_metrics=metrics.render,
            operators_ports=frozenset(settings.ports.values()) - {settings.port},
            administration=administration,
            identity_tokens=await _identity_tokens(settings, stack),
            iap_tokens=await _iap_tokens(settings, stack),
            reports=reports,
            admin_key=settings.admin_key,
            reload_tenants=directory.reload,
            identify_user=partial(build_end_user, pepper),
        )


def _administration(
    clients: StoreClients,
    directory: StoredDirectory,
    ledger: RedisLedger,
    durable: DurableLedger,
    content: RedisResults,
    reports: RedisReports,
    pepper: bytes,
) -> Administration:
    return Administration(
        registry=directory,
        ledger=ledger,
        cache=RedisCache(clients.ledger),
        content=content,
        adjustments=RedisBudgetAdjustments(clients.ledger, note=durable.note_adjustment),
        reports=reports,
        pepper=pepper,
    )


def _budget_metrics(
    settings: Settings, administration: Administration, clients: StoreClients, metrics: Metrics
) -> BudgetMetrics:
    """What reads all budgets for the metrics; a replica that has died is replaced within two readings."""
    every_s = settings.budget_metrics_s
    lease = Lease(clients.blobs, BUDGET_METRICS, every_s * 2 or 1)
    return BudgetMetrics(administration.list_usage, lease, metrics, every_s)


def _build_policy(settings: Settings, catalogue: Catalogue, capabilities: frozenset[str]) -> Policy:
    knows_labels = settings.all_back_ends != ("gemini",)
    return Policy(
        capabilities=capabilities,
        back_ends=settings.all_back_ends,
        bill_labels=settings.vertex.labels if knows_labels else frozenset(),
        request=_resolve_aliases(settings.request, catalogue),
        hold=settings.ledger,
    )


def _resolve_aliases(config: RequestConfig, catalogue: Catalogue) -> RequestConfig:
    """The limits of requests with aliases by card id. Raises ConfigurationError for an unknown model."""
    try:
        aliases = catalogue.resolve_aliases(config.model_aliases)
    except ValueError as error:
        raise ConfigurationError("FLASHGATE_MODEL_ALIASES", (str(error),)) from None
    return config.model_copy(update={"model_aliases": aliases})


def _operations(
    settings: Settings,
    gateway: Gateway,
    clients: StoreClients,
    metrics: Metrics,
    breaker: StoreBreaker,
    capacity: StoreCapacity,
    live: LiveRequests,
) -> LongRunning:
    return LongRunning(
        gateway,
        RedisOperations(
            clients.ledger,
            lease_s=settings.ledger.lease_s,
            config=settings.operations,
            breaker=breaker,
            capacity=capacity,
        ),
        lease_s=settings.ledger.lease_s,
        config=settings.operations,
        on_ended=metrics.count_operation,
        follow=live.follow,
    )


async def _identity_tokens(settings: Settings, stack: AsyncExitStack) -> GoogleIdTokens | None:
    """What checks ID tokens, where any are taken."""
    if not settings.identity.audiences:
        return None
    certificates = await stack.enter_async_context(Certificates(settings.identity.certs_url))
    policy = TokenPolicy(
        settings.identity.audiences,
        by_platform=settings.identity.signature == "platform",
    )
    return GoogleIdTokens(policy, certificates)


async def _iap_tokens(settings: Settings, stack: AsyncExitStack) -> GoogleIdTokens | None:
    """What checks the assertions of Identity-Aware Proxy, where any are taken."""
    if not settings.iap.audiences:
        return None
    certificates = await stack.enter_async_context(Certificates(settings.iap.certs_url))
    policy = TokenPolicy(settings.iap.audiences, signer=IAP)
    return GoogleIdTokens(policy, certificates)


def _pepper(settings: Settings) -> bytes:
    """The secret under which keys are hashed: as configured, else made once and kept."""
    configured = _secret(settings.key_pepper)
    return load_pepper(settings.state_dir) if configured is None else configured.encode()


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value is not None else None


async def open_store(
    settings: Settings, stack: AsyncExitStack, ledger_timeout_s: float = LEDGER_TIMEOUT_S
) -> StoreClients:
    """Clients of the store, as configured; nothing is connected yet.

    Raises:
        ValueError: The address is not one, or what is said beside it does not go with it.
    """
    if settings.redis.url is None and (settings.redis.iam or settings.redis.ca_file):
        raise ValueError("FLASHGATE_REDIS_IAM and FLASHGATE_REDIS_CA_FILE need FLASHGATE_REDIS_URL.")
    credentials = None
    if settings.redis.iam:
        credentials = await stack.enter_async_context(AccessTokens(settings.redis.metadata_url))
    access = Access(settings.redis.ca_file, credentials)
    url = await _store_url(settings, stack)
    return await stack.enter_async_context(
        open_clients(url, ledger_timeout_s=ledger_timeout_s, access=access)
    )


async def _store_url(settings: Settings, stack: AsyncExitStack) -> str:
    """The store's address: as configured, else that of a server which flashgate starts itself."""
    configured = _secret(settings.redis.url)
    if configured is not None:
        return configured
    embedded = EmbeddedStore(settings.state_dir, config=settings.embedded)
    return await stack.enter_async_context(embedded)


def _describe_store(settings: Settings, clients: StoreClients) -> str:
    """Where the ledger is, for the person who reads how the gateway starts."""
    address = describe_address(clients.ledger)
    if settings.redis.url is None:
        return f"a server of its own at {address}"
    return address


async def _open_results(
    settings: Settings,
    clients: StoreClients,
    directory: StoredDirectory,
    capacity: StoreCapacity,
    metrics: Metrics,
) -> tuple[RedisResults, Sweep]:
    """Pictures and generations where there is room, pictures within each tenant's quota as it is now.

    Raises:
        ConfigurationError: A store of pictures cannot be used as it is configured.
        ValueError: An address is none.
    """
    usual = settings.pictures.quota_mb << 20

    def quota_of(tenant_id: str) -> int:
        record = directory.find(tenant_id)
        own = record.tenant.cache.quota_bytes if record is not None else None
        return usual if own is None else own

    breaker = _breaker("images", metrics, clients)
    place = Place(settings.state_dir, clients.blobs, breaker)
    pictures = await open_picture_store(settings.pictures_url, "FLASHGATE_PICTURES_URL", place)
    previous = None
    if settings.pictures.previous_url == settings.pictures_url:
        raise ValueError("FLASHGATE_PICTURES_PREVIOUS_URL names the store of FLASHGATE_PICTURES_URL.")
    if settings.pictures.previous_url is not None:
        previous = await open_picture_store(
            settings.pictures.previous_url, "FLASHGATE_PICTURES_PREVIOUS_URL", place
        )
    index = Index(clients.blobs, quota_of=quota_of, breaker=breaker)
    results = RedisResults(
        clients.blobs,
        partial(metrics.count_discarded_images, "damaged"),
        breaker,
        index=index,
        capacity=capacity,
        pictures=pictures,
        previous=previous,
    )
    sweep = Sweep(
        clients.blobs,
        index,
        pictures,
        previous,
        on_collected=partial(metrics.count_discarded_images, "orphaned"),
        on_left=metrics.set_images_left,
    )
    return results, sweep


def _provider_cap(
    settings: Settings, clients: StoreClients, catalogue: Catalogue
) -> Callable[[ImageModel, str, Credential | None], ImageModel]:
    """Puts a back end's model behind the caps that all replicas share, where any is set.

    The caps of a credential replace those of the deployment.
    """
    ledger = RedisLedger(clients.ledger, PROVIDER_LEDGER)

    def capped(model: ImageModel, back_end: str, credential: Credential | None) -> ImageModel:
        config = settings.provider
        if credential is not None:
            own = {name: getattr(credential, name) for name in ProviderConfig.model_fields}
            config = config.model_copy(update={name: cap for name, cap in own.items() if cap is not None})
        if config == ProviderConfig():
            return model
        return CappedImageModel(model, back_end, ledger, catalogue, config)

    return capped


def _journal_folder(settings: Settings) -> Path | None:
    """Where this replica remembers what its store might lose; None without a disk."""
    if settings.journal_dir is None and settings.state_dir.is_dir():
        return settings.state_dir / "journal"
    return settings.journal_dir


def _local_copy(settings: Settings) -> LocalCopy | None:
    """Where this replica keeps the tenants that it knows; None without a disk."""
    folder = _journal_folder(settings)
    return None if folder is None else LocalCopy(folder / "tenants.json")


def _durable(
    settings: Settings,
    ledger: RedisLedger,
    clients: StoreClients,
    breaker: StoreBreaker,
    metrics: Metrics,
    stack: AsyncExitStack,
) -> DurableLedger:
    """The ledger with a memory of its own, on disk where there is one."""
    restorer = Restorer(clients.ledger, ledger.scripts, ledger.config, breaker)
    folder = _journal_folder(settings)
    journal = None
    if folder is not None:
        journal = stack.enter_context(Journal(folder))
    settle_s = min(settings.drain_s, settings.durability.settle_s)
    return DurableLedger(
        ledger,
        restorer,
        breaker,
        metrics=metrics,
        journal=journal,
        config=settings.durability.model_copy(update={"settle_s": settle_s}),
    )


def _breaker(pool: Literal["ledger", "images"], metrics: Metrics, clients: StoreClients) -> StoreBreaker:
    return StoreBreaker(
        on_change=lambda state: metrics.set_store_breaker(pool, state),
        address=describe_address(clients.ledger),
    )


async def _first_trial(clients: StoreClients, ledger: RedisLedger) -> Trial:
    """Refuse a store that may evict the ledger; one that cannot be used yet is not refused, but told of."""
    trial = Trial(clients, ledger.notifications)
    if await trial() is not None:
        with suppress(StoreUnavailable):
            await check_eviction(clients.ledger)
    return trial


def _limits(settings: Settings, catalogue: Catalogue, capabilities: frozenset[str]) -> Limits:
    """Limits at the door: no input may be larger than the largest that any card takes."""
    return Limits(
        **dict(settings.surface),
        input_bytes_max=max(card.documents.bytes_max for card in catalogue),
        input_pixels_max=settings.request.input_pixels_max,
        usage_days=settings.ledger.usage_days,
        location=settings.location,
        has_format_choice="output_mime_type" in capabilities,
    )


def _readiness(
    gateway: Gateway, trial: Trial, model: FailoverImageModel
) -> dict[str, Callable[[], Awaitable[str | None]]]:
    async def store() -> str | None:
        diagnosis = await trial()
        return None if diagnosis is None else str(diagnosis)

    async def upstream() -> str | None:
        return await model.find_fault()

    async def drain() -> str | None:
        return "the process is going down" if gateway.draining else None

    return {"store": store, "upstream": upstream, "drain": drain}
