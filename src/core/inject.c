/* SPDX-License-Identifier: BSD-3-Clause */
/* Injectors: the faults that were asked for, and the paths of the core that ask whether to fail. */
#include "core/inject.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct armed_fault {
	struct inject_fault fault;
	struct uvf_injected told;
};

struct uvf_injector {
	struct uvf_device *dev; /* NULL: belongs to none */
	pthread_mutex_t lock;
	struct armed_fault faults[UVF_INJECT_MAX]; /* in the order in which they were asked for */
	size_t count;

	/* Under the device's ownership lock. */
	struct uvf_listener listener;
	struct uvf_address_space *watched; /* NULL: none; the device's reference */
};

/* ---- What is hit ---- */

/* With the lock: the paths look at what is asked for, and at nothing else. */
static void update_classes(struct uvf_injector *injector)
{
	struct uvf_device *dev = injector->dev;
	unsigned classes = 0;

	if (!dev)
		return;
	for (size_t i = 0; i < injector->count; i++)
		if (!injector->faults[i].told.over)
			classes |= uvf_inject_class(injector->faults[i].fault.kind);
	atomic_fetch_or(&dev->armed, classes);
	atomic_fetch_and(&dev->armed, classes | UVF_ARMED_REMOVED);
	atomic_store(&dev->open_attachment, classes & UVF_ARMED_DMA ? NULL : dev->attachment);
}

/* With the lock: one more that @armed could hit has come. Whether it does. */
static bool is_hit(struct uvf_injector *injector, struct armed_fault *armed)
{
	const struct inject_fault *fault = &armed->fault;
	uint64_t seen = ++armed->told.seen;

	if (seen < fault->nth)
		return false;
	armed->told.hits++;
	if (fault->count && armed->told.hits >= fault->count) {
		armed->told.over = true;
		update_classes(injector);
	}
	return true;
}

static bool touches(const struct inject_fault *fault, uvf_iova_t iova, uint64_t size)
{
	uvf_iova_t last;

	if (!uvf_range_last(iova, size, &last))
		last = iova;
	return iova <= fault->last && fault->first <= last;
}

/* Whether any hits; each that could hit has seen it. @error: of the first that does. */
static bool is_range_hit(struct uvf_injector *injector, enum inject_kind kind, unsigned prot,
			 uvf_iova_t iova, uint64_t size, int *error)
{
	bool hit = false;

	pthread_mutex_lock(&injector->lock);
	for (size_t i = 0; i < injector->count; i++) {
		struct armed_fault *armed = &injector->faults[i];

		if (armed->told.over || armed->fault.kind != kind ||
		    (prot && !(armed->fault.prot & prot)) || !touches(&armed->fault, iova, size))
			continue;
		if (is_hit(injector, armed) && !hit) {
			hit = true;
			*error = armed->fault.error;
		}
	}
	pthread_mutex_unlock(&injector->lock);
	return hit;
}

static bool injector_hides(struct uvf_injector *injector, uvf_iova_t iova, uint64_t size)
{
	int error;

	return is_range_hit(injector, INJECT_DIRTY_LOSE, 0, iova, size, &error);
}

static int listener_admit(struct uvf_listener *listener, const struct uvf_mapping *mapping)
{
	struct uvf_injector *injector =
		(struct uvf_injector *)((char *)listener - offsetof(struct uvf_injector, listener));

	return uvf_injector_map(injector, mapping->first, mapping->last - mapping->first + 1);
}

static bool listener_hides(struct uvf_listener *listener, uvf_iova_t iova, uint64_t size)
{
	struct uvf_injector *injector =
		(struct uvf_injector *)((char *)listener - offsetof(struct uvf_injector, listener));

	return injector_hides(injector, iova, size);
}

/* ---- Injectors ---- */

struct uvf_injector *uvf_injector_new(void)
{
	struct uvf_injector *injector = calloc(1, sizeof(*injector));

	if (!injector)
		return NULL;
	pthread_mutex_init(&injector->lock, NULL);
	injector->listener.admit = listener_admit;
	injector->listener.hides = listener_hides;
	return injector;
}

void uvf_injector_free(struct uvf_injector *injector)
{
	if (!injector)
		return;
	pthread_mutex_destroy(&injector->lock);
	free(injector);
}

struct uvf_injector *uvf_device_injector(struct uvf_device *dev)
{
	struct uvf_injector *injector;

	uvf_device_lock(dev);
	injector = atomic_load(&dev->injector);
	if (!injector) {
		injector = uvf_injector_new();
		if (injector)
			injector->dev = dev;
		atomic_store(&dev->injector, injector);
	}
	uvf_device_unlock(dev);
	return injector;
}

void uvf_inject_free(struct uvf_device *dev)
{
	uvf_delayer_free(dev);
	uvf_injector_free(atomic_load(&dev->injector));
}

/* With the lock. The oldest that is over makes room. */
static struct armed_fault *new_fault(struct uvf_injector *injector)
{
	size_t i = 0;

	if (injector->count < UVF_INJECT_MAX)
		return &injector->faults[injector->count++];
	while (i < UVF_INJECT_MAX && !injector->faults[i].told.over)
		i++;
	if (i == UVF_INJECT_MAX)
		return NULL;
	memmove(&injector->faults[i], &injector->faults[i + 1],
		(UVF_INJECT_MAX - 1 - i) * sizeof(injector->faults[0]));
	return &injector->faults[UVF_INJECT_MAX - 1];
}

static int remember(struct uvf_injector *injector, const struct inject_fault *fault,
		    const char *spec)
{
	struct armed_fault *armed;

	pthread_mutex_lock(&injector->lock);
	armed = new_fault(injector);
	if (armed) {
		*armed = (struct armed_fault){.fault = *fault};
		/* The length has been checked. */
		memcpy(armed->told.spec, spec, strlen(spec) + 1);
		if (!fault->nth) {
			armed->told.seen = armed->told.hits = 1;
			armed->told.over = true;
		}
		update_classes(injector);
	}
	pthread_mutex_unlock(&injector->lock);
	return armed ? 0 : -ENOSPC;
}

/* ---- Asking for faults ---- */

/* A device in another process does its DMA and its interrupts there. */
static int check_reach(const struct uvf_device *dev, enum inject_kind kind, const char *spec,
		       struct uvf_error *error)
{
	unsigned class = uvf_inject_class(kind);

	if (!dev && class != UVF_ARMED_MAP)
		return uvf_fail(error, -EINVAL, "%s: expected device=DEVICE", spec);
	if (class == UVF_ARMED_DMA && dev->ops->set_irqs)
		return uvf_fail(error, -EOPNOTSUPP, "%s: DMA of %s doesn't pass through here", spec,
				dev->name);
	if (class == UVF_ARMED_REPORT && dev->ops->set_irqs)
		return uvf_fail(error, -EOPNOTSUPP, "%s: what %s writes isn't noted here", spec,
				dev->name);
	if (class == UVF_ARMED_IRQ && dev->ops->set_irqs)
		return uvf_fail(error, -EOPNOTSUPP, "%s: interrupts of %s don't pass through here",
				spec, dev->name);
	if (kind == INJECT_AER && !(dev->layer_ops && dev->layer_ops->inject_error))
		return uvf_fail(error, -ENOTTY, "%s: %s has no error reporting", spec, dev->name);
	return 0;
}

static int report_error(struct uvf_device *dev, const struct inject_fault *fault)
{
	int ret = -ENODEV;

	uvf_device_lock(dev);
	if (atomic_load(&dev->open) && !uvf_device_is_removed(dev))
		ret = dev->layer_ops->inject_error(dev, fault->correctable, fault->bit,
						   fault->header);
	uvf_device_unlock(dev);
	return ret;
}

static int do_at_once(struct uvf_device *dev, const struct inject_fault *fault, const char *spec,
		      struct uvf_error *error)
{
	int ret;

	if (fault->kind == INJECT_REMOVE) {
		uvf_device_pull_out(dev, fault->tells_error, fault->tells_request);
		return 0;
	}
	ret = report_error(dev, fault);
	if (ret == -ENODEV)
		return uvf_fail(error, ret, "%s: nobody has %s open; nth=N waits for an access",
				spec, dev->name);
	if (ret == -ENOTTY)
		return uvf_fail(error, ret, "%s: %s has no AER capability", spec, dev->name);
	if (ret)
		return uvf_fail(error, ret, "%s: bit=: %u is no error that %s can have", spec,
				fault->bit, dev->name);
	return 0;
}

#define UVF_ARMED_SPACE (UVF_ARMED_MAP | UVF_ARMED_REPORT)

/* Mappings, and reports of what is dirty, are seen where the device is attached to. */
static void watch(struct uvf_device *dev, struct uvf_address_space *space)
{
	struct uvf_injector *injector = atomic_load(&dev->injector);

	if (!injector || injector->watched || !space ||
	    !(atomic_load(&dev->armed) & UVF_ARMED_SPACE))
		return;
	if (!uvf_listener_add(space, &injector->listener))
		injector->watched = space;
}

static int start_delayer(struct uvf_device *dev)
{
	int ret;

	uvf_device_lock(dev);
	ret = uvf_delayer_start(dev);
	uvf_device_unlock(dev);
	return ret;
}

int uvf_inject(struct uvf_injector *injector, const char *spec, struct uvf_error *error)
{
	struct uvf_device *dev = injector->dev;
	struct inject_fault fault;
	int ret = uvf_inject_parse(spec, &fault, NULL, 0, error);

	if (!ret)
		ret = check_reach(dev, fault.kind, spec, error);
	if (!ret && (fault.kind == INJECT_IRQ_DELAY || fault.kind == INJECT_REMOVE) &&
	    start_delayer(dev))
		ret = uvf_fail(error, -ENOMEM, "%s: no thread", spec);
	if (!ret && !fault.nth)
		ret = do_at_once(dev, &fault, spec, error);
	if (ret)
		return ret;
	ret = remember(injector, &fault, spec);
	if (ret)
		return uvf_fail(error, ret, "%s: %d faults are waiting already", spec,
				UVF_INJECT_MAX);
	if (dev && uvf_inject_class(fault.kind) & UVF_ARMED_SPACE) {
		pthread_mutex_lock(&dev->ownership);
		watch(dev, uvf_attachment_space(dev->attachment));
		pthread_mutex_unlock(&dev->ownership);
	}
	return 0;
}

int uvf_inject_device(const char *spec, char *device, size_t size, struct uvf_error *error)
{
	struct inject_fault fault;

	return uvf_inject_parse(spec, &fault, device, size, error);
}

void uvf_injector_clear(struct uvf_injector *injector)
{
	struct uvf_device *dev = injector->dev;

	pthread_mutex_lock(&injector->lock);
	injector->count = 0;
	update_classes(injector);
	pthread_mutex_unlock(&injector->lock);
	if (!dev)
		return;
	pthread_mutex_lock(&dev->ownership);
	dev->returns = atomic_load(&dev->open);
	if (!dev->returns)
		atomic_fetch_and(&dev->armed, ~(unsigned)UVF_ARMED_REMOVED);
	pthread_mutex_unlock(&dev->ownership);
}

size_t uvf_injector_list(struct uvf_injector *injector, struct uvf_injected *list, size_t max)
{
	size_t count;

	pthread_mutex_lock(&injector->lock);
	count = injector->count;
	for (size_t i = 0; i < count && i < max; i++)
		list[i] = injector->faults[i].told;
	pthread_mutex_unlock(&injector->lock);
	return count;
}

/* ---- The paths ---- */

int uvf_inject_dma(struct uvf_device *dev, unsigned prot, uvf_iova_t iova, uint64_t size)
{
	struct uvf_injector *injector = atomic_load(&dev->injector);
	int error = 0;

	if (injector)
		is_range_hit(injector, INJECT_DMA_FAIL, prot, iova, size, &error);
	return error;
}

int uvf_injector_map(struct uvf_injector *injector, uvf_iova_t iova, uint64_t size)
{
	int error = 0;

	if (injector)
		is_range_hit(injector, INJECT_MAP_FAIL, 0, iova, size, &error);
	return error;
}

bool uvf_inject_hides(struct uvf_device *dev, uvf_iova_t iova, uint64_t size)
{
	struct uvf_injector *injector = atomic_load(&dev->injector);

	return injector && atomic_load(&dev->armed) & UVF_ARMED_REPORT &&
	       injector_hides(injector, iova, size);
}

static bool is_for_irq(const struct inject_fault *fault, uint32_t index, uint32_t vector)
{
	return (fault->kind == INJECT_IRQ_DROP || fault->kind == INJECT_IRQ_DELAY) &&
	       (fault->index == INJECT_ANY || fault->index == index) &&
	       (fault->vector == INJECT_ANY || fault->vector == vector);
}

bool uvf_inject_irq(struct uvf_device *dev, uint32_t index, uint32_t vector, bool level)
{
	struct uvf_injector *injector = atomic_load(&dev->injector);
	uint64_t delay_us = 0;
	bool drop = uvf_device_is_removed(dev);

	if (!injector || drop)
		return !drop;
	pthread_mutex_lock(&injector->lock);
	for (size_t i = 0; i < injector->count; i++) {
		struct armed_fault *armed = &injector->faults[i];

		if (armed->told.over || !is_for_irq(&armed->fault, index, vector) ||
		    !is_hit(injector, armed))
			continue;
		if (armed->fault.kind == INJECT_IRQ_DROP)
			drop = true;
		else if (armed->fault.delay_us > delay_us)
			delay_us = armed->fault.delay_us;
	}
	pthread_mutex_unlock(&injector->lock);
	if (drop)
		return false;
	/* One that can't be put off comes now: late is asked for, lost is not. */
	return !delay_us || uvf_delayer_add(dev,
					    (struct delayed){
						    .index = index,
						    .vector = vector,
						    .level = level,
					    },
					    delay_us * 1000);
}

static bool is_for_access(const struct inject_fault *fault, uint32_t index, bool write)
{
	switch (fault->kind) {
	case INJECT_READ_SLOW:
	case INJECT_WRITE_SLOW:
		return write == (fault->kind == INJECT_WRITE_SLOW) &&
		       (fault->index == INJECT_ANY || fault->index == index);
	case INJECT_AER:
	case INJECT_REMOVE:
		return true;
	default:
		return false;
	}
}

/* #syscalls: clock_nanosleep */
static void sleep_for(uint64_t us)
{
	struct timespec left = {.tv_sec = (time_t)(us / 1000000),
				.tv_nsec = (long)(us % 1000000) * 1000};

	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
		;
}

static void access_hit(struct uvf_device *dev, const struct inject_fault *fault)
{
	int ret;

	switch (fault->kind) {
	case INJECT_AER:
		ret = report_error(dev, fault);
		if (ret)
			uvf_device_log(dev, UVF_LOG_WARNING, "aer, bit %u: %s", fault->bit,
				       strerror(-ret));
		break;
	case INJECT_REMOVE:
		uvf_device_pull_out(dev, fault->tells_error, fault->tells_request);
		break;
	default:
		sleep_for(fault->delay_us);
		break;
	}
}

void uvf_inject_access(struct uvf_device *dev, uint32_t index, bool write)
{
	struct uvf_injector *injector = atomic_load(&dev->injector);
	struct inject_fault hits[UVF_INJECT_MAX];
	size_t count = 0;

	if (!injector || !(atomic_load(&dev->armed) & UVF_ARMED_ACCESS) || !atomic_load(&dev->open))
		return;
	pthread_mutex_lock(&injector->lock);
	for (size_t i = 0; i < injector->count; i++) {
		struct armed_fault *armed = &injector->faults[i];

		if (!armed->told.over && is_for_access(&armed->fault, index, write) &&
		    is_hit(injector, armed))
			hits[count++] = armed->fault;
	}
	pthread_mutex_unlock(&injector->lock);
	for (size_t i = 0; i < count; i++)
		access_hit(dev, &hits[i]);
}

/* ---- Owners and address spaces: with the ownership lock ---- */

void uvf_inject_closed(struct uvf_device *dev)
{
	uvf_delayer_flush(dev);
	if (!dev->returns)
		return;
	dev->returns = false;
	atomic_fetch_and(&dev->armed, ~(unsigned)UVF_ARMED_REMOVED);
}

void uvf_inject_detached(struct uvf_device *dev)
{
	struct uvf_injector *injector = atomic_load(&dev->injector);

	if (!injector || !injector->watched)
		return;
	uvf_listener_remove(injector->watched, &injector->listener);
	injector->watched = NULL;
}

void uvf_inject_attached(struct uvf_device *dev, struct uvf_address_space *space)
{
	watch(dev, space);
}
