/* SPDX-License-Identifier: BSD-3-Clause */
/* What uvfio migrate found, as text and as a page. */
#ifndef UVF_CLI_MIGRATE_H
#define UVF_CLI_MIGRATE_H

#include <stdint.h>
#include <stdio.h>

struct json_object;

/* "1.5 MiB": at most 16 bytes. Returns @text. */
char *migrate_bytes(char text[16], double bytes);

/* A line that says how it goes, from an event of the source. */
void migrate_print_progress(FILE *file, struct json_object *event);
/* The report, from the whole of what is known. */
void migrate_print_report(FILE *file, struct json_object *report);
/* The same as one page of HTML that needs nothing else, with drawings. */
void migrate_write_page(FILE *file, struct json_object *report);

#endif
