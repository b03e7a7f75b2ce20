"""A camera with known truth: for the demo, the tests and the benchmarks."""

from hotpix_registry.simulate.camera import SimulatedCamera
from hotpix_registry.simulate.night import DEMO_NIGHT, write_demo_night, write_frame, write_night
from hotpix_registry.simulate.truth import REFERENCE_TEMP_C, Population, Traits, Truth, rate_factor

__all__ = [
    "DEMO_NIGHT",
    "REFERENCE_TEMP_C",
    "Population",
    "SimulatedCamera",
    "Traits",
    "Truth",
    "rate_factor",
    "write_demo_night",
    "write_frame",
    "write_night",
]
