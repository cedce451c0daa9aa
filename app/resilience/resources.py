"""Asynchronous context managers that are written as one generator instead of two methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager


class Resource(ABC):
    """Used once, as ``async with``. A subclass opens and closes itself in ``_lifespan``."""

    _entered: AbstractAsyncContextManager[None]

    @abstractmethod
    def _lifespan(self) -> AbstractAsyncContextManager[None]:
        """An ``asynccontextmanager`` that opens, yields and closes."""

    async def __aenter__(self) -> Self:
        self._entered = self._lifespan()
        await self._entered.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:  # noqa: PYI036 - passed on as they came
        await self._entered.__aexit__(*raised)
