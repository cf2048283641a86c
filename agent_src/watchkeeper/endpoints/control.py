"""/control/*: what an operator may ask for. An order is noted and the key is queued; the reconciler does the rest."""

from __future__ import annotations

from typing import Any

import msgspec

from watchkeeper.config.decode import nearest
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.endpoints import web
from watchkeeper.endpoints.answers import Refusal, json
from watchkeeper.endpoints.site import Call
from watchkeeper.logs import LEVELS, get_logger
from watchkeeper.orders import Order

journal = get_logger("control")


async def order(call: Call) -> web.Response:
    """POST /control/{start,stop,restart}/SERVICE: 202, and what the service is doing now."""
    context = call.site.context
    wanted = Order(call.request.path.split("/")[2])
    if not call.rest:
        raise Refusal(404, "which service?", f"POST /control/{wanted}/SERVICE.")
    name = call.rest[0]
    services = context.snapshot.services
    if name not in services:
        raise Refusal(404, f"there is no service {name!r}{nearest(name, services)}", services=list(services))
    if context.observed.draining:
        raise Refusal(503, "the agent is draining; it takes no orders any more")
    key = Key(Kind.SERVICE, name)
    context.orders.give(key, wanted)
    context.events.note(key, f"order: {wanted}", f"asked for by {call.peer.who}")
    context.add(key)
    journal.info(f"order: {wanted} {name}", service=name, order=wanted.value, by=call.peer.who)
    record = context.observed.services.get(name)
    state = record.state.value if record else "new"
    return json({"service": name, "order": wanted.value, "state": state}, status=202)


async def reload(call: Call) -> web.Response:
    """POST /control/reload: look at the configuration now, as SIGHUP does; 202, and the generation in force."""
    journal.info("a reload was asked for", by=call.peer.who)
    call.site.reload()
    return json({"reload": "asked", "generation": call.site.context.snapshot.generation}, status=202)


async def log_level(call: Call) -> web.Response:
    """PUT /control/log-level {"level": LEVEL}: 200; until the next configuration that comes into force."""
    level = body_of(call, ("level",)).get("level")
    if not isinstance(level, str) or level not in LEVELS:
        raise Refusal(
            400, f"{level!r} is no level", f'Send {{"level": LEVEL}}; LEVEL is {", ".join(LEVELS)}.'
        )
    call.site.set_level(level)
    journal.warning(f"the log level is {level} now", level_now=level, by=call.peer.who)
    return json({"level": level})


async def faults(call: Call) -> web.Response:
    """PUT /control/faults {"enabled": BOOL}: the switch; what a section of the configuration allows, and no more."""
    context = call.site.context
    wanted = body_of(call, ("enabled",)).get("enabled")
    if not isinstance(wanted, bool):
        raise Refusal(400, "`enabled` is true or false", 'Send {"enabled": false}.')
    if wanted and not context.faults.settings.enabled:
        raise Refusal(
            409, "the configuration allows no faults", "Write a section `faults` with enabled: true."
        )
    on = context.faults.switch(on=wanted)
    context.add(Key(Kind.FAULTS, Kind.FAULTS.value))
    journal.warning(f"faults are switched {'on' if wanted else 'off'}", by=call.peer.who)
    return json({"enabled": on, "left": round(context.faults.left, 1)})


def body_of(call: Call, known: tuple[str, ...]) -> dict[str, Any]:
    """The body as a JSON object with no other keys than these.

    Raises:
        Refusal: it is something else (400).
    """
    try:
        content = msgspec.json.decode(call.body, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Refusal(400, f"the body is no JSON object: {error}", "Send a JSON object.") from None
    unknown = sorted(content.keys() - set(known))
    if unknown:
        raise Refusal(
            400,
            f"unknown key {unknown[0]!r}{nearest(unknown[0], known)}",
            f"The keys are {', '.join(known)}.",
        )
    return content
