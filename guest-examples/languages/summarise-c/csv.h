// Reads tables of comma-separated values, with quoted fields (RFC 4180).
#ifndef CSV_H
#define CSV_H

#include <stddef.h>
#include <stdio.h>

#define CSV_FIELDS_MAX 64
#define CSV_ROW_MAX 16384

// One row; its fields are good until the next one is read.
typedef struct {
  size_t count;
  const char *fields[CSV_FIELDS_MAX];
  char bytes[CSV_ROW_MAX];
} csv_row;

// 1: a row was read; 0: the file is at its end; -1: a row is too long or has too many fields.
int csv_read(FILE *file, csv_row *row);

#endif
