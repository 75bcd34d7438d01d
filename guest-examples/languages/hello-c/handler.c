// Greets: {"name": "Ada"} becomes {"greeting": "Hello, Ada!"}.
#include "task_handler.h"

#include <stdio.h>
#include <stdlib.h>

#include "json.h"

bool exports_fishway_task_handler_run(exports_fishway_task_handler_json_t *input,
                                      exports_fishway_task_handler_json_t *output,
                                      exports_fishway_task_handler_failure_t *failure) {
  json_value value = {(const char *)input->ptr, input->len};
  char *name = NULL;
  if (json_get(value, "name", &value)) {
    name = json_string(value);
    if (!name) {
      task_handler_string_dup(&failure->message, "expected a text as name");
      failure->retryable = false;
      failure->details.is_some = false;
      return false;
    }
  }
  printf("greeting %s\n", name ? name : "world");
  char greeting[200];
  snprintf(greeting, sizeof greeting, "Hello, %s!", name ? name : "world");
  free(name);
  json_text text = {0};
  json_add(&text, "{\"greeting\":");
  json_add_string(&text, greeting);
  json_add(&text, "}");
  // The host frees it.
  output->ptr = (uint8_t *)text.bytes;
  output->len = text.length;
  exports_fishway_task_handler_json_free(input);
  return true;
}
