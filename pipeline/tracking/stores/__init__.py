"""Where runs go, a module a store; a store of one's own is an entry point of this package's name.

``STORE`` opens it: a function without arguments that gives a `pipeline.tracking.delivery.Store`.
"""

from gptcore.seams import Seam

STORES = Seam("pipeline.tracking.stores", "STORE")
