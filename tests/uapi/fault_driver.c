/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver for an I/OAT engine on plain VFIO, with nothing of uvfio in it, that does one step for
 * each line of its standard input, and prints what it saw. So whoever drives it knows what happens
 * before and after a fault. Each line begins with one of SLOTS devices:
 *
 *   SLOT open group|cdev ADDRESS      SLOT close
 *   SLOT map IOVA                     a page
 *   SLOT copy                         by DMA: status, CHANERR, whether it is right, interrupts
 *   SLOT read config|bar0 AT SIZE     a register
 *   SLOT read-slowly                  the same of register 0, on a thread; "slow" when it's done
 *   SLOT irqs                         how often MSI-X, ERR and REQ were signalled since
 *   SLOT await msix|err|req           until it is signalled
 *   SLOT reset
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/vfio.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOTS  4
#define PAGE   4096UL
#define MEMORY (4 * PAGE)
#define IOVA   0x10000000ULL
#define RECORD 512

/* Of iommufd: the oldest headers that this is built with don't have it. */
#define IOAS_ALLOC  0x3b81
#define IOAS_MAP    0x3b85
#define DEVICE_BIND 0x3b76
#define ATTACH	    0x3b77

/* Registers. */
enum {
	INTRCTRL = 0x03,
	CHANNEL = 0x80,
	CHANCTRL = CHANNEL,
	CHANCMD = CHANNEL + 0x04,
	DMACOUNT = CHANNEL + 0x06,
	CHANSTS = CHANNEL + 0x08,
	CHAINADDR = CHANNEL + 0x10,
	CHANCMP = CHANNEL + 0x18,
	CHANERR = CHANNEL + 0x28,
};

struct descriptor {
	uint32_t size, control;
	uint64_t source, destination, next, more[4];
};

enum { MSIX, ERR, REQ, EVENTS };
static const char *const event_names[EVENTS] = {"msix", "err", "req"};
static const uint32_t event_indexes[EVENTS] = {VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_ERR_IRQ_INDEX,
					       VFIO_PCI_REQ_IRQ_INDEX};

struct slot {
	int container, group, device; /* the first is an iommufd's too */
	bool open, cdev;
	uint32_t ioas;
	uint64_t bar, config;
	uint8_t *memory;
	int events[EVENTS];
};

static struct slot slots[SLOTS];

/* "ok", or the error's name: one line. */
static void say(long result)
{
	puts(result >= 0 ? "ok" : strerrorname_np(errno));
}

/* ---- Opening ---- */

static int open_group(struct slot *slot, const char *address)
{
	char path[128], target[256];
	ssize_t length;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", address);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return -1;
	target[length] = '\0';
	snprintf(path, sizeof(path), "/dev/vfio/%.100s", strrchr(target, '/') + 1);
	slot->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	slot->group = open(path, O_RDWR | O_CLOEXEC);
	if (slot->container < 0 || slot->group < 0 ||
	    ioctl(slot->group, VFIO_GROUP_SET_CONTAINER, &slot->container) < 0 ||
	    ioctl(slot->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
		return -1;
	slot->device = ioctl(slot->group, VFIO_GROUP_GET_DEVICE_FD, address);
	return slot->device;
}

static int open_cdev(struct slot *slot, const char *address)
{
	uint32_t alloc[3] = {sizeof(alloc)}, bind[4] = {sizeof(bind)}, attach[3] = {sizeof(attach)};
	char path[128];
	glob_t found;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev/vfio*", address);
	if (glob(path, 0, NULL, &found)) {
		errno = ENOENT;
		return -1;
	}
	snprintf(path, sizeof(path), "/dev/vfio/devices/%.64s",
		 strrchr(found.gl_pathv[0], '/') + 1);
	globfree(&found);
	slot->container = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	slot->device = open(path, O_RDWR | O_CLOEXEC);
	bind[2] = (uint32_t)slot->container;
	if (slot->container < 0 || slot->device < 0 || ioctl(slot->device, DEVICE_BIND, bind) < 0 ||
	    ioctl(slot->container, IOAS_ALLOC, alloc) < 0)
		return -1;
	slot->ioas = attach[2] = alloc[2];
	return ioctl(slot->device, ATTACH, attach);
}

static int map(struct slot *slot, void *memory, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_map type1 = {
		.argsz = sizeof(type1),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)memory,
		.iova = iova,
		.size = size,
	};
	struct {
		uint32_t size, flags, ioas, reserved;
		uint64_t address, length, iova;
	} iommufd = {sizeof(iommufd), 7, slot->ioas, 0, (uintptr_t)memory, size, iova};

	return slot->cdev ? ioctl(slot->container, IOAS_MAP, &iommufd)
			  : ioctl(slot->container, VFIO_IOMMU_MAP_DMA, &type1);
}

static int find_regions(struct slot *slot)
{
	struct vfio_region_info info = {.argsz = sizeof(info)};

	info.index = VFIO_PCI_CONFIG_REGION_INDEX;
	if (ioctl(slot->device, VFIO_DEVICE_GET_REGION_INFO, &info) < 0)
		return -1;
	slot->config = info.offset;
	info.index = VFIO_PCI_BAR0_REGION_INDEX;
	if (ioctl(slot->device, VFIO_DEVICE_GET_REGION_INFO, &info) < 0)
		return -1;
	slot->bar = info.offset;
	return 0;
}

static int set_events(struct slot *slot)
{
	_Alignas(8) uint8_t bytes[sizeof(struct vfio_irq_set) + sizeof(int)] = {0};
	struct vfio_irq_set *set = (void *)bytes;

	set->argsz = sizeof(bytes);
	set->flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	set->count = 1;

	for (unsigned i = 0; i < EVENTS; i++) {
		slot->events[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		set->index = event_indexes[i];
		memcpy(set->data, &slot->events[i], sizeof(int));
		if (ioctl(slot->device, VFIO_DEVICE_SET_IRQS, set) < 0)
			return -1;
	}
	return 0;
}

static void close_slot(struct slot *slot)
{
	const int fds[] = {slot->device, slot->group, slot->container};

	for (unsigned i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	for (unsigned i = 0; i < EVENTS; i++)
		if (slot->events[i] >= 0)
			close(slot->events[i]);
	if (slot->memory)
		munmap(slot->memory, MEMORY);
	slot->open = false;
}

static int open_slot(struct slot *slot, const char *how, const char *address)
{
	uint16_t command = 6; /* memory space, bus master */
	int ret;

	*slot = (struct slot){.container = -1, .group = -1, .device = -1, .open = true};
	for (unsigned i = 0; i < EVENTS; i++)
		slot->events[i] = -1;
	slot->cdev = !strcmp(how, "cdev");
	slot->memory =
		mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ret = slot->cdev ? open_cdev(slot, address) : open_group(slot, address);
	if (ret < 0 || find_regions(slot) < 0 || set_events(slot) < 0 ||
	    pwrite(slot->device, &command, 2, (off_t)(slot->config + 4)) != 2 ||
	    map(slot, slot->memory, IOVA, MEMORY) < 0) {
		int error = errno;

		close_slot(slot);
		errno = error;
		return -1;
	}
	return 0;
}

/* ---- Registers and copies ---- */

static void put(const struct slot *slot, unsigned at, uint64_t value, size_t size)
{
	if (pwrite(slot->device, &value, size, (off_t)(slot->bar + at)) != (ssize_t)size)
		printf("register %#x: %s\n", at, strerrorname_np(errno));
}

static uint64_t get(const struct slot *slot, unsigned at, size_t size)
{
	uint64_t value = 0;

	if (pread(slot->device, &value, size, (off_t)(slot->bar + at)) != (ssize_t)size)
		printf("register %#x: %s\n", at, strerrorname_np(errno));
	return value;
}

static uint64_t take(const struct slot *slot, unsigned event)
{
	uint64_t count = 0;

	return read(slot->events[event], &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static void prepare_copy(struct slot *slot)
{
	struct descriptor *descriptor = (void *)slot->memory;

	memset(slot->memory, 0, PAGE);
	*descriptor = (struct descriptor){
		.size = PAGE,
		.control = 9, /* interrupt, and tell in memory */
		.source = IOVA + PAGE,
		.destination = IOVA + 2 * PAGE,
	};
	for (size_t i = 0; i < PAGE; i++)
		slot->memory[PAGE + i] = (uint8_t)(i * 7 + 1);
	memset(slot->memory + 2 * PAGE, 0, PAGE);
	take(slot, MSIX);
	put(slot, CHANCMD, 0x20, 1);		      /* reset */
	put(slot, CHANERR, get(slot, CHANERR, 4), 4); /* cleared by writing it */
	put(slot, CHANCTRL, 0x15, 2);		      /* rearm; interrupt and tell of errors too */
	put(slot, INTRCTRL, 9, 1);
	put(slot, CHANCMP, IOVA + RECORD, 8);
	put(slot, CHAINADDR, IOVA, 8);
}

/*
 * A device that is gone reads as all ones, which is no state. The record and the interrupt come
 * after the state, so they are waited for where a copy ends well.
 */
static void copy(struct slot *slot)
{
	unsigned state, tries = 0;
	uint64_t record = 0;

	prepare_copy(slot);
	put(slot, DMACOUNT, 1, 2);
	while ((state = (unsigned)get(slot, CHANSTS, 8) & 7) == 0 && tries++ < 1000000)
		sched_yield();
	for (tries = 0; !record && state == 1 && tries < 1000; tries++) {
		memcpy(&record, slot->memory + RECORD, sizeof(record));
		usleep(record ? 0 : 1000);
	}
	printf("state=%u error=%#x right=%d record=%d\n", state, (unsigned)get(slot, CHANERR, 4),
	       !memcmp(slot->memory + PAGE, slot->memory + 2 * PAGE, PAGE), record != 0);
}

static void read_register(const struct slot *slot, const char *region, const char *at,
			  const char *count)
{
	uint64_t base = strcmp(region, "config") ? slot->bar : slot->config, value = 0;
	size_t size = strtoul(count, NULL, 0);
	ssize_t got =
		size > 8 ? -1
			 : pread(slot->device, &value, size, (off_t)(base + strtoul(at, NULL, 0)));

	if (got == (ssize_t)size)
		printf("%#llx\n", (unsigned long long)value);
	else
		puts(strerrorname_np(errno));
}

static void *read_slowly(void *opaque)
{
	get(opaque, 0, 1);
	puts("slow");
	return NULL;
}

static void await(const struct slot *slot, const char *name)
{
	for (unsigned i = 0; i < EVENTS; i++) {
		struct pollfd signalled = {.fd = slot->events[i], .events = POLLIN};

		if (!strcmp(event_names[i], name))
			puts(poll(&signalled, 1, 20000) == 1 ? "ok" : "never");
	}
}

/* ---- Lines ---- */

static void run_words(struct slot *slot, char *const word[5])
{
	pthread_t thread;
	void *page;

	if (!strcmp(word[0], "open")) {
		say(open_slot(slot, word[1], word[2]));
	} else if (!slot->open) {
		puts("not open");
	} else if (!strcmp(word[0], "close")) {
		close_slot(slot);
		puts("ok");
	} else if (!strcmp(word[0], "map")) {
		page = slot->memory + 3 * PAGE;
		say(map(slot, page, strtoull(word[1], NULL, 0), PAGE));
	} else if (!strcmp(word[0], "copy")) {
		copy(slot);
	} else if (!strcmp(word[0], "read")) {
		read_register(slot, word[1], word[2], word[3]);
	} else if (!strcmp(word[0], "read-slowly")) {
		pthread_create(&thread, NULL, read_slowly, slot);
		pthread_detach(thread);
		puts("ok");
	} else if (!strcmp(word[0], "irqs")) {
		printf("msix=%llu err=%llu req=%llu\n", (unsigned long long)take(slot, MSIX),
		       (unsigned long long)take(slot, ERR), (unsigned long long)take(slot, REQ));
	} else if (!strcmp(word[0], "await")) {
		await(slot, word[1]);
	} else if (!strcmp(word[0], "reset")) {
		say(ioctl(slot->device, VFIO_DEVICE_RESET));
	} else {
		puts("what?");
	}
}

int main(void)
{
	char line[256];

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		char *words[6] = {"", "", "", "", "", ""};
		char *rest = line;

		for (unsigned i = 0; i < 6; i++) {
			char *word = strtok_r(i ? NULL : line, " \n", &rest);

			if (!word)
				break;
			words[i] = word;
		}
		run_words(&slots[strtoul(words[0], NULL, 10) % SLOTS], words + 1);
	}
	return 0;
}
