// Sends the requests that tests/web.rs expects of each language, and returns the results.
package export_fishway_task_handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.bytecodealliance.org/pkg/wit/types"
	task "web-go/bindings/fishway_task_types"
)

func Run(input string) wit_types.Result[string, task.Failure] {
	var asked struct {
		Client, Base, Refused, Untrusted string
		Bytes                            int64
	}
	if err := json.Unmarshal([]byte(input), &asked); err != nil {
		return wit_types.Err[string](task.Failure{Message: err.Error(), Details: wit_types.None[string]()})
	}
	var output any
	switch asked.Client {
	case "net/http":
		output = byClient(asked.Base, asked.Refused, asked.Untrusted)
	case "goroutines":
		output = together(asked.Base)
	default:
		output = long(asked.Base, asked.Bytes)
	}
	text, _ := json.Marshal(output)
	return wit_types.Ok[string, task.Failure](string(text))
}

// The result of a request, or its error: one of net/http is a *url.Error.
func said(value any, err error) any {
	if err == nil {
		return value
	}
	var failed *url.Error
	if errors.As(err, &failed) {
		return fmt.Sprintf("url.Error: %v: timeout %v", failed, failed.Timeout())
	}
	return err.Error()
}

func byClient(base, refused, untrusted string) map[string]any {
	item := strings.NewReader(`{"item": "lamp", "count": 2}`)
	hasty := &http.Client{Timeout: 100 * time.Millisecond}
	return map[string]any{
		"get":       said(decoded(http.Get(base + "/get"))),
		"post":      said(decoded(http.Post(base+"/post", "application/json", item))),
		"missing":   said(missing(base)),
		"stream":    said(parts(base)),
		"refused":   said(text(http.Get(refused))),
		"untrusted": said(text(http.Get(untrusted))),
		"timeout":   said(text(hasty.Get(base + "/slow"))),
		"broken":    said(text(http.Get(base + "/broken"))),
		"closed":    said(text(http.Get(base + "/closed"))),
	}
}

func decoded(response *http.Response, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var value any
	err = json.NewDecoder(response.Body).Decode(&value)
	return map[string]any{"status": response.StatusCode, "json": value}, err
}

func text(response *http.Response, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	bytes, err := io.ReadAll(response.Body)
	return string(bytes), err
}

func missing(base string) (any, error) {
	response, err := http.Get(base + "/missing")
	words, err := text(response, err)
	if err != nil {
		return nil, err
	}
	return map[string]any{"status": response.StatusCode, "text": words}, nil
}

func parts(base string) (any, error) {
	response, err := http.Get(base + "/stream")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var seen []string
	buffer := make([]byte, 1024)
	for {
		count, err := response.Body.Read(buffer)
		if count > 0 {
			seen = append(seen, string(buffer[:count]))
		}
		// The server continues after a report of the first part.
		if len(seen) == 1 && count > 0 {
			if _, err := text(http.Get(base + "/seen")); err != nil {
				return nil, err
			}
		}
		if err == io.EOF {
			return seen, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// Two requests that need each other: the server answers the first when it has the second. A third is aborted.
func together(base string) any {
	var all sync.WaitGroup
	said := make([]string, 3)
	ctx, cancel := context.WithCancel(context.Background())
	ask := func(at int, ctx context.Context, path string) {
		defer all.Done()
		request, _ := http.NewRequestWithContext(ctx, "GET", base+path, nil)
		words, err := text(http.DefaultClient.Do(request))
		said[at] = fmt.Sprint(words, " ", errors.Is(err, context.Canceled))
		if at == 1 {
			cancel()
		}
	}
	all.Add(3)
	go ask(0, context.Background(), "/stream")
	go ask(1, context.Background(), "/seen")
	go ask(2, ctx, "/slow")
	all.Wait()
	return said
}

// A long body, sent and read back: neither takes more memory than one part of it.
func long(base string, bytes int64) any {
	reader, writer := io.Pipe()
	go func() {
		part := make([]byte, 64<<10)
		for left := bytes; left > 0; left -= int64(len(part)) {
			writer.Write(part[:min(left, int64(len(part)))])
		}
		writer.Close()
	}()
	response, err := http.Post(base+"/long", "application/octet-stream", reader)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	count, err := io.Copy(io.Discard, response.Body)
	return map[string]any{"read": count, "error": err != nil}
}
