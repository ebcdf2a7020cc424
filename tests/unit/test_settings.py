"""Settings that are wrong are told by the name of their variable, never by their value."""

import pytest

from infra.stack import mistyped
from services.ingest.settings import Settings
from services.keys.settings import KeysSettings
from services.runtime.settings import BadSettings, read


def test_each_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that are wrong are named, each as the operator wrote it, and no value is repeated."""
    monkeypatch.setenv("DESIFRE_LOG_LEVEL", "loud-7f3a")
    monkeypatch.setenv("DESIFRE_MAX_UPLOAD", "big-7f3a")
    with pytest.raises(BadSettings) as caught:
        read(Settings)
    lines = sorted(str(caught.value).splitlines())
    assert [line.split(":")[0] for line in lines] == ["DESIFRE_LOG_LEVEL", "DESIFRE_MAX_UPLOAD"]
    assert "7f3a" not in str(caught.value)


def test_a_list_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare address where a JSON list belongs says how a list is written."""
    monkeypatch.setenv("DESIFRE_TRUSTED_PROXIES", "10.0.0.1")
    with pytest.raises(BadSettings, match=r"^DESIFRE_TRUSTED_PROXIES: This must be JSON"):
        read(Settings)


def test_a_setting_that_must_be_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys does not begin without its pepper, and says which variable that is."""
    monkeypatch.delenv("DESIFRE_KEYS_PEPPER", raising=False)
    with pytest.raises(BadSettings, match=r"^DESIFRE_KEYS_PEPPER:"):
        read(KeysSettings)


def test_names_that_are_no_settings_are_told() -> None:
    """A mistyped name comes with the one that is meant, a strange one without, and a right one is not told."""
    names = ["PATH", "DESIFRE_HTTP_PORT", "DESIFRE_STORE_KIND", "DESIFRE_PORT", "DESIFRE_IDLE_AFTR", "DESIFRE_ZZZ"]
    assert mistyped.warnings(names) == [
        "DESIFRE_IDLE_AFTR is no setting; is DESIFRE_IDLE_AFTER meant?",
        "DESIFRE_PORT is no setting; is DESIFRE_HTTP_PORT meant?",
        "DESIFRE_ZZZ is no setting: see docs/settings.md.",
    ]


def test_a_setting_that_the_launcher_sets_itself_is_told() -> None:
    """Who sets one by hand learns that it does nothing, and where there is one the command that does."""
    told = mistyped.warnings(["DESIFRE_KEYS_PEPPER", "DESIFRE_NATS_URL", "DESIFRE_KEYS_PEPPER_PREVIOUS"])
    assert told == [
        "DESIFRE_KEYS_PEPPER is set by the launcher itself and does nothing here; `desifre pepper` makes a new one.",
        "DESIFRE_NATS_URL is set by the launcher itself and does nothing here.",
    ]


def test_a_rate_that_is_none_is_told_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a limit must look like is said before anything starts, without the words of a library."""
    monkeypatch.setenv("DESIFRE_RATE_LIMIT", "fast")
    with pytest.raises(BadSettings, match=r"^DESIFRE_RATE_LIMIT: This must be like 3000/minute\.$"):
        read(Settings)
