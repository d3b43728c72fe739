"""Pointing the Hub client of this process to a local Hub."""

from huggingface_hub import constants, hf_api


def log_in(server, patch, **environment):
    """Log in as `tester`, until `patch` is undone.

    Args:
        server: A `HubServer`.
        patch: A `pytest.MonkeyPatch`.
        environment: What the environment has instead of `server.environment()`, for instance `HF_HOME`.
    """
    environment = server.environment() | environment
    home = environment["HF_HOME"]
    for name, value in environment.items():
        patch.setenv(name, value)
    # The modules read all of these from the environment at import.
    for name, value in {
        "ENDPOINT": server.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_XET": environment["HF_HUB_DISABLE_XET"] == "1",
        "HF_HOME": home,
        "HF_HUB_CACHE": f"{home}/hub",
        "HF_TOKEN_PATH": f"{home}/token",
        "HF_STORED_TOKENS_PATH": f"{home}/stored_tokens",
    }.items():
        patch.setattr(constants, name, value)
    patch.setattr(hf_api.api, "endpoint", server.endpoint)
    patch.setattr("transformers.utils.hub._hf_api", None, raising=False)
    patch.setattr("datasets.config.HF_ENDPOINT", server.endpoint)
    patch.setattr("datasets.config.HF_HUB_OFFLINE", False)
