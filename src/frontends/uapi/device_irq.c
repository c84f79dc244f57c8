/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VFIO_DEVICE_SET_IRQS. What a kernel refuses is refused here; the rest is the device's, in pieces
 * of a few eventfds, each fetched from the program for as long as it is handed on.
 *
 * REQ is the host's, not the device's: its eventfd stays here. A device that has such an index too
 * (it is another host's) gets it as well.
 */
#include "frontends/uapi/device.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"
#include "frontends/uapi/call.h"

#define HEADER_SIZE offsetof(struct vfio_irq_set, data)
#define FDS_AT_ONCE 64

/* A call, decoded. */
struct request {
	struct uapi_device *device;
	struct uapi_call *call;
	uint32_t flags, index, start, count;
	const uint8_t *bools;
	const int32_t *fds; /* the program's numbers */
};

typedef long handler(const struct request *request);

static bool is_enabled(const struct request *request)
{
	return uvf_irq_enabled(request->device->dev, request->index);
}

/* Hands a part of the request on: its vectors from @first on. */
static int hand_on(const struct request *request, uint32_t first, uint32_t count, const int *fds)
{
	const struct uvf_irq_set set = {
		.flags = request->flags,
		.index = request->index,
		.start = request->start + first,
		.count = count,
		.bools = request->bools ? request->bools + first : NULL,
		.fds = fds,
	};

	return uvf_irq_set(request->device->dev, &set);
}

static int disable(const struct request *request)
{
	const struct uvf_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = request->index,
	};

	return uvf_irq_set(request->device->dev, &set);
}

/* ---- Eventfds ---- */

/* *@fetched have to be closed, whatever the result. */
static int fetch(const struct request *request, uint32_t first, uint32_t count, int *fds,
		 uint32_t *fetched)
{
	for (*fetched = 0; *fetched < count; (*fetched)++) {
		int32_t number = request->fds[first + *fetched];
		int fd = number < 0 ? -1 : uapi_call_get_fd(request->call, number);

		if (number >= 0 && fd < 0)
			return fd;
		if (fd >= 0 && !uapi_is_eventfd(fd)) {
			close(fd);
			return -EINVAL;
		}
		fds[*fetched] = fd;
	}
	return 0;
}

static void close_all(const int *fds, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
}

/*
 * What the device refuses it refuses all or nothing; so after a failure it is tried again one by
 * one, to know which vectors came before. *@done: of @count.
 */
static int hand_on_one_by_one(const struct request *request, uint32_t first, uint32_t count,
			      const int *fds, uint32_t *done)
{
	int ret = 0;

	for (*done = 0; *done < count && !ret; *done += !ret)
		ret = hand_on(request, first + *done, 1, &fds[*done]);
	return ret;
}

/* *@done: how many vectors were set before it failed. */
static int set_eventfds(const struct request *request, uint32_t *done)
{
	int fds[FDS_AT_ONCE];
	int ret = 0;

	for (*done = 0; *done < request->count && !ret;) {
		uint32_t left = request->count - *done, fetched, set;
		uint32_t count = left < FDS_AT_ONCE ? left : FDS_AT_ONCE;

		ret = fetch(request, *done, count, fds, &fetched);
		set = fetched;
		if (fetched && hand_on(request, *done, fetched, fds)) {
			int error = hand_on_one_by_one(request, *done, fetched, fds, &set);

			if (error)
				ret = error;
		}
		*done += set;
		close_all(fds, fetched);
	}
	return ret;
}

/* Vectors that were given an eventfd before one failed lose it, and so does the one that failed. */
static void take_back(const struct request *request, uint32_t count)
{
	const int none = -1;

	for (uint32_t i = 0; i < count && i < request->count; i++)
		hand_on(request, i, 1, &none);
}

/* ---- INTx ---- */

static bool is_whole_intx(const struct request *request)
{
	return request->start == 0 && request->count == 1;
}

static long intx_mask(const struct request *request)
{
	if (!is_enabled(request) || !is_whole_intx(request))
		return -EINVAL;
	if (request->flags & VFIO_IRQ_SET_DATA_EVENTFD)
		return -ENOTTY;
	return hand_on(request, 0, 1, NULL);
}

static long intx_unmask(const struct request *request)
{
	struct uapi_session *session = request->device->session;
	uint32_t done;
	int ret;

	if (!is_enabled(request) || !is_whole_intx(request))
		return -EINVAL;
	if (!(request->flags & VFIO_IRQ_SET_DATA_EVENTFD))
		return hand_on(request, 0, 1, NULL);
	if (request->fds[0] >= 0 && session->has_resample)
		return -EBUSY;
	ret = set_eventfds(request, &done);
	if (!ret)
		session->has_resample = request->fds[0] >= 0;
	return ret;
}

static long intx_trigger(const struct request *request)
{
	uint32_t done;

	if (request->flags & VFIO_IRQ_SET_DATA_NONE && !request->count && is_enabled(request)) {
		request->device->session->has_resample = false;
		return disable(request);
	}
	if (!is_whole_intx(request))
		return -EINVAL;
	if (request->flags & VFIO_IRQ_SET_DATA_EVENTFD)
		return set_eventfds(request, &done);
	return is_enabled(request) ? hand_on(request, 0, 1, NULL) : -EINVAL;
}

/* ---- MSI and MSI-X ---- */

static long enable_messages(const struct request *request)
{
	struct uapi_session *session = request->device->session;
	struct request none = *request;
	const int32_t no_fd = -1;
	uint32_t done;
	int ret;

	if (!(request->start + request->count))
		return -ERANGE;
	if (!request->count) {
		none.count = 1;
		none.fds = &no_fd;
	}
	ret = set_eventfds(&none, &done);
	if (ret && is_enabled(request))
		disable(request);
	if (!ret)
		session->msi_vectors = request->start + request->count;
	return ret;
}

/* MSI has as many vectors as it was enabled with; MSI-X gets more when they are wanted. */
static uint32_t vectors_enabled(const struct request *request)
{
	return request->index == VFIO_PCI_MSI_IRQ_INDEX ? request->device->session->msi_vectors
							: UINT32_MAX;
}

static int change_messages(const struct request *request)
{
	uint32_t enabled = vectors_enabled(request), done = 0;
	struct request there = *request;
	int ret = 0;

	if (request->start >= enabled)
		there.count = 0;
	else if (request->count > enabled - request->start)
		there.count = enabled - request->start;
	if (there.count)
		ret = set_eventfds(&there, &done);
	/* Vectors that aren't enabled can be taken away, for what it is worth. */
	for (uint32_t i = there.count; i < request->count && !ret; i++)
		ret = request->fds[i] < 0 ? 0 : -EINVAL;
	if (ret)
		take_back(&there, done + 1);
	return ret;
}

static long message_trigger(const struct request *request)
{
	uint32_t enabled = vectors_enabled(request), count = request->count;

	if (!(request->flags & VFIO_IRQ_SET_DATA_EVENTFD)) {
		if (!is_enabled(request))
			return -EINVAL;
		if (!count)
			return request->flags & VFIO_IRQ_SET_DATA_NONE ? disable(request) : 0;
		if (request->start >= enabled)
			return 0;
		if (count > enabled - request->start)
			count = enabled - request->start;
		return hand_on(request, 0, count, NULL);
	}
	if (is_enabled(request))
		return change_messages(request);
	return enable_messages(request);
}

/* ---- ERR and REQ ---- */

/*
 * What the two have in common: whether, by @enabled, anything is to be done. 1: yes.
 */
static int check_single(const struct request *request, bool enabled)
{
	if (request->start != 0 || request->count > 1)
		return -EINVAL;
	if (request->flags & VFIO_IRQ_SET_DATA_NONE)
		return enabled ? 1 : -EINVAL;
	if (!request->count)
		return -EINVAL;
	if (request->flags & VFIO_IRQ_SET_DATA_BOOL)
		return enabled;
	if (request->fds[0] < -1)
		return -EINVAL;
	return request->fds[0] >= 0 || enabled;
}

/* Whether the eventfd is to be given up. */
static bool gives_up(const struct request *request)
{
	return request->flags & VFIO_IRQ_SET_DATA_EVENTFD ? request->fds[0] < 0 : !request->count;
}

static long error_trigger(const struct request *request)
{
	uint32_t done;
	int ret = check_single(request, is_enabled(request));

	if (ret <= 0)
		return ret;
	if (gives_up(request))
		return disable(request);
	if (request->flags & VFIO_IRQ_SET_DATA_EVENTFD)
		return set_eventfds(request, &done);
	return hand_on(request, 0, 1, NULL);
}

static long request_trigger(const struct request *request)
{
	struct uapi_session *session = request->device->session;
	int ret = check_single(request, uapi_worker_has_request_fd(session));
	struct uvf_irq_info info;
	uint32_t done;
	int fd = -1;

	if (ret <= 0)
		return ret;
	if (!gives_up(request) && !(request->flags & VFIO_IRQ_SET_DATA_EVENTFD)) {
		if (!request->bools || request->bools[0])
			uapi_worker_signal_request(session);
		return 0;
	}
	if (!gives_up(request)) {
		fd = uapi_call_get_fd(request->call, request->fds[0]);
		if (fd < 0)
			return fd;
		if (!uapi_is_eventfd(fd)) {
			close(fd);
			return -EINVAL;
		}
	}
	ret = uapi_worker_set_request_fd(session, fd);
	if (ret)
		return ret;
	/* The same to the device, if it has the index; what it says doesn't count. */
	if (!uvf_irq_get_info(request->device->dev, request->index, &info) && info.count) {
		if (fd < 0)
			disable(request);
		else
			set_eventfds(request, &done);
	}
	return 0;
}

/* ---- The device's own ---- */

/*
 * By unmasking, a driver acknowledges changed areas: what is still mapped then counts. What an
 * eventfd unmasks nobody sees here.
 */
static int look_at_mappings(const struct request *request)
{
	struct uapi_device *device = request->device;

	if (!(request->flags & VFIO_IRQ_SET_ACTION_UNMASK) ||
	    uvf_remap_irq(device->dev) != (int)request->index)
		return 0;
	if (request->flags & VFIO_IRQ_SET_DATA_EVENTFD)
		return request->count && request->fds[0] >= 0 ? uapi_known_set_unknown(device) : 0;
	return uapi_known_look(device);
}

/* All else that is said of these the device says. */
static long own(const struct request *request)
{
	int ret = look_at_mappings(request);
	uint32_t done;

	if (ret)
		return ret;
	if (request->flags & VFIO_IRQ_SET_DATA_EVENTFD && request->count)
		return set_eventfds(request, &done);
	return hand_on(request, 0, request->count, NULL);
}

/* ---- The call ---- */

static handler *const handlers[VFIO_PCI_NUM_IRQS][3] = {
	[VFIO_PCI_INTX_IRQ_INDEX] = {intx_mask, intx_unmask, intx_trigger},
	[VFIO_PCI_MSI_IRQ_INDEX] = {NULL, NULL, message_trigger},
	[VFIO_PCI_MSIX_IRQ_INDEX] = {NULL, NULL, message_trigger},
	[VFIO_PCI_ERR_IRQ_INDEX] = {NULL, NULL, error_trigger},
	[VFIO_PCI_REQ_IRQ_INDEX] = {NULL, NULL, request_trigger},
};

static handler *find_handler(const struct request *request)
{
	if (request->index >= VFIO_PCI_NUM_IRQS)
		return uvf_is_power_of_two(request->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK) ? own
											   : NULL;
	switch (request->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK) {
	case VFIO_IRQ_SET_ACTION_MASK:
		return handlers[request->index][0];
	case VFIO_IRQ_SET_ACTION_UNMASK:
		return handlers[request->index][1];
	case VFIO_IRQ_SET_ACTION_TRIGGER:
		return handlers[request->index][2];
	default:
		return NULL;
	}
}

/* The size of the data. Errors: -EINVAL. */
static ssize_t check(const struct uapi_device *device, const struct vfio_irq_set *header)
{
	const uint32_t known = VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK;
	uint32_t vectors, data = header->flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
	size_t size = 0;

	if (header->argsz < HEADER_SIZE || header->count >= UINT32_MAX - header->start ||
	    header->flags & ~known)
		return -EINVAL;
	vectors = uapi_device_irq_count(device, header->index);
	if (header->start >= vectors || header->count > vectors - header->start ||
	    !uvf_is_power_of_two(data))
		return -EINVAL;
	if (data == VFIO_IRQ_SET_DATA_BOOL)
		size = header->count;
	else if (data == VFIO_IRQ_SET_DATA_EVENTFD)
		size = header->count * sizeof(int32_t);
	return size <= header->argsz - HEADER_SIZE ? (ssize_t)size : -EINVAL;
}

long uapi_device_set_irqs(struct uapi_device *device, struct uapi_call *call, uint64_t argument)
{
	struct request request = {.device = device, .call = call};
	struct vfio_irq_set header;
	handler *handle;
	void *data;
	ssize_t size;
	long ret;

	if (uapi_call_read(call, argument, &header, HEADER_SIZE))
		return -EFAULT;
	size = check(device, &header);
	if (size < 0)
		return size;
	data = calloc(1, (size_t)size + 1);
	if (!data)
		return -ENOMEM;
	ret = size ? uapi_call_read(call, argument + HEADER_SIZE, data, (size_t)size) : 0;
	request.flags = header.flags;
	request.index = header.index;
	request.start = header.start;
	request.count = header.count;
	request.bools = header.flags & VFIO_IRQ_SET_DATA_BOOL ? data : NULL;
	request.fds = header.flags & VFIO_IRQ_SET_DATA_EVENTFD ? data : NULL;
	handle = find_handler(&request);
	if (!ret && !handle)
		ret = -ENOTTY;
	if (!ret) {
		pthread_mutex_lock(&device->session->interrupts);
		ret = handle(&request);
		pthread_mutex_unlock(&device->session->interrupts);
	}
	free(data);
	return ret;
}
