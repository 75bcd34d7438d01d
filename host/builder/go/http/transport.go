// Package fishway_http sends the requests of net/http over wasi:http. A build adds it to each handler that uses
// net/http; then http.Get, http.DefaultClient and every http.Client without a Transport of its own use it.
//
// The host connects, does TLS and checks certificates. The manifest says which servers are allowed.
package fishway_http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.bytecodealliance.org/pkg/wit/types"
	"MODULE/bindings/wasi_http_outgoing_handler"
	"MODULE/bindings/wasi_http_types"
)

// Bytes of a body that are passed at a time.
const chunkBytes = 32 << 10

// Headers of the connection, not of a message: the host sets its own.
var ofConnection = map[string]bool{
	"Connection": true, "Host": true, "Http2-Settings": true, "Keep-Alive": true, "Proxy-Authenticate": true,
	"Proxy-Authorization": true, "Proxy-Connection": true, "Te": true, "Trailer": true, "Transfer-Encoding": true,
	"Upgrade": true,
}

func init() {
	// It stays an *http.Transport, because libraries expect one.
	ours := &http.Transport{
		Protocols:   new(http.Protocols),
		DialContext: noSockets,
	}
	ours.Protocols.SetHTTP1(true)
	ours.RegisterProtocol("http", transport{})
	ours.RegisterProtocol("https", transport{})
	http.DefaultTransport = ours
}

func noSockets(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("a handler has no sockets: use an http.Client without a Transport of its own, or with http.DefaultTransport")
}

// The http.RoundTripper over wasi:http.
type transport struct{}

func (transport) RoundTrip(request *http.Request) (*http.Response, error) {
	future, err := send(request)
	if request.Body != nil {
		request.Body.Close()
	}
	if err != nil {
		return nil, err
	}
	defer future.Drop()
	for {
		answer := future.Get()
		if answer.IsSome() {
			return received(request, answer.Some().Ok())
		}
		ready := future.Subscribe()
		err := wait(request.Context(), ready)
		ready.Drop()
		if err != nil {
			return nil, err
		}
	}
}

// Pass a request to the host, with its body.
func send(request *http.Request) (*wasi_http_types.FutureIncomingResponse, error) {
	outgoing, err := head(request)
	if err != nil {
		return nil, err
	}
	var body *wasi_http_types.OutgoingBody
	if request.Body != nil && request.Body != http.NoBody {
		body = outgoing.Body().Ok()
	}
	options := wit_types.None[*wasi_http_types.RequestOptions]()
	handled := wasi_http_outgoing_handler.Handle(outgoing, options)
	if handled.IsErr() {
		if body != nil {
			body.Drop()
		}
		return nil, errorOf(handled.Err())
	}
	future := handled.Ok()
	if body == nil {
		return future, nil
	}
	if err := write(request.Context(), request.Body, body); err != nil {
		body.Drop()
		future.Drop()
		return nil, err
	}
	// The body does not have the declared length; the response has the error.
	wasi_http_types.OutgoingBodyFinish(body, wit_types.None[*wasi_http_types.Fields]())
	return future, nil
}

func head(request *http.Request) (*wasi_http_types.OutgoingRequest, error) {
	fields := wasi_http_types.MakeFields()
	for name, values := range request.Header {
		if ofConnection[http.CanonicalHeaderKey(name)] {
			continue
		}
		for _, value := range values {
			if fields.Append(strings.ToLower(name), bytes(value)).IsErr() {
				fields.Drop()
				return nil, fmt.Errorf("the header %s cannot be sent", name)
			}
		}
	}
	if request.ContentLength > 0 {
		fields.Append("content-length", bytes(strconv.FormatInt(request.ContentLength, 10)))
	}
	outgoing := wasi_http_types.MakeOutgoingRequest(fields)
	scheme := wasi_http_types.MakeSchemeHttps()
	if request.URL.Scheme == "http" {
		scheme = wasi_http_types.MakeSchemeHttp()
	}
	if outgoing.SetMethod(method(request.Method)).IsErr() ||
		outgoing.SetScheme(wit_types.Some(scheme)).IsErr() ||
		outgoing.SetAuthority(wit_types.Some(request.URL.Host)).IsErr() ||
		outgoing.SetPathWithQuery(wit_types.Some(request.URL.RequestURI())).IsErr() {
		outgoing.Drop()
		return nil, fmt.Errorf("%s %s cannot be a request", request.Method, request.URL.Redacted())
	}
	return outgoing, nil
}

// The bytes of a text; an empty one has an address, too.
func bytes(text string) []byte {
	return append(make([]byte, 0, len(text)+1), text...)
}

func method(name string) wasi_http_types.Method {
	switch name {
	case "", http.MethodGet:
		return wasi_http_types.MakeMethodGet()
	case http.MethodHead:
		return wasi_http_types.MakeMethodHead()
	case http.MethodPost:
		return wasi_http_types.MakeMethodPost()
	case http.MethodPut:
		return wasi_http_types.MakeMethodPut()
	case http.MethodDelete:
		return wasi_http_types.MakeMethodDelete()
	case http.MethodOptions:
		return wasi_http_types.MakeMethodOptions()
	case http.MethodTrace:
		return wasi_http_types.MakeMethodTrace()
	case http.MethodPatch:
		return wasi_http_types.MakeMethodPatch()
	}
	return wasi_http_types.MakeMethodOther(name)
}

// Copy a body to the host as it arrives, as fast as the host accepts it.
func write(ctx context.Context, from io.Reader, body *wasi_http_types.OutgoingBody) error {
	output := body.Write().Ok()
	defer output.Drop()
	buffer := make([]byte, chunkBytes)
	for {
		count, err := from.Read(buffer)
		for part := buffer[:count]; len(part) > 0; {
			room := output.CheckWrite()
			if room.IsErr() {
				drop(room.Err())
				// The host accepts no more: the response has the error.
				return nil
			}
			if room.Ok() == 0 {
				ready := output.Subscribe()
				err := wait(ctx, ready)
				ready.Drop()
				if err != nil {
					return err
				}
				continue
			}
			size := min(uint64(len(part)), room.Ok())
			if written := output.Write(part[:size]); written.IsErr() {
				drop(written.Err())
				return nil
			}
			part = part[size:]
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// The response: its head, and its body as it arrives.
func received(
	request *http.Request,
	answer wit_types.Result[*wasi_http_types.IncomingResponse, wasi_http_types.ErrorCode],
) (*http.Response, error) {
	if answer.IsErr() {
		return nil, errorOf(answer.Err())
	}
	incoming := answer.Ok()
	header := http.Header{}
	fields := incoming.Headers()
	for _, entry := range fields.Entries() {
		name := http.CanonicalHeaderKey(strings.Clone(entry.F0))
		if !ofConnection[name] {
			header[name] = append(header[name], string(entry.F1))
		}
	}
	fields.Drop()
	length := int64(-1)
	if said, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64); err == nil {
		length = said
	}
	status := int(incoming.Status())
	consumed := incoming.Consume().Ok()
	return &http.Response{
		Status:        strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status))),
		StatusCode:    status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		ContentLength: length,
		Body: &responseBody{
			ctx: request.Context(), response: incoming, body: consumed, stream: consumed.Stream().Ok(),
		},
		Request: request,
	}, nil
}

// Time until the deadline of a context, if it has one.
func remaining(ctx context.Context) (time.Duration, bool) {
	deadline, has := ctx.Deadline()
	return time.Until(deadline), has
}
