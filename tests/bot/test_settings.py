"""Settings: one file plus environment, every problem reported together, each with its cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot import FrontdeskError
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
