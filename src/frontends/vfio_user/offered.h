/* SPDX-License-Identifier: BSD-3-Clause */
/* A session's description that is being read: nothing in it is believed. */
#ifndef UVF_FRONTENDS_VFIO_USER_OFFERED_H
#define UVF_FRONTENDS_VFIO_USER_OFFERED_H

#include <uvfio/handover.h>

#include "frontends/vfio_user/handover.h"
#include "frontends/vfio_user/server.h"

struct uvf_offered {
	struct uvf_handover_header header;
	const uint8_t *at; /* what was not read yet */
	size_t left;
	const struct uvf_server_offer *offer;
	struct uvf_error *error;
};

/* -EINVAL, with that for a reason. */
int uvf_offered_damaged(const struct uvf_offered *offered);
/* The next @count entries of @size bytes each, or NULL. */
const void *uvf_offered_take(struct uvf_offered *offered, uint64_t count, size_t size);
/* Whether @number is a descriptor's, or none's where that may be. */
bool uvf_offered_has_fd(const struct uvf_offered *offered, uint32_t number, bool may_be_none);
/* The descriptor, which stays the offer's; -1: none. Of a number that has been checked. */
int uvf_offered_fd(const struct uvf_offered *offered, uint32_t number);
/* Duplicates: -EMFILE. */
int uvf_offered_copy(int fd);

/*
 * A connection like the one that is described, with its memory and with what the driver has sent;
 * not served yet, and the last that there is to read. On failure it may be there in part.
 */
int uvf_offered_connection(struct uvf_server *server, struct uvf_offered *offered,
			   struct uvf_connection **connectionp);

#endif
