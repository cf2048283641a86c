"""Who is told, and how it gets there: a bounded queue and a task for each webhook.

Rules:
    W1  Whoever is slow or gone holds up nobody else; looks go on whatever becomes of messages.
    W2  A queue that is full lets go of its oldest notice; a message that nobody took within `retry_for` is let go of.
        Both are counted.
    W3  A message has the notices of one rule, at most BATCH, in the order in which they were made.
    W4  An answer of 2xx is taken; of 4xx, but for 408 and 429, it will not be taken later either and is dropped at once;
        anything else is tried again after 1 s, 2 s, 4 s, up to 30 s.
    W5  A webhook that is no longer configured loses what waits for it.
    W6  When the agent stops, what waits is sent for FLUSH_LIMIT seconds; the rest is dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from watchkeeper.alerts import payloads
from watchkeeper.alerts.payloads import Notice
from watchkeeper.config.schema.alerts import Webhook, WebhookFormat
from watchkeeper.context import Context
from watchkeeper.errors import ErrorClass
from watchkeeper.life.hooks import Rank
from watchkeeper.logs import get_logger
from watchkeeper.outbound.client import Limits, RequestError

journal = get_logger("alert")

BATCH = 64
FIRST_DELAY = 1.0
MAX_DELAY = 30.0
FLUSH_LIMIT = 2.0
LATER = (408, 429)
RESEND = {WebhookFormat.ALERTMANAGER: 60.0, WebhookFormat.WEBHOOK: 4 * 3600.0}


@dataclass
class Line:
    """What waits for one webhook."""

    waiting: deque[tuple[str, Notice]] = field(default_factory=deque)
    """The rule's name and what is to be said."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    empty: asyncio.Event = field(default_factory=asyncio.Event)


class Notifier:
    """All webhooks of one agent. The settings are read anew for every message."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lines: dict[str, Line] = {}
        metrics = context.metrics
        self._sent = metrics.counter(
            "alerts_notifications_total", "Alerts that webhooks were told, by what became of it.", "webhook", "result"
        )  # fmt: skip
        metrics.gauge("alerts_notifications_queued", "Alerts that wait to be told.").set_function(
            lambda: sum(len(line.waiting) for line in self._lines.values())
        )
        context.hooks.add(Rank.WORK, "alert webhooks", self._flush, FLUSH_LIMIT + 0.5)

    @property
    def webhooks(self) -> dict[str, Webhook]:
        return self._context.snapshot.config.alerting.webhooks

    def repeat_interval(self, webhook: Webhook) -> float:
        return webhook.repeat_interval or RESEND[webhook.format]

    def tell(self, name: str, rule: str, notice: Notice) -> None:
        """Let a webhook know, soon."""
        webhook = self.webhooks.get(name)
        if webhook is None:
            return
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = Line()
            self._context.tasks.start(f"webhook {name}", lambda: self._run(name, line))
        while len(line.waiting) >= webhook.queue:
            line.waiting.popleft()  # W2
            self._count(name, "dropped", 1)
        line.waiting.append((rule, notice))
        line.empty.clear()
        line.news.set()

    async def _run(self, name: str, line: Line) -> None:
        """Send what comes, until the webhook is configured no more (W5)."""
        while name in self.webhooks:
            await line.news.wait()
            while line.waiting and (webhook := self.webhooks.get(name)) is not None:
                rule, notices = self._batch(line)
                await self._deliver(name, webhook, rule, notices)
            if not line.waiting:
                line.news.clear()
                line.empty.set()
        self._count(name, "dropped", len(line.waiting))
        line.empty.set()
        self._lines.pop(name, None)

    def _batch(self, line: Line) -> tuple[str, list[Notice]]:
        """W3."""
        rule = line.waiting[0][0]
        notices: list[Notice] = []
        while line.waiting and line.waiting[0][0] == rule and len(notices) < BATCH:
            notices.append(line.waiting.popleft()[1])
        return rule, notices

    async def _deliver(self, name: str, webhook: Webhook, rule: str, notices: list[Notice]) -> None:
        clock = asyncio.get_running_loop().time
        until, delay = clock() + webhook.retry_for, FIRST_DELAY
        while True:
            problem, hopeless = await self._send(name, webhook, notices)
            if problem is None:
                self._count(name, "sent", len(notices))
                return
            self._context.metrics.error(ErrorClass.ALERT_FAILED)
            if hopeless or clock() + delay > until or name not in self.webhooks:
                self._count(name, "failed", len(notices))
                journal.error(
                    f"webhook {name} was not told of {rule}: {problem}",
                    webhook=name,
                    alerts=len(notices),
                    error_class=ErrorClass.ALERT_FAILED,
                )
                return
            await asyncio.sleep(delay)
            delay = min(delay * 2, MAX_DELAY)

    async def _send(self, name: str, webhook: Webhook, notices: list[Notice]) -> tuple[str | None, bool]:
        """Why it was not taken, and whether that will stay so (W4)."""
        import msgspec

        url = self._context.snapshot.config.alerting.external_url or ""
        body = (
            payloads.alertmanager(notices, url)
            if webhook.format is WebhookFormat.ALERTMANAGER
            else payloads.webhook(notices, url, name)
        )
        headers = {"Content-Type": "application/json"}
        if webhook.authorization is not None:
            headers["Authorization"] = webhook.authorization
        try:
            answer = await self._context.http.request(
                "POST",
                webhook.url,
                headers=headers,
                body=msgspec.json.encode(body),
                limits=Limits(total=webhook.timeout),
                tls=webhook.tls,
                body_limit=1 << 20,
            )
        except RequestError as error:
            return str(error), False
        if 200 <= answer.status < 300:
            return None, False
        return f"it answered {answer.status}", 400 <= answer.status < 500 and answer.status not in LATER

    async def _flush(self) -> None:
        """W6: a webhook that is down does not make the agent's end a late one."""
        waits = [asyncio.ensure_future(line.empty.wait()) for line in self._lines.values()]
        if not waits:
            return
        _done, late = await asyncio.wait(waits, timeout=FLUSH_LIMIT)
        for wait in late:
            wait.cancel()
        for name, line in self._lines.items():
            self._count(name, "dropped", len(line.waiting))
            line.waiting.clear()

    def _count(self, name: str, result: str, number: int) -> None:
        if number:
            self._sent.labels(name, result).inc(number)
