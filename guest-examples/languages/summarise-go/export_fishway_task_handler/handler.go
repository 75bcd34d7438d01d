// Adds up the body masses of a table by one of its columns: {"path": "/data/penguins.csv", "by": "Island"} becomes
// {"language": "Go", "by": "Island", "rows": 344, "groups": [{"name", "count", "sum", "min", "max"}, ...]}.
package export_fishway_task_handler

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.bytecodealliance.org/pkg/wit/types"
	task "summarise-go/bindings/fishway_task_types"
)

type input struct{ Path, By string }

type summary struct {
	Language string   `json:"language"`
	By       string   `json:"by"`
	Rows     int      `json:"rows"`
	Groups   []*group `json:"groups"`
}

type group struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
	Sum   int    `json:"sum"`
	Min   int    `json:"min"`
	Max   int    `json:"max"`
}

func Run(input string) wit_types.Result[string, task.Failure] {
	output, err := run(input)
	if err != nil {
		// Another attempt would meet it again.
		return wit_types.Err[string](task.Failure{
			Message: err.Error(), Retryable: false, Details: wit_types.None[string](),
		})
	}
	return wit_types.Ok[string, task.Failure](output)
}

func run(text string) (string, error) {
	var asked input
	if err := json.Unmarshal([]byte(text), &asked); err != nil {
		return "", err
	}
	found, err := summarise(asked)
	if err != nil {
		return "", err
	}
	output, err := json.Marshal(found)
	return string(output), err
}

func summarise(asked input) (*summary, error) {
	file, err := os.Open(asked.Path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", asked.Path, err)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s is empty", asked.Path)
	}
	by, mass := slices.Index(rows[0], asked.By), slices.Index(rows[0], "Body Mass (g)")
	if by < 0 || mass < 0 {
		return nil, fmt.Errorf("%s has no column %s", asked.Path, asked.By)
	}
	groups := map[string]*group{}
	for _, row := range rows[1:] {
		grams, err := strconv.Atoi(row[mass])
		if err != nil {
			continue
		}
		known, ok := groups[row[by]]
		if !ok {
			known = &group{Name: row[by], Min: grams, Max: grams}
			groups[row[by]] = known
		}
		known.Count++
		known.Sum += grams
		known.Min = min(known.Min, grams)
		known.Max = max(known.Max, grams)
	}
	found := &summary{Language: "Go", By: asked.By, Rows: len(rows) - 1}
	for _, group := range groups {
		found.Groups = append(found.Groups, group)
	}
	slices.SortFunc(found.Groups, func(one, other *group) int { return strings.Compare(one.Name, other.Name) })
	return found, nil
}
