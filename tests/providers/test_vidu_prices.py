from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetguard.errors import SettingError, UnknownPrice
from budgetguard.model import Quote, Route, RouteKind
from budgetguard.providers import Vidu
from tests.providers.test_fields import JSON

SHIPPED = tomllib.loads(resources.files("budgetguard.providers").joinpath("vidu_prices.toml").read_text("utf-8"))


def quote(path: str, *, vidu: Any = None, **body: Any) -> Quote:
    provider: Vidu = vidu or Vidu()
    return provider.quote(Route(RouteKind.SUBMIT, path), body)


def span(path: str, *, vidu: Any = None, **body: Any) -> tuple[int, int]:
    quoted = quote(path, vidu=vidu, **body)
    return (quoted.credits if quoted.credits_min is None else quoted.credits_min), quoted.credits


def why(path: str, *, vidu: Any = None, **body: Any) -> str:
    with pytest.raises(UnknownPrice) as raised:
        quote(path, vidu=vidu, **body)
    return raised.value.why


Q3 = {
    "text2video img2video start-end2video": {
        "viduq3-pro": {"540p": (9, 5), "720p": (20, 10), "1080p": (24, 12)},
        "viduq3-turbo": {"540p": (7, 4), "720p": (11, 6), "1080p": (13, 7)},
    },
    "img2video": {"viduq3-pro-fast": {"720p": (20, 10), "1080p": (25, 13)}},
    "reference2video": {
        "viduq3": {"540p": (7, 4), "720p": (12, 6), "1080p": (15, 7)},
        "viduq3-turbo": {"540p": (4, 2), "720p": (10, 5), "1080p": (13, 7)},
    },
}


@pytest.mark.parametrize(
    ("path", "model", "resolution", "rate", "off_peak"),
    [
        (path, model, resolution, *rates)
        for paths, models in Q3.items()
        for path in paths.split()
        for model, cells in models.items()
        for resolution, rates in cells.items()
    ],
)
def test_q3_costs_so_much_a_second(path: str, model: str, resolution: str, rate: int, off_peak: int) -> None:
    for seconds in (3, 5, 16):
        body = {"model": model, "resolution": resolution, "duration": seconds}
        assert span(path, **body) == (rate * seconds,) * 2
        assert span(path, **body, off_peak=True) == (off_peak * seconds,) * 2


@pytest.mark.parametrize(("resolution", "rate"), [("720p", 24), ("1080p", 29)])
def test_q3_mix_costs_so_much_a_second_and_has_no_off_peak(resolution: str, rate: int) -> None:
    assert span("reference2video", model="viduq3-mix", resolution=resolution, duration=16) == (rate * 16,) * 2
    assert "off-peak" in why("reference2video", model="viduq3-mix", resolution=resolution, off_peak=True)


Q2 = {
    ("text2video", "viduq2"): {"540p": ([10], 2), "720p": ([15], 5), "1080p": ([20], 10)},
    ("reference2video", "viduq2"): {"540p": ([15], 5), "720p": ([25], 5), "1080p": ([75], 10)},
    ("reference2video", "viduq2-pro"): {"540p": ([20], 5), "720p": ([30], 5), "1080p": ([85], 10)},
    ("img2video start-end2video", "viduq2-turbo"): {"540p": ([6], 2), "720p": ([8, 10], 10), "1080p": ([35], 10)},
    ("img2video start-end2video", "viduq2-pro"): {"540p": ([8, 10], 5), "720p": ([15], 10), "1080p": ([55], 15)},
    ("img2video start-end2video", "viduq2-pro-fast"): {"720p": ([8], 2), "1080p": ([16], 4)},
    ("extend", "viduq2-turbo"): {"540p": ([10], 2), "720p": ([15], 5), "1080p": ([40], 10)},
    ("extend", "viduq2-pro"): {"540p": ([15], 5), "720p": ([30], 10), "1080p": ([60], 15)},
}


@pytest.mark.parametrize(
    ("path", "model", "resolution", "first", "step"),
    [
        (path, model, resolution, *cell)
        for (paths, model), cells in Q2.items()
        for path in paths.split()
        for resolution, cell in cells.items()
    ],
)
def test_q2_costs_a_first_second_and_then_steps(
    path: str, model: str, resolution: str, first: list[int], step: int
) -> None:
    total = 0
    for seconds in range(1, 8):
        total = first[seconds - 1] if seconds <= len(first) else total + step
        body = {"model": model, "resolution": resolution, "duration": seconds}
        assert span(path, **body) == (total, total)
        assert span(path, **body, off_peak=True) == (-(-total // 2),) * 2


@pytest.mark.parametrize(
    ("path", "body", "credits"),
    [
        ("text2video", {"model": "viduq2", "duration": 5, "resolution": "720p"}, 35),
        ("text2video", {"model": "viduq2", "duration": 10, "resolution": "1080p"}, 110),
        ("reference2video", {"model": "viduq2", "duration": 5, "resolution": "720p"}, 45),
        ("img2video", {"model": "viduq2-pro", "duration": 5, "resolution": "720p"}, 55),
        ("reference2video", {"model": "viduq2-pro", "duration": 5, "resolution": "720p"}, 50),
        ("img2video", {"model": "viduq2-pro-fast", "duration": 5, "resolution": "720p"}, 16),
        # The two cells off the rule: 8, then 10 in all, then a step for each second.
        ("img2video", {"model": "viduq2-turbo", "duration": 1, "resolution": "720p"}, 8),
        ("img2video", {"model": "viduq2-turbo", "duration": 2, "resolution": "720p"}, 10),
        ("img2video", {"model": "viduq2-turbo", "duration": 5, "resolution": "720p"}, 40),
        ("img2video", {"model": "viduq2-turbo", "duration": 10, "resolution": "720p"}, 90),
        ("img2video", {"model": "viduq2-pro", "duration": 5, "resolution": "540p"}, 25),
        ("img2video", {"model": "viduq2-pro", "duration": 10, "resolution": "540p"}, 50),
        ("reference2video", {"model": "viduq3-mix", "duration": 16, "resolution": "1080p"}, 464),
        ("text2video", {"model": "viduq1"}, 80),
        ("img2video", {"model": "viduq1-classic"}, 80),
        ("img2video", {"model": "vidu2.0"}, 20),
        ("start-end2video", {"model": "vidu2.0", "resolution": "1080p"}, 100),
        ("img2video", {"model": "vidu2.0", "duration": 8}, 100),
        ("reference2video", {"model": "vidu2.0"}, 80),
        ("text2video", {"model": "vidu1.5", "duration": 8, "resolution": "720p"}, 200),
        ("text2video", {"model": "vidu1.0", "duration": 8, "resolution": "360p"}, 80),
        ("text2video", {"model": "vidu1.0", "duration": 8, "resolution": "360p", "style": "anime"}, 160),
        ("text2video", {"model": "viduq1", "style": "anime"}, 80),
    ],
)
def test_known_prices_hold(path: str, body: dict[str, Any], credits: int) -> None:
    assert span(path, **body) == (credits, credits)


@pytest.mark.parametrize(
    ("path", "model", "credits"),
    [
        ("text2video", "viduq3-pro", 100),
        ("text2video", "viduq2", 35),
        ("img2video", "viduq3-pro-fast", 100),
        ("start-end2video", "viduq2-turbo", 40),
        ("reference2video", "viduq3-turbo", 50),
        ("reference2video", "viduq1", 80),
        ("extend", "viduq2-pro", 70),
    ],
)
def test_missing_or_null_fields_take_the_documented_defaults(path: str, model: str, credits: int) -> None:
    assert span(path, model=model) == (credits, credits)
    assert span(path, model=model, duration=None, resolution=None, off_peak=None, audio=None) == (credits, credits)


def test_numbers_and_switches_may_be_quoted_and_words_come_in_any_case() -> None:
    body = {"model": "viduq3-turbo", "duration": "8", "resolution": "1080P", "off_peak": "True"}
    assert span("text2video", **body) == (56, 56)
    assert span("reference2image", model="viduq2", resolution="4k") == (10, 10)


def test_the_irregular_off_peak_cells_are_taken_from_the_table_not_halved() -> None:
    assert span("reference2video", model="viduq3", resolution="1080p", duration=3, off_peak=True) == (21, 21)
    assert span("text2video", model="viduq3-turbo", resolution="1080p", duration=3, off_peak=True) == (21, 21)


def test_off_peak_work_is_believed_to_run_for_48_hours_and_other_work_for_the_usual_time() -> None:
    assert quote("text2video", model="viduq2", off_peak=True).task_lease == 48 * 3600
    assert quote("text2video", model="viduq2").task_lease is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"model": "viduq3-pro", "is_rec": True}, (110, 110)),
        ({"model": "viduq3-pro", "audio": True}, (100, 100)),
        ({"model": "viduq2-pro", "audio": True}, (70, 70)),
        ({"model": "viduq2-pro", "is_rec": True, "audio": True}, (80, 80)),
        ({"model": "viduq2-pro", "bgm": True}, (55, 70)),
        ({"model": "viduq2-pro", "is_rec": True, "bgm": True}, (65, 80)),
        ({"model": "viduq2-pro", "is_rec": False, "audio": False, "bgm": False}, (55, 55)),
        # Whether half of a surcharge is meant too is not said.
        ({"model": "viduq2-pro", "is_rec": True, "off_peak": True}, (33, 38)),
        ({"model": "viduq3-pro", "is_rec": True, "off_peak": True}, (55, 60)),
    ],
)
def test_surcharges_are_added_and_doubtful_ones_only_held(body: dict[str, Any], expected: tuple[int, int]) -> None:
    assert span("img2video", **body) == expected


def test_a_surcharge_the_page_does_not_name_for_the_endpoint_is_only_held() -> None:
    assert span("reference2video", model="viduq3-mix", duration=16, resolution="1080p", is_rec=True) == (464, 474)
    assert span("start-end2video", model="viduq2-pro", audio=True) == (55, 70)


def test_an_automatic_length_is_held_as_ten_seconds() -> None:
    assert span("reference2video", model="viduq2-pro", duration=0) == (30, 75)
    assert span("reference2video", model="viduq2-pro", duration="0", resolution="1080p") == (85, 175)
    assert "duration" in why("reference2video", model="viduq2", duration=0)


def test_multiframe_holds_a_first_second_for_every_segment_and_tells_the_least() -> None:
    segments = [{"key_image": "x", "duration": 7} for _ in range(9)]
    body = {"model": "viduq2-pro", "resolution": "1080p", "image_settings": segments}
    assert span("multiframe", **body) == (60 + 15 * 62, 1350)
    assert span("multiframe", model="viduq2-turbo", image_settings=[{}, {"duration": "2"}]) == (15 + 5 * 6, 35 + 20)
    assert "1 segments" in why("multiframe", model="viduq2-pro", image_settings=[{}])
    assert "10 segments" in why("multiframe", model="viduq2-pro", image_settings=[{}] * 10)
    assert "duration" in why("multiframe", model="viduq2-pro", image_settings=[{}, {"duration": 8}])
    assert "object" in why("multiframe", model="viduq2-pro", image_settings=[{}, "x"])
    assert "list" in why("multiframe", model="viduq2-pro", image_settings={})


@pytest.mark.parametrize(
    ("model", "inputs", "resolution", "credits"),
    [("viduq2", inputs, "1080p", credits) for inputs, credits in ((0, 6), (1, 8), (3, 8), (4, 10), (7, 10))]
    + [("viduq2", inputs, "2K", credits) for inputs, credits in ((0, 8), (1, 12), (3, 12), (4, 16), (7, 16))]
    + [("viduq2", inputs, "4K", credits) for inputs, credits in ((0, 10), (1, 20), (3, 20), (4, 30), (7, 30))]
    + [("viduq2", 0, None, 6), ("viduq1", 1, None, 20), ("viduq1", 7, "1080p", 20)],
)
def test_images_cost_by_the_number_of_inputs(model: str, inputs: int, resolution: str | None, credits: int) -> None:
    body = {"model": model, "images": ["x"] * inputs, "resolution": resolution}
    assert span("reference2image", **body) == (credits, credits)


def test_images_with_too_many_inputs_or_none_where_one_is_needed_have_no_price() -> None:
    assert "8" in why("reference2image", model="viduq2", images=["x"] * 8)
    assert "0" in why("reference2image", model="viduq1")
    assert "list" in why("reference2image", model="viduq2", images="x")
    assert "4K" in why("reference2image", model="viduq1", images=["x"], resolution="4K")


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("text2audio", {"model": "audio1.0"}, (20, 20)),
        ("text2audio", {"model": "audio1.0", "duration": 4}, (10, 10)),
        ("text2audio", {"model": "audio1.0", "duration": 2}, (10, 10)),
        ("text2audio", {"model": "audio1.0", "duration": 4.5}, (10, 10)),
        ("text2audio", {"model": "audio1.0", "duration": "5"}, (10, 20)),
        ("timing2audio", {"model": "audio1.0", "duration": 10}, (20, 20)),
        ("audio-tts", {"text": "x"}, (10, 10)),
        ("audio-tts", {"text": "x" * 500}, (10, 10)),
        ("audio-tts", {"text": "x" * 501}, (20, 20)),
        ("audio-clone", {"text": "x" * 20}, (310, 310)),
        ("image2dance", {"video_url": "x"}, (20, 300)),
        ("img2video-prompt-recommendation", {"images": ["x"]}, (10, 10)),
        ("img2video-prompt-recommendation", {"count": 6}, (20, 20)),
        ("img2video-prompt-recommendation", {"count": 5, "type": ["img2video", "template"]}, (20, 20)),
        ("ad-one-click", {"images": ["x"], "duration": 60}, (2400, 2400 + 120 + 30)),
        ("ad-one-click", {"images": ["x"]}, (600, 600 + 30 + 10)),
        ("ad-one-click/edit", {"type": "generate_narration", "prompt": "x" * 501}, (20, 20)),
        ("ad-one-click/edit", {"type": "generate_bgm", "prompt": "x"}, (2, 120)),
        ("ad-one-click/edit", {"type": "generate_video", "prompt": "x"}, (40, 2400)),
        ("ad-one-click/compose", {}, (1, 1)),
        ("ad-one-click/812/compose", {}, (1, 1)),
        ("one-click/mv/812/compose", {}, (1, 1)),
        ("one-click/mv", {"resolution": "1080p", "lip_sync": True}, (140, 2520)),
        ("one-click/mv", {"resolution": "540p"}, (60, 1080)),
        ("one-click/mv", {}, (60, 1800)),
        ("trending-replicate", {}, (100, 3600)),
        ("trending-replicate", {"resolution": "540p"}, (60, 2160)),
    ],
)
def test_sound_and_films_have_their_prices(path: str, body: dict[str, Any], expected: tuple[int, int]) -> None:
    assert span(path, **body) == expected


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("upscale-new", {}, (10, 200)),
        ("upscale-new", {"upscale_resolution": "8K"}, (160, 3200)),
        ("lip-sync", {"video_url": "x", "audio_url": "x"}, (20, 80)),
        ("lip-sync", {"video_url": "x", "text": "x" * 501}, (20, 100)),
        ("digital-human", {"model": "viduq2-turbo", "audio_url": "x"}, (140, 200)),
        ("digital-human", {"model": "viduq2-pro", "text": "x" * 10}, (230, 290)),
        ("image2dance", {}, (20, 200)),
        ("trending-replicate", {}, (100, 400)),
    ],
)
def test_work_on_files_is_priced_by_the_longest_the_user_sends(
    path: str, body: dict[str, Any], expected: tuple[int, int]
) -> None:
    assert span(path, vidu=Vidu(source_seconds_max=20), **body) == expected


@pytest.mark.parametrize("path", ["upscale-new", "lip-sync", "digital-human"])
def test_work_on_files_of_unknown_length_has_no_price(path: str) -> None:
    assert "length of the source" in why(path, model="viduq2-pro", video_url="https://example.com/x.mp4")


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("text2video", {}, "model"),
        ("text2video", {"model": 5}, "model"),
        ("text2video", {"model": "vidu-q4"}, "no row for this model"),
        ("text2video", {"model": "viduq2-pro"}, "no row for this model"),
        ("reference2video", {"model": "viduq3-pro"}, "no row for this model"),
        ("text2video", {"model": "viduq2", "duration": 11}, "from 1 to 10"),
        ("start-end2video", {"model": "viduq2-pro", "duration": 9}, "from 1 to 8"),
        ("reference2video", {"model": "viduq3", "duration": 2}, "from 3 to 16"),
        ("text2video", {"model": "viduq2", "duration": 0}, "duration"),
        ("text2video", {"model": "viduq2", "duration": -5}, "duration"),
        ("text2video", {"model": "viduq2", "duration": 2.5}, "duration"),
        ("text2video", {"model": "viduq2", "duration": True}, "duration"),
        ("text2video", {"model": "viduq2", "duration": "long"}, "duration"),
        ("img2video", {"model": "vidu2.0", "duration": 6}, "6 s"),
        ("text2video", {"model": "vidu1.5"}, "no known default"),
        ("text2video", {"model": "viduq2", "resolution": "8K"}, "8K"),
        ("text2video", {"model": "viduq2", "resolution": 720}, "resolution"),
        ("img2video", {"model": "viduq2-pro-fast", "resolution": "540p"}, "540p"),
        ("img2video", {"model": "vidu2.0", "duration": 8, "resolution": "1080p"}, "1080p"),
        ("text2video", {"model": "viduq2", "off_peak": 1}, "off_peak"),
        ("text2video", {"model": "viduq2", "off_peak": "maybe"}, "off_peak"),
        ("img2video", {"model": "viduq2-pro", "audio": "yes"}, "audio"),
        ("img2video", {"model": "viduq2-pro", "audio": True, "off_peak": True}, "audio is false"),
        ("text2video", {"model": "vidu1.5", "duration": 4, "resolution": "360p", "off_peak": True}, "off-peak"),
        ("text2audio", {"model": "audio2.0"}, "audio2.0"),
        ("text2audio", {"model": "audio1.0", "duration": 11}, "2 to 10"),
        ("text2audio", {"model": "audio1.0", "duration": 1.9}, "2 to 10"),
        ("text2audio", {"model": "audio1.0", "duration": [5]}, "2 to 10"),
        ("text2audio", {"model": "audio1.0", "duration": "nan"}, "2 to 10"),
        ("audio-tts", {}, "text"),
        ("audio-clone", {"voice_id": "x"}, "text"),
        ("img2video-prompt-recommendation", {"count": 11}, "count"),
        ("ad-one-click", {"duration": 61}, "duration"),
        ("ad-one-click/edit", {"prompt": "x"}, "type"),
        ("ad-one-click/812", {}, "no row for this endpoint"),
        ("one-click/mv/edit", {}, "no row for this endpoint"),
        ("trending-replicate", {"resolution": "4K"}, "4K"),
        ("template", {"template": "hugging"}, "template.hugging"),
        ("template-story", {"story": "love_story"}, "love_story"),
        ("upscale", {"model": "vidu1.0"}, "vidu1.0"),
        ("template", {}, "template is missing"),
        ("replace", {"video_url": "x"}, "no row for this endpoint"),
        ("date", {}, "no row for this endpoint"),
        ("surcharges", {}, "no row for this endpoint"),
    ],
)
def test_what_the_list_does_not_cover_has_no_price_and_says_why(path: str, body: dict[str, Any], told: str) -> None:
    assert told in why(path, **body)


@pytest.mark.parametrize("body", [None, [], "text", 5, True])
def test_a_body_that_is_no_object_has_no_price(body: Any) -> None:
    with pytest.raises(UnknownPrice, match="not a JSON object"):
        Vidu().quote(Route(RouteKind.SUBMIT, "text2video"), body)


def test_the_refusal_names_endpoint_and_model_but_not_all_of_a_long_one() -> None:
    with pytest.raises(UnknownPrice) as raised:
        quote("text2video", model="m" * 5000)
    assert raised.value.what == f"vidu text2video {'m' * 40}"


def test_the_quote_names_the_row_and_the_date_of_the_list() -> None:
    quoted = quote("text2video", model="viduq2", off_peak=True, duration=3)
    assert quoted.source.startswith(f"vidu prices {SHIPPED['date']}, B text2video viduq2 720p 3 s off-peak")


def test_one_price_may_be_changed_and_the_rest_stays() -> None:
    changed = Vidu(prices={"text2video": {"viduq2": {"step": {"720p": 6}}}})
    assert span("text2video", vidu=changed, model="viduq2") == (39, 39)
    assert span("text2video", vidu=changed, model="viduq2", resolution="1080p") == (60, 60)
    assert "with changes" in quote("text2video", vidu=changed, model="viduq2").source
    assert span("text2video", model="viduq2") == (35, 35)


def test_a_new_model_a_template_and_a_whole_endpoint_may_be_priced() -> None:
    own = Vidu(
        prices={
            "date": "2027-01-01",
            "text2video": {
                "vidu-q4": {"seconds": [1, 20], "seconds_default": 5, "per_second": {"720p": 30, "1080p": 45}},
                "vidu-q5": 99,
            },
            "template": {"hugging": 40},
            "replace": 25,
            "subjects": 0,
            "sing": {"vidu-x": {"flat": {"5s 720p": 7}, "seconds_default": 5}},
            "reference2image": {"viduq3": 11},
            "text2audio": {"audio2.0": 30},
        }
    )
    assert span("text2video", vidu=own, model="vidu-q4", resolution="1080p") == (225, 225)
    # Without a default resolution the dearest is held.
    assert span("text2video", vidu=own, model="vidu-q4") == (150, 225)
    assert span("text2video", vidu=own, model="vidu-q5", duration="?") == (99, 99)
    assert span("template", vidu=own, template="hugging") == (40, 40)
    assert span("template2video", vidu=own, template="hugging") == (40, 40)
    assert span("replace", vidu=own) == (25, 25)
    assert span("subjects", vidu=own) == (0, 0)
    assert span("sing", vidu=own, model="vidu-x") == (7, 7)
    assert span("reference2image", vidu=own, model="viduq3") == (11, 11)
    assert span("text2audio", vidu=own, model="audio2.0") == (30, 30)
    assert quote("replace", vidu=own).source == "vidu prices 2027-01-01, replace"


def test_another_way_to_charge_takes_the_place_of_the_old_one() -> None:
    own = Vidu(prices={"text2video": {"viduq2": {"per_second": {"720p": 9}}}})
    assert span("text2video", vidu=own, model="viduq2") == (45, 45)
    assert span("text2video", vidu=own, model="viduq2", off_peak=True) == (23, 23)


def test_prices_that_need_a_table_the_user_replaced_say_so() -> None:
    own = Vidu(prices={"audio-tts": 10})
    assert "audio-tts.per_500_characters" in why("audio-clone", vidu=own, text="x")


def test_changes_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[template]\nhugging = 40\n[lip-sync]\nper_5_seconds = 30\n", encoding="utf-8")
    for given_as in (path, str(path)):
        assert span("template", vidu=Vidu(prices=given_as), template="hugging") == (40, 40)


def test_a_file_that_cannot_be_read_is_a_wrong_setting(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("= 5", encoding="utf-8")
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"a = '\xe9'")
    for path in (broken, latin, tmp_path / "missing.toml", tmp_path):
        with pytest.raises(SettingError, match=r"^prices=.*TOML"):
            Vidu(prices=path)


@pytest.mark.parametrize(
    ("prices", "key"),
    [
        (5, "prices"),
        ({5: 1}, "prices"),
        ({"": 1}, "prices"),
        ({"text2video": {5: {}}}, "prices.text2video"),
        ({"text2video": 1.5}, "prices.text2video"),
        ({"text2video": -1}, "prices.text2video"),
        ({"text2video": True}, "prices.text2video"),
        ({"text2video": {"viduq2": "35"}}, "prices.text2video.viduq2"),
        ({"text2video": {"viduq2": {"step": {"720p": 1.5}}}}, "prices.text2video.viduq2.step.720p"),
        ({"text2video": {"viduq2": {"step": {"4K": 5}}}}, "prices.text2video.viduq2.step"),
        ({"text2video": {"viduq2": {"steps": 1}}}, "prices.text2video.viduq2"),
        ({"text2video": {"viduq2": {"first": {"720p": []}}}}, "prices.text2video.viduq2.first.720p"),
        ({"text2video": {"new": {"seconds": [1, 5]}}}, "prices.text2video.new"),
        ({"text2video": {"new": {"per_second": {"720p": 5}}}}, "prices.text2video.new.seconds"),
        ({"text2video": {"new": {"per_second": {"720p": 5}, "seconds": [5, 1]}}}, "prices.text2video.new.seconds"),
        ({"text2video": {"new": {"flat": {"720p": 5}}}}, "prices.text2video.new.flat"),
        ({"text2video": {"viduq2": {"off_peak_half": 1}}}, "prices.text2video.viduq2.off_peak_half"),
        ({"text2video": {"viduq2": {"seconds_default": 0}}}, "prices.text2video.viduq2.seconds_default"),
        ({"text2video": {"viduq2": {"resolution_default": 720}}}, "prices.text2video.viduq2.resolution_default"),
        ({"text2video": {"viduq2": {"adds": "is_rec"}}}, "prices.text2video.viduq2.adds"),
        ({"reference2image": {"viduq2": {"credits": {"1080p": [1]}}}}, "prices.reference2image.viduq2.credits.1080p"),
        ({"reference2image": {"viduq2": {"up_to": [3, 0, 7]}}}, "prices.reference2image.viduq2.up_to"),
        ({"reference2image": {"viduq2": {"row": 1}}}, "prices.reference2image.viduq2"),
        ({"lip-sync": {"per_second": 4}}, "prices.lip-sync"),
        ({"template": {"hugging": None}}, "prices.template.hugging"),
        ({"surcharges": 5}, "prices.surcharges"),
    ],
)
def test_a_wrong_price_is_a_wrong_setting_and_named_by_its_path(prices: Any, key: str) -> None:
    with pytest.raises(SettingError) as raised:
        Vidu(prices=prices)
    assert raised.value.name == key


def test_every_row_of_the_shipped_list_gives_a_price() -> None:
    for path, models in SHIPPED.items():
        for model, row in models.items() if isinstance(models, dict) else ():
            if not isinstance(row, dict) or path == "surcharges":
                continue
            body: dict[str, Any] = {"model": model, "duration": row.get("seconds_default", 4)}
            body |= {"images": ["x"], "image_settings": [{}, {}]}
            quoted = quote(path, **body)
            assert quoted.credits > 0, (path, model)
            assert quoted.slots == 1


def test_longer_videos_never_cost_less() -> None:
    for path in ("text2video", "img2video", "start-end2video", "reference2video", "extend"):
        for model, row in SHIPPED[path].items():
            for resolution in (*row.get("per_second", {}), *row.get("first", {})):
                least, most = row["seconds"]
                totals = [
                    quote(path, model=model, resolution=resolution, duration=seconds).credits
                    for seconds in range(least, most + 1)
                ]
                assert totals == sorted(totals), (path, model, resolution)


ENDPOINTS = [*sorted(SHIPPED), "ad-one-click/edit", "nowhere", ""]
MODELS = [*sorted({model for row in SHIPPED.values() if isinstance(row, dict) for model in row}), "audio1.0"]
FIELDS = """
    duration resolution off_peak audio is_rec bgm images image_settings text type count template story style
    upscale_resolution lip_sync
"""


@given(
    st.sampled_from(ENDPOINTS),
    st.dictionaries(st.sampled_from(FIELDS.split()), JSON),
    st.sampled_from(MODELS) | JSON,
    st.sampled_from([None, 1, 60]),
)
def test_any_body_has_a_price_with_bounds_in_order_or_none(
    path: str, fields: dict[str, Any], model: Any, longest: int | None
) -> None:
    try:
        quoted = quote(path, vidu=Vidu(source_seconds_max=longest), **{**fields, "model": model})
    except UnknownPrice as refusal:
        assert refusal.why  # noqa: PT017
    else:
        assert quoted.credits > 0
        assert quoted.credits_min is None or 0 < quoted.credits_min < quoted.credits
