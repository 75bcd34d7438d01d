# componentize-py loads this: it prepares the clients, then loads the handler, which takes this module's place.
import sys

# Leave no files beside the sources.
sys.dont_write_bytecode = True

import fishway_http

fishway_http.prepare()

import handler

sys.modules[__name__] = handler
