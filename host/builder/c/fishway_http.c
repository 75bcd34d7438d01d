// The client of fishway_http.h. A handler that does not use it contains none of it.
#include "fishway_http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "task_handler.h"

// Bytes of a body that are passed at a time.
#define CHUNK_BYTES (64 * 1024)

struct http_response {
  int status;
  bool ended;
  wasi_http_types_own_incoming_response_t response;
  wasi_http_types_own_incoming_body_t body;
  wasi_io_streams_own_input_stream_t stream;
};

static http_error error_of(wasi_http_types_error_code_t *code) {
  http_error error = HTTP_OTHER;
  switch (code->tag) {
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_REQUEST_DENIED:
      error = HTTP_REFUSED;
      break;
    case WASI_HTTP_TYPES_ERROR_CODE_DNS_TIMEOUT:
    case WASI_HTTP_TYPES_ERROR_CODE_DNS_ERROR:
    case WASI_HTTP_TYPES_ERROR_CODE_DESTINATION_NOT_FOUND:
    case WASI_HTTP_TYPES_ERROR_CODE_DESTINATION_UNAVAILABLE:
    case WASI_HTTP_TYPES_ERROR_CODE_DESTINATION_IP_PROHIBITED:
    case WASI_HTTP_TYPES_ERROR_CODE_DESTINATION_IP_UNROUTABLE:
    case WASI_HTTP_TYPES_ERROR_CODE_CONNECTION_REFUSED:
      error = HTTP_CONNECT;
      break;
    case WASI_HTTP_TYPES_ERROR_CODE_TLS_CERTIFICATE_ERROR:
      error = HTTP_CERTIFICATE;
      break;
    case WASI_HTTP_TYPES_ERROR_CODE_CONNECTION_TIMEOUT:
    case WASI_HTTP_TYPES_ERROR_CODE_CONNECTION_READ_TIMEOUT:
    case WASI_HTTP_TYPES_ERROR_CODE_CONNECTION_WRITE_TIMEOUT:
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_RESPONSE_TIMEOUT:
      error = HTTP_TIMEOUT;
      break;
    case WASI_HTTP_TYPES_ERROR_CODE_CONNECTION_TERMINATED:
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_RESPONSE_INCOMPLETE:
      error = HTTP_CLOSED;
      break;
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_REQUEST_BODY_SIZE:
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_RESPONSE_BODY_SIZE:
      error = HTTP_TOO_LARGE;
      break;
  }
  wasi_http_types_error_code_free(code);
  return error;
}

static http_error ended(wasi_io_streams_stream_error_t *error) {
  if (error->tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED) return HTTP_CLOSED;
  wasi_io_streams_own_error_t cause = error->val.last_operation_failed;
  wasi_http_types_error_code_t code;
  bool known = wasi_http_types_http_error_code(wasi_io_error_borrow_error(cause), &code);
  wasi_io_error_error_drop_own(cause);
  return known ? error_of(&code) : HTTP_OTHER;
}

static void wait_for(wasi_io_poll_own_pollable_t ready) {
  wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(ready));
  wasi_io_poll_pollable_drop_own(ready);
}

static task_handler_string_t text(const char *bytes, size_t length) {
  return (task_handler_string_t){(uint8_t *)bytes, length};
}

static bool add_header(wasi_http_types_own_fields_t fields, const char *name, const char *value) {
  task_handler_string_t key = text(name, strlen(name));
  wasi_http_types_field_value_t bytes = {(uint8_t *)value, strlen(value)};
  wasi_http_types_header_error_t refused;
  return wasi_http_types_method_fields_append(wasi_http_types_borrow_fields(fields), &key, &bytes, &refused);
}

static void number(char *into, size_t value) {
  char digits[24];
  size_t count = 0;
  do digits[count++] = (char)('0' + value % 10);
  while (value /= 10);
  while (count) *into++ = digits[--count];
  *into = 0;
}

static void set_method(const char *name, wasi_http_types_method_t *method) {
  static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
  if (!name) name = "GET";
  for (uint8_t tag = 0; tag < sizeof known / sizeof *known; tag++) {
    if (strcmp(name, known[tag]) == 0) {
      method->tag = tag;
      return;
    }
  }
  method->tag = WASI_HTTP_TYPES_METHOD_OTHER;
  method->val.other = text(name, strlen(name));
}

// The request without its body. False if it is invalid.
static bool make(const http_request *asked, wasi_http_types_own_outgoing_request_t *made) {
  wasi_http_types_scheme_t scheme;
  const char *rest;
  if (strncmp(asked->url, "https://", 8) == 0) {
    scheme.tag = WASI_HTTP_TYPES_SCHEME_HTTPS;
    rest = asked->url + 8;
  } else if (strncmp(asked->url, "http://", 7) == 0) {
    scheme.tag = WASI_HTTP_TYPES_SCHEME_HTTP;
    rest = asked->url + 7;
  } else {
    return false;
  }
  wasi_http_types_own_fields_t fields = wasi_http_types_constructor_fields();
  bool fits = true;
  for (size_t i = 0; i < asked->header_count; i++) {
    fits = fits && add_header(fields, asked->headers[i].name, asked->headers[i].value);
  }
  if (asked->body) {
    char length[24];
    number(length, asked->body_length);
    fits = fits && add_header(fields, "content-length", length);
  }
  *made = wasi_http_types_constructor_outgoing_request(fields);
  wasi_http_types_borrow_outgoing_request_t request = wasi_http_types_borrow_outgoing_request(*made);
  wasi_http_types_method_t method;
  set_method(asked->method, &method);
  size_t host = strcspn(rest, "/?#");
  size_t length = strcspn(rest + host, "#");
  char *path = malloc(length + 2);
  if (!path) abort();
  path[0] = '/';
  // The query of a URL may follow directly after the host.
  size_t skipped = rest[host] == '/' ? 1 : 0;
  memcpy(path + 1, rest + host + skipped, length - skipped);
  task_handler_string_t authority = text(rest, host), place = text(path, length - skipped + 1);
  fits = fits && wasi_http_types_method_outgoing_request_set_method(request, &method) &&
         wasi_http_types_method_outgoing_request_set_scheme(request, &scheme) &&
         wasi_http_types_method_outgoing_request_set_authority(request, &authority) &&
         wasi_http_types_method_outgoing_request_set_path_with_query(request, &place);
  free(path);
  if (!fits) wasi_http_types_outgoing_request_drop_own(*made);
  return fits;
}

static wasi_http_types_own_request_options_t times(uint32_t timeout_ms) {
  wasi_http_types_own_request_options_t made = wasi_http_types_constructor_request_options();
  if (timeout_ms) {
    wasi_http_types_borrow_request_options_t options = wasi_http_types_borrow_request_options(made);
    wasi_http_types_duration_t nanos = (uint64_t)timeout_ms * 1000000;
    wasi_http_types_method_request_options_set_connect_timeout(options, &nanos);
    wasi_http_types_method_request_options_set_first_byte_timeout(options, &nanos);
    wasi_http_types_method_request_options_set_between_bytes_timeout(options, &nanos);
  }
  return made;
}

// Pass a body to the host, as fast as the host accepts it. When it accepts no more, the response has the error.
static void write_body(wasi_http_types_own_outgoing_body_t body, const uint8_t *bytes, size_t length) {
  wasi_io_streams_own_output_stream_t stream;
  if (wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(body), &stream)) {
    wasi_io_streams_borrow_output_stream_t output = wasi_io_streams_borrow_output_stream(stream);
    wasi_io_streams_stream_error_t error;
    while (length > 0) {
      uint64_t room;
      if (!wasi_io_streams_method_output_stream_check_write(output, &room, &error)) {
        ended(&error);
        break;
      }
      if (room == 0) {
        wait_for(wasi_io_streams_method_output_stream_subscribe(output));
        continue;
      }
      size_t size = room < length ? (size_t)room : length;
      task_handler_list_u8_t part = {(uint8_t *)bytes, size};
      if (!wasi_io_streams_method_output_stream_write(output, &part, &error)) {
        ended(&error);
        break;
      }
      bytes += size;
      length -= size;
    }
    wasi_io_streams_output_stream_drop_own(stream);
  }
  wasi_http_types_error_code_t code;
  if (!wasi_http_types_static_outgoing_body_finish(body, NULL, &code)) wasi_http_types_error_code_free(&code);
}

static http_error received(wasi_http_types_own_incoming_response_t response, http_response **given) {
  wasi_http_types_borrow_incoming_response_t borrowed = wasi_http_types_borrow_incoming_response(response);
  http_response *made = calloc(1, sizeof *made);
  if (!made) abort();
  made->response = response;
  made->status = wasi_http_types_method_incoming_response_status(borrowed);
  // Neither was taken before.
  if (!wasi_http_types_method_incoming_response_consume(borrowed, &made->body)) abort();
  if (!wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(made->body), &made->stream)) {
    abort();
  }
  *given = made;
  return HTTP_OK;
}

http_error http_send(const http_request *request, http_response **response) {
  wasi_http_types_own_outgoing_request_t made;
  if (!request->url || !make(request, &made)) return HTTP_INVALID;
  wasi_http_types_own_outgoing_body_t body;
  bool has_body = request->body && wasi_http_types_method_outgoing_request_body(
                                       wasi_http_types_borrow_outgoing_request(made), &body);
  wasi_http_types_own_request_options_t options = times(request->timeout_ms);
  wasi_http_types_own_future_incoming_response_t future;
  wasi_http_types_error_code_t code;
  if (!wasi_http_outgoing_handler_handle(made, &options, &future, &code)) {
    if (has_body) wasi_http_types_outgoing_body_drop_own(body);
    return error_of(&code);
  }
  if (has_body) write_body(body, request->body, request->body_length);
  wasi_http_types_borrow_future_incoming_response_t waited = wasi_http_types_borrow_future_incoming_response(future);
  wasi_http_types_result_result_own_incoming_response_error_code_void_t answer;
  while (!wasi_http_types_method_future_incoming_response_get(waited, &answer)) {
    wait_for(wasi_http_types_method_future_incoming_response_subscribe(waited));
  }
  http_error error;
  if (answer.is_err) {
    error = HTTP_OTHER;
  } else if (answer.val.ok.is_err) {
    error = error_of(&answer.val.ok.val.err);
  } else {
    error = received(answer.val.ok.val.ok, response);
  }
  wasi_http_types_future_incoming_response_drop_own(future);
  return error;
}

int http_status(const http_response *response) { return response->status; }

char *http_header_of(const http_response *response, const char *name) {
  wasi_http_types_own_fields_t fields =
      wasi_http_types_method_incoming_response_headers(wasi_http_types_borrow_incoming_response(response->response));
  task_handler_string_t key = text(name, strlen(name));
  wasi_http_types_list_field_value_t values;
  wasi_http_types_method_fields_get(wasi_http_types_borrow_fields(fields), &key, &values);
  char *value = NULL;
  if (values.len > 0) {
    value = malloc(values.ptr[0].len + 1);
    if (!value) abort();
    memcpy(value, values.ptr[0].ptr, values.ptr[0].len);
    value[values.ptr[0].len] = 0;
  }
  wasi_http_types_list_field_value_free(&values);
  wasi_http_types_fields_drop_own(fields);
  return value;
}

http_error http_read(http_response *response, void *buffer, size_t length, size_t *read) {
  *read = 0;
  if (response->ended || length == 0) return HTTP_OK;
  task_handler_list_u8_t part;
  wasi_io_streams_stream_error_t error;
  size_t most = length < CHUNK_BYTES ? length : CHUNK_BYTES;
  wasi_io_streams_borrow_input_stream_t stream = wasi_io_streams_borrow_input_stream(response->stream);
  if (!wasi_io_streams_method_input_stream_blocking_read(stream, most, &part, &error)) {
    response->ended = true;
    return error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED ? HTTP_OK : ended(&error);
  }
  memcpy(buffer, part.ptr, part.len);
  *read = part.len;
  task_handler_list_u8_free(&part);
  return HTTP_OK;
}

char *http_read_all(http_response *response, size_t *length) {
  size_t used = 0, room = CHUNK_BYTES, read;
  char *whole = malloc(room + 1);
  if (!whole) abort();
  for (;;) {
    if (http_read(response, whole + used, room - used, &read) != HTTP_OK) {
      free(whole);
      return NULL;
    }
    used += read;
    if (read == 0) break;
    if (used == room) {
      whole = realloc(whole, (room *= 2) + 1);
      if (!whole) abort();
    }
  }
  whole[used] = 0;
  if (length) *length = used;
  return whole;
}

void http_close(http_response *response) {
  if (!response) return;
  wasi_io_streams_input_stream_drop_own(response->stream);
  wasi_http_types_incoming_body_drop_own(response->body);
  wasi_http_types_incoming_response_drop_own(response->response);
  free(response);
}

const char *http_error_text(http_error error) {
  switch (error) {
    case HTTP_OK:
      return "no error";
    case HTTP_REFUSED:
      return "no [[grants.http]] of the manifest allows this request; the log of the task has the lines to add";
    case HTTP_INVALID:
      return "the request is invalid: its URL or a header cannot be sent";
    case HTTP_CONNECT:
      return "cannot connect to the server";
    case HTTP_CERTIFICATE:
      return "the certificate of the server is not trusted";
    case HTTP_TIMEOUT:
      return "the server took too long";
    case HTTP_CLOSED:
      return "the connection ended before the response was complete";
    case HTTP_TOO_LARGE:
      return "a body is longer than its grant allows";
    case HTTP_OTHER:
      break;
  }
  return "the request has failed";
}
