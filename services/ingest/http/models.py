"""GET /v1/models: which models there are, in the shape of OpenAI's API with what ours adds."""

from typing import Literal

from aiohttp import web
from pydantic import BaseModel, Field

from services.contracts.auth import Scope
from services.ingest.engines import Engines
from services.ingest.http.answers import answer
from services.ingest.http.route import Answer, Route


class Model(BaseModel):
    """A model that some engine knows of."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "desifre"
    available: bool = Field(description="its weights are here")
    loaded: bool = Field(description="an engine holds it in memory now")
    multilingual: bool
    bytes: int | None = Field(description="memory that it takes, measured when it was loaded")


class Models(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[Model]


class ModelRoutes:
    """The one route, from what the engines say of themselves."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    def routes(self) -> list[Route]:
        """The route, with what the reference says."""
        return [
            Route(
                "GET",
                "/v1/models",
                self.models,
                "List the models",
                scope=Scope.READ,
                answers={200: Answer("The models", Models)},
            )
        ]

    async def models(self, _: web.Request) -> web.StreamResponse:
        """The models, by name."""
        models = await self._engines.models()
        return answer(
            Models(
                data=[
                    Model(
                        id=name,
                        available=card.available,
                        loaded=card.loaded,
                        multilingual=card.multilingual,
                        bytes=card.bytes,
                    )
                    for name, card in sorted(models.items())
                ]
            )
        )
