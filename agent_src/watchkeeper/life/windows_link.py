"""What the agent tells systemd, told to Windows' service manager instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watchkeeper.life import windows_api as api
from watchkeeper.life.notify import Notifier

if TYPE_CHECKING:
    from watchkeeper.life.windows_service import Service


class ManagerNotifier(Notifier):
    """Takes sd_notify's assignments; what Windows has no word for is left out."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service
        self._stopping = False

    @property
    def wanted(self) -> bool:
        return True

    def send(self, *assignments: str) -> bool:
        for assignment in assignments:
            word, _, value = assignment.partition("=")
            if word == "READY" and not self._stopping:
                self._service.report(api.RUNNING)
            elif word == "STOPPING":
                self._stopping = True
                self._service.report(api.STOP_PENDING, hint=15_000)
            elif word == "EXTEND_TIMEOUT_USEC":
                state = api.STOP_PENDING if self._stopping else api.START_PENDING
                self._service.report(state, hint=int(value) // 1000)
        return True
