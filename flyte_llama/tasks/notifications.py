"""Who hears of the end of a run. Flyte sends an e-mail each time; to Slack and PagerDuty too, at their addresses."""

from __future__ import annotations

from flytekit import Email, PagerDuty, Slack
from flytekit.core.notification import Notification
from flytekit.models.core.execution import WorkflowExecutionPhase

from flyte_llama.tasks.resources import SETTINGS

FAILED = [WorkflowExecutionPhase.FAILED, WorkflowExecutionPhase.TIMED_OUT, WorkflowExecutionPhase.ABORTED]
ENDED = [WorkflowExecutionPhase.SUCCEEDED, *FAILED]

NOTIFICATIONS: list[Notification] = [
    kind(phases=phases, recipients_email=list(addresses))
    for kind, phases, addresses in (
        (Email, ENDED, SETTINGS.notify_email),
        (Slack, ENDED, SETTINGS.notify_slack),
        (PagerDuty, FAILED, SETTINGS.notify_pagerduty),
    )
    if addresses
]
