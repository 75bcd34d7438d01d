#include "csv.h"

#include <stdbool.h>

int csv_read(FILE *file, csv_row *row) {
  size_t used = 0;
  bool quoted = false;
  int next = getc(file);
  if (next == EOF) return 0;
  row->count = 1;
  row->fields[0] = row->bytes;
  for (;; next = getc(file)) {
    if (used + 1 >= CSV_ROW_MAX) return -1;
    if (next == EOF || (!quoted && next == '\n')) {
      row->bytes[used] = 0;
      return 1;
    } else if (next == '"') {
      int after = quoted ? getc(file) : EOF;
      if (quoted && after == '"') {
        row->bytes[used++] = '"';
        continue;
      }
      if (quoted) ungetc(after, file);
      quoted = !quoted;
    } else if (next == ',' && !quoted) {
      if (row->count == CSV_FIELDS_MAX) return -1;
      row->bytes[used++] = 0;
      row->fields[row->count++] = row->bytes + used;
    } else if (next != '\r' || quoted) {
      row->bytes[used++] = (char)next;
    }
  }
}
