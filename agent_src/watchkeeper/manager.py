"""Which reconciler a kind has. One is made, and what it needs is imported, when the first key of its kind comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from watchkeeper.config.snapshot import Kind
from watchkeeper.context import Context
from watchkeeper.reconcile import Reconciler


def _services(context: Context) -> Reconciler:
    from watchkeeper.reconcilers.services import ServiceReconciler

    return ServiceReconciler(context)


def _checks(context: Context) -> Reconciler:
    from watchkeeper.reconcilers.checks import CheckReconciler

    return CheckReconciler(context)


def _outputs(context: Context) -> Reconciler:
    from watchkeeper.reconcilers.outputs import OutputReconciler

    return OutputReconciler(context)


def _registrations(context: Context) -> Reconciler:
    from watchkeeper.reconcilers.registrations import RegistrationReconciler

    return RegistrationReconciler(context)


def _discovery(context: Context) -> Reconciler:
    from watchkeeper.reconcilers.discovery import DiscoveryReconciler

    return DiscoveryReconciler(context)


def _listeners(context: Context) -> Reconciler:
    from watchkeeper.reconcilers.listeners import ListenerReconciler

    return ListenerReconciler(context)


def _sources(context: Context) -> Reconciler:
    from watchkeeper.reconcilers.sources import SourceReconciler

    return SourceReconciler(context)


def _service_checks(context: Context) -> Reconciler:
    from watchkeeper.reconcilers.servicechecks import ServiceCheckReconciler

    return ServiceCheckReconciler(context)


def _collectors(context: Context) -> Reconciler:
    from watchkeeper.reconcilers.collectors import CollectorReconciler

    return CollectorReconciler(context)


def _faults(context: Context) -> Reconciler:
    from watchkeeper.reconcilers.faults import FaultReconciler

    return FaultReconciler(context)


def _jobs(context: Context) -> Reconciler:
    from watchkeeper.reconcilers.jobs import JobReconciler

    return JobReconciler(context)


def _tracing(context: Context) -> Reconciler:
    from watchkeeper.reconcilers.tracing import TracingReconciler

    return TracingReconciler(context)


def _alerts(context: Context) -> Reconciler:
    from watchkeeper.reconcilers.alerts import AlertReconciler

    return AlertReconciler(context)


RECONCILERS: dict[Kind, Callable[[Context], Reconciler]] = {
    Kind.SOURCE: _sources,
    Kind.OUTPUT: _outputs,
    Kind.TRACING: _tracing,
    Kind.LISTENER: _listeners,
    Kind.FAULTS: _faults,
    Kind.SERVICE: _services,
    Kind.CHECK: _checks,
    Kind.JOB: _jobs,
    Kind.SERVICE_CHECK: _service_checks,
    Kind.COLLECTOR: _collectors,
    Kind.ALERT: _alerts,
    Kind.REGISTRATION: _registrations,
    Kind.DISCOVERY: _discovery,
}


class Manager(Mapping[Kind, Reconciler]):
    """The reconcilers of one agent."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._made: dict[Kind, Reconciler] = {}

    def __getitem__(self, kind: Kind) -> Reconciler:
        if kind not in self._made:
            self._made[kind] = RECONCILERS[kind](self._context)
        return self._made[kind]

    def __contains__(self, kind: object) -> bool:
        return kind in RECONCILERS

    def __iter__(self) -> Iterator[Kind]:
        return iter(RECONCILERS)

    def __len__(self) -> int:
        return len(RECONCILERS)
