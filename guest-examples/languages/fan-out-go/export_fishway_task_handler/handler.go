// Has handlers in five other languages add up a table, and puts their results together:
// {"path": "/data/penguins.csv"} becomes {"language": "Go", "batch", "opened", "started", "ended", "parts": [...]}.
package export_fishway_task_handler

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"fan-out-go/bindings/fishway_task_steps"
	"fan-out-go/bindings/fishway_task_tasks"
	task "fan-out-go/bindings/fishway_task_types"
	"go.bytecodealliance.org/pkg/wit/types"
)

var parts = map[string]string{
	"Island":    "summarise-c",
	"Sex":       "summarise-js",
	"Species":   "summarise-python",
	"Stage":     "summarise-rust",
	"studyName": "summarise-ts",
}

type input struct {
	Path   string `json:"path"`
	By     string `json:"by,omitempty"`
	Batch  string `json:"batch"`
	Opened int64  `json:"opened"`
	At     int64  `json:"at"`
}

type output struct {
	Language string            `json:"language"`
	Batch    string            `json:"batch"`
	Opened   int64             `json:"opened"`
	Started  int64             `json:"started"`
	Ended    int64             `json:"ended"`
	Parts    []json.RawMessage `json:"parts"`
}

func Run(input string) wit_types.Result[string, task.Failure] {
	output, err := run(input)
	if err != nil {
		return wit_types.Err[string](task.Failure{
			Message: err.Error(), Retryable: false, Details: wit_types.None[string](),
		})
	}
	return wit_types.Ok[string, task.Failure](output)
}

// A part of the handler that runs once: a replay or a later attempt reads the recorded value.
func step[T any](name string, work func() (T, error)) (value T, err error) {
	begun := fishway_task_steps.Begin(name)
	if begun.IsErr() {
		return value, fmt.Errorf("step %s may not begin", name)
	}
	if known := begun.Ok(); known.IsSome() {
		err = json.Unmarshal([]byte(known.Some()), &value)
		return value, err
	}
	if value, err = work(); err != nil {
		return value, err
	}
	text, err := json.Marshal(value)
	if err == nil && fishway_task_steps.Complete(name, string(text)).IsErr() {
		err = fmt.Errorf("step %s may not complete", name)
	}
	return value, err
}

func run(text string) (string, error) {
	var asked input
	if err := json.Unmarshal([]byte(text), &asked); err != nil {
		return "", err
	}
	opened, err := step("open", func() (int64, error) { return time.Now().UnixMilli(), nil })
	if err != nil {
		return "", err
	}
	asked.Opened = opened
	// The same after a wait, though all of this may have been run again for that: even the order in
	// which Go goes over a map.
	asked.Batch, asked.At = rand.Text(), time.Now().UnixMilli()
	var ids []string
	for by, handler := range parts {
		asked.By = by
		given, err := json.Marshal(asked)
		if err != nil {
			return "", err
		}
		spawned := fishway_task_tasks.Spawn(handler, string(given), wit_types.None[fishway_task_tasks.Options]())
		if spawned.IsErr() {
			return "", fmt.Errorf("%s cannot be spawned", handler)
		}
		ids = append(ids, spawned.Ok().Id)
	}
	waited := fishway_task_tasks.WaitAll(ids, wit_types.None[fishway_task_tasks.WaitOptions]())
	if waited.IsErr() {
		return "", fmt.Errorf("the wait for %v was refused", ids)
	}
	merged := output{Language: "Go", Batch: asked.Batch, Opened: opened, Started: asked.At}
	for _, outcome := range waited.Ok() {
		if outcome.Status != task.StatusCompleted {
			return "", fmt.Errorf("%s did not complete", outcome.Handler)
		}
		merged.Parts = append(merged.Parts, json.RawMessage(outcome.Output.Some()))
	}
	merged.Ended = time.Now().UnixMilli()
	given, err := json.Marshal(merged)
	return string(given), err
}
