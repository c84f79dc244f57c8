/* SPDX-License-Identifier: BSD-3-Clause */
/* Opens an NBD server's export as storage: what it is, and what the server can do. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "devices/nvme/nbd.h"

#define MAX_IOVECS 1024
/* What the NBD protocol takes where a server says nothing. */
#define DEFAULT_MINIMUM	  1u
#define DEFAULT_PREFERRED 4096u
#define DEFAULT_MAXIMUM	  (32u << 20)
/* From here on it is no hint about writes any more. */
#define MOST_PHYSICAL (64u << 10)
#define LIMIT_MOST_S  86400u

/* ---- What the server says ---- */

struct nbd_handle *nvme_nbd_new_handle(const struct nbd_backend *backend)
{
	struct nbd_handle *handle = nbd_create();

	if (!handle)
		return NULL;
	/* Both would touch the driver's memory other than by a system call: see nbd_request.c. */
	nbd_set_pread_initialize(handle, false);
	nbd_set_request_structured_replies(handle, false);
#ifdef LIBNBD_HAVE_NBD_SET_REQUEST_EXTENDED_HEADERS
	nbd_set_request_extended_headers(handle, false);
#endif
	/* The URI is the operator's own: it may name certificates. */
	nbd_set_uri_allow_local_file(handle, true);
	if (backend->name && nbd_set_export_name(handle, backend->name) < 0) {
		nbd_close(handle);
		return NULL;
	}
	return handle;
}

static uint32_t block_size_of(struct nbd_handle *handle, int kind, uint32_t otherwise)
{
	int64_t size = nbd_get_block_size(handle, kind);

	return size <= 0 ? otherwise : size > UINT32_MAX ? UINT32_MAX : (uint32_t)size;
}

void nvme_nbd_read_export(struct nbd_handle *handle, struct nbd_export *export)
{
	int64_t size = nbd_get_size(handle);

	*export = (struct nbd_export){
		.size = size < 0 ? 0 : (uint64_t)size,
		.minimum = block_size_of(handle, LIBNBD_SIZE_MINIMUM, DEFAULT_MINIMUM),
		.preferred = block_size_of(handle, LIBNBD_SIZE_PREFERRED, DEFAULT_PREFERRED),
		.maximum = block_size_of(handle, LIBNBD_SIZE_MAXIMUM, DEFAULT_MAXIMUM),
		.read_only = nbd_is_read_only(handle) != 0,
		.flush = nbd_can_flush(handle) > 0,
		.fua = nbd_can_fua(handle) > 0,
		.trim = nbd_can_trim(handle) > 0,
		.zero = nbd_can_zero(handle) > 0,
		.multi_conn = nbd_can_multi_conn(handle) > 0,
	};
	/* Pieces end where blocks do, of whatever size those are: no namespace's are larger. */
	if (export->maximum > DEFAULT_MAXIMUM)
		export->maximum = DEFAULT_MAXIMUM;
	export->maximum = (uint32_t)uvf_align_down(export->maximum, 4096);
}

/* ---- What it is ---- */

/* The same URI is the same storage: there is nothing else that a server says of it for certain. */
static void set_identity(struct nbd_backend *backend)
{
	uint64_t halves[2] = {0xcbf29ce484222325u, 0x84222325cbf29ce4u};

	for (const char *at = backend->uri; *at; at++)
		for (size_t i = 0; i < 2; i++)
			halves[i] = (halves[i] ^ (uint8_t)*at) * 0x100000001b3u;
	_Static_assert(sizeof(halves) == sizeof(backend->base.identity), "an identity");
	memcpy(backend->base.identity, halves, sizeof(halves));
	backend->base.lasting = true;
}

static int check_blocks(const struct nbd_backend *backend, uint32_t block, struct uvf_error *error)
{
	const struct nbd_export *export = &backend->export;

	if (export->minimum > block)
		return uvf_fail(error, -EINVAL, "%s: its blocks have %u bytes: %s", backend->uri,
				export->minimum,
				export->minimum > 4096 ? "no namespace has such" : "block=4096");
	if (!export->maximum || !uvf_is_power_of_two(export->minimum))
		return uvf_fail(error, -EINVAL, "%s: its blocks have %u to %u bytes", backend->uri,
				export->minimum, export->maximum);
	return 0;
}

static int describe(struct nbd_backend *backend, const struct nvme_nbd_config *config,
		    struct uvf_error *error)
{
	struct nvme_backend_config common = config->common;
	const struct nbd_export *export = &backend->export;
	struct nvme_backend *base = &backend->base;
	uint32_t block = common.block_size ? common.block_size : 512;
	int ret = check_blocks(backend, block, error);

	/* The smallest that a driver may format with. */
	common.block_size = export->minimum > 512 ? block : 512;
	common.read_only |= export->read_only;
	if (!ret)
		ret = nvme_backend_init(base, &common, export->size, error);
	if (ret)
		return ret;
	if (base->size != export->size)
		uvf_logf(&backend->log, UVF_LOG_WARNING, backend->who,
			 "%s: the last %llu bytes are not a whole block and not used", backend->uri,
			 (unsigned long long)(export->size - base->size));
	base->volatile_write_cache = export->flush && !base->read_only;
	base->no_discard = !export->trim || base->read_only;
	base->physical_block_size = base->block_size;
	if (uvf_is_power_of_two(export->preferred) && export->preferred > base->block_size &&
	    export->preferred <= MOST_PHYSICAL)
		base->physical_block_size = export->preferred;
	base->discard_granularity = base->no_discard ? 0 : base->physical_block_size;
	set_identity(backend);
	return 0;
}

/* ---- Where it is ---- */

static int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, c | 0x20) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* The path after "socket=", its escapes undone. */
static bool socket_path(const char *uri, struct sockaddr_un *address)
{
	const char *at = strchr(uri, '?');
	size_t size = 0;

	while (at && strncmp(at + 1, "socket=", 7))
		at = strpbrk(at + 1, "&;");
	if (!at)
		return false;
	for (at += 8; *at && !strchr("&;#", *at); at++) {
		int high = at[0] == '%' ? hex_digit(at[1]) : -1;
		int low = high >= 0 ? hex_digit(at[2]) : -1;
		char c = *at;

		if (low >= 0) {
			c = (char)(high << 4 | low);
			at += 2;
		}
		if (size == sizeof(address->sun_path) - 1)
			return false;
		address->sun_path[size++] = c;
	}
	return size;
}

/*
 * Where the server can be reached once more: a unix socket's path as it was given, since what is
 * bound there may have been by another name; else the address that the name stands for now.
 */
static int start_dialler(struct nbd_backend *backend, struct uvf_error *error)
{
	struct sockaddr_storage address = {0};
	struct sockaddr_un *local = (struct sockaddr_un *)&address;
	socklen_t size = sizeof(*local);
	char *name = nbd_get_export_name(backend->first->handle);
	int ret = 0;

	backend->name = name;
	if (!name)
		return uvf_fail(error, -ENOMEM, "no memory");
	if (strncasecmp(backend->uri, "nbd+unix:", 9)) {
		size = sizeof(address);
		if (getpeername(nbd_aio_get_fd(backend->first->handle), (struct sockaddr *)&address,
				&size) < 0)
			ret = -errno;
	} else {
		local->sun_family = AF_UNIX;
		if (!socket_path(backend->uri, local))
			return uvf_fail(error, -EINVAL, "%s: it has no socket=PATH", backend->uri);
	}
	if (!ret)
		ret = nvme_nbd_dialler_start((struct sockaddr *)&address, size, &backend->dialler);
	if (ret)
		return uvf_fail(error, ret, "%s: nothing to connect again with: %s", backend->uri,
				strerror(-ret));
	return 0;
}

/* ---- Operations ---- */

/* The first channel has the connection that there is. */
static struct nbd_connection *connection_for(struct nbd_backend *backend)
{
	struct nbd_connection *connection;
	struct uvf_error error;

	pthread_mutex_lock(&backend->lock);
	connection = backend->first;
	if (backend->first_taken && backend->export.multi_conn && !backend->no_more) {
		if (!nvme_nbd_connect(backend, &connection, &error)) {
			atomic_store(&backend->several, true);
		} else {
			uvf_logf(&backend->log, UVF_LOG_WARNING, backend->who,
				 "%s; the first connection will be shared", error.text);
			backend->no_more = true;
		}
	}
	backend->first_taken = true;
	pthread_mutex_unlock(&backend->lock);
	return connection;
}

static int open_channel(struct nvme_backend *base, unsigned depth, struct nvme_channel **channelp,
			struct uvf_error *error)
{
	struct nbd_backend *backend = (struct nbd_backend *)base;
	struct nbd_connection *connection = connection_for(backend);
	int ret = nvme_nbd_channel_new(backend, connection, depth, channelp, error);

	if (ret && connection != backend->first)
		nvme_nbd_disconnect(connection);
	return ret;
}

struct release {
	struct nvme_io io; /* first: done() gets it */
	int result;
};

static void released(struct nvme_io *io, int result)
{
	((struct release *)io)->result = result;
}

/*
 * Two hosts may have it open at once; whoever runs, writes. So all that this one has written must
 * be where the other finds it: in the server, and stable. A server that has gone isn't waited for:
 * all of the device would stand still.
 */
static int nbd_release(struct nvme_backend *base)
{
	struct nbd_backend *backend = (struct nbd_backend *)base;
	struct release release = {.io = {.op = NVME_IO_FLUSH, .done = released}};
	int ret;

	if (base->read_only)
		return 0;
	ret = nvme_channel_submit(backend->own, &release.io);
	if (ret != NVME_IO_PENDING)
		return ret;
	return nvme_nbd_run_alone(backend->own, &release.io) ? release.result : -EAGAIN;
}

static void free_backend(struct nbd_backend *backend)
{
	if (backend->own)
		nvme_channel_close(backend->own); /* and the first connection, the last of all */
	else if (backend->first)
		nvme_nbd_disconnect(backend->first);
	if (backend->dialler >= 0)
		close(backend->dialler);
	if (backend->zeroes)
		munmap(backend->zeroes, NBD_MAX_IO_SIZE);
	pthread_mutex_destroy(&backend->lock);
	free(backend->name);
	free(backend->uri);
	free(backend);
}

static void nbd_close_backend(struct nvme_backend *base)
{
	free_backend((struct nbd_backend *)base);
}

static const struct nvme_backend_ops nbd_ops = {
	.open_channel = open_channel,
	.close = nbd_close_backend,
	.release = nbd_release,
};

static int set_up(struct nbd_backend *backend, const struct nvme_nbd_config *config,
		  struct uvf_error *error)
{
	void *zeroes = mmap(NULL, NBD_MAX_IO_SIZE, PROT_READ,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int ret;

	if (zeroes == MAP_FAILED || !backend->uri)
		return uvf_fail(error, -ENOMEM, "no memory");
	backend->zeroes = zeroes;
	ret = nvme_nbd_connect(backend, &backend->first, error);
	if (!ret) {
		backend->export = backend->first->export;
		ret = describe(backend, config, error);
	}
	if (!ret && !backend->tls)
		ret = start_dialler(backend, error);
	if (!ret)
		ret = nvme_nbd_channel_new(backend, backend->first, 1, &backend->own, error);
	return ret;
}

int nvme_backend_open_nbd(const struct nvme_nbd_config *config, struct nvme_backend **backendp,
			  struct uvf_error *error)
{
	struct nbd_backend *backend;
	int ret;

	if (config->reconnect > LIMIT_MOST_S)
		return uvf_fail(error, -EINVAL, "reconnect: more than %u seconds", LIMIT_MOST_S);
	backend = calloc(1, sizeof(*backend));
	if (!backend)
		return uvf_fail(error, -ENOMEM, "no memory");
	backend->base = (struct nvme_backend){
		.ops = &nbd_ops,
		.kind = "nbd",
		.max_iovecs = MAX_IOVECS,
		.max_io_size = NBD_MAX_IO_SIZE,
	};
	pthread_mutex_init(&backend->lock, NULL);
	backend->dialler = -1;
	backend->uri = strdup(config->uri);
	backend->tls = !strncasecmp(config->uri, "nbds", 4);
	backend->limit_ms = config->reconnect * 1000;
	backend->log = config->common.log;
	backend->who = config->common.who;
	ret = set_up(backend, config, error);
	if (ret) {
		free_backend(backend);
		return ret;
	}
	*backendp = &backend->base;
	return 0;
}
