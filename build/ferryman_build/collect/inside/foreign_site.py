# Becomes sitecustomize.py of the build tools' Python under Wine, and of nothing that is shipped: since 3.12, `platform`
# asks Windows' WMI through this module, Wine has no WMI, and the question ends the process.
import sys

sys.modules["_wmi"] = None
