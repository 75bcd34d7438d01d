// Greets: {"name": "Ada"} becomes {"greeting": "Hello, Ada!"}.
package export_fishway_task_handler

import (
	"encoding/json"
	"fmt"

	"go.bytecodealliance.org/pkg/wit/types"
	task "hello-go/bindings/fishway_task_types"
)

func Run(input string) wit_types.Result[string, task.Failure] {
	output, err := greet(input)
	if err != nil {
		return wit_types.Err[string](task.Failure{
			Message: err.Error(), Retryable: false, Details: wit_types.None[string](),
		})
	}
	return wit_types.Ok[string, task.Failure](output)
}

func greet(input string) (string, error) {
	asked := struct{ Name string }{Name: "world"}
	if err := json.Unmarshal([]byte(input), &asked); err != nil {
		return "", err
	}
	fmt.Println("greeting", asked.Name)
	output, err := json.Marshal(map[string]string{"greeting": "Hello, " + asked.Name + "!"})
	return string(output), err
}
