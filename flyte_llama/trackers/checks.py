"""What can be known about trackers before a run: missing packages, keys and addresses, one line for each."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from flyte_llama.config import TrainingConfig
from flyte_llama.settings import Settings, is_server_address

PACKAGES = {"wandb": ("wandb",), "mlflow": ("mlflow",), "tensorboard": ("tensorboard", "tensorboardX")}
"""The packages that can serve a name in `report_to`."""

_WANDB_KEYS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
_WITHOUT_SERVER = ("offline", "disabled", "dryrun")


def package_problems(training: TrainingConfig) -> list[str]:
    """One message for each name in `report_to` whose package is not installed here."""
    return [
        f"training.report_to = '{name}': the package is not installed. pip install {name}"
        for name in training.report_to
        if not any(find_spec(package) for package in PACKAGES[name])
    ]


def tracker_problems(training: TrainingConfig, environment: Mapping[str, str] = os.environ) -> list[str]:
    """One message for each tracker that a run on this machine could not use."""
    problems = package_problems(training)
    named = "".join(problems)
    server = environment.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    if "wandb" in training.report_to and not is_server_address(server):
        problems.append(
            "training.report_to = 'wandb': WANDB_BASE_URL is not the address of a server. Write it like "
            "https://wandb.example.com, or unset it."
        )
    elif "wandb" in training.report_to and "'wandb'" not in named and not _has_wandb_key(environment, server):
        problems.append(
            "training.report_to = 'wandb': there is no key. Run `wandb login`, set WANDB_API_KEY, or set "
            "WANDB_MODE=offline to keep the run on this machine."
        )
    if "mlflow" in training.report_to and "'mlflow'" not in named and not environment.get("MLFLOW_TRACKING_URI"):
        problems.append(
            "training.report_to = 'mlflow': MLFLOW_TRACKING_URI is not set. Set it to your server, or to "
            "sqlite:///mlflow.db to keep the runs in a file, which needs the whole package mlflow, not mlflow-skinny."
        )
    return problems


def registration_problems(training: TrainingConfig, settings: Settings) -> list[str]:
    """One message for each tracker that these settings give pods no key, server or bucket for."""
    problems = []
    keys = settings.tracker_keys if settings.tracker_secret_group else ()
    if "wandb" in training.report_to and "wandb_api_key" not in keys:
        problems.append(
            "training.report_to = 'wandb': pods have no key. Register with FLYTE_LLAMA_TRACKER_SECRET_GROUP, and "
            "wandb_api_key in FLYTE_LLAMA_TRACKER_KEYS."
        )
    if "mlflow" in training.report_to and settings.mlflow_tracking_uri is None:
        problems.append(
            "training.report_to = 'mlflow': pods know no server, and would lose the runs with their disks. Register "
            "with FLYTE_LLAMA_MLFLOW_TRACKING_URI."
        )
    if "tensorboard" in training.report_to and settings.cache is None:
        problems.append(
            "training.report_to = 'tensorboard': pods would lose the event files with their disks. Register with "
            "FLYTE_LLAMA_CACHE, a bucket folder; they go to tensorboard/ in it."
        )
    return problems


def pod_tracker_problems(training: TrainingConfig, settings: Settings) -> list[str]:
    """One message for each tracker that pods with these settings, and packages as here, could not use."""
    missing = [line.partition(" pip install")[0] for line in package_problems(training)]
    return registration_problems(training, settings) + [
        f"{line} Build the images with it: REPORTERS in docs/cluster.md." for line in missing
    ]


def unset_key_problems(
    training: TrainingConfig, settings: Settings, environment: Mapping[str, str] = os.environ
) -> list[str]:
    """One message for each key of a tracker that this pod requested and did not get."""
    return [
        f"training.report_to = '{tracker}': {settings.tracker_secret_group} gave this pod no {key}. Put it into this "
        "secret group, or take it out of FLYTE_LLAMA_TRACKER_KEYS and register again."
        for tracker in training.report_to
        for key in (settings.tracker_keys if settings.tracker_secret_group else ())
        if key.startswith(tracker) and not environment.get(key.upper())
    ]


def _has_wandb_key(environment: Mapping[str, str], server: str) -> bool:
    """Whether wandb finds a key for the server, or needs none."""
    if environment.get("WANDB_MODE", "").lower() in _WITHOUT_SERVER:
        return True
    if any(environment.get(name) for name in _WANDB_KEYS):
        return True
    # `wandb login` writes the key here.
    file = Path(environment.get("NETRC") or Path("~/.netrc").expanduser())
    try:
        return urlsplit(server).hostname in netrc.netrc(file).hosts
    except FileNotFoundError:
        return False
    except (OSError, netrc.NetrcParseError):
        return True  # wandb may read it all the same, and says so if it cannot
