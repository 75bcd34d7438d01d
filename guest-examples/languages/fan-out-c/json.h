// Reads and writes JSON, as little as a handler needs. What the host gives is valid JSON.
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>

// A value, as a piece of the text that it stands in.
typedef struct {
  const char *start;
  size_t length;
} json_value;

// Text in the making; begins as {0}. Its bytes are the caller's to free.
typedef struct {
  char *bytes;
  size_t length;
  size_t capacity;
} json_text;

// The value of a key; false when this is no object, or has no such key.
bool json_get(json_value object, const char *key, json_value *value);

// The text of a string, for the caller to free; NULL when it is none.
char *json_string(json_value value);

// Add JSON as it is: json_add(&text, "{\"a\": %d}", 1).
void json_add(json_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Add a string, with its quotes.
void json_add_string(json_text *text, const char *string);

#endif
