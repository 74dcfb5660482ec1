"""The launch plans of `train_flyte_llama`: one for each configuration in configs/, and the weekly refresh."""

from __future__ import annotations

from collections.abc import Mapping

from flytekit import ConcurrencyLimitBehavior, ConcurrencyPolicy, CronSchedule, LaunchPlan

from flyte_llama.config import ExperimentConfig
from flyte_llama.errors import ConfigError
from flyte_llama.progress import say
from flyte_llama.tasks.notifications import NOTIFICATIONS
from flyte_llama.tasks.resources import SETTINGS
from flyte_llama.tasks.shipped import WEEKLY_REFRESH, load_usable, shipped_configs
from flyte_llama.workflows import train_flyte_llama


def make_weekly_refresh(configs: Mapping[str, ExperimentConfig]) -> LaunchPlan | None:
    """Return the scheduled launch plan; None, and a line on standard error, without its configuration.

    Raises:
        ConfigError: if the settings name a configuration that is not there, or activate a plan that cannot be made.
    """
    name = SETTINGS.refresh_config
    config = configs.get(name)
    if config is None:
        reason = f"configs/{name}.yaml does not exist or cannot be used"
        if SETTINGS.activate_schedule or "refresh_config" in SETTINGS.model_fields_set:
            usable = ", ".join(configs) or "none"
            raise ConfigError(f"FLYTE_LLAMA_REFRESH_CONFIG = {name!r}: {reason}. Usable ones: {usable}.")
        say(f"no launch plan flyte_llama.{WEEKLY_REFRESH}: {reason}.")
        return None
    if SETTINGS.activate_schedule and config.publish.repository is None:
        say(f"flyte_llama.{WEEKLY_REFRESH} publishes nothing: configs/{name}.yaml has no publish.repository.")
    return LaunchPlan.get_or_create(
        train_flyte_llama,
        name=f"flyte_llama.{WEEKLY_REFRESH}",
        default_inputs={"config": config},
        schedule=CronSchedule(schedule=SETTINGS.schedule),
        notifications=NOTIFICATIONS,
        # A run may take longer than a week; the next scheduled run is then skipped.
        concurrency=ConcurrencyPolicy(max_concurrency=1, behavior=ConcurrencyLimitBehavior.SKIP),
        auto_activate=SETTINGS.activate_schedule,
    )


SHIPPED = load_usable(shipped_configs())

launch_plans = {
    name: LaunchPlan.get_or_create(
        train_flyte_llama,
        name=f"flyte_llama.{name}",
        default_inputs={"config": config},
        notifications=NOTIFICATIONS,
    )
    for name, config in SHIPPED.items()
}
weekly_refresh = make_weekly_refresh(SHIPPED)
