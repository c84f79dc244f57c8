/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Areas that change over there: <uvfio/remap.h>, whose driver this is.
 *
 * The far IRQ has our eventfd as long as who has the device open here can follow: by the IRQ or the
 * revoker here, or as they have nothing in conflict. Then the far end may take areas away. The
 * thread reads what has changed, changes the areas here, and when that has settled it announces
 * what has gone, and acknowledges. What could not be followed is acknowledged too, but not gone:
 * the far end then knows that it is still mapped.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "core/core.h"
#include "devices/vfio_user_client/follow.h"

/* As long as something waits here its signal is masked, and what changes meanwhile is asked for. */
#define ASK_AGAIN_MS 100

/* ---- Before the device is offered ---- */

int client_add_changing(struct client *client, uint32_t index, struct client_region *region)
{
	struct client_changing *changing =
		reallocarray(client->changing, client->changing_count + 1, sizeof(*changing));
	int ret;

	if (!changing)
		return -ENOMEM;
	client->changing = changing;
	changing += client->changing_count++;
	*changing = (struct client_changing){.index = index, .followed = true};
	ret = client_read_areas(client, changing, region, false);
	return ret ? ret : client_want(client, changing, region);
}

int client_set_remap_irq(struct client *client, const struct uvf_irq *irq, const uint32_t *regions,
			 size_t count)
{
	const uint32_t flags =
		VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;

	if (client->has_remap_irq || irq->count != 1 || (irq->flags & flags) != flags ||
	    count != client->changing_count)
		return -EPROTO;
	for (size_t i = 0; i < count; i++)
		if (regions[i] != client->changing[i].index)
			return -EPROTO;
	client->has_remap_irq = true;
	client->remap_irq = irq->index;
	return 0;
}

/* ---- The far IRQ ---- */

/* #syscalls: write */
static void poke(struct client *client)
{
	uint64_t one = 1;
	ssize_t written = write(client->poke, &one, sizeof(one));

	(void)written; /* it can only be full: then it is readable */
}

static void watch(struct uvf_device *dev)
{
	poke(uvf_device_opaque(dev));
}

void client_look_again(struct client *client)
{
	if (!client->has_remap_irq)
		return;
	atomic_store(&client->look_again, true);
	poke(client);
}

static int set_far_irq(struct client *client, uint32_t flags, const int *fd, bool *refused)
{
	const struct uvf_wire_irq_set set = {
		.argsz = sizeof(set),
		.flags = flags,
		.index = client->remap_irq,
		.count = 1,
	};
	struct uvf_call call = {
		.command = VFIO_USER_DEVICE_SET_IRQS,
		.fixed = &set,
		.fixed_size = sizeof(set),
		.fds = fd,
		.fd_count = fd != NULL,
	};

	return client_try(client, &call, refused);
}

void client_tell_whether_following(struct client *client)
{
	bool follows, refused;
	int ret;

	if (!client->has_remap_irq)
		return;
	follows = !uvf_remap_can_follow(client->dev) && client->server.max_msg_fds;
	if (follows == client->follows)
		return;
	ret = set_far_irq(client, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			  follows ? &client->remap_event : NULL, &refused);
	if (ret < 0 && refused)
		client_violation(client, "to the eventfd of changing areas");
	client->follows = follows;
}

/* ---- Following ---- */

/* With the device's lock. Returns an error where not even doing without areas is possible. */
static int set_here(struct client *client, struct client_changing *changing)
{
	int ret = uvf_region_set_areas(client->dev, changing->index, changing->wanted,
				       changing->wanted_count);

	if (ret && ret != -EINPROGRESS && ret != -EBUSY && ret != -ENODEV) {
		uvf_device_log(client->dev, UVF_LOG_ERROR, "region %u goes without areas: %s",
			       changing->index, strerror(-ret));
		changing->wanted_count = 0;
		ret = uvf_region_set_areas(client->dev, changing->index, NULL, 0);
	}
	changing->followed = !ret;
	changing->waits = ret == -EINPROGRESS;
	changing->refused = ret == -EBUSY || ret == -ENODEV;
	return changing->followed || changing->waits || changing->refused ? 0 : ret;
}

void client_areas_settled(struct uvf_device *dev, uint32_t index, int result)
{
	struct client *client = uvf_device_opaque(dev);

	for (size_t i = 0; i < client->changing_count; i++) {
		struct client_changing *changing = &client->changing[i];

		if (changing->index != index)
			continue;
		changing->waits = false;
		/* What this process has mapped itself outlives a close, which ends the wait. */
		changing->followed = !result && uvf_region_is_followed(dev, index);
	}
	poke(client);
}

static int read_one(struct client *client, struct client_changing *changing,
		    struct client_region *region)
{
	int ret = client_read_areas(client, changing, region, true);
	bool same = !ret && client_wants(changing, region);

	if (!ret && !same)
		ret = client_want(client, changing, region);
	client_region_end(region);
	if (ret)
		return ret;
	uvf_device_lock(client->dev);
	/* What has changed back is asked for again of those who had not followed. */
	if (!same || (region->changed && !changing->waits && !changing->followed))
		ret = set_here(client, changing);
	uvf_device_unlock(client->dev);
	return ret;
}

static int read_all(struct client *client)
{
	struct client_region *region = calloc(1, sizeof(*region));
	int ret = region ? 0 : -ENOMEM;

	for (size_t i = 0; i < client->changing_count && !ret; i++)
		ret = read_one(client, &client->changing[i], region);
	free(region);
	return ret;
}

/* Where one stands. Those who could not follow may have let go since. */
static int look_at(struct client *client, struct client_changing *changing, bool *waits)
{
	bool followed;
	int ret = 0;

	uvf_device_lock(client->dev);
	if (changing->refused)
		ret = set_here(client, changing);
	else if (!changing->waits && !changing->followed)
		changing->followed = uvf_region_is_followed(client->dev, changing->index);
	followed = changing->followed;
	*waits |= changing->waits;
	uvf_device_unlock(client->dev);
	return !ret && followed ? client_take_back_old(client, changing) : ret;
}

static int look_at_all(struct client *client, bool *waitsp)
{
	bool waits = false, refused = false;
	int ret = 0;

	for (size_t i = 0; i < client->changing_count && !ret; i++)
		ret = look_at(client, &client->changing[i], &waits);
	if (!ret && client->owes && !waits) {
		ret = set_far_irq(client, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, NULL,
				  &refused);
		client->owes = false;
	}
	*waitsp = waits;
	return refused ? 0 : ret;
}

/* #syscalls: poll read */
static bool drain(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof(count)) > 0;
}

static int follow(struct client *client, bool read_again, bool *waits)
{
	int ret = 0;

	drain(client->poke);
	read_again |= atomic_exchange(&client->look_again, false);
	if (drain(client->remap_event))
		client->owes = read_again = true;
	if (read_again)
		ret = read_all(client);
	if (!ret)
		ret = look_at_all(client, waits);
	uvf_device_lock(client->dev);
	client_tell_whether_following(client);
	uvf_device_unlock(client->dev);
	return ret;
}

static void *follow_main(void *opaque)
{
	struct client *client = opaque;
	struct pollfd fds[] = {{client->remap_event, POLLIN, 0}, {client->poke, POLLIN, 0}};
	uint64_t asked = 0;
	bool waits = false;
	int ret = 0;

	while (!atomic_load(&client->stopping) && !ret) {
		bool late;

		poll(fds, UVF_ARRAY_SIZE(fds), waits ? ASK_AGAIN_MS : -1);
		late = waits && uvf_now_ns() - asked >= ASK_AGAIN_MS * 1000000ULL;
		if (late || !waits)
			asked = uvf_now_ns();
		ret = follow(client, late, &waits);
	}
	/* Without it the far end would wait for what never comes. */
	if (ret)
		uvf_channel_fail(client->channel, ret);
	return NULL;
}

/* #syscalls: eventfd2 */
int client_follow_start(struct client *client)
{
	uint32_t timeout_ms = client->config.timeout_ms;

	if (!client->has_remap_irq)
		return 0;
	client->remap_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	client->poke = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (client->remap_event < 0 || client->poke < 0)
		return -errno;
	/* The far end's limit comes first: whoever waits there is told what is so there. */
	if (__builtin_mul_overflow(timeout_ms, CLIENT_STATE_PATIENCE, &timeout_ms))
		timeout_ms = UINT32_MAX;
	uvf_device_set_remap_timeout(client->dev, timeout_ms);
	uvf_remap_set_watch(client->dev, watch);
	uvf_device_lock(client->dev);
	client_tell_whether_following(client);
	uvf_device_unlock(client->dev);
	if (pthread_create(&client->follower, NULL, follow_main, client))
		return -EAGAIN;
	client->follower_runs = true;
	return 0;
}

void client_follow_stop(struct client *client)
{
	atomic_store(&client->stopping, true);
	if (client->follower_runs) {
		poke(client);
		pthread_join(client->follower, NULL);
	}
	if (client->remap_event >= 0)
		close(client->remap_event);
	if (client->poke >= 0)
		close(client->poke);
	for (size_t i = 0; i < client->changing_count; i++) {
		free(client->changing[i].wanted);
		free(client->changing[i].announced);
	}
	free(client->changing);
}
