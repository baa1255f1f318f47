"""What a call to Vidu costs: the price list applied to a request's body.

Nothing is guessed. Where the request leaves a documented range open, the upper end is held and the lower end told;
where it leaves everything open, `UnknownPrice` says what is missing. Missing fields take the defaults of the pages
under https://platform.vidu.com/docs/ (text-to-video, image-to-video, start-end-to-video and so on).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from budgetguard.model import Quote
from budgetguard.providers._body import Body, body_of
from budgetguard.providers._cost import Cost, half
from budgetguard.providers._price_file import Prices, credits_at, credits_by_name, price_list, table_at
from budgetguard.providers._vidu_rates import PLAIN, PRICED, Rates
from budgetguard.providers._vidu_rows import ImageRow, VideoRow, image_row, video_row

__all__ = ["OFF_PEAK_LEASE", "ViduPrices"]

OFF_PEAK_LEASE = 48 * 3600.0
"""Off-peak work is done within 48 hours, or cancelled: https://platform.vidu.com/docs/text-to-video."""

_ABOUT = frozenset({"date", "source"})
_SURCHARGES = "surcharges"
_IMAGES = "reference2image"
_MULTIFRAME = "multiframe"
_SEGMENTS = (2, 9)
_SHOWN_MAX = 40

_Row = TypeVar("_Row", VideoRow, ImageRow)


class ViduPrices:
    """A price list of Vidu. Immutable; safe to share between threads."""

    __slots__ = ("_images", "_rates", "_source", "_surcharges", "_videos", "_whole")

    def __init__(self, changes: Prices = None, *, source_seconds_max: int | None = None) -> None:
        document, date = price_list("vidu_prices.toml", changes)
        self._source = f"vidu prices {date}"
        self._surcharges = credits_by_name(document.get(_SURCHARGES), f"prices.{_SURCHARGES}")
        self._whole: dict[str, int] = {}
        self._images: dict[str, ImageRow | int] = {}
        self._videos: dict[str, dict[str, VideoRow | int]] = {}
        plain: dict[str, dict[str, int]] = {}
        for path, value in document.items():
            where = f"prices.{path}"
            if path in _ABOUT or path == _SURCHARGES:
                continue
            if not isinstance(value, Mapping):
                self._whole[path] = credits_at(value, where)
            elif path in PLAIN:
                plain[path] = credits_by_name(value, where, PLAIN[path])
            elif path == _IMAGES:
                self._images = _models(value, where, image_row)
            else:
                self._videos[path] = _models(value, where, video_row)
        self._rates = Rates(plain, source_seconds_max)

    def quote(self, path: str, document: Any) -> Quote:
        """Price a request to an endpoint.

        Raises:
            UnknownPrice: If no row covers it.
        """
        if path in self._whole:
            return Cost.exact(path, self._whole[path]).quote(self._source)
        body = body_of(f"vidu {path[:_SHOWN_MAX]}", document)
        if path in PRICED:
            return PRICED[path](self._rates, path, body).quote(self._source)
        if path == _IMAGES:
            return self._image(body).quote(self._source)
        if path not in self._videos:
            body.unknown("the price list has no row for this endpoint")
        cost = self._video(path, body)
        # The rows have said already whether off-peak has a price.
        return cost.quote(self._source, task_lease=OFF_PEAK_LEASE if body.flag("off_peak") else None)

    def _video(self, path: str, body: Body) -> Cost:
        model, row, body = _row_of(self._videos[path], body)
        if isinstance(row, int):
            return Cost.exact(f"{path} {model}", row)
        if body.flag("off_peak"):
            if not row.has_off_peak:
                body.unknown("this model has no off-peak price")
            if "audio" not in row.free and body.flag("audio"):
                body.unknown("Vidu takes off_peak with this model only while audio is false")
        cost = _segments(row, body) if path == _MULTIFRAME else _clip(row, body)
        return self._with_surcharges(Cost(f"{row.table} {path} {model} {cost.row}", cost.most, cost.least), row, body)

    def _with_surcharges(self, cost: Cost, row: VideoRow, body: Body) -> Cost:
        named, certain, possible = cost.row, 0, 0
        for name, amount in self._surcharges.items():
            if name in row.free or not body.flag(name):
                continue
            named += f" +{name}"
            possible += amount
            certain += amount if name in row.adds else 0
        if not body.flag("off_peak"):
            return Cost(named, cost.most + possible, cost.least + certain)
        # Whether a surcharge is halved with the rest is not said: held whole.
        if row.off_peak_half:
            named += " off-peak (half of the total, rounded up)"
            return Cost(named, half(cost.most) + possible, half(cost.least + certain))
        return Cost(f"{named} off-peak", cost.most + possible, cost.least + half(certain))

    def _image(self, body: Body) -> Cost:
        model, row, body = _row_of(self._images, body)
        if isinstance(row, int):
            return Cost.exact(f"{_IMAGES} {model}", row)
        inputs = len(body.items("images"))
        if not row.least <= inputs <= row.up_to[-1]:
            body.unknown(f"images holds {inputs}, not {row.least} to {row.up_to[-1]}")
        given = body.choice("resolution", row.credits, row.resolution_default)
        prices = [row.price(inputs, name) for name in row.credits if given in (None, name)]
        if not prices:
            body.unknown(f"resolution {given} is not in the price list")
        label = f"E {_IMAGES} {model} {given or 'any resolution'} from {inputs} images"
        return Cost(label, max(prices), min(prices))


def _clip(row: VideoRow, body: Body) -> Cost:
    auto = row.seconds_auto
    if auto is not None and body.number("duration", row.seconds_default, 0, row.seconds[1]) == 0:
        # The model chooses the length; only the answer tells.
        lengths, shown = [row.seconds[0], auto], f"auto, up to {auto} s"
    else:
        seconds = body.number("duration", row.seconds_default, *row.seconds)
        lengths, shown = [seconds], f"{seconds} s"
    style = body.fields.get("style")
    anime = isinstance(style, str) and style.lower() == "anime"
    off_peak = body.flag("off_peak")
    resolutions = _resolutions(row, lengths[0], body)
    prices = [
        price
        for seconds in lengths
        for resolution in resolutions
        if (price := row.price(seconds, resolution, anime=anime, off_peak=off_peak)) is not None
    ]
    if not prices:
        body.unknown(f"there is no {'off-peak ' if off_peak else ''}price for {shown} at {'/'.join(resolutions)}")
    return Cost(f"{'/'.join(resolutions)} {shown}", max(prices), min(prices))


def _segments(row: VideoRow, body: Body) -> Cost:
    segments = body.items("image_settings")
    if not _SEGMENTS[0] <= len(segments) <= _SEGMENTS[1]:
        body.unknown(f"image_settings has {len(segments)} segments, not {_SEGMENTS[0]} to {_SEGMENTS[1]}")
    lengths = [
        body_of(f"{body.what} segment {place}", segment).number("duration", row.seconds_default, *row.seconds)
        for place, segment in enumerate(segments, 1)
    ]
    off_peak = body.flag("off_peak")
    resolutions = _resolutions(row, lengths[0], body)
    sums: list[int] = []
    for resolution in resolutions:
        each = [row.price(seconds, resolution, off_peak=off_peak) for seconds in lengths]
        known = [price for price in each if price is not None]
        if len(known) == len(each):
            # Charged segment by segment, or as one video as long as all of them: not said.
            once = row.price(sum(lengths), resolution, off_peak=off_peak)
            sums += [sum(known)] if once is None else [sum(known), once]
    if not sums:
        body.unknown(f"there is no price for these segments at {'/'.join(resolutions)}")
    return Cost(f"{'/'.join(resolutions)} {len(lengths)} segments", max(sums), min(sums))


def _models(value: Any, where: str, read: Callable[[Any, str], _Row]) -> dict[str, _Row | int]:
    return {
        model: read(row, f"{where}.{model}") if isinstance(row, Mapping) else credits_at(row, f"{where}.{model}")
        for model, row in table_at(value, where).items()
    }


def _row_of(rows: Mapping[str, _Row | int], body: Body) -> tuple[str, _Row | int, Body]:
    """Find the row of the request's model, and name the model in what is said of the body."""
    model = body.word("model")
    named = body.named(model[:_SHOWN_MAX])
    if model not in rows:
        named.unknown("the price list has no row for this model here")
    return model, rows[model], named


def _resolutions(row: VideoRow, seconds: int, body: Body) -> list[str]:
    """Name the resolution asked for; where none is, the default, or all there are."""
    known = row.resolutions(seconds)
    if not known:
        body.unknown(f"there is no price for {seconds} s")
    given = body.choice("resolution", known)
    if given is None and row.resolution_default in known:
        given = row.resolution_default
    return known if given is None else [given]
