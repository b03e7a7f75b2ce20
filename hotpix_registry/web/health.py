"""Routes for whoever watches the service."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from hotpix_registry import __version__
from hotpix_registry.web.protection import BUCKETS_S
from hotpix_registry.web.state import TheRegistry, TheService

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether the process lives")
async def healthz() -> dict[str, str]:
    return {"status": "ok", "version": __version__}


@router.get("/readyz", summary="Whether the registry answers")
def readyz(registry: TheRegistry) -> dict[str, str | int]:
    registry_id, tx = registry.state()
    return {"status": "ok", "registry_id": registry_id, "tx": tx}


@router.get("/metrics", summary="Counters of this process for Prometheus", response_class=PlainTextResponse)
async def metrics(service: TheService) -> Response:
    counts = service.counts
    lines = [
        "# TYPE hotpix_requests_in_work gauge",
        f"hotpix_requests_in_work {counts.in_work}",
        "# TYPE hotpix_requests_refused_total counter",
        f"hotpix_requests_refused_total {counts.refused}",
        "# TYPE hotpix_requests_total counter",
    ]
    total: dict[str, int] = {}
    for (method, route, status), number in sorted(counts.requests.items()):
        lines.append(f'hotpix_requests_total{{method="{method}",route="{route}",status="{status}"}} {number}')
        total[route] = total.get(route, 0) + number
    lines.append("# TYPE hotpix_request_seconds histogram")
    for route, seconds in sorted(counts.seconds.items()):
        found = 0
        for place, bucket in enumerate(BUCKETS_S):
            found += counts.buckets[route, place]
            lines.append(f'hotpix_request_seconds_bucket{{route="{route}",le="{bucket:g}"}} {found}')
        lines += [
            f'hotpix_request_seconds_bucket{{route="{route}",le="+Inf"}} {total[route]}',
            f'hotpix_request_seconds_sum{{route="{route}"}} {seconds:.6f}',
            f'hotpix_request_seconds_count{{route="{route}"}} {total[route]}',
        ]
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")
