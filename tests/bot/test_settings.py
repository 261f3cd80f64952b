"""Settings: one file plus environment, every problem reported together, each with its cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot import FrontdeskError
from bot.home import home_folder
from bot.settings import Settings, load_settings
from finetune.gate import Limits


def write(folder: Path, text: str) -> str:
    path = folder / "frontdesk.toml"
    path.write_text(text, "utf-8")
    return str(path)


def test_defaults_need_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(environ={}) == Settings()


def test_paths_in_the_file_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, 'home = "state"\nknowledge = ["docs", "/abs"]'), {})
    assert settings.home == tmp_path / "state"
    assert settings.knowledge == (tmp_path / "docs", Path("/abs"))


def test_folders_of_models_in_the_file_are_relative_to_it_too(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    written = write(tmp_path, 'reranker = "judge"\nencoder = "weights"')
    settings = load_settings(written, {})
    assert (settings.reranker, settings.encoder) == (tmp_path / "judge", str(tmp_path / "weights"))
    here = load_settings(written, {"FRONTDESK_RERANKER": "judge", "FRONTDESK_ENCODER": "weights"})
    assert (here.reranker, here.encoder) == (Path("judge"), "weights")
    assert load_settings(write(tmp_path, ""), {}).encoder == Settings().encoder, "an installed package has no folder"


@pytest.mark.parametrize("home", ["", "~/desk", "here"])
def test_whoever_looks_for_the_home_finds_the_same(tmp_path: Path, home: str) -> None:
    """`frontdesk ask` looks without reading the settings."""
    written = write(tmp_path, 'home = "state"')
    found = load_settings(written, {"FRONTDESK_HOME": home}).home
    assert found == Path(home_folder(written, {"FRONTDESK_HOME": home}))
    assert found == (Path(home).expanduser() if home else tmp_path / "state")


@pytest.mark.parametrize(
    ("line", "cure"),
    [
        ('url = "chat.example.com"', "https://chat.example.com"),
        ('url = "ftp://chat.example.com"', "https://chat.example.com"),
        ('url = "https://chat.example.com/?a=1"', "https://chat.example.com"),
        ('url = "https://"', "https://chat.example.com"),
        ('allowed_hosts = ["https://chat.example.com"]', "chat.example.com"),
        ('allowed_hosts = ["chat.example.com:8080"]', "chat.example.com"),
        ('allowed_hosts = ["*.example.com"]', "chat.example.com"),
        ('allowed_hosts = ["商店.example"]', "xn--"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(tmp_path: Path, line: str, cure: str) -> None:
    """It would stand in mails and in the pages of a shop, or match no request at all."""
    with pytest.raises(FrontdeskError) as caught:
        load_settings(write(tmp_path, line), {})
    assert line.partition(" ")[0] in str(caught.value) and cure in str(caught.value)


def test_addresses_that_lead_here_are_taken(tmp_path: Path) -> None:
    path = write(
        tmp_path, 'url = "http://desk:8080/"\nallowed_hosts = ["chat.example.com", "desk", "xn--hdks.example"]'
    )
    settings = load_settings(path, {})
    assert settings.url == "http://desk:8080/" and len(settings.allowed_hosts) == 3
    assert load_settings(path, {"FRONTDESK_URL": ""}).url is None


def test_the_environment_wins_and_its_paths_are_relative_to_here(tmp_path: Path) -> None:
    settings = load_settings(
        write(tmp_path, 'port = 1\nhome = "state"'), {"FRONTDESK_PORT": "9", "FRONTDESK_HOME": "elsewhere"}
    )
    assert (settings.port, settings.home) == (9, Path("elsewhere"))


def test_lists_in_the_environment_are_comma_separated(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, ""), {"FRONTDESK_ALLOWED_HOSTS": "a.example, b.example"})
    assert settings.allowed_hosts == ("a.example", "b.example")


def test_all_problems_are_reported_at_once_with_their_place(tmp_path: Path) -> None:
    path = write(tmp_path, 'max_error_rate = 0.9\nprot = 80\nseed = "x"')
    with pytest.raises(FrontdeskError) as caught:
        load_settings(path, {"FRONTDESK_PORT": "90000"})
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert any("unknown setting 'prot'" in line and "port" in line and path in line for line in lines)
    assert any(line.startswith("FRONTDESK_PORT: port = '90000'") for line in lines)
    assert any("max_error_rate = 0.9" in line for line in lines)


def test_broken_toml_names_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(FrontdeskError, match=r"frontdesk\.toml: not valid TOML: .*line 1"):
        load_settings(write(tmp_path, "port = ="), {})


def test_a_missing_settings_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FrontdeskError, match=r"nowhere\.toml: no such settings file"):
        load_settings(str(tmp_path / "nowhere.toml"), {})


def test_settings_cannot_be_changed_after_reading(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings(write(tmp_path, ""), {}).port = 1  # type: ignore[misc]


def test_the_gates_table_comes_from_file_and_environment(tmp_path: Path) -> None:
    path = write(tmp_path, "[gate]\nrows = 50\nrecall_drop = 0.1")
    gate = load_settings(path, {"FRONTDESK_GATE_ROWS": "30", "FRONTDESK_GATE": "ignored"}).gate
    assert (gate.rows, gate.recall_drop, gate.calibration_drop) == (30, 0.1, 0.01)


def test_the_gates_defaults_are_those_of_training() -> None:
    """finetune cannot read settings; what it falls back to must be the same."""
    assert Limits(**Settings().gate.model_dump()) == Limits()


def test_problems_in_a_table_are_named_with_it(tmp_path: Path) -> None:
    path = write(tmp_path, "[gate]\nrowz = 5\nrecall_drop = 7")
    with pytest.raises(FrontdeskError) as caught:
        load_settings(path, {"FRONTDESK_GATE_ROWS": "none"})
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert any(line.startswith(f"{path}: unknown setting 'gate.rowz'; ") and "gate.rows" in line for line in lines)
    assert any(line.startswith(f"{path}: gate.recall_drop = 7") for line in lines)
    assert any(line.startswith("FRONTDESK_GATE_ROWS: gate.rows = 'none'") for line in lines)
    with pytest.raises(FrontdeskError, match=r"gate = 5: .*what a new model may lose"):
        load_settings(write(tmp_path, "gate = 5"), {"FRONTDESK_GATE_ROWS": "9"})


def test_proxies_are_addresses_or_ranges_and_limits_are_above_zero(tmp_path: Path) -> None:
    file = tmp_path / "frontdesk.toml"
    file.write_text('trusted_proxies = ["10.0.0.0/8", "::1"]\n[limits]\nstreams = 5\n')
    settings = load_settings(str(file), {"FRONTDESK_LIMITS_MESSAGES_PER_SITE": "7"})
    assert settings.trusted_proxies == ("10.0.0.0/8", "::1")
    assert (settings.limits.streams, settings.limits.messages_per_site) == (5, 7)
    assert (
        load_settings(str(file), {"FRONTDESK_TRUSTED_PROXIES": "10.1.2.3, 10.1.2.4"}).trusted_proxies[1] == "10.1.2.4"
    )
    file.write_text('trusted_proxies = ["proxy.example"]\n[limits]\nstreams = 0\nmessages = 1\n')
    with pytest.raises(FrontdeskError) as caught:
        load_settings(str(file), {})
    told = str(caught.value)
    assert "proxy.example is no address" in told and "limits.streams" in told and "limits.messages'" in told


@pytest.mark.parametrize("token", ["short-secret", "has spaces in it, sixteen", "0123456789abcdef" * 9])
def test_a_secret_that_does_not_fit_is_refused_without_being_repeated(tmp_path: Path, token: str) -> None:
    with pytest.raises(FrontdeskError) as caught:
        load_settings(write(tmp_path, f'metrics_token = "{token}"'), {})
    assert "metrics_token" in str(caught.value) and "openssl rand" in str(caught.value)
    assert token not in str(caught.value)


def test_a_secret_is_not_shown_with_the_settings(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, ""), {"FRONTDESK_METRICS_TOKEN": "0123456789abcdef"})
    assert settings.metrics_token.get_secret_value() == "0123456789abcdef"
    assert "0123456789abcdef" not in repr(settings)
