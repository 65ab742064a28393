"""Every case of the matrix, in the order in which they run."""

from typing import Final

from faults.case import Case
from faults.cases_deadlines import CASES as DEADLINES
from faults.cases_edges import CASES as EDGES
from faults.cases_files import CASES as FILES
from faults.cases_mutants import CASES as MUTANTS
from faults.cases_servers import CASES as SERVERS
from faults.cases_services import CASES as SERVICES
from faults.cases_special import CASES as SPECIAL
from faults.cases_unfair import CASES as UNFAIR
from faults.cases_upgrade import CASES as UPGRADE
from faults.cases_uploads import CASES as UPLOADS

ALL: Final[list[Case]] = [
    *SERVICES,
    *SERVERS,
    *DEADLINES,
    *EDGES,
    *FILES,
    *UPLOADS,
    *SPECIAL,
    *UNFAIR,
    *UPGRADE,
    *MUTANTS,
]
