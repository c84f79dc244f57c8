/* SPDX-License-Identifier: BSD-3-Clause */
/* Faults as text: the kinds, their keys, and what the values mean. */
#include "core/inject.h"

#include "base/bytes.h"
#include "base/spec.h"
#include "base/suggest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MAX_DELAY_MS 60000
#define MAX_SLOW_US  60000000

/* In the order of the words that the key "errno" takes. */
static const int error_numbers[] = {
	EFAULT, EIO,	EPERM,	EACCES,	   EINVAL, ENOMEM,    ENOSPC,
	EBUSY,	ENODEV, EAGAIN, ETIMEDOUT, ENOENT, EOVERFLOW,
};
#define ERROR_WORDS                                                                          \
	"EFAULT|EIO|EPERM|EACCES|EINVAL|ENOMEM|ENOSPC|EBUSY|ENODEV|EAGAIN|ETIMEDOUT|ENOENT|" \
	"EOVERFLOW"

/* Words whose position is one more than VFIO's index; the first is any. */
#define IRQ_WORDS    "any|intx|msi|msix|err|req"
#define REGION_WORDS "any|bar0|bar1|bar2|bar3|bar4|bar5|rom|config"

#define DEVICE_KEY                                                            \
	{                                                                     \
		"device", UVF_KEY_STRING, NULL, "DEVICE", "Whose fault it is" \
	}
#define NTH_KEY                                                                                 \
	{                                                                                       \
		"nth", UVF_KEY_NUMBER, "1", "N", "The first that is hit, from now on", .min = 1 \
	}
#define AT_KEY                                                                              \
	{                                                                                   \
		"nth", UVF_KEY_NUMBER, NULL, "N", "At the Nth access to a region", .min = 1 \
	}
#define COUNT_KEY                                                                         \
	{                                                                                 \
		"count", UVF_KEY_NUMBER, "1", "N", "How many are hit; 0: all that follow" \
	}
#define ERRNO_KEY(def)                                                                    \
	{                                                                                 \
		"errno", UVF_KEY_CHOICE, def, ERROR_WORDS, "The error that it fails with" \
	}
#define IOVA_KEY                                                                           \
	{                                                                                  \
		"iova", UVF_KEY_STRING, NULL, "FIRST-LAST", "Only what touches this range" \
	}
#define INDEX_KEY                                                              \
	{                                                                      \
		"index", UVF_KEY_CHOICE, "any", IRQ_WORDS, "Only of this kind" \
	}
#define VECTOR_KEY                                                                   \
	{                                                                            \
		"vector", UVF_KEY_NUMBER, NULL, "N", "Only this vector", .max = 4095 \
	}
#define REGION_KEY                                                                   \
	{                                                                            \
		"region", UVF_KEY_CHOICE, "any", REGION_WORDS, "Only of this region" \
	}
#define SLOW_KEY                                                                   \
	{                                                                          \
		"us", UVF_KEY_NUMBER, "1000", "MICROSECONDS", "How long it takes", \
			.min = 1, .max = MAX_SLOW_US                               \
	}

static const struct uvf_model_key dma_fail_keys[] = {
	DEVICE_KEY,
	NTH_KEY,
	COUNT_KEY,
	ERRNO_KEY("EFAULT"),
	{"direction", UVF_KEY_CHOICE, "any", "any|read|write",
	 "Only the device's reads, or writes"},
	IOVA_KEY,
	{},
};

static const struct uvf_model_key map_fail_keys[] = {
	DEVICE_KEY, NTH_KEY, COUNT_KEY, ERRNO_KEY("ENOMEM"), IOVA_KEY, {},
};

static const struct uvf_model_key dirty_lose_keys[] = {
	DEVICE_KEY, NTH_KEY, COUNT_KEY, IOVA_KEY, {},
};

static const struct uvf_model_key irq_drop_keys[] = {
	DEVICE_KEY, NTH_KEY, COUNT_KEY, INDEX_KEY, VECTOR_KEY, {},
};

static const struct uvf_model_key irq_delay_keys[] = {
	DEVICE_KEY,
	NTH_KEY,
	COUNT_KEY,
	INDEX_KEY,
	VECTOR_KEY,
	{"ms", UVF_KEY_NUMBER, "100", "MILLISECONDS", "How late it is", .min = 1,
	 .max = MAX_DELAY_MS},
	{},
};

static const struct uvf_model_key remove_keys[] = {
	DEVICE_KEY,
	AT_KEY,
	{"notify", UVF_KEY_CHOICE, "req", "none|req|err|both", "The interrupts that tell of it"},
	{},
};

static const struct uvf_model_key aer_keys[] = {
	DEVICE_KEY,
	AT_KEY,
	COUNT_KEY,
	{"correctable", UVF_KEY_BOOL, "off", "on|off", "Not an uncorrectable one"},
	{"bit", UVF_KEY_NUMBER, NULL, "BIT", "In the status register", .max = 31},
	{"header", UVF_KEY_STRING, NULL, "DW:DW:DW:DW", "The transaction's header, in hexadecimal"},
	{},
};

static const struct uvf_model_key slow_keys[] = {
	DEVICE_KEY, NTH_KEY, COUNT_KEY, REGION_KEY, SLOW_KEY, {},
};

/* ---- What the values mean ---- */

static int read_range(const struct uvf_spec *spec, struct inject_fault *fault,
		      struct uvf_error *error)
{
	const char *text = uvf_spec_string(spec, "iova");

	fault->first = 0;
	fault->last = UINT64_MAX;
	if (text && !uvf_parse_range(text, true, &fault->first, &fault->last))
		return uvf_spec_refuse(spec, "iova", error);
	return 0;
}

static int read_dma(const struct uvf_spec *spec, struct inject_fault *fault,
		    struct uvf_error *error)
{
	static const unsigned prots[] = {UVF_PROT_RW, UVF_PROT_READ, UVF_PROT_WRITE};

	fault->error = -error_numbers[uvf_spec_number(spec, "errno")];
	fault->prot = prots[uvf_spec_number(spec, "direction")];
	return read_range(spec, fault, error);
}

static int read_map(const struct uvf_spec *spec, struct inject_fault *fault,
		    struct uvf_error *error)
{
	fault->error = -error_numbers[uvf_spec_number(spec, "errno")];
	return read_range(spec, fault, error);
}

static uint32_t read_index(const struct uvf_spec *spec, const char *key)
{
	uint64_t word = uvf_spec_number(spec, key);

	return word ? (uint32_t)word - 1 : INJECT_ANY;
}

static int read_irq(const struct uvf_spec *spec, struct inject_fault *fault,
		    struct uvf_error *error)
{
	fault->index = read_index(spec, "index");
	fault->vector = INJECT_ANY;
	if (uvf_spec_given(spec, "vector"))
		fault->vector = (uint32_t)uvf_spec_number(spec, "vector");
	return 0;
}

static int read_irq_delay(const struct uvf_spec *spec, struct inject_fault *fault,
			  struct uvf_error *error)
{
	fault->delay_us = uvf_spec_number(spec, "ms") * 1000;
	return read_irq(spec, fault, error);
}

static int read_remove(const struct uvf_spec *spec, struct inject_fault *fault,
		       struct uvf_error *error)
{
	uint64_t notify = uvf_spec_number(spec, "notify");

	fault->tells_request = notify & 1;
	fault->tells_error = notify & 2;
	fault->count = 1;
	return 0;
}

static int read_aer(const struct uvf_spec *spec, struct inject_fault *fault,
		    struct uvf_error *error)
{
	const char *header = uvf_spec_string(spec, "header");
	int end = -1;

	fault->correctable = uvf_spec_bool(spec, "correctable");
	if (!uvf_spec_given(spec, "bit"))
		return uvf_spec_refuse(spec, "bit", error);
	fault->bit = (unsigned)uvf_spec_number(spec, "bit");
	if (!header)
		return 0;
	if (strspn(header, "0123456789abcdefABCDEF:") != strlen(header) ||
	    sscanf(header, "%8x:%8x:%8x:%8x%n", &fault->header[0], &fault->header[1],
		   &fault->header[2], &fault->header[3], &end) != 4 ||
	    end < 0 || header[end])
		return uvf_spec_refuse(spec, "header", error);
	return 0;
}

static int read_slow(const struct uvf_spec *spec, struct inject_fault *fault,
		     struct uvf_error *error)
{
	fault->index = read_index(spec, "region");
	fault->delay_us = uvf_spec_number(spec, "us");
	return 0;
}

/* ---- Kinds ---- */

static const struct {
	const char *name;
	unsigned class; /* UVF_ARMED_* */
	bool counted;	/* has the key "count" */
	const struct uvf_model_key *keys;
	int (*read)(const struct uvf_spec *spec, struct inject_fault *fault,
		    struct uvf_error *error);
} kinds[INJECT_KINDS] = {
	[INJECT_DMA_FAIL] = {"dma-fail", UVF_ARMED_DMA, true, dma_fail_keys, read_dma},
	[INJECT_MAP_FAIL] = {"map-fail", UVF_ARMED_MAP, true, map_fail_keys, read_map},
	[INJECT_IRQ_DROP] = {"irq-drop", UVF_ARMED_IRQ, true, irq_drop_keys, read_irq},
	[INJECT_IRQ_DELAY] = {"irq-delay", UVF_ARMED_IRQ, true, irq_delay_keys, read_irq_delay},
	[INJECT_REMOVE] = {"remove", UVF_ARMED_ACCESS, false, remove_keys, read_remove},
	[INJECT_AER] = {"aer", UVF_ARMED_ACCESS, true, aer_keys, read_aer},
	[INJECT_READ_SLOW] = {"read-slow", UVF_ARMED_ACCESS, true, slow_keys, read_slow},
	[INJECT_WRITE_SLOW] = {"write-slow", UVF_ARMED_ACCESS, true, slow_keys, read_slow},
	[INJECT_DIRTY_LOSE] = {"dirty-lose", UVF_ARMED_REPORT, true, dirty_lose_keys, read_range},
};

unsigned uvf_inject_class(enum inject_kind kind)
{
	return kinds[kind].class;
}

static int unknown_kind(const char *spec, struct uvf_error *error)
{
	int length = (int)uvf_spec_name_length(spec);
	char name[32];
	struct uvf_suggestion near = {.word = name};

	snprintf(name, sizeof(name), "%.*s", length, spec);
	for (unsigned kind = 0; kind < INJECT_KINDS; kind++)
		uvf_suggest_offer(&near, kinds[kind].name);
	if (!near.best)
		return uvf_fail(error, -ENOENT, "fault '%s' is not known", name);
	return uvf_fail(error, -ENOENT, "fault '%s' is not known; did you mean '%s'?", name,
			near.best);
}

static int find_kind(const char *spec, enum inject_kind *kind)
{
	size_t length = uvf_spec_name_length(spec);

	for (unsigned i = 0; i < INJECT_KINDS; i++)
		if (strlen(kinds[i].name) == length && !memcmp(kinds[i].name, spec, length)) {
			*kind = i;
			return 0;
		}
	return -ENOENT;
}

int uvf_inject_parse(const char *text, struct inject_fault *fault, char *device, size_t size,
		     struct uvf_error *error)
{
	const char *whose;
	struct uvf_spec *spec;
	int ret;

	*fault = (struct inject_fault){0};
	if (strlen(text) >= UVF_INJECT_MAX_SPEC)
		return uvf_fail(error, -EINVAL, "%.20s...: expected at most %d bytes", text,
				UVF_INJECT_MAX_SPEC - 1);
	if (find_kind(text, &fault->kind))
		return unknown_kind(text, error);
	ret = uvf_spec_parse(text, kinds[fault->kind].keys, &spec, error);
	if (ret)
		return ret;
	fault->nth = uvf_spec_number(spec, "nth");
	if (kinds[fault->kind].counted)
		fault->count = uvf_spec_number(spec, "count");
	ret = kinds[fault->kind].read(spec, fault, error);
	whose = uvf_spec_string(spec, "device");
	if (!ret && device && snprintf(device, size, "%s", whose ? whose : "") >= (int)size)
		ret = uvf_spec_refuse(spec, "device", error);
	uvf_spec_free(spec);
	return ret;
}
