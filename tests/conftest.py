"""Values are frozen here, before anything else of smilla is imported, so that a test sees who would change one; and no
example of hypothesis fails because the machine is slow, also where CI is not set.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from smilla import value

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

value.are_frozen = True
