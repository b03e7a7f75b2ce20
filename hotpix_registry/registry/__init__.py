"""The one facade: what the command line, the service and notebooks call; it owns the transactions."""

from hotpix_registry.registry.facade.access import AccessMethods
from hotpix_registry.registry.facade.answers import AnswerMethods, Mask
from hotpix_registry.registry.facade.archive import ArchiveMethods
from hotpix_registry.registry.facade.cameras import CameraMethods
from hotpix_registry.registry.facade.frames import FrameMethods
from hotpix_registry.registry.facade.history import HistoryMethods
from hotpix_registry.registry.facade.jobs import JobMethods
from hotpix_registry.registry.facade.keeping import KeepingMethods
from hotpix_registry.registry.facade.lists import ListMethods
from hotpix_registry.registry.facade.parts import PartMethods
from hotpix_registry.registry.facade.rollouts import RolloutMethods
from hotpix_registry.registry.facade.science import ScienceMethods
from hotpix_registry.registry.facade.story import StoryMethods
from hotpix_registry.registry.facade.versions import VersionMethods

__all__ = ["Mask", "Registry"]


class Registry(
    StoryMethods,
    ScienceMethods,
    FrameMethods,
    CameraMethods,
    RolloutMethods,
    VersionMethods,
    AnswerMethods,
    HistoryMethods,
    ListMethods,
    ArchiveMethods,
    KeepingMethods,
    AccessMethods,
    JobMethods,
    PartMethods,
):
    """A registry of hot-pixel masks: dark frames in, masks out.

    Parameters
    ----------
    database
        an SQLite file or a database URL; None takes HOTPIX_DATABASE_URL, hotpix.toml, or the user's
        data directory
    create
        whether to make the registry when nothing is there yet
    read_database
        a replica of it on PostgreSQL, from which look-ups, lists and files are read; None takes
        HOTPIX_DATABASE_READ_URL, unless a database is given
    statement_s
        how long PostgreSQL may take to one statement, in s; None: as long as it takes

    Raises
    ------
    SchemaError, DatabaseUnavailable, UsageError
        When it cannot be opened; the sentence says why.
    """
