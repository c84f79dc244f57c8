/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Specs: "name,key=value,flag" read against a table of keys. What a spec is and how its values
 * are read is in <uvfio/model.h>.
 */
#ifndef UVF_BASE_SPEC_H
#define UVF_BASE_SPEC_H

#include <uvfio/model.h>

/* How many bytes at the start of @text are the name. */
size_t uvf_spec_name_length(const char *text);

/*
 * Reads @text against @keys, which must stay while the spec is used. Each value is checked.
 * Freed by uvf_spec_free(). Errors: -EINVAL (with the key and what was expected), -ENOMEM.
 */
int uvf_spec_parse(const char *text, const struct uvf_model_key *keys, struct uvf_spec **specp,
		   struct uvf_error *error);
void uvf_spec_free(struct uvf_spec *spec);

/*
 * For models that refuse a value by rules of their own: says which key, what was expected (the
 * key's `expects`) and what was given. Returns -EINVAL.
 */
int uvf_spec_refuse(const struct uvf_spec *spec, const char *name, struct uvf_error *error);

/* Reads a number with an optional suffix K, M, G or T where @size. False: it isn't one. */
bool uvf_parse_number(const char *text, bool size, uint64_t *value);

/* Reads "FIRST-LAST" or one number, first at most last. False: it is neither. */
bool uvf_parse_range(const char *text, bool size, uint64_t *first, uint64_t *last);

#endif
