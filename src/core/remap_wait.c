/* SPDX-License-Identifier: BSD-3-Clause */
/* What waits for the driver to follow: a model's change, and a transition to PRE_COPY. */
#include "core/remap.h"

#include <errno.h>

#include "base/clock.h"
#include "core/device.h"
#include "core/transition.h"

#define NEVER UINT64_MAX

static struct region_changes *changes_of(struct uvf_device *dev, uint32_t i)
{
	return uvf_device_region(dev, dev->remap->regions[i])->changes;
}

static struct area_list *current_of(struct region_changes *changes)
{
	return atomic_load_explicit(&changes->current, memory_order_relaxed);
}

/* ---- Where a region stands: with the device's lock ---- */

/* Whether the driver has an eventfd on the IRQ. */
static bool follows(struct uvf_device *dev)
{
	struct irq_vector *vector;
	bool has_trigger;

	if (!dev->remap->has_irq)
		return false;
	vector = &dev->irqs[dev->remap->irq]->vectors[0];
	pthread_mutex_lock(&vector->lock);
	has_trigger = vector->trigger >= 0;
	pthread_mutex_unlock(&vector->lock);
	return has_trigger;
}

/* Whether a driver whose mappings the frontend follows can have something that isn't in @list. */
static bool takes_away(const struct region_changes *changes, const struct area_list *list)
{
	for (unsigned i = 0; i < changes->lists.count; i++)
		if (changes->possible >> i & 1 && !uvf_areas_keep_all(list, changes->lists.at[i]))
			return true;
	return false;
}

/* What going to @list would meet: 0 nothing, -EINPROGRESS a wait, -EBUSY or -ENODEV a refusal. */
static int decide(struct uvf_device *dev, uint32_t index, const struct area_list *list)
{
	const struct region_changes *changes = uvf_device_region(dev, index)->changes;
	struct remap *remap = dev->remap;
	bool known, unknown;

	if (remap->revoker.areas_changed && takes_away(changes, list))
		return -EINPROGRESS;
	pthread_mutex_lock(&remap->lock);
	uvf_claims_conflicts(&remap->claims, index, &changes->lists, list, &known, &unknown);
	pthread_mutex_unlock(&remap->lock);
	if (!known && !unknown)
		return 0;
	if (follows(dev))
		return -EINPROGRESS;
	return known ? -EBUSY : -ENODEV;
}

/* Whether the driver has followed to the current list: 0, -EINPROGRESS or why it never will. */
static int evaluate(struct uvf_device *dev, uint32_t index)
{
	const struct region_changes *changes = uvf_device_region(dev, index)->changes;
	bool known, unknown, follower = follows(dev);
	struct remap *remap = dev->remap;
	int ret;

	pthread_mutex_lock(&remap->lock);
	uvf_claims_conflicts(&remap->claims, index, &changes->lists,
			     atomic_load_explicit(&changes->current, memory_order_relaxed), &known,
			     &unknown);
	if (changes->asked == changes->generation && changes->revoked == changes->generation)
		ret = changes->revoke_result ? changes->revoke_result : known ? -EBUSY : 0;
	else if (changes->asked == changes->generation)
		ret = remap->revoker.areas_changed ? -EINPROGRESS : -ENODEV;
	else if (!known && !unknown)
		ret = 0;
	else if (changes->acknowledged == changes->generation)
		ret = known ? -EBUSY : 0;
	else if (follower)
		ret = -EINPROGRESS;
	else
		ret = known ? -EBUSY : -ENODEV;
	pthread_mutex_unlock(&remap->lock);
	return ret;
}

/* As decide(), also of the list where it is: it may be there without being followed to. */
static int decide_anew(struct uvf_device *dev, uint32_t index, const struct area_list *list)
{
	if (list == current_of(uvf_device_region(dev, index)->changes) && !evaluate(dev, index))
		return 0;
	return decide(dev, index, list);
}

static void settled(struct region_changes *changes)
{
	changes->possible = 1ULL << current_of(changes)->number;
}

/* ---- Waiting ---- */

/* A thread, before anything changes that would need one. */
static int prepare_to_wait(struct uvf_device *dev)
{
	return dev->remap->by_hand ? 0 : uvf_delayer_start(dev);
}

/* From before the change, so that no answer to it is missed. */
static void start_waiting(struct uvf_device *dev)
{
	pthread_mutex_lock(&dev->remap->lock);
	dev->remap->waiting = true;
	pthread_mutex_unlock(&dev->remap->lock);
}

void uvf_remap_poke(struct remap *remap)
{
	pthread_mutex_lock(&remap->lock);
	if (remap->waiting && remap->dev && !remap->by_hand)
		uvf_delayer_look(remap->dev, 0);
	if (remap->watch)
		remap->watch(remap->dev);
	pthread_mutex_unlock(&remap->lock);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* A model's own change. Returns when it is over. */
static uint64_t look_at_region(struct uvf_device *dev, uint32_t index, uint64_t now)
{
	struct region_changes *changes = uvf_device_region(dev, index)->changes;
	int ret;

	if (!changes->waits)
		return NEVER;
	ret = evaluate(dev, index);
	if (ret == -EINPROGRESS && now < changes->deadline)
		return changes->deadline;
	if (ret == -EINPROGRESS)
		ret = -ETIMEDOUT;
	if (!ret)
		settled(changes);
	changes->waits = false;
	if (dev->ops->areas_settled && !dev->remap->over)
		dev->ops->areas_settled(dev, index, ret);
	return changes->waits ? changes->deadline : NEVER;
}

static void tell_settled(struct uvf_device *dev)
{
	struct remap *remap = dev->remap;

	remap->settled = true;
	for (uint32_t i = 0; i < remap->region_count; i++) {
		struct region_changes *changes = changes_of(dev, i);

		if (!changes->taken)
			continue;
		settled(changes);
		if (dev->ops->areas_settled)
			dev->ops->areas_settled(dev, remap->regions[i], 0);
	}
}

/* The first error of all regions; if there is none, whether one is not there yet. */
static int evaluate_saving(struct uvf_device *dev)
{
	int ret = 0;

	for (uint32_t i = 0; i < dev->remap->region_count; i++) {
		int one = changes_of(dev, i)->taken ? evaluate(dev, dev->remap->regions[i]) : 0;

		if (one && one != -EINPROGRESS)
			return one;
		if (one)
			ret = one;
	}
	return ret;
}

static uint64_t look_at_saving(struct uvf_device *dev, uint64_t now)
{
	struct remap *remap = dev->remap;
	int ret;

	if (!remap->saving_waits)
		return NEVER;
	ret = evaluate_saving(dev);
	if (ret == -EINPROGRESS && now < remap->saving_deadline)
		return remap->saving_deadline;
	if (ret == -EINPROGRESS)
		ret = -ETIMEDOUT;
	remap->saving_waits = false;
	if (!ret)
		tell_settled(dev);
	uvf_transition_settled(dev, ret);
	return NEVER;
}

uint64_t uvf_remap_work(struct uvf_device *dev, uint64_t now)
{
	struct remap *remap = dev->remap;
	uint64_t next = NEVER;

	if (!remap) {
		uvf_transitions_deliver(dev);
		return NEVER;
	}
	uvf_device_lock(dev);
	for (uint32_t i = 0; i < remap->region_count; i++)
		next = earlier(next, look_at_region(dev, remap->regions[i], now));
	next = earlier(next, look_at_saving(dev, now));
	pthread_mutex_lock(&remap->lock);
	remap->waiting = remap->saving_waits;
	for (uint32_t i = 0; i < remap->region_count; i++)
		remap->waiting |= changes_of(dev, i)->waits;
	pthread_mutex_unlock(&remap->lock);
	uvf_device_unlock(dev);
	uvf_transitions_deliver(dev);
	return next;
}

/* ---- What is waited for: with the device's lock ---- */

static void wait_from_now(struct uvf_device *dev)
{
	start_waiting(dev);
	if (!dev->remap->by_hand)
		uvf_delayer_look(dev, 0);
}

/* Goes to @list, having decided @ret about it. */
static void change(struct uvf_device *dev, uint32_t index, struct area_list *list, int decided)
{
	struct region_changes *changes = uvf_device_region(dev, index)->changes;

	if (decided)
		start_waiting(dev);
	uvf_remap_apply(dev, index, list);
	if (!decided)
		settled(changes);
	else if (!dev->remap->by_hand)
		uvf_delayer_look(dev, 0);
}

int uvf_region_set_areas(struct uvf_device *dev, uint32_t index, const struct uvf_area *areas,
			 size_t count)
{
	struct region *region = uvf_device_region(dev, index);
	struct area_list *list, *target;
	struct region_changes *changes;
	bool is_there;
	int ret;

	if (!region || !region->changes ||
	    !uvf_areas_are_valid(areas, count, region->description.size, true))
		return -EINVAL;
	changes = region->changes;
	ret = uvf_area_lists_get(&changes->lists, areas, count, region->description.flags, &list);
	if (ret)
		return ret;
	target = dev->remap->saving ? list->saving : list;
	is_there = target == current_of(changes);
	if (is_there && changes->waits) {
		changes->wanted = list;
		return -EINPROGRESS;
	}
	ret = decide_anew(dev, index, target);
	if (ret == -EINPROGRESS && prepare_to_wait(dev))
		ret = -ENOMEM;
	if (ret && ret != -EINPROGRESS)
		return ret;
	changes->wanted = list;
	changes->waits = ret;
	changes->deadline = uvf_now_ns() + dev->remap->timeout_ns;
	/* A transition that waits is not over before this is. */
	changes->taken |= ret && dev->remap->saving_waits;
	if (ret || !is_there)
		change(dev, index, target, ret);
	return ret;
}

/* What goes, or has gone with no driver following to it yet: what all of it would meet. */
static int decide_saving(struct uvf_device *dev)
{
	int ret = 0;

	for (uint32_t i = 0; i < dev->remap->region_count; i++) {
		struct region_changes *changes = changes_of(dev, i);
		int one = decide_anew(dev, dev->remap->regions[i], changes->wanted->saving);

		if (one && one != -EINPROGRESS)
			return one;
		if (one)
			ret = one;
	}
	return ret;
}

int uvf_remap_can_follow(struct uvf_device *dev)
{
	int ret = dev->remap->saving ? 0 : decide_saving(dev);

	return ret == -EINPROGRESS ? 0 : ret;
}

bool uvf_region_is_followed(struct uvf_device *dev, uint32_t index)
{
	return !evaluate(dev, index);
}

int uvf_remap_save_begin(struct uvf_device *dev)
{
	struct remap *remap = dev->remap;
	int ret;

	if (!remap || remap->saving)
		return remap && remap->saving_waits ? -EINPROGRESS : 0;
	ret = decide_saving(dev);
	if (ret == -EINPROGRESS && prepare_to_wait(dev))
		ret = -ENOMEM;
	if (ret && ret != -EINPROGRESS)
		return ret;
	remap->saving = true;
	remap->settled = false;
	remap->saving_waits = ret;
	remap->saving_deadline = uvf_now_ns() + remap->timeout_ns;
	for (uint32_t i = 0; i < remap->region_count; i++) {
		struct region_changes *changes = changes_of(dev, i);
		struct area_list *list = changes->wanted->saving;

		changes->taken =
			list != current_of(changes) || decide_anew(dev, remap->regions[i], list);
		if (changes->taken)
			change(dev, remap->regions[i], list, ret);
	}
	if (!ret)
		tell_settled(dev);
	else
		wait_from_now(dev); /* also where all have followed since it was decided */
	return ret;
}

void uvf_remap_save_end(struct uvf_device *dev)
{
	struct remap *remap = dev->remap;

	if (!remap || !remap->saving)
		return;
	remap->saving = remap->saving_waits = false;
	for (uint32_t i = 0; i < remap->region_count; i++) {
		struct region_changes *changes = changes_of(dev, i);

		if (changes->taken && remap->settled && dev->ops->areas_return)
			dev->ops->areas_return(dev, remap->regions[i]);
		changes->taken = false;
		if (changes->wanted != current_of(changes))
			uvf_remap_apply(dev, remap->regions[i], changes->wanted);
	}
}

void uvf_remap_open(struct uvf_device *dev)
{
	if (!dev->remap)
		return;
	pthread_mutex_lock(&dev->remap->lock);
	uvf_remap_forget(dev);
	pthread_mutex_unlock(&dev->remap->lock);
}

void uvf_remap_close(struct uvf_device *dev)
{
	struct remap *remap = dev->remap;

	if (!remap)
		return;
	pthread_mutex_lock(&remap->lock);
	uvf_claims_end(&remap->claims);
	uvf_remap_forget(dev);
	pthread_mutex_unlock(&remap->lock);
	for (uint32_t i = 0; i < remap->region_count; i++) {
		struct region_changes *changes = changes_of(dev, i);
		bool waited = changes->waits;

		settled(changes);
		changes->waits = false;
		if (waited && dev->ops->areas_settled)
			dev->ops->areas_settled(dev, remap->regions[i], 0);
	}
}
