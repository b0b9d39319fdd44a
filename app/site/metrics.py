"""`/metrics`: what Prometheus collects."""

import hmac
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from app.core.errors import NotFound, NotReady
from app.runs.tables import Run, RunStatus
from app.services import CurrentServices, Services

router = APIRouter(include_in_schema=False)
_BEARER: Final = "Bearer "


@router.get("/metrics")
def metrics(request: Request, current: CurrentServices) -> Response:
    """All metrics in the Prometheus text format; for others than its scraper there is no such page.

    With `XRAY_METRICS_TOKEN` it takes that token as `Authorization: Bearer`; without it, a caller
    on this machine.
    """
    if not _may_read(request, current):
        raise NotFound("There is no page at this address.")
    own = CollectorRegistry()
    own.register(_StateCollector(current))
    return Response(
        generate_latest(REGISTRY) + generate_latest(own), media_type=CONTENT_TYPE_LATEST
    )


def _may_read(request: Request, current: Services) -> bool:
    token = current.settings.metrics_token.get_secret_value()
    if token:
        given = request.headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), (_BEARER + token).encode())
    try:
        return ip_address(request.client.host if request.client else "").is_loopback
    except ValueError:
        return False


class _StateCollector(Collector):
    """Numbers that are read from the database and the classifier at each scrape."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterable[GaugeMetricFamily | InfoMetricFamily]:
        """Runs by status, waiting images, and the model version that answers."""
        runs = GaugeMetricFamily("xray_runs", "Runs by status.", labels=["status"])
        query = select(Run.status, func.count().label("number")).group_by(Run.status)
        with self._services.database.sessions() as session:
            counts = {row.status: row.number for row in session.execute(query)}
        for status in RunStatus:
            runs.add_metric([status.value], counts.get(status, 0))
        yield runs
        yield GaugeMetricFamily(
            "xray_screening_queue_length",
            "Images that wait for their turn in this process.",
            value=self._services.turns.waiting,
        )
        with suppress(NotReady):
            card = self._services.classifier.get(timeout_s=0).card
            model = InfoMetricFamily("xray_model", "The active model version.")
            model.add_metric([], {"version": card.version, "sha256": card.sha256})
            yield model
