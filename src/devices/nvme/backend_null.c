/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Storage that isn't there: a request completes at once and no data moves. What a read leaves in
 * the driver's memory is what was there before. It shows what everything else costs.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/nvme/backend.h"

static int null_submit(struct nvme_channel *channel, struct nvme_io *io)
{
	return nvme_io_check(channel->backend, io);
}

static const struct nvme_channel_ops null_channel_ops = {
	.submit = null_submit,
	.close = nvme_channel_free_inline,
};

static int null_open_channel(struct nvme_backend *backend, unsigned depth,
			     struct nvme_channel **channelp, struct uvf_error *error)
{
	return nvme_channel_new_inline(backend, &null_channel_ops, channelp);
}

static void null_close(struct nvme_backend *backend)
{
	free(backend);
}

static const struct nvme_backend_ops null_ops = {
	.open_channel = null_open_channel,
	.close = null_close,
};

int nvme_backend_open_null(const struct nvme_backend_config *config, uint64_t size,
			   struct nvme_backend **backendp, struct uvf_error *error)
{
	struct nvme_backend *backend = calloc(1, sizeof(*backend));
	int ret;

	if (!backend)
		return uvf_fail(error, -ENOMEM, "no memory");
	*backend = (struct nvme_backend){
		.ops = &null_ops,
		.kind = "null",
		.moves_no_data = true,
		.max_iovecs = UINT32_MAX,
		.max_io_size = UINT32_MAX,
	};
	ret = nvme_backend_init(backend, config, size, error);
	if (ret < 0) {
		free(backend);
		return ret;
	}
	backend->physical_block_size = backend->block_size;
	backend->discard_granularity = backend->block_size;
	*backendp = backend;
	return 0;
}
