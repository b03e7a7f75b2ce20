"""Darks to detect in: a simulated camera, taken once."""

import pytest

from hotpix_registry.simulate import SimulatedCamera

SHAPE = (512, 512)


@pytest.fixture(scope="session")
def camera():
    return SimulatedCamera.create(SHAPE, seed=11)


@pytest.fixture(scope="session")
def darks(camera):
    """Ten of 90 s, twenty of 1000 s of another epoch."""
    return [camera.group(90.0, 10, epoch=1), camera.group(1000.0, 20)]


@pytest.fixture(scope="session")
def biases(camera):
    return camera.group(0.0, 10)
