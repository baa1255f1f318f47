"""Price files, and the bodies of requests that are priced by them: a price is a whole number, or there is none."""

from __future__ import annotations

import random
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from budgetguard._documents import decode
from budgetguard.errors import SettingError, UnknownPrice
from budgetguard.model import Quote, Route, RouteKind
from budgetguard.providers import UdioPro, Vidu
from tests.fuzz import corpus
from tests.fuzz.spoil import NUMBERS, damaged, mixed
from tests.fuzz.target import Broken, Target, joined, parted

__all__ = ["Bodies", "PriceFiles"]

_PATHS = (
    "text2video",
    "img2video",
    "start-end2video",
    "reference2video",
    "multiframe",
    "template",
    "template-story",
    "reference2image",
    "text2audio",
    "timing2audio",
    "audio-tts",
    "audio-clone",
    "lip-sync",
    "digital-human",
    "extend",
    "upscale",
    "upscale-new",
    "image2dance",
    "img2video-prompt-recommendation",
    "ad-one-click",
    "ad-one-click/edit",
    "one-click/mv",
    "trending-replicate",
    "generate",
    "upload-cover/generate",
    "cover/generate",
    "nowhere",
)
_MODELS = ("viduq3-pro", "viduq3-turbo", "viduq2", "viduq2-pro", "viduq1", "vidu2.0", "vidu1.5", "audio1.0", "chirp-v5")
_MOST = 10**15
_VALUES = (*NUMBERS, "true", '"5"', "[]", "{}", "{720p = 5}", "[5, 4]", '["audio"]', "1979-05-27", "inf", "-inf", "nan")
_FILES = {"vidu": "vidu_prices.toml", "udio": "udio_prices.toml"}


def _check(quote: Quote) -> None:
    if not 0 <= quote.credits <= _MOST or quote.slots != 1 or not 0 <= quote.slack <= quote.credits:
        raise Broken(f"a price of {quote}")
    if quote.task_lease is not None and not 0 < quote.task_lease <= 1e9:
        raise Broken(f"a lease of {quote.task_lease} s")


class Bodies(Target):
    """The body of a request."""

    name = "request-bodies"
    guided = True

    def __init__(self) -> None:
        self._vidu, self._udio = Vidu(source_seconds_max=600), UdioPro()

    def draw(self, chance: random.Random) -> bytes:
        model = chance.choice(_MODELS)
        documents: list[Any] = [
            {**body, "model": model} if chance.random() < 0.4 else body for body in corpus.VIDU_BODIES
        ]
        path = chance.choice(_PATHS)
        return joined({"path": path}, mixed(chance, documents))

    def run(self, case: bytes) -> None:
        facts, raw = parted(case)
        path, body = str(facts.get("path", "text2video")), decode(raw)
        for provider in (self._vidu, self._udio):
            try:
                quote = provider.quote(Route(RouteKind.SUBMIT, path), body)
            except UnknownPrice as unknown:
                if len(str(unknown)) > 1000:
                    raise Broken(f"a refusal of {len(str(unknown))} characters") from unknown
                continue
            _check(quote)
            again = provider.quote(Route(RouteKind.SUBMIT, path), body)
            if again != quote:
                raise Broken(f"{again} and {quote} for the same body")


class PriceFiles(Target):
    """A price file, as a file and as a table; what it prices is a whole number of credits."""

    name = "price-files"

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bg-fuzz-")
        self._path = Path(self._folder.name) / "prices.toml"
        shipped = resources.files("budgetguard.providers")
        self._texts = {name: shipped.joinpath(file).read_text("utf-8") for name, file in _FILES.items()}

    def draw(self, chance: random.Random) -> bytes:
        name = chance.choice(("vidu", "vidu", "udio"))
        blocks = self._texts[name].split("\n\n")
        chosen = chance.sample(blocks, min(len(blocks), chance.choice((1, 2, 3, 8))))
        lines = "\n\n".join(chosen).split("\n")
        for _ in range(chance.choice((0, 1, 1, 2))):
            at = chance.randrange(len(lines))
            lines[at] = _spoilt_line(chance, lines[at])
        data = "\n".join(lines).encode()
        return joined({"name": name}, damaged(chance, data) if chance.random() < 0.3 else data)

    def run(self, case: bytes) -> None:
        facts, raw = parted(case)
        make: Any = UdioPro if facts.get("name") == "udio" else Vidu
        self._path.write_bytes(raw)
        try:
            provider = make(prices=self._path)
        except SettingError as error:
            if len(str(error)) > 1500 or not str(error).startswith("prices"):
                raise Broken(f"refused as {str(error)[:300]}") from error
            return
        for path in _PATHS:
            for model in _MODELS[:5]:
                body = {
                    "model": model,
                    "duration": 5,
                    "resolution": "720p",
                    "text": "a",
                    "images": ["a"],
                    "prompt": "b",
                }
                try:
                    _check(provider.quote(Route(RouteKind.SUBMIT, path), body))
                except UnknownPrice:
                    continue

    def close(self) -> None:
        self._folder.cleanup()


def _spoilt_line(chance: random.Random, line: str) -> str:
    name, equals, _ = line.partition("=")
    match chance.randrange(4):
        case 0 if equals:
            return f"{name}= {chance.choice(_VALUES)}"
        case 1 if equals:
            other = chance.choice(("first", "step", "flat", "per_second", "free", "date"))
            return f"{other} ={line[len(name) + 1 :]}"
        case 2:
            return line.replace(chance.choice("0123456789 ="), chance.choice(NUMBERS), 1)
        case _:
            return f"{line}\n{line}"
