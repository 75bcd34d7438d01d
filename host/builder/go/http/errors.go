package fishway_http

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"

	"MODULE/bindings/wasi_http_types"
)

// The Go error for one of wasi:http. net/http puts it into a *url.Error.
func errorOf(code wasi_http_types.ErrorCode) error {
	switch code.Tag() {
	case wasi_http_types.ErrorCodeHttpRequestDenied:
		return fmt.Errorf(
			"no [[grants.http]] of the manifest allows this request; the log of the task has the lines to add: %w",
			fs.ErrPermission,
		)
	case wasi_http_types.ErrorCodeDnsTimeout, wasi_http_types.ErrorCodeDnsError:
		return &net.DNSError{Err: "no such host", IsNotFound: true}
	case wasi_http_types.ErrorCodeDestinationNotFound, wasi_http_types.ErrorCodeDestinationUnavailable,
		wasi_http_types.ErrorCodeDestinationIpProhibited, wasi_http_types.ErrorCodeDestinationIpUnroutable:
		return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.EHOSTUNREACH}
	case wasi_http_types.ErrorCodeConnectionRefused:
		return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case wasi_http_types.ErrorCodeConnectionTimeout, wasi_http_types.ErrorCodeConnectionReadTimeout,
		wasi_http_types.ErrorCodeConnectionWriteTimeout, wasi_http_types.ErrorCodeHttpResponseTimeout:
		return os.ErrDeadlineExceeded
	case wasi_http_types.ErrorCodeConnectionTerminated, wasi_http_types.ErrorCodeHttpResponseIncomplete:
		return io.ErrUnexpectedEOF
	case wasi_http_types.ErrorCodeTlsCertificateError:
		return &tls.CertificateVerificationError{Err: errors.New("the host does not trust it")}
	case wasi_http_types.ErrorCodeTlsProtocolError, wasi_http_types.ErrorCodeTlsAlertReceived:
		return errors.New("tls: handshake failure")
	case wasi_http_types.ErrorCodeHttpRequestBodySize:
		return errors.New("the body of the request is longer than its grant allows, or not as long as was said")
	case wasi_http_types.ErrorCodeHttpResponseBodySize:
		return errors.New("the body of the response is longer than its grant allows")
	case wasi_http_types.ErrorCodeInternalError:
		if said := code.InternalError(); said.IsSome() {
			return errors.New(said.Some())
		}
	}
	return fmt.Errorf("the exchange failed with error %d of wasi:http", code.Tag())
}
