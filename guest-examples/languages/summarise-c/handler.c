// Adds up the body masses of a table by one of its columns: {"path": "/data/penguins.csv", "by": "Island"} becomes
// {"language": "C", "by": "Island", "rows": 344, "groups": [{"name", "count", "sum", "min", "max"}, ...]}.
#include "task_handler.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csv.h"
#include "json.h"

#define GROUPS_MAX 1000

typedef struct {
  char *name;
  long count, sum, min, max;
} group;

typedef struct {
  long rows;
  size_t count;
  group groups[GROUPS_MAX];
} table;

static int by_name(const void *one, const void *other) {
  return strcmp(((const group *)one)->name, ((const group *)other)->name);
}

static group *find(table *table, const char *name) {
  for (size_t i = 0; i < table->count; i++) {
    if (strcmp(table->groups[i].name, name) == 0) return &table->groups[i];
  }
  if (table->count == GROUPS_MAX) return NULL;
  group *fresh = &table->groups[table->count++];
  *fresh = (group){.name = strdup(name)};
  return fresh;
}

static int column(const csv_row *row, const char *name) {
  for (size_t i = 0; i < row->count; i++) {
    if (strcmp(row->fields[i], name) == 0) return (int)i;
  }
  return -1;
}

// What is wrong, or NULL.
static const char *summarise(FILE *file, const char *by_what, table *table) {
  static csv_row row;
  if (csv_read(file, &row) != 1) return "the table is empty";
  int by = column(&row, by_what), mass = column(&row, "Body Mass (g)");
  if (by < 0 || mass < 0) return "there is no such column";
  int read;
  while ((read = csv_read(file, &row)) == 1) {
    if ((size_t)by >= row.count || (size_t)mass >= row.count) return "a row is too short";
    table->rows++;
    if (strcmp(row.fields[mass], "NA") == 0) continue;
    long grams = strtol(row.fields[mass], NULL, 10);
    group *group = find(table, row.fields[by]);
    if (!group) return "there are too many groups";
    if (group->count == 0 || grams < group->min) group->min = grams;
    if (grams > group->max) group->max = grams;
    group->count++;
    group->sum += grams;
  }
  if (read < 0) return "a row is too long";
  qsort(table->groups, table->count, sizeof(group), by_name);
  return NULL;
}

bool exports_fishway_task_handler_run(exports_fishway_task_handler_json_t *input,
                                      exports_fishway_task_handler_json_t *output,
                                      exports_fishway_task_handler_failure_t *failure) {
  json_value asked = {(const char *)input->ptr, input->len}, value;
  char *path = json_get(asked, "path", &value) ? json_string(value) : NULL;
  char *by = json_get(asked, "by", &value) ? json_string(value) : NULL;
  static table table;
  const char *wrong = "expected {\"path\": ..., \"by\": ...}";
  if (path && by) {
    FILE *file = fopen(path, "r");
    wrong = file ? summarise(file, by, &table) : strerror(errno);
    if (file) fclose(file);
  }
  json_text text = {0};
  if (wrong) {
    // Another attempt would meet it again.
    json_add(&text, "%s: %s", path ? path : "the input", wrong);
    failure->message = (task_handler_string_t){(uint8_t *)text.bytes, text.length};
    failure->retryable = false;
    failure->details.is_some = false;
    return false;
  }
  json_add(&text, "{\"language\":\"C\",\"by\":");
  json_add_string(&text, by);
  json_add(&text, ",\"rows\":%ld,\"groups\":[", table.rows);
  for (size_t i = 0; i < table.count; i++) {
    const group *group = &table.groups[i];
    json_add(&text, i ? ",{\"name\":" : "{\"name\":");
    json_add_string(&text, group->name);
    json_add(&text, ",\"count\":%ld,\"sum\":%ld,\"min\":%ld,\"max\":%ld}", group->count, group->sum,
             group->min, group->max);
  }
  json_add(&text, "]}");
  // The host frees it.
  output->ptr = (uint8_t *)text.bytes;
  output->len = text.length;
  return true;
}
