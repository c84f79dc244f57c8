/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who has what of a device's changing areas mapped. What a frontend says ends with its owner; what
 * this process itself has mapped ends when it is unmapped, whoever owns the device by then. Each
 * claim knows the list that the areas were in when it was made, because the same place can be other
 * memory in another list. Under the lock of struct remap.
 */
#ifndef UVF_CORE_CLAIMS_H
#define UVF_CORE_CLAIMS_H

#include "core/areas.h"

struct claim {
	uint32_t index; /* the region's */
	uint64_t offset, size;
	unsigned list; /* its number */
	enum uvf_mapped kind;
	const void *id; /* of this process: what ends it. NULL: a frontend's */
	size_t count;	/* how many equal ones */
};

struct claims {
	void *frontends, *own; /* trees */
	size_t count;
};

/* Errors: -ENOMEM, -ENOSPC. */
int uvf_claim_add(struct claims *claims, const struct claim *claim);
/* One of those that equal @claim. False: there is none. */
bool uvf_claim_remove(struct claims *claims, const struct claim *claim);
bool uvf_claim_exists(const struct claims *claims, const struct claim *claim);
/* All that frontends said. */
void uvf_claims_end(struct claims *claims);
void uvf_claims_free(struct claims *claims);
/* Which kinds of claim on region @index reach memory that isn't in @now. */
void uvf_claims_conflicts(const struct claims *claims, uint32_t index,
			  const struct area_lists *lists, const struct area_list *now, bool *known,
			  bool *unknown);

#endif
