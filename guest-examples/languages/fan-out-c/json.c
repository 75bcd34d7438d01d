#include "json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *skip_space(const char *at, const char *end) {
  while (at < end && strchr(" \t\r\n", *at)) at++;
  return at;
}

// Past the string that begins here.
static const char *skip_string(const char *at, const char *end) {
  for (at++; at < end && *at != '"'; at++) {
    if (*at == '\\') at++;
  }
  return at < end ? at + 1 : end;
}

// Past the value that begins here.
static const char *skip_value(const char *at, const char *end) {
  int depth = 0;
  while (at < end) {
    if (*at == '"') {
      at = skip_string(at, end);
    } else if (*at == '{' || *at == '[') {
      depth++, at++;
    } else if (*at == '}' || *at == ']') {
      if (depth == 0) return at;
      depth--, at++;
    } else if (depth == 0 && strchr(",: \t\r\n", *at)) {
      return at;
    } else {
      at++;
      continue;
    }
    if (depth == 0) return at;
  }
  return end;
}

bool json_get(json_value object, const char *key, json_value *value) {
  const char *end = object.start + object.length;
  const char *at = skip_space(object.start, end);
  if (at == end || *at != '{') return false;
  for (at = skip_space(at + 1, end); at < end && *at == '"';) {
    const char *name = at;
    at = skip_string(at, end);
    char *decoded = json_string((json_value){name, (size_t)(at - name)});
    bool found = decoded && strcmp(decoded, key) == 0;
    free(decoded);
    at = skip_space(at, end);
    if (at < end && *at == ':') at = skip_space(at + 1, end);
    const char *start = at;
    at = skip_value(at, end);
    if (found) {
      *value = (json_value){start, (size_t)(at - start)};
      return true;
    }
    at = skip_space(at, end);
    if (at < end && *at == ',') at = skip_space(at + 1, end);
  }
  return false;
}

// Four hexadecimal digits.
static unsigned hexadecimal(const char *at, const char *end) {
  char digits[5] = {0};
  for (int i = 0; i < 4 && at + i < end; i++) digits[i] = at[i];
  return (unsigned)strtoul(digits, NULL, 16);
}

static char *put_utf8(char *to, unsigned code) {
  if (code < 0x80) {
    *to++ = (char)code;
  } else if (code < 0x800) {
    *to++ = (char)(0xc0 | code >> 6);
    *to++ = (char)(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    *to++ = (char)(0xe0 | code >> 12);
    *to++ = (char)(0x80 | (code >> 6 & 0x3f));
    *to++ = (char)(0x80 | (code & 0x3f));
  } else {
    *to++ = (char)(0xf0 | code >> 18);
    *to++ = (char)(0x80 | (code >> 12 & 0x3f));
    *to++ = (char)(0x80 | (code >> 6 & 0x3f));
    *to++ = (char)(0x80 | (code & 0x3f));
  }
  return to;
}

char *json_string(json_value value) {
  const char *at = value.start, *end = value.start + value.length;
  if (value.length < 2 || *at != '"') return NULL;
  // Decoded it is never longer.
  char *string = malloc(value.length), *to = string;
  if (!string) abort();
  for (at++, end--; at < end; at++) {
    if (*at != '\\' || at + 1 == end) {
      *to++ = *at;
      continue;
    }
    const char *plain = "\"\\/bfnrt", *means = "\"\\/\b\f\n\r\t";
    const char *found = strchr(plain, *++at);
    if (found) {
      *to++ = means[found - plain];
    } else if (*at == 'u') {
      unsigned code = hexadecimal(at + 1, end);
      at += 4;
      if (code >= 0xd800 && code < 0xdc00 && at + 6 < end && at[1] == '\\') {
        code = 0x10000 + ((code - 0xd800) << 10) + (hexadecimal(at + 3, end) - 0xdc00);
        at += 6;
      }
      to = put_utf8(to, code);
    }
  }
  *to = 0;
  return string;
}

void json_add(json_text *text, const char *format, ...) {
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  size_t more = (size_t)vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  if (text->length + more + 1 > text->capacity) {
    text->capacity = (text->length + more + 1) * 2;
    text->bytes = realloc(text->bytes, text->capacity);
    if (!text->bytes) abort();
  }
  vsnprintf(text->bytes + text->length, more + 1, format, again);
  va_end(again);
  text->length += more;
}

void json_add_string(json_text *text, const char *string) {
  json_add(text, "\"");
  for (const char *at = string; *at; at++) {
    if (*at == '"' || *at == '\\') {
      json_add(text, "\\%c", *at);
    } else if ((unsigned char)*at < 0x20) {
      json_add(text, "\\u%04x", (unsigned char)*at);
    } else {
      json_add(text, "%c", *at);
    }
  }
  json_add(text, "\"");
}
