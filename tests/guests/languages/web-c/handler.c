// Sends the requests that tests/web.rs expects of each language, and returns the results.
#include "task_handler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fishway_http.h"
#include "json.h"

static const char *base;

// Send a request to a path of the server, or to a whole URL.
static http_error ask(http_request request, const char *path, http_response **response) {
  char url[300];
  snprintf(url, sizeof url, "%s%s", path[0] == '/' ? base : "", path);
  request.url = url;
  return http_send(&request, response);
}

// {"status", KEY}, with the body as JSON or as text; or the error.
static void answered(json_text *output, const char *name, http_request request, const char *path, const char *key) {
  json_add(output, "\"%s\":", name);
  http_response *response;
  http_error error = ask(request, path, &response);
  if (error) {
    json_add_string(output, http_error_text(error));
    json_add(output, ",");
    return;
  }
  char *body = http_read_all(response, NULL);
  if (!body) {
    json_add(output, "\"the body broke off\",");
  } else {
    json_add(output, "{\"status\":%d,\"%s\":", http_status(response), key);
    if (strcmp(key, "json") == 0) {
      json_add(output, "%s", body);
    } else {
      json_add_string(output, body);
    }
    json_add(output, "},");
  }
  free(body);
  http_close(response);
}

static void parts(json_text *output) {
  json_add(output, "\"stream\":[");
  http_response *response, *seen;
  if (ask((http_request){0}, "/stream", &response)) return;
  char part[100];
  size_t count = 0, read;
  while (http_read(response, part, sizeof part - 1, &read) == HTTP_OK && read > 0) {
    part[read] = 0;
    if (count++) json_add(output, ",");
    json_add_string(output, part);
    // The server continues after a report of the first part.
    if (count == 1 && ask((http_request){0}, "/seen", &seen) == HTTP_OK) http_close(seen);
  }
  http_close(response);
  json_add(output, "],");
}

static char *text_of(json_value input, const char *key) {
  json_value value;
  return json_get(input, key, &value) ? json_string(value) : NULL;
}

bool exports_fishway_task_handler_run(exports_fishway_task_handler_json_t *input,
                                      exports_fishway_task_handler_json_t *output,
                                      exports_fishway_task_handler_failure_t *failure) {
  (void)failure;
  json_value value = {(const char *)input->ptr, input->len};
  base = text_of(value, "base");
  http_request get = {0}, hasty = {.timeout_ms = 100};
  const char *item = "{\"item\": \"lamp\", \"count\": 2}";
  http_header type = {"content-type", "application/json"};
  http_request post = {
      .method = "POST", .headers = &type, .header_count = 1, .body = item, .body_length = strlen(item)};
  json_text text = {0};
  json_add(&text, "{");
  answered(&text, "get", get, "/get", "json");
  answered(&text, "post", post, "/post", "json");
  answered(&text, "missing", get, "/missing", "text");
  parts(&text);
  answered(&text, "refused", get, text_of(value, "refused"), "text");
  answered(&text, "untrusted", get, text_of(value, "untrusted"), "text");
  answered(&text, "timeout", hasty, "/slow", "text");
  answered(&text, "broken", get, "/broken", "text");
  answered(&text, "closed", get, "/closed", "text");
  json_add(&text, "\"language\":\"C\"}");
  // The host frees it.
  output->ptr = (uint8_t *)text.bytes;
  output->len = text.length;
  exports_fishway_task_handler_json_free(input);
  return true;
}
