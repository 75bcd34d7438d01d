// Sends HTTP requests over wasi:http. `fishway build` writes this beside the bindings.
//
//   http_response *response;
//   http_error error = http_send(&(http_request){.url = "https://api.example.com/v1/orders"}, &response);
//   if (error) return fail(failure, "the shop: %s", http_error_text(error));
//   char *text = http_read_all(response, NULL);
//   http_close(response);
//
// The host connects, does TLS and checks certificates. The manifest says which servers are allowed.
#ifndef FISHWAY_HTTP_H
#define FISHWAY_HTTP_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
  const char *name;
  const char *value;
} http_header;

// Omitted members are zero.
typedef struct {
  const char *method;  // NULL: "GET"
  const char *url;
  const http_header *headers;
  size_t header_count;
  const void *body;  // NULL: none
  size_t body_length;
  uint32_t timeout_ms;  // of connecting, of the response, and of each part of its body; 0: none
} http_request;

typedef enum {
  HTTP_OK,           // no error
  HTTP_REFUSED,      // no grant of the manifest allows it
  HTTP_INVALID,      // the request is invalid
  HTTP_CONNECT,      // there is no such name, or the connection was refused
  HTTP_CERTIFICATE,  // the host does not trust the certificate of the server
  HTTP_TIMEOUT,
  HTTP_CLOSED,     // the connection ended before the response was complete
  HTTP_TOO_LARGE,  // a body is longer than its grant allows
  HTTP_OTHER,
} http_error;

typedef struct http_response http_response;

// Send a request, and wait for the head of the response, which the caller has to close.
http_error http_send(const http_request *request, http_response **response);

// Its status, such as 200.
int http_status(const http_response *response);

// The first header of a name, for the caller to free; NULL when there is none.
char *http_header_of(const http_response *response, const char *name);

// Read a part of the body as it arrives. At its end, *read is 0.
http_error http_read(http_response *response, void *buffer, size_t length, size_t *read);

// Read the rest of the body, for the caller to free, with a zero after it; NULL when that fails.
char *http_read_all(http_response *response, size_t *length);

// Release a response.
void http_close(http_response *response);

// What an error means.
const char *http_error_text(http_error error);

#endif
