"""The pages for people, over the same methods of the registry as the API."""

from pathlib import Path

from fastapi import APIRouter
from starlette.staticfiles import StaticFiles

from hotpix_registry.web.pages import camera, docs, frames, home, jobs, mask

router = APIRouter(include_in_schema=False)
for part in (home, camera, mask, frames, jobs, docs):
    router.include_router(part.router)

static_files = StaticFiles(directory=Path(__file__).parents[1] / "static")
