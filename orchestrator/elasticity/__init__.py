"""When to split and merge: pure policies, what they see, and what becomes of their recommendations.

`Meter` makes an `Observation` of what replicas report; a `Policy` answers with what it would do; `Damper` decides which
of these recommendations come through. `orchestrator.scaling.autoscaler` acts, and so does the simulator, without
packets. Imports nothing else of the orchestrator; one's own policies import this, and need no more.
"""

from orchestrator.elasticity.damper import Damper, Limits
from orchestrator.elasticity.meter import Meter, Sample
from orchestrator.elasticity.observation import (
    FIGURES,
    Add,
    Change,
    Figure,
    Keep,
    Load,
    Merge,
    Observation,
    Policy,
    Rebalance,
    Recommendation,
    Split,
)
from orchestrator.elasticity.policies import (
    AverageFlows,
    Evening,
    Explicit,
    FlowCount,
    Foresight,
    Static,
    Target,
    Utilisation,
)
from orchestrator.elasticity.settings import (
    POLICIES,
    ElasticityConfig,
    make_policy,
    make_section,
    read_section,
    section,
    settings_help,
)

__all__ = [
    "FIGURES",
    "POLICIES",
    "Add",
    "AverageFlows",
    "Change",
    "Damper",
    "ElasticityConfig",
    "Evening",
    "Explicit",
    "Figure",
    "FlowCount",
    "Foresight",
    "Keep",
    "Limits",
    "Load",
    "Merge",
    "Meter",
    "Observation",
    "Policy",
    "Rebalance",
    "Recommendation",
    "Sample",
    "Split",
    "Static",
    "Target",
    "Utilisation",
    "make_policy",
    "make_section",
    "read_section",
    "section",
    "settings_help",
]
