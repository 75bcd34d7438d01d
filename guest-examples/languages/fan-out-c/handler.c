// Has handlers in five other languages add up a table, and puts their results together:
// {"path": "/data/penguins.csv"} becomes {"language": "C", "batch", "opened", "started", "ended", "parts": [...]}.
#include "task_handler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "json.h"

#define PARTS 5

static const char *const parts[PARTS][2] = {
    {"Island", "summarise-go"}, {"Sex", "summarise-js"},       {"Species", "summarise-python"},
    {"Stage", "summarise-rust"}, {"studyName", "summarise-ts"},
};

static long long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

// When this first ran: a replay or a later attempt reads the recorded value. Negative when it is refused.
static long long opened_ms(void) {
  task_handler_string_t name, value;
  task_handler_string_set(&name, "open");
  fishway_task_steps_option_json_t known;
  fishway_task_steps_error_t refused;
  if (!fishway_task_steps_begin(&name, &known, &refused)) return -1;
  char text[32];
  if (known.is_some) {
    snprintf(text, sizeof text, "%.*s", (int)known.val.len, (const char *)known.val.ptr);
    task_handler_string_free(&known.val);
    return atoll(text);
  }
  long long now = now_ms();
  snprintf(text, sizeof text, "%lld", now);
  task_handler_string_set(&value, text);
  return fishway_task_steps_complete(&name, &value, &refused) ? now : -1;
}

static bool fail(exports_fishway_task_handler_failure_t *failure, const char *format, const char *what) {
  char message[300];
  snprintf(message, sizeof message, format, what);
  task_handler_string_dup(&failure->message, message);
  // Another attempt would meet it again.
  failure->retryable = false;
  failure->details.is_some = false;
  return false;
}

static task_handler_string_t borrowed(json_text text) {
  return (task_handler_string_t){(uint8_t *)text.bytes, text.length};
}

bool exports_fishway_task_handler_run(exports_fishway_task_handler_json_t *input,
                                      exports_fishway_task_handler_json_t *output,
                                      exports_fishway_task_handler_failure_t *failure) {
  json_value path;
  if (!json_get((json_value){(const char *)input->ptr, input->len}, "path", &path)) {
    return fail(failure, "expected a %s", "path");
  }
  long long opened = opened_ms();
  if (opened < 0) return fail(failure, "step %s was refused", "open");
  // The same after a wait, though all of this may have been run again for that.
  unsigned long long batch;
  getentropy(&batch, sizeof batch);
  long long started = now_ms();

  fishway_task_tasks_task_id_t ids[PARTS];
  for (int i = 0; i < PARTS; i++) {
    json_text given = {0};
    json_add(&given, "{\"path\":%.*s,\"by\":\"%s\",", (int)path.length, path.start, parts[i][0]);
    json_add(&given, "\"batch\":\"%016llx\",\"at\":%lld,\"opened\":%lld}", batch, started, opened);
    task_handler_string_t handler, child = borrowed(given);
    task_handler_string_set(&handler, parts[i][1]);
    fishway_task_tasks_spawned_t spawned;
    fishway_task_tasks_error_t refused;
    if (!fishway_task_tasks_spawn(&handler, &child, NULL, &spawned, &refused)) {
      return fail(failure, "%s cannot be spawned", parts[i][1]);
    }
    ids[i] = spawned.id;
    free(given.bytes);
  }

  fishway_task_tasks_list_task_id_t all = {ids, PARTS};
  fishway_task_tasks_list_outcome_t outcomes;
  fishway_task_tasks_wait_error_t refused;
  if (!fishway_task_tasks_wait_all(&all, NULL, &outcomes, &refused)) {
    return fail(failure, "the %s was refused", "wait");
  }
  json_text text = {0};
  json_add(&text, "{\"language\":\"C\",\"batch\":\"%016llx\",\"opened\":%lld,\"started\":%lld,\"ended\":%lld,\"parts\":[",
           batch, opened, started, now_ms());
  for (size_t i = 0; i < outcomes.len; i++) {
    const fishway_task_tasks_outcome_t *outcome = &outcomes.ptr[i];
    if (outcome->status != FISHWAY_TASK_TYPES_STATUS_COMPLETED) {
      return fail(failure, "%s did not complete", parts[i][1]);
    }
    const task_handler_string_t *part = &outcome->output.val;
    json_add(&text, "%s%.*s", i ? "," : "", (int)part->len, (const char *)part->ptr);
  }
  json_add(&text, "]}");
  // The host frees it.
  *output = borrowed(text);
  return true;
}
