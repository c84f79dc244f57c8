/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, set: which may have to wait for mappings to be revoked. The
 * program's call is answered then by whoever ends the wait. Meanwhile it can be sent back: the
 * thread makes it anew, as the kernel does with a call that it interrupted, and finds its wait
 * again.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "core/core.h"
#include "frontends/uapi/call.h"
#include "frontends/uapi/device.h"
#include "frontends/uapi/notify.h"

/* The kernel's: begin the call again, whether a signal is handled in between or not. */
#define RESTART (-513)

/* Under `migrating`, by which a state is reached and its data get a descriptor in one step. */
struct uapi_transition {
	struct uapi_device *device;
	uint64_t address;
	enum vfio_device_mig_state before;
	struct vfio_device_feature_mig_state state;
	struct uapi_call call;
	bool waits; /* the call, for its answer */
	bool ended;
	int result;
	struct uapi_transition *next;
};

static bool is_pre_copy(uint32_t state)
{
	return state == VFIO_DEVICE_STATE_PRE_COPY || state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

/* Whether arriving in @state from @before begins a session, and which way its data go. */
static bool begins(uint32_t before, uint32_t state, bool *writes)
{
	*writes = state == VFIO_DEVICE_STATE_RESUMING;
	if (before == state)
		return false;
	if (state == VFIO_DEVICE_STATE_STOP_COPY || is_pre_copy(state))
		return !is_pre_copy(before);
	return *writes;
}

/* What the call's result is, when the device has arrived or failed. */
static long complete(struct uapi_transition *transition, struct uapi_call *call, int result)
{
	struct vfio_device_feature_mig_state *state = &transition->state;
	bool writes;

	if (result)
		return result;
	state->data_fd = -1;
	if (begins(transition->before, state->device_state, &writes)) {
		state->data_fd = uapi_migration_place_file(transition->device, call, writes);
		if (state->data_fd < 0)
			return state->data_fd;
	}
	return uapi_call_write(call, transition->address, state, sizeof(*state));
}

/* ---- Those that wait: with the lock ---- */

static void unlink_transition(struct uapi_transition *transition)
{
	struct uapi_transition **link = &transition->device->transitions;

	for (; *link; link = &(*link)->next)
		if (*link == transition) {
			*link = transition->next;
			return;
		}
}

/* What nobody came back for. */
static void drop_ended(struct uapi_device *device)
{
	struct uapi_transition **link = &device->transitions;

	while (*link) {
		struct uapi_transition *transition = *link;

		if (transition->ended && !transition->waits) {
			*link = transition->next;
			free(transition);
		} else {
			link = &transition->next;
		}
	}
}

/* The one that the thread was sent back from. */
static struct uapi_transition *find_own(struct uapi_device *device, const struct uapi_call *call,
					uint32_t state)
{
	struct uapi_transition *transition = device->transitions;

	while (transition && (transition->waits || transition->call.thread != call->thread ||
			      transition->state.device_state != state))
		transition = transition->next;
	return transition;
}

/*
 * The device has arrived, or failed: any other thread. With the lock to the end, by when nothing of
 * the call is used any more.
 */
static void done(void *opaque, int result)
{
	struct uapi_transition *transition = opaque;
	struct uapi_device *device = transition->device;
	bool waits;

	pthread_mutex_lock(&device->migrating);
	transition->ended = true;
	transition->result = result;
	waits = transition->waits;
	if (waits) {
		unlink_transition(transition);
		uapi_call_answer(&transition->call,
				 complete(transition, &transition->call, result));
	}
	pthread_mutex_unlock(&device->migrating);
	if (waits)
		free(transition);
}

static int start(struct uapi_transition *transition)
{
	struct uapi_device *device = transition->device;
	int ret = 0;

	if (is_pre_copy(transition->state.device_state))
		ret = uapi_known_look(device);
	if (!ret)
		ret = uvf_migration_start_change(device->dev, transition->state.device_state,
						 &transition->before, done, transition);
	/* No older session's descriptor reads what is to come. */
	if (ret == -EINPROGRESS)
		atomic_fetch_add(&device->transfers, 1);
	return ret;
}

/* A new one. */
static long begin(struct uapi_device *device, struct uapi_call *call, uint64_t address,
		  const struct vfio_device_feature_mig_state *state)
{
	struct uapi_transition *transition = calloc(1, sizeof(*transition));
	long ret;

	if (!transition)
		return -ENOMEM;
	drop_ended(device);
	transition->device = device;
	transition->address = address;
	transition->state = *state;
	ret = start(transition);
	if (ret == -EINPROGRESS) {
		transition->waits = true;
		transition->call = *call;
		transition->next = device->transitions;
		device->transitions = transition;
		return UAPI_TAKEN;
	}
	ret = complete(transition, call, (int)ret);
	free(transition);
	return ret;
}

/* The one that the thread was sent back from. */
static long go_on(struct uapi_transition *transition, struct uapi_call *call, uint64_t address)
{
	long ret;

	transition->address = address;
	if (!transition->ended) {
		transition->waits = true;
		transition->call = *call;
		return UAPI_TAKEN;
	}
	unlink_transition(transition);
	ret = complete(transition, call, transition->result);
	free(transition);
	return ret;
}

long uapi_device_set_state(struct uapi_device *device, struct uapi_call *call, uint64_t address)
{
	struct vfio_device_feature_mig_state state;
	struct uapi_transition *own;
	long ret;

	if (uapi_call_read(call, address, &state, sizeof(state)))
		return -EFAULT;
	pthread_mutex_lock(&device->migrating);
	own = find_own(device, call, state.device_state);
	ret = own ? go_on(own, call, address) : begin(device, call, address, &state);
	pthread_mutex_unlock(&device->migrating);
	return ret;
}

/* ---- For the tracer, and the end ---- */

static void send_back(struct uapi_device *device, pid_t thread)
{
	struct uapi_transition *transition;

	pthread_mutex_lock(&device->migrating);
	for (transition = device->transitions; transition; transition = transition->next)
		if (transition->waits && transition->call.thread == thread &&
		    transition->call.notifier) {
			transition->waits = false;
			uapi_notifier_send(transition->call.notifier, transition->call.id, RESTART);
		}
	pthread_mutex_unlock(&device->migrating);
}

void uapi_transitions_send_back(struct uvf_run *run, pid_t thread)
{
	for (size_t i = 0; i < run->device_count; i++)
		send_back(&run->devices[i], thread);
}

void uapi_transitions_forget(struct uvf_run *run)
{
	for (size_t i = 0; i < run->device_count; i++) {
		struct uapi_device *device = &run->devices[i];
		struct uapi_transition *transition;

		pthread_mutex_lock(&device->migrating);
		for (transition = device->transitions; transition; transition = transition->next)
			transition->waits = false;
		pthread_mutex_unlock(&device->migrating);
	}
}

static bool all_have_ended(struct uapi_device *device)
{
	bool all;

	pthread_mutex_lock(&device->migrating);
	drop_ended(device);
	all = !device->transitions;
	pthread_mutex_unlock(&device->migrating);
	return all;
}

void uapi_transitions_free(struct uvf_run *run)
{
	const struct timespec some = {.tv_nsec = 1000000};

	/* A device that was closed tells of it soon. */
	for (size_t i = 0; i < run->device_count; i++)
		while (!all_have_ended(&run->devices[i]))
			nanosleep(&some, NULL);
}

void uapi_transitions_drop(struct uapi_device *device)
{
	pthread_mutex_lock(&device->migrating);
	drop_ended(device);
	pthread_mutex_unlock(&device->migrating);
}
