"""Every error jacgram raises on purpose.

    JacgramError
    ├── ArgumentError (ValueError)        an argument cannot be used as given
    │   ├── StructureError (TypeError)    its type, tree structure, shape or dtype is wrong
    │   ├── PatternError                  an output pattern cannot be read or does not fit
    │   ├── BudgetError (MemoryError)     no plan fits the memory budget
    │   └── InteractingExamplesError      one example's output depends on another example
    ├── UnsupportedError (NotImplementedError)   an operation has no exact rule and no fallback
    ├── MissingDependencyError (ImportError)     an optional package is not installed
    └── StoreError (OSError)              a stored kernel cannot be read, written or resumed
        └── IncompleteKernelError         a stored kernel still has tiles to compute

Each also derives from the built-in error that a caller would reach for, so ``except ValueError`` works where one
would expect it to. Messages name the argument, what came and what was expected, and end with the fix.
"""


class JacgramError(Exception):
    """Base of all errors that jacgram raises on purpose."""


class ArgumentError(JacgramError, ValueError):
    """An argument cannot be used as given."""


class StructureError(ArgumentError, TypeError):
    """The type, tree structure, shape or dtype of an argument is wrong."""


class PatternError(ArgumentError):
    """An output pattern cannot be read, or does not fit the outputs."""


class BudgetError(ArgumentError, MemoryError):
    """No plan fits the memory budget; the message names the smallest budget that would."""


class InteractingExamplesError(ArgumentError):
    """The output of one example depends on another example, so per-example Jacobians do not exist."""


class UnsupportedError(JacgramError, NotImplementedError):
    """An operation has neither an exact rule nor an exact fallback."""


class MissingDependencyError(JacgramError, ImportError):
    """An optional package is needed and not installed; the message holds the install line."""


class StoreError(JacgramError, OSError):
    """A stored kernel cannot be read, written or resumed."""


class IncompleteKernelError(StoreError):
    """A stored kernel still has tiles to compute."""
