package fishway_http

import (
	"context"
	"io"
	"unsafe"

	"MODULE/bindings/wasi_http_types"
	"MODULE/bindings/wasi_io_streams"
	"go.bytecodealliance.org/pkg/wit/runtime"
)

// The body of a response, read as it arrives.
type responseBody struct {
	ctx      context.Context
	response *wasi_http_types.IncomingResponse
	body     *wasi_http_types.IncomingBody
	stream   *wasi_io_streams.InputStream
	err      error
}

func (self *responseBody) Read(into []byte) (int, error) {
	if len(into) == 0 {
		return 0, nil
	}
	for self.err == nil {
		if err := self.ctx.Err(); err != nil {
			return 0, err
		}
		read := self.stream.Read(uint64(min(len(into), chunkBytes)))
		if read.IsErr() {
			self.err = ended(read.Err())
			break
		}
		if data := read.Ok(); len(data) > 0 {
			count := copy(into, data)
			// The host put it outside of Go's heap, where nothing is collected.
			runtime.GiveBack(unsafe.Pointer(unsafe.SliceData(data)), uintptr(len(data)))
			return count, nil
		}
		ready := self.stream.Subscribe()
		err := wait(self.ctx, ready)
		ready.Drop()
		if err != nil {
			return 0, err
		}
	}
	return 0, self.err
}

func (self *responseBody) Close() error {
	if self.stream == nil {
		return nil
	}
	self.stream.Drop()
	self.body.Drop()
	self.response.Drop()
	self.stream = nil
	self.err = io.ErrClosedPipe
	return nil
}

// The error of a stream.
func ended(err wasi_io_streams.StreamError) error {
	if err.Tag() == wasi_io_streams.StreamErrorClosed {
		return io.EOF
	}
	cause := err.LastOperationFailed()
	defer cause.Drop()
	if code := wasi_http_types.HttpErrorCode(cause); code.IsSome() {
		return errorOf(code.Some())
	}
	return io.ErrUnexpectedEOF
}

// Drop an error without new information.
func drop(err wasi_io_streams.StreamError) {
	if err.Tag() == wasi_io_streams.StreamErrorLastOperationFailed {
		err.LastOperationFailed().Drop()
	}
}
