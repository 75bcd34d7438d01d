// The parser of the example, so that there is one.
#include "../../../../guest-examples/languages/hello-c/json.h"
