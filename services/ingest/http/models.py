"""GET /v1/models: which models there are, in the shape of OpenAI's API with what ours adds."""

from collections.abc import Mapping
from typing import Literal

from aiohttp import web
from pydantic import BaseModel, Field

from services.contracts.auth import Scope
from services.contracts.errors import Code, Problem
from services.contracts.events import ModelCard
from services.ingest.engines import Engines
from services.ingest.http.answers import answer
from services.ingest.http.openai_answers import OPENAI
from services.ingest.http.route import Answer, Param, Route
from services.ingest.settings import Settings


class Model(BaseModel):
    """A model that some engine knows of, or another name of one."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "desifre"
    available: bool = Field(description="its weights are here")
    loaded: bool = Field(description="an engine holds it in memory now")
    multilingual: bool
    bytes: int | None = Field(description="memory that it takes, measured when it was loaded")
    alias_of: str | None = Field(default=None, description="the model that this is another name of, below /v1")


class Models(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[Model]


class ModelRoutes:
    """The two routes, from what the engines say of themselves."""

    def __init__(self, engines: Engines, settings: Settings) -> None:
        self._engines = engines
        self._aliases = {name: model or settings.default_model for name, model in settings.model_aliases.items()}

    def routes(self) -> list[Route]:
        """Both routes, with what the reference says."""
        return [
            Route(
                "GET",
                "/v1/models",
                self.models,
                "List the models",
                scope=Scope.READ,
                answers={200: Answer("The models", Models)},
                shape=OPENAI,
                free_query=True,
            ),
            Route(
                "GET",
                "/v1/models/{model}",
                self.model,
                "Look at a model",
                scope=Scope.READ,
                params=(Param("model", "its name", "path"),),
                answers={200: Answer("The model", Model)},
                errors=(Code.MODEL_UNKNOWN,),
                shape=OPENAI,
                free_query=True,
            ),
        ]

    async def models(self, _: web.Request) -> web.StreamResponse:
        """The models, by name."""
        models = await self._models()
        return answer(Models(data=[models[name] for name in sorted(models)]))

    async def model(self, request: web.Request) -> web.StreamResponse:
        """One of them."""
        models = await self._models()
        found = models.get(request.match_info["model"])
        if found is None:
            raise Problem(Code.MODEL_UNKNOWN, f"Known: {', '.join(sorted(models)) or 'none'}.")
        return answer(found)

    async def _models(self) -> dict[str, Model]:
        cards = await self._engines.models()
        others = {name: of for name, of in self._aliases.items() if of in cards and name not in cards}
        return {name: _model(name, card) for name, card in cards.items()} | _named(others, cards)


def _named(aliases: Mapping[str, str], cards: Mapping[str, ModelCard]) -> dict[str, Model]:
    return {name: _model(name, cards[of]).model_copy(update={"alias_of": of}) for name, of in aliases.items()}


def _model(name: str, card: ModelCard) -> Model:
    return Model(
        id=name, available=card.available, loaded=card.loaded, multilingual=card.multilingual, bytes=card.bytes
    )
