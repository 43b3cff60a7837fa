from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from snakemap.errors import SettingsError
from snakemap.settings import Settings, load


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine that runs the tests, and a home of our own."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SNAKEMAP_{name.upper()}", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Settings read from an environment: ``environment(GRID="7x9")``."""

    def read(**variables: str) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(f"SNAKEMAP_{name}", value)
        return load()

    return read


def test_nothing_has_to_be_set(tmp_path: Path) -> None:
    settings = load()
    assert settings.stomp_destination == "/topic/public.worker.event"
    assert (settings.redis_url, settings.stomp_url, settings.blueapi_url) == ("", "", "")
    assert (settings.grid, settings.rois, settings.path_map, settings.origins) == (None, None, (), ())
    assert (settings.snake, settings.read_only, settings.file_locking) == (True, False, False)
    assert settings.state_dir == tmp_path / "state" / "snakemap"
    assert settings.root == (tmp_path / "state" / "snakemap" / "data").resolve()


def test_state_is_kept_below_the_home_directory_where_xdg_says_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load().state_dir == tmp_path / ".local" / "state" / "snakemap"


def test_every_setting_is_described_for_the_reader_of_the_documentation() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.rstrip().endswith((".", "`")), name


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("documents_max", "2,000,000."),
        ("api_requests_per_minute", "1200."),
        ("keep_days", "7."),
        ("baton", "true."),
        ("host", "`127.0.0.1`."),
        ("data_root", "`data` in the state directory."),
        ("origins", ""),
    ],
)
def test_the_meaning_of_a_setting_ends_with_its_default(name: str, default: str) -> None:
    assert Settings.meaning(name).partition(" Default: ")[2] == default


def test_a_variable_that_is_set_to_nothing_counts_as_not_set(environment: Callable[..., Settings]) -> None:
    empty = environment(**{name.upper(): "" for name in Settings.model_fields})
    assert empty == load()
    assert empty.root.name == "data"


def test_a_command_line_overrides_the_environment_where_it_says_something(
    environment: Callable[..., Settings],
) -> None:
    environment(PORT="7000", API_PORT="7001")
    settings = load(port=8000, api_port=None)
    assert (settings.port, settings.api_port) == (8000, 7001)


def test_settings_do_not_change_after_they_were_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load().port = 1


@pytest.mark.parametrize(
    ("text", "grid"),
    [
        ("7x9", (7, 9, True)),
        ("7x9:snake", (7, 9, True)),
        ("7x9:raster", (7, 9, False)),
        (" 7 X 9 : raster ", (7, 9, False)),
        ("007x9", (7, 9, True)),
        ("1x1", (1, 1, True)),
    ],
)
def test_a_grid_is_slow_by_fast_and_snaked_unless_it_says_raster(
    environment: Callable[..., Settings], text: str, grid: tuple[int, int, bool]
) -> None:
    assert environment(GRID=text).grid == grid


@pytest.mark.parametrize(
    "text", ["7", "7x", "x9", "7x9x2", "0x9", "7x0", "00x5", "-7x9", "7.5x9", "7x9:spiral", "7*9", "seven"]
)
def test_a_grid_that_is_none_is_refused_with_an_example(environment: Callable[..., Settings], text: str) -> None:
    with pytest.raises(SettingsError, match=r"SNAKEMAP_GRID: .* is not a shape like 7x9"):
        environment(GRID=text)


def test_a_blank_grid_is_none() -> None:
    assert load(grid="   ").grid is None
    assert load(grid=(3, 4, False)).grid == (3, 4, False)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("/dls=/data", (("/dls", "/data"),)),
        ("/dls/b01-1/=/data/,/other=/x", (("/dls/b01-1", "/data"), ("/other", "/x"))),
        (" /a=/b , , /c=/d ,", (("/a", "/b"), ("/c", "/d"))),
        ("/=/data", (("/", "/data"),)),
        ("/a=/", (("/a", "/"),)),
        ("/a=/b=c", (("/a", "/b=c"),)),
        (",", ()),
    ],
)
def test_a_path_map_is_pairs_of_absolute_prefixes(
    environment: Callable[..., Settings], text: str, pairs: tuple[tuple[str, str], ...]
) -> None:
    assert environment(PATH_MAP=text).path_map == pairs


@pytest.mark.parametrize("text", ["/a", "/a=b", "a=/b", "=", "/a=", "C:\\data=/data", "/a=/b,/c"])
def test_a_path_map_that_is_none_is_refused_with_its_part(environment: Callable[..., Settings], text: str) -> None:
    with pytest.raises(SettingsError, match=r"SNAKEMAP_PATH_MAP: .* is not /writer/prefix=/local/prefix"):
        environment(PATH_MAP=text)


def test_rois_are_rectangles_in_json(environment: Callable[..., Settings]) -> None:
    settings = environment(ROIS='{"red": [610, 760, 95, 245], "spot": [0, 1, 0, 1]}')
    assert settings.rois == {"red": (610, 760, 95, 245), "spot": (0, 1, 0, 1)}


@pytest.mark.parametrize(
    "text",
    [
        "red",
        "[1, 2, 3, 4]",
        "5",
        "{",
        '{"red": 5}',
        '{"red": [1, 2, 3]}',
        '{"red": [1, 2, 3, 4, 5]}',
        '{"red": [0, 0, 0, 1]}',
        '{"red": [5, 1, 0, 1]}',
        '{"red": [-1, 1, 0, 1]}',
        '{"red": [0, 1.5, 0, 1]}',
        '{"red": ["a", 1, 0, 1]}',
        '{"total": [0, 1, 0, 1]}',
    ],
)
def test_rois_that_are_no_rectangles_are_refused(environment: Callable[..., Settings], text: str) -> None:
    with pytest.raises(SettingsError, match=r"^SNAKEMAP_ROIS: "):
        environment(ROIS=text)


def test_origins_are_names_of_hosts(environment: Callable[..., Settings]) -> None:
    assert environment(ORIGINS="dashboard.b01-1:5006, b01-1 ,,").origins == ("dashboard.b01-1:5006", "b01-1")


@pytest.mark.parametrize("text", ["*", "a,*", "*:5006", "*.*", "*.org"])
def test_an_origin_that_would_let_anybody_in_is_refused(environment: Callable[..., Settings], text: str) -> None:
    with pytest.raises(SettingsError, match=r"SNAKEMAP_ORIGINS: .* name the hosts"):
        environment(ORIGINS=text)


@pytest.mark.parametrize(
    "url", ["stomp://host", "stomp://user:secret@host:61613", "tcp://[::1]:61613", "stomp+ssl://user:p%2Fw@host"]
)
def test_a_broker_is_given_as_a_url(environment: Callable[..., Settings], url: str) -> None:
    assert environment(STOMP_URL=url).stomp_url == url


@pytest.mark.parametrize(
    "url",
    [
        "host:61613",
        "http://user:secret@host",
        "stomp://",
        "stomp://user:secret@",
        "stomp://user:secret@[host",
        "stomp://user:secret@host:port",
        "stomp://user:secret@host:99999",
        "stomp://user:secret@host:0",
        "stomp://user:sec/ret@host:61613",
    ],
)
def test_a_broker_that_is_none_is_refused_without_telling_its_password(
    environment: Callable[..., Settings], url: str
) -> None:
    with pytest.raises(SettingsError, match=r"SNAKEMAP_STOMP_URL: .*stomp://user:password@host:61613") as refused:
        environment(STOMP_URL=url)
    assert "sec" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "http"),
        ("API_PORT", "1.5"),
        ("KEEP_DAYS", "0"),
        ("SILENCE_S", "-1"),
        ("FILE_TIMEOUT_S", "soon"),
        ("DOCUMENTS_MAX", "10"),
        ("MAX_SESSIONS", "0"),
        ("READ_ONLY", "perhaps"),
        ("SNAKE", "2"),
    ],
)
def test_a_setting_out_of_bounds_is_refused_by_its_name(
    environment: Callable[..., Settings], name: str, value: str
) -> None:
    with pytest.raises(SettingsError, match=f"^SNAKEMAP_{name}: "):
        environment(**{name: value})


def test_all_that_is_wrong_is_told_at_once(environment: Callable[..., Settings]) -> None:
    with pytest.raises(SettingsError) as refused:
        environment(PORT="x", GRID="y", STOMP_URL="z")
    assert [part.split(":")[0] for part in str(refused.value).split("; ")] == [
        "SNAKEMAP_STOMP_URL",
        "SNAKEMAP_GRID",
        "SNAKEMAP_PORT",
    ]


def test_secrets_are_not_shown(environment: Callable[..., Settings]) -> None:
    settings = environment(STOMP_URL="stomp://user:secret@host", REDIS_URL="redis://:secret@host", SECRET_KEY="secret")
    assert "secret@" not in repr(settings)
    assert "'secret'" not in repr(settings)


def test_the_data_root_is_absolute_with_its_links_resolved(
    environment: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for told in (str(tmp_path / "link"), "link", "~/link", "real/../link"):
        assert environment(DATA_ROOT=told).root == (tmp_path / "real").resolve()


def test_unknown_variables_of_ours_do_not_matter(environment: Callable[..., Any]) -> None:
    assert environment(COLOUR="red") == load()
