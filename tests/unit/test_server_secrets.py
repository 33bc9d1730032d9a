"""Secrets of several trading servers from one variable."""

from __future__ import annotations

import pytest

from config import ConfigError, ServerSecrets, load_settings

SECRETS = {"SECRET_KEY": "k" * 40, "DOCUMENT_KEY": "0" * 64, "STRIPE_SECRET_KEY": "s", "STRIPE_WEBHOOK_SECRET": "w"}
ENVIRONMENT = {
    "LOTWISE_ENV": "test", "DATABASE_URL": "postgresql://x", "REDIS_URL": "redis://x",
    "MT5_PASSWORD": "one", "MT5_CA_FILE": "ca",
    **SECRETS,
}  # fmt: skip


def test_each_server_has_its_own_and_others_share_one():
    settings = load_settings({**ENVIRONMENT, "MT_SECRETS": '{"live2": {"password": "two", "kafka": {"a": "b"}}}'})
    assert settings.server_secrets("live2") == ServerSecrets("two", "", kafka=(("a", "b"),))
    assert settings.server_secrets("live1") == ServerSecrets("one", "ca")
    assert "two" not in repr(settings)
    hash(settings)


@pytest.mark.parametrize("text", ["{", "[]", '{"live2": {}}', '{"live2": "two"}', '{"live2": {"password": "x", "kafka": 1}}'])
def test_what_is_malformed_is_told_without_its_content(text):
    with pytest.raises(ConfigError, match="MT_SECRETS is malformed"):
        load_settings({**ENVIRONMENT, "MT_SECRETS": text})
