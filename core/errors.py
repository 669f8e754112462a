"""Error types. Each names its recovery, and its message says what happened, where, and what to do."""


class MailwrightError(Exception):
    """Base of every error that is shown to a person as one clear message, without a traceback."""


class SettingsError(MailwrightError):
    """An environment variable holds a wrong value. Recovery: correct the variable that is named."""


class HomeError(MailwrightError):
    """The home is missing, is no home, or is of another layout. Recovery: as the message says."""


class WarehouseBusyError(MailwrightError):
    """Another process writes to the warehouse. Recovery: retry when it is done."""


class ContractError(MailwrightError):
    """The lake's contract itself is wrong. Recovery: correct the sources file that is named."""


class DeliveryError(MailwrightError):
    """A table of a delivery can't be taken in. Recovery: correct the file and deliver it again; other tables go on."""


class RefreshError(MailwrightError):
    """A stage of the refresh failed. Recovery: correct the cause and refresh again; finished work is kept."""


class DestinationError(MailwrightError):
    """A destination can't be reached or refuses us. Recovery: as the message says; nothing acknowledged is lost."""


class LedgerError(MailwrightError):
    """The ledger can't be read or written. Recovery: as the message says; whatever is not in it is done again."""


class PlanError(MailwrightError):
    """A plan can't be made or may not be applied. Recovery: plan again."""


class ReleaseError(MailwrightError):
    """A release is missing, was changed since it was frozen, or can't be gone back to. Recovery: as the message says."""


class ModelError(MailwrightError):
    """A model can't be kept, read or found. Recovery: as the message says; the last scores stay."""
