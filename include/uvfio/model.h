/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Models by name: devices made from a line of text such as "nvme,file=disk.img,poll=on".
 *
 * A spec is a model's name, then key=value pairs, separated by commas; a comma inside a value is
 * doubled. A key that is a flag can stand without "=value".
 */
#ifndef UVFIO_MODEL_H
#define UVFIO_MODEL_H

#include <uvfio/types.h>

UVF_BEGIN_DECLS

enum uvf_key_kind {
	UVF_KEY_STRING,
	UVF_KEY_SIZE,	/* bytes, with K, M, G or T (powers of 1024) */
	UVF_KEY_NUMBER, /* decimal or 0x hexadecimal, within [min, max] */
	UVF_KEY_BOOL,	/* on, off; the key alone means on */
	UVF_KEY_CHOICE, /* one of the words in `expects`, separated by '|' */
};

/* A row of a model's table of keys. The table ends with a row without a name. */
struct uvf_model_key {
	const char *name;
	enum uvf_key_kind kind;
	const char *default_value; /* as text; NULL: none */
	const char *expects;	   /* for people: "PATH", "SIZE", "on|off|adaptive" */
	const char *help;	   /* one line */
	uint64_t min, max;	   /* numbers; sizes too. 0, 0: no limits */
	bool repeated;		   /* may be given several times */
};

struct uvf_spec;

/*
 * The value of key @name, which is in the table: given (the first, where repeated), else its
 * default, else NULL or 0. The number of a choice is its position among the words.
 * Valid while the spec is.
 */
UVF_API const char *uvf_spec_string(const struct uvf_spec *spec, const char *name);
UVF_API uint64_t uvf_spec_number(const struct uvf_spec *spec, const char *name);
UVF_API bool uvf_spec_bool(const struct uvf_spec *spec, const char *name);
/* Whether the key was given. */
UVF_API bool uvf_spec_given(const struct uvf_spec *spec, const char *name);
/* The @nth value of a key that may be repeated, or NULL. */
UVF_API const char *uvf_spec_nth(const struct uvf_spec *spec, const char *name, size_t nth);
/*
 * The pairs in the order in which they were given, for models to which it matters: the name of the
 * @nth, its value in *@value. NULL past the last.
 */
UVF_API const char *uvf_spec_pair(const struct uvf_spec *spec, size_t nth, const char **value);

struct uvf_model {
	const char *name;
	const char *summary;		  /* one line */
	const struct uvf_model_key *keys; /* never NULL; ends with a row without a name */
	/* Makes a device. The values have been checked against the keys. @spec goes afterwards. */
	int (*create)(const struct uvf_spec *spec, struct uvf_device **devp,
		      struct uvf_error *error);
};

/* The models in this library, in order of name; NULL past the last. */
UVF_API const struct uvf_model *uvf_model_nth(size_t nth);
UVF_API const struct uvf_model *uvf_model_find(const char *name);

/*
 * Makes a device from a spec. Errors: -EINVAL (naming the key and what was expected), -ENOENT (no
 * such model), or the model's.
 */
UVF_API int uvf_model_create(const char *text, struct uvf_device **devp, struct uvf_error *error);

UVF_END_DECLS

#endif
