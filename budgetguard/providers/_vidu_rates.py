"""What Vidu takes for sound, speech, scaling, dubbing and whole films: part F of its price list.

Where the length of a source decides and the request does not tell it, the documented bounds make a range; where there
are none, the user may state the longest source he sends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from budgetguard.providers._body import Body
from budgetguard.providers._cost import Cost, started

__all__ = ["PLAIN", "PRICED", "Rates"]

PLAIN: Mapping[str, frozenset[str] | None] = {
    "ad-one-click": frozenset({"footage_per_second", "music_per_second"}),
    "audio-clone": frozenset({"per_call"}),
    "audio-tts": frozenset({"per_500_characters"}),
    "digital-human": None,
    "image2dance": frozenset({"per_second"}),
    "img2video-prompt-recommendation": frozenset({"per_5_prompts"}),
    "lip-sync": frozenset({"per_5_seconds"}),
    "one-click/mv": None,
    "template": None,
    "template-story": None,
    "text2audio": None,
    "timing2audio": None,
    "trending-replicate": None,
    "upscale": None,
    "upscale-new": None,
}
"""The names each endpoint's table may hold; ``None`` where they are models, resolutions, templates or stories."""

_AD_SECONDS = (8, 60)  # https://platform.vidu.cn/docs/one-click-ad-film; another copy of it says 10.
_DANCE_SECONDS = (2, 30)
_MUSIC_VIDEO_SECONDS = (10, 180)
_REPLICATE_SECONDS = (5, 180)
_PROMPTS = (1, 10)
# Nobody speaks faster. Vidu writes an ad's narration itself, so its length is not in the request.
_CHARACTERS_PER_SECOND_MAX = 25


@dataclass(frozen=True, slots=True)
class Rates:
    """The plain tables of the price list, and the longest source the user sends, in seconds."""

    tables: Mapping[str, Mapping[str, int]]
    source_seconds_max: int | None

    def at(self, body: Body, path: str, name: str) -> int:
        """Look up one amount; a user's own list may lack it."""
        amount = self.tables.get(path, {}).get(name)
        if amount is None:
            body.unknown(f"the price list has no {path}.{name[:40]}")
        return amount

    def speech(self, body: Body, characters: int) -> int:
        """Price a text that is spoken. What counts as a character is not said; ours are Unicode's."""
        return self.at(body, "audio-tts", "per_500_characters") * started(characters, 500) if characters else 0

    def lips(self, body: Body, seconds: int) -> int:
        """Price moving lips for so long."""
        return self.at(body, "lip-sync", "per_5_seconds") * started(seconds, 5)

    def longest(self, body: Body) -> int:
        """Tell the longest source, where the user did."""
        if self.source_seconds_max is None:
            body.unknown(
                "it depends on the length of the source, which the request does not tell; "
                "source_seconds_max=... states the longest you send"
            )
        return self.source_seconds_max

    def within(self, documented: tuple[int, int]) -> tuple[int, int]:
        """Narrow documented bounds by what the user sends."""
        least, most = documented
        return least, most if self.source_seconds_max is None else max(least, min(most, self.source_seconds_max))


def _sound(rates: Rates, path: str, body: Body) -> Cost:
    table = rates.tables[path]
    model = body.word("model", "audio1.0")
    if model in table:
        return Cost.exact(f"F {path} {model}", table[model])
    if model != "audio1.0":
        body.unknown(f"model {model[:40]!r} is not in the price list")
    seconds = _seconds(body.fields.get("duration"), default=10.0)
    if seconds is None or not 2 <= seconds <= 10:
        body.unknown("duration is not a number of seconds from 2 to 10")
    short, long = rates.at(body, path, "under_5_seconds"), rates.at(body, path, "from_5_seconds")
    # Exactly 5 s falls between the list's "under 5" and "up to 10".
    return Cost(f"F {path} {seconds:g} s", short if seconds < 5 else long, short if seconds <= 5 else long)


def _seconds(value: Any, *, default: float) -> float | None:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def _tts(rates: Rates, path: str, body: Body) -> Cost:
    characters = len(body.word("text"))
    return Cost.exact(f"F {path} {characters} characters", rates.speech(body, characters))


def _clone(rates: Rates, path: str, body: Body) -> Cost:
    characters = len(body.word("text"))
    credits = rates.at(body, path, "per_call") + rates.speech(body, characters)
    return Cost.exact(f"F {path} and {characters} characters of speech", credits)


def _upscale(rates: Rates, path: str, body: Body) -> Cost:
    resolution = body.choice("upscale_resolution", rates.tables[path], "1080p") or "1080p"
    rate, seconds = rates.at(body, path, resolution), rates.longest(body)
    return Cost(f"F {path} {resolution} up to {seconds} s", rate * seconds, rate)


def _lip_sync(rates: Rates, path: str, body: Body) -> Cost:
    seconds = rates.longest(body)
    # A driving text is spoken first; whether that is charged as speech too is not said.
    most = rates.lips(body, seconds) + rates.speech(body, body.letters("text"))
    return Cost(f"F {path} up to {seconds} s", most, rates.lips(body, 1))


def _digital_human(rates: Rates, path: str, body: Body) -> Cost:
    model = body.word("model")
    seconds = rates.longest(body)
    base = rates.at(body, path, model) + rates.speech(body, body.letters("text"))
    row = f"F {path} {model} up to {seconds} s"
    return Cost(row, base + rates.lips(body, seconds), base + rates.lips(body, 1))


def _dance(rates: Rates, path: str, body: Body) -> Cost:
    rate, (least, most) = rates.at(body, path, "per_second"), rates.within(_DANCE_SECONDS)
    return Cost(f"F {path} {least} to {most} s", rate * most, rate * least)


def _prompts(rates: Rates, path: str, body: Body) -> Cost:
    # So many prompts for each type asked for: https://platform.vidu.com/docs/prompt-rec.
    types = body.fields.get("type")
    kinds = max(1, len(types)) if isinstance(types, list) else 1
    prompts = body.number("count", 5, *_PROMPTS) * kinds
    return Cost.exact(f"F {path} {prompts} prompts", rates.at(body, path, "per_5_prompts") * started(prompts, 5))


def _ad(rates: Rates, path: str, body: Body) -> Cost:
    seconds = body.number("duration", 15, *_AD_SECONDS)
    footage = rates.at(body, path, "footage_per_second") * seconds
    # Music and narration have prices of their own; whether the first call contains them is not said.
    music = rates.at(body, path, "music_per_second") * seconds
    narration = rates.speech(body, _CHARACTERS_PER_SECOND_MAX * seconds)
    return Cost(f"F {path} {seconds} s", footage + music + narration, footage)


def _ad_edit(rates: Rates, path: str, body: Body) -> Cost:
    kind = body.choice("type", ("generate_video", "generate_narration", "generate_bgm"))
    if kind is None:
        body.unknown("type is missing")
    if kind == "generate_narration":
        return Cost.exact(f"F {path} {kind}", rates.speech(body, len(body.word("prompt"))))
    # One shot, or the music of the whole: as long as an ad at most.
    rate = rates.at(body, "ad-one-click", "footage_per_second" if kind == "generate_video" else "music_per_second")
    return Cost(f"F {path} {kind} up to {_AD_SECONDS[1]} s", rate * _AD_SECONDS[1], rate)


def _music_video(rates: Rates, path: str, body: Body) -> Cost:
    table = {name: rate for name, rate in rates.tables[path].items() if name != "lip_sync_per_second"}
    extra = rates.at(body, path, "lip_sync_per_second") if body.flag("lip_sync") else 0
    # No page tells which resolution it is by default.
    given = body.choice("resolution", table)
    fitting = [rate + extra for name, rate in table.items() if given in (None, name)]
    least, most = rates.within(_MUSIC_VIDEO_SECONDS)
    return Cost(f"F {path} {given or 'any resolution'} {least} to {most} s", max(fitting) * most, min(fitting) * least)


def _replicate(rates: Rates, path: str, body: Body) -> Cost:
    resolution = body.choice("resolution", rates.tables[path], "1080p") or "1080p"
    rate, (least, most) = rates.at(body, path, resolution), rates.within(_REPLICATE_SECONDS)
    return Cost(f"F {path} {resolution} {least} to {most} s", rate * most, rate * least)


def _by(name: str) -> Callable[[Rates, str, Body], Cost]:
    def price(rates: Rates, path: str, body: Body) -> Cost:
        key = body.word(name)
        return Cost.exact(f"{path} {key}", rates.at(body, path, key))

    return price


PRICED: Mapping[str, Callable[[Rates, str, Body], Cost]] = {
    "ad-one-click": _ad,
    "ad-one-click/edit": _ad_edit,
    "audio-clone": _clone,
    "audio-tts": _tts,
    "digital-human": _digital_human,
    "image2dance": _dance,
    "img2video-prompt-recommendation": _prompts,
    "lip-sync": _lip_sync,
    "one-click/mv": _music_video,
    "template": _by("template"),
    "template-story": _by("story"),
    "text2audio": _sound,
    "timing2audio": _sound,
    "trending-replicate": _replicate,
    "upscale": _by("model"),
    "upscale-new": _upscale,
}
"""How each of these endpoints is priced."""
