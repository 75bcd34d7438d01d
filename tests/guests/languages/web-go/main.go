// The handler itself is in export_fishway_task_handler; `fishway build` writes the bindings.
package main

import _ "web-go/bindings/wit_exports"

func main() {}
