"""Every case of the matrix, in the order in which they run."""

from typing import Final

from faults.cases.cache import CASES as CACHE
from faults.cases.deadlines import CASES as DEADLINES
from faults.cases.files import CASES as FILES
from faults.cases.mutants import CASES as MUTANTS
from faults.cases.network import CASES as NETWORK
from faults.cases.pipelines import CASES as PIPELINES
from faults.cases.servers import CASES as SERVERS
from faults.cases.services import CASES as SERVICES
from faults.cases.special import CASES as SPECIAL
from faults.cases.unfair import CASES as UNFAIR
from faults.cases.upgrade import CASES as UPGRADE
from faults.cases.uploads import CASES as UPLOADS
from faults.harness.case import Case

GROUPS: Final[dict[str, list[Case]]] = {
    "services": SERVICES,
    "servers": [*SERVERS, *CACHE],
    "deadlines": DEADLINES,
    "network": NETWORK,
    "files": FILES,
    "uploads": UPLOADS,
    "special": SPECIAL,
    "pipelines": PIPELINES,
    "unfair": UNFAIR,
    "upgrade": UPGRADE,
    "mutants": MUTANTS,
}
ALL: Final[list[Case]] = [case for cases in GROUPS.values() for case in cases]
