"""The settings of the coverage simulation, and the required coverage of each."""

from dataclasses import dataclass

from tests.support.coverage_simulation import Setting


@dataclass(frozen=True)
class Case:
    """A setting with the minimum and maximum coverage of its intervals."""

    setting: Setting
    least: float = 0.93
    largest: float = 0.975


# For few days, or few clusters, the target is one-sided (docs/adr/0041): two days cannot show whether days differ.
FEW = {"least": 0.90, "largest": 1.0}
SETTINGS: dict[str, Case] = {
    "1 day": Case(Setting(1)),
    "2 days, nothing shared": Case(Setting(2), **FEW),
    "2 days, shocks": Case(Setting(2, 0.2), **FEW),
    "3 days, nothing shared": Case(Setting(3), **FEW),
    "3 days, shocks": Case(Setting(3, 0.2), **FEW),
    "7 days, nothing shared": Case(Setting(7)),
    "7 days, shocks": Case(Setting(7, 0.2)),
    "14 days, shocks": Case(Setting(14, 0.2)),
    "30 days, shocks": Case(Setting(30, 0.2)),
    # The rates of days range from 1 to 30%: so skewed that a symmetric interval of 14 days is too short.
    "14 days, shocks of very different size": Case(Setting(14, 0.5), least=0.87),
    "14 days, 10 clusters": Case(Setting(14, 0.1, 10, 0.2), **FEW),
    "14 days, 25 clusters": Case(Setting(14, 0.1, 25, 0.2)),
    "30 days, 100 clusters, shocks": Case(Setting(30, 0.2, 100, 0.3)),
    "30 days, 600 clusters": Case(Setting(30, 0, 600, 0.3)),
    "house, 3 strata": Case(Setting(7, 0.2, strata=3, allocation="house")),
    "senate, 3 strata": Case(Setting(7, 0.2, strata=3, allocation="senate")),
    "default, 3 strata, 100 clusters": Case(Setting(14, 0.2, 100, 0.2, strata=3)),
    "rare: 0.5% disagree, 2% positive": Case(
        Setting(14, 0.1, agree=0.995, positive=0.02),
        largest=0.985,  # discrete events: no interval of shares is exact
    ),
    # Some ten requests carry most of the weight: shares are covered too often, symmetric intervals too rarely.
    "weights 1 to 10,000": Case(
        Setting(14, agree=0.99, weights=1e3, captures=12000, sampled=1200), least=0.82, largest=1.0
    ),
}
