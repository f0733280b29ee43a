"""The broker against its model. LOGBROKER_MODEL_EXAMPLES sets how many lives of 50 requests are walked."""

import os

from hypothesis import HealthCheck, Phase, settings

from tests.faults.model import BrokerAgainstModel
from tests.faults.scale import scaled

EXAMPLES = int(os.environ.get("LOGBROKER_MODEL_EXAMPLES") or scaled(30, 120))

TestBrokerAgainstModel = BrokerAgainstModel.TestCase
TestBrokerAgainstModel.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
