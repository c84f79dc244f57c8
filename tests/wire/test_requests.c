/* SPDX-License-Identifier: BSD-3-Clause */
/* Each command with what must be refused, as tables: the client stays served after each. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "harness.h"

struct row {
	const char *name;
	uint16_t command;
	size_t size;
	const void *payload;
	size_t fd_count; /* memory files of one page */
	int result;
};

#define PAYLOAD(type, ...)          \
	sizeof(type), &(const type) \
	{                           \
		__VA_ARGS__         \
	}
#define PART(length, type, ...) \
	(length), &(const type) \
	{                       \
		__VA_ARGS__     \
	}
#define RW (VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)

typedef struct uvf_wire_dma_map map;
typedef struct uvf_wire_dma_unmap unmap;
typedef struct uvf_wire_device_info device_info;
typedef struct uvf_wire_region_info region_info;
typedef struct uvf_wire_region_io_fds io_fds;
typedef struct uvf_wire_irq_info irq_info;
typedef struct uvf_wire_region_access access_;
typedef struct uvf_wire_feature feature;
struct write4 {
	struct uvf_wire_region_access access;
	uint8_t data[16];
};
typedef struct write4 write4;
struct multi {
	uint64_t count;
	struct uvf_wire_write writes[3];
};
typedef struct multi multi;
struct irqs {
	struct uvf_wire_irq_set set;
	uint8_t bools[40];
};
typedef struct irqs irqs;

static const struct row rows[] = {
	{"no such command: 0", 0, 0, NULL, 0, -EOPNOTSUPP},
	{"no such command: 14", 14, 0, NULL, 0, -EOPNOTSUPP},
	{"no such command: 19", 19, 0, NULL, 0, -EOPNOTSUPP},
	{"no such command: 0xffff", 0xffff, 0, NULL, 0, -EOPNOTSUPP},
	{"no such command with fds", 99, 0, NULL, 3, -EOPNOTSUPP},
	{"DMA_READ towards the server", VFIO_USER_DMA_READ,
	 PAYLOAD(struct uvf_wire_dma_access, 0, 4), 0, -EINVAL},
	{"DMA_WRITE towards the server", VFIO_USER_DMA_WRITE,
	 PAYLOAD(struct uvf_wire_region_access, 0, 4), 0, -EINVAL},
	{"VERSION again", VFIO_USER_VERSION, PAYLOAD(struct uvf_wire_version, 0, 0), 0, -EINVAL},

	{"map: short", VFIO_USER_DMA_MAP, PART(31, map, 32, RW, 0, 0, PAGE), 1, -EINVAL},
	{"map: long", VFIO_USER_DMA_MAP, PAYLOAD(write4, {0}), 1, -EINVAL},
	{"map: empty", VFIO_USER_DMA_MAP, 0, NULL, 0, -EINVAL},
	{"map: argsz", VFIO_USER_DMA_MAP, PAYLOAD(map, 31, RW, 0, 0, PAGE), 1, -EINVAL},
	{"map: flags", VFIO_USER_DMA_MAP, PAYLOAD(map, 32, RW | 4, 0, 0, PAGE), 1, -EINVAL},
	{"map: no permission", VFIO_USER_DMA_MAP, PAYLOAD(map, 32, 0, 0, 0, PAGE), 1, -EINVAL},
	{"map: two fds", VFIO_USER_DMA_MAP, PAYLOAD(map, 32, RW, 0, 0, PAGE), 2, -EINVAL},
	{"map: size 0", VFIO_USER_DMA_MAP, PAYLOAD(map, 32, RW, 0, 0, 0), 1, -EINVAL},
	{"map: size not aligned", VFIO_USER_DMA_MAP, PAYLOAD(map, 32, RW, 0, 0, 100), 1, -EINVAL},
	{"map: address not aligned", VFIO_USER_DMA_MAP, PAYLOAD(map, 32, RW, 0, 1, PAGE), 1,
	 -EINVAL},
	{"map: past the end", VFIO_USER_DMA_MAP,
	 PAYLOAD(map, 32, RW, 0, UINT64_MAX - PAGE + 1, 2 * PAGE), 1, -EOVERFLOW},
	{"map: offset past the end", VFIO_USER_DMA_MAP,
	 PAYLOAD(map, 32, RW, UINT64_MAX - PAGE + 1, 0, 2 * PAGE), 1, -EOVERFLOW},
	{"map: absurd size", VFIO_USER_DMA_MAP, PAYLOAD(map, 32, RW, 0, 0, 0xfffffffffffff000), 0,
	 0},
	{"map: file is shorter", VFIO_USER_DMA_MAP, PAYLOAD(map, 32, RW, 0, 0, 2 * PAGE), 1,
	 -EFAULT},
	{"map: past the file", VFIO_USER_DMA_MAP, PAYLOAD(map, 32, RW, PAGE, 0, PAGE), 1, -EFAULT},
	{"map", VFIO_USER_DMA_MAP, PAYLOAD(map, 32, RW, 0, 0, PAGE), 1, 0},
	{"map: for reading", VFIO_USER_DMA_MAP, PAYLOAD(map, 32, 1, 0, PAGE, PAGE), 1, 0},
	{"map: no file", VFIO_USER_DMA_MAP, PAYLOAD(map, 32, RW, 0, PAGE, PAGE), 0, 0},

	{"unmap: short", VFIO_USER_DMA_UNMAP, PART(23, unmap, 24, 0, 0, PAGE), 0, -EINVAL},
	{"unmap: long", VFIO_USER_DMA_UNMAP, PAYLOAD(map, 24, 0, 0, PAGE), 0, -EINVAL},
	{"unmap: argsz", VFIO_USER_DMA_UNMAP, PAYLOAD(unmap, 23, 0, 0, PAGE), 0, -EINVAL},
	{"unmap: dirty bitmap", VFIO_USER_DMA_UNMAP, PAYLOAD(unmap, 24, 1, 0, PAGE), 0, -EINVAL},
	{"unmap: flags", VFIO_USER_DMA_UNMAP, PAYLOAD(unmap, 24, 4, 0, PAGE), 0, -EINVAL},
	{"unmap: with a file", VFIO_USER_DMA_UNMAP, PAYLOAD(unmap, 24, 0, 0, PAGE), 1, -EINVAL},
	{"unmap: all with a size", VFIO_USER_DMA_UNMAP, PAYLOAD(unmap, 24, 2, 0, PAGE), 0, -EINVAL},
	{"unmap: all with an address", VFIO_USER_DMA_UNMAP, PAYLOAD(unmap, 24, 2, PAGE, 0), 0,
	 -EINVAL},
	{"unmap: all of nothing", VFIO_USER_DMA_UNMAP, PAYLOAD(unmap, 24, 2, 0, 0), 0, 0},
	{"unmap: never mapped", VFIO_USER_DMA_UNMAP, PAYLOAD(unmap, 24, 0, PAGE, PAGE), 0, 0},
	{"unmap: to the end", VFIO_USER_DMA_UNMAP,
	 PAYLOAD(unmap, 24, 0, 0xfef00000, 0xffffffff01100000), 0, 0},
	{"unmap: past the end", VFIO_USER_DMA_UNMAP,
	 PAYLOAD(unmap, 24, 0, PAGE, 0xfffffffffffff000), 0, 0},
	{"unmap: everything but a byte", VFIO_USER_DMA_UNMAP, PAYLOAD(unmap, 24, 0, 0, UINT64_MAX),
	 0, 0},
	{"unmap: size 0", VFIO_USER_DMA_UNMAP, PAYLOAD(unmap, 24, 0, PAGE, 0), 0, 0},
	{"unmap: not aligned", VFIO_USER_DMA_UNMAP, PAYLOAD(unmap, 24, 0, 123, 456), 0, 0},

	{"device info: short", VFIO_USER_DEVICE_GET_INFO, PART(15, device_info, 16), 0, -EINVAL},
	{"device info: long", VFIO_USER_DEVICE_GET_INFO, PAYLOAD(unmap, 16), 0, -EINVAL},
	{"device info: argsz", VFIO_USER_DEVICE_GET_INFO, PAYLOAD(device_info, 15), 0, -EINVAL},
	{"device info: argsz 0", VFIO_USER_DEVICE_GET_INFO, PAYLOAD(device_info, 0), 0, -EINVAL},
	{"device info: with a file", VFIO_USER_DEVICE_GET_INFO, PAYLOAD(device_info, 16), 1,
	 -EINVAL},
	{"device info", VFIO_USER_DEVICE_GET_INFO, PAYLOAD(device_info, 16), 0, 0},

	{"region info: short", VFIO_USER_DEVICE_GET_REGION_INFO, PART(31, region_info, 32), 0,
	 -EINVAL},
	{"region info: argsz", VFIO_USER_DEVICE_GET_REGION_INFO, PAYLOAD(region_info, 31), 0,
	 -EINVAL},
	{"region info: past the last", VFIO_USER_DEVICE_GET_REGION_INFO,
	 PAYLOAD(region_info, 32, 0, 10), 0, -EINVAL},
	{"region info: index", VFIO_USER_DEVICE_GET_REGION_INFO,
	 PAYLOAD(region_info, 32, 0, UINT32_MAX), 0, -EINVAL},
	{"region info: with a file", VFIO_USER_DEVICE_GET_REGION_INFO, PAYLOAD(region_info, 32), 1,
	 -EINVAL},
	{"region info: not there", VFIO_USER_DEVICE_GET_REGION_INFO,
	 PAYLOAD(region_info, 32, 0, VFIO_PCI_ROM_REGION_INDEX), 0, 0},

	{"io fds: short", VFIO_USER_DEVICE_GET_REGION_IO_FDS, PART(12, io_fds, 16), 0, -EINVAL},
	{"io fds: argsz", VFIO_USER_DEVICE_GET_REGION_IO_FDS, PAYLOAD(io_fds, 12), 0, -EINVAL},
	{"io fds: flags", VFIO_USER_DEVICE_GET_REGION_IO_FDS, PAYLOAD(io_fds, 16, 1), 0, -EINVAL},
	{"io fds: count", VFIO_USER_DEVICE_GET_REGION_IO_FDS, PAYLOAD(io_fds, 16, 0, 0, 1), 0,
	 -EINVAL},
	{"io fds: index", VFIO_USER_DEVICE_GET_REGION_IO_FDS, PAYLOAD(io_fds, 16, 0, 10), 0,
	 -EINVAL},
	{"io fds: none", VFIO_USER_DEVICE_GET_REGION_IO_FDS, PAYLOAD(io_fds, 16, 0, 2), 0, 0},

	{"IRQ info: short", VFIO_USER_DEVICE_GET_IRQ_INFO, PART(15, irq_info, 16), 0, -EINVAL},
	{"IRQ info: argsz", VFIO_USER_DEVICE_GET_IRQ_INFO, PAYLOAD(irq_info, 15), 0, -EINVAL},
	{"IRQ info: index", VFIO_USER_DEVICE_GET_IRQ_INFO, PAYLOAD(irq_info, 16, 0, 4), 0, -EINVAL},
	{"IRQ info: absurd index", VFIO_USER_DEVICE_GET_IRQ_INFO,
	 PAYLOAD(irq_info, 16, 0, UINT32_MAX), 0, -EINVAL},
	{"IRQ info", VFIO_USER_DEVICE_GET_IRQ_INFO, PAYLOAD(irq_info, 16, 0, 2), 0, 0},

	{"IRQs: short", VFIO_USER_DEVICE_SET_IRQS, PART(19, irqs, {20, 0x21, 2, 0, 0}), 0, -EINVAL},
	{"IRQs: argsz", VFIO_USER_DEVICE_SET_IRQS, PART(20, irqs, {19, 0x21, 2, 0, 0}), 0, -EINVAL},
	{"IRQs: no data kind", VFIO_USER_DEVICE_SET_IRQS, PART(20, irqs, {20, 0x20, 2, 0, 1}), 0,
	 -EINVAL},
	{"IRQs: no action", VFIO_USER_DEVICE_SET_IRQS, PART(20, irqs, {20, 0x1, 2, 0, 1}), 0,
	 -EINVAL},
	{"IRQs: two data kinds", VFIO_USER_DEVICE_SET_IRQS, PART(20, irqs, {20, 0x23, 2, 0, 1}), 0,
	 -EINVAL},
	{"IRQs: two actions", VFIO_USER_DEVICE_SET_IRQS, PART(20, irqs, {20, 0x31, 2, 0, 1}), 0,
	 -EINVAL},
	{"IRQs: flags", VFIO_USER_DEVICE_SET_IRQS, PART(20, irqs, {20, 0x61, 2, 0, 1}), 0, -EINVAL},
	{"IRQs: index", VFIO_USER_DEVICE_SET_IRQS, PART(20, irqs, {20, 0x21, 5, 0, 1}), 0, -EINVAL},
	{"IRQs: absurd index", VFIO_USER_DEVICE_SET_IRQS,
	 PART(20, irqs, {20, 0x21, UINT32_MAX, 0, 1}), 0, -EINVAL},
	{"IRQs: past the last vector", VFIO_USER_DEVICE_SET_IRQS,
	 PART(20, irqs, {20, 0x21, 2, 31, 2}), 0, -EINVAL},
	{"IRQs: start + count wraps", VFIO_USER_DEVICE_SET_IRQS,
	 PART(20, irqs, {20, 0x21, 2, UINT32_MAX, 2}), 0, -EINVAL},
	{"IRQs: absurd count", VFIO_USER_DEVICE_SET_IRQS,
	 PART(20, irqs, {20, 0x21, 2, 0, UINT32_MAX}), 0, -EINVAL},
	{"IRQs: count 0 with a start", VFIO_USER_DEVICE_SET_IRQS,
	 PART(20, irqs, {20, 0x21, 2, 1, 0}), 0, -EINVAL},
	{"IRQs: count 0 of eventfds", VFIO_USER_DEVICE_SET_IRQS,
	 PART(20, irqs, {20, 0x24, 2, 0, 0}), 0, -EINVAL},
	{"IRQs: too few bools", VFIO_USER_DEVICE_SET_IRQS, PART(23, irqs, {24, 0x22, 2, 0, 4}), 0,
	 -EINVAL},
	{"IRQs: too many bools", VFIO_USER_DEVICE_SET_IRQS, PART(25, irqs, {24, 0x22, 2, 0, 4}), 0,
	 -EINVAL},
	{"IRQs: bytes after no data", VFIO_USER_DEVICE_SET_IRQS,
	 PART(21, irqs, {21, 0x21, 2, 0, 1}), 0, -EINVAL},
	{"IRQs: no data but fds", VFIO_USER_DEVICE_SET_IRQS, PART(20, irqs, {20, 0x21, 2, 0, 1}), 1,
	 -EINVAL},
	{"IRQs: bools and fds", VFIO_USER_DEVICE_SET_IRQS, PART(21, irqs, {21, 0x22, 2, 0, 1}), 1,
	 -EINVAL},
	{"IRQs: fewer fds than vectors", VFIO_USER_DEVICE_SET_IRQS,
	 PART(20, irqs, {20, 0x24, 2, 0, 3}), 2, -EINVAL},
	{"IRQs: more fds than vectors", VFIO_USER_DEVICE_SET_IRQS,
	 PART(20, irqs, {20, 0x24, 2, 0, 1}), 2, -EINVAL},
	{"IRQs: not eventfds", VFIO_USER_DEVICE_SET_IRQS, PART(20, irqs, {20, 0x24, 2, 0, 1}), 1,
	 -EINVAL},
	{"IRQs: mask what can't be", VFIO_USER_DEVICE_SET_IRQS, PART(20, irqs, {20, 0x9, 2, 0, 1}),
	 0, -ENOTTY},
	{"IRQs: take away what isn't there", VFIO_USER_DEVICE_SET_IRQS,
	 PART(20, irqs, {20, 0x24, 2, 0, 32}), 0, 0},
	{"IRQs: take away too many", VFIO_USER_DEVICE_SET_IRQS,
	 PART(20, irqs, {20, 0x24, 2, 0, 33}), 0, -EINVAL},
	{"IRQs: disable", VFIO_USER_DEVICE_SET_IRQS, PART(20, irqs, {20, 0x21, 2, 0, 0}), 0, 0},

	{"read: short", VFIO_USER_REGION_READ, PART(15, access_, 0, 0, 4), 0, -EINVAL},
	{"read: long", VFIO_USER_REGION_READ, PART(20, write4, {0, 0, 4}), 0, -EINVAL},
	{"read: size 0", VFIO_USER_REGION_READ, PAYLOAD(access_, 0, 0, 0), 0, -EINVAL},
	{"read: larger than advertised", VFIO_USER_REGION_READ,
	 PAYLOAD(access_, 0, 2, MAX_DATA + 1), 0, -E2BIG},
	{"read: absurd size", VFIO_USER_REGION_READ, PAYLOAD(access_, 0, 2, UINT32_MAX), 0, -E2BIG},
	{"read: past the end", VFIO_USER_REGION_READ, PAYLOAD(access_, BAR0_SIZE, 0, 4), 0,
	 -EINVAL},
	{"read: across the end", VFIO_USER_REGION_READ, PAYLOAD(access_, BAR0_SIZE - 2, 0, 4), 0,
	 -EINVAL},
	{"read: offset wraps", VFIO_USER_REGION_READ, PAYLOAD(access_, UINT64_MAX, 0, 4), 0,
	 -EINVAL},
	{"read: no such region", VFIO_USER_REGION_READ, PAYLOAD(access_, 0, 5, 4), 0, -EINVAL},
	{"read: absurd region", VFIO_USER_REGION_READ, PAYLOAD(access_, 0, UINT32_MAX, 4), 0,
	 -EINVAL},
	{"read: with a file", VFIO_USER_REGION_READ, PAYLOAD(access_, 0, 0, 4), 1, -EINVAL},
	{"read: the device's error", VFIO_USER_REGION_READ, PAYLOAD(access_, REG_FAIL, 0, 4), 0,
	 -EIO},
	{"read: a byte", VFIO_USER_REGION_READ, PAYLOAD(access_, 3, 0, 1), 0, 0},
	{"read: an area", VFIO_USER_REGION_READ, PAYLOAD(access_, AREA_START, 0, 64), 0, 0},
	{"read: across an area", VFIO_USER_REGION_READ, PAYLOAD(access_, AREA_START - 4, 0, 8), 0,
	 0},
	{"read: as large as advertised", VFIO_USER_REGION_READ, PAYLOAD(access_, 0, 2, MAX_DATA), 0,
	 0},

	{"write: short", VFIO_USER_REGION_WRITE, PART(15, write4, {0, 0, 4}), 0, -EINVAL},
	{"write: no data", VFIO_USER_REGION_WRITE, PART(16, write4, {0, 0, 4}), 0, -EINVAL},
	{"write: less data", VFIO_USER_REGION_WRITE, PART(19, write4, {0, 0, 4}), 0, -EINVAL},
	{"write: more data", VFIO_USER_REGION_WRITE, PART(21, write4, {0, 0, 4}), 0, -EINVAL},
	{"write: size 0", VFIO_USER_REGION_WRITE, PART(16, write4, {0, 0, 0}), 0, -EINVAL},
	{"write: past the end", VFIO_USER_REGION_WRITE, PART(20, write4, {BAR0_SIZE, 0, 4}), 0,
	 -EINVAL},
	{"write: offset wraps", VFIO_USER_REGION_WRITE, PART(20, write4, {UINT64_MAX - 1, 0, 4}), 0,
	 -EINVAL},
	{"write: no such region", VFIO_USER_REGION_WRITE, PART(20, write4, {0, 9999, 4}), 0,
	 -EINVAL},
	{"write: for reading only", VFIO_USER_REGION_WRITE, PART(20, write4, {0, 3, 4}), 0,
	 -EINVAL},
	{"write: the device's error", VFIO_USER_REGION_WRITE, PART(20, write4, {REG_FAIL, 0, 4}), 0,
	 -EIO},
	{"write: with a file", VFIO_USER_REGION_WRITE, PART(20, write4, {0, 0, 4}), 1, -EINVAL},
	{"write", VFIO_USER_REGION_WRITE, PART(20, write4, {0, 0, 4}), 0, 0},

	{"multi: short", VFIO_USER_REGION_WRITE_MULTI, PART(7, multi, 1), 0, -EINVAL},
	{"multi: count 0", VFIO_USER_REGION_WRITE_MULTI, PART(8, multi, 0), 0, -EINVAL},
	{"multi: nothing in it", VFIO_USER_REGION_WRITE_MULTI, PART(8, multi, 1), 0, -EINVAL},
	{"multi: fewer", VFIO_USER_REGION_WRITE_MULTI, PART(32, multi, 2, {{0, 0, 4}}), 0, -EINVAL},
	{"multi: more", VFIO_USER_REGION_WRITE_MULTI, PART(56, multi, 1, {{0, 0, 4}}), 0, -EINVAL},
	{"multi: half of one", VFIO_USER_REGION_WRITE_MULTI, PART(44, multi, 1, {{0, 0, 4}}), 0,
	 -EINVAL},
	{"multi: absurd count", VFIO_USER_REGION_WRITE_MULTI,
	 PART(32, multi, 0xaaaaaaaaaaaaaaab, {{0, 0, 4}}), 0, -EINVAL},
	{"multi: 9 bytes", VFIO_USER_REGION_WRITE_MULTI, PART(32, multi, 1, {{0, 0, 9}}), 0,
	 -EINVAL},
	{"multi: 0 bytes", VFIO_USER_REGION_WRITE_MULTI, PART(32, multi, 1, {{0, 0, 0}}), 0,
	 -EINVAL},
	{"multi: past the end", VFIO_USER_REGION_WRITE_MULTI,
	 PART(32, multi, 1, {{BAR0_SIZE, 0, 4}}), 0, -EINVAL},

	{"reset: with data", VFIO_USER_DEVICE_RESET, PART(4, write4, {0}), 0, -EINVAL},
	{"reset: with a byte", VFIO_USER_DEVICE_RESET, PART(1, write4, {0}), 0, -EINVAL},
	{"reset: with a file", VFIO_USER_DEVICE_RESET, 0, NULL, 1, -EINVAL},
	{"reset", VFIO_USER_DEVICE_RESET, 0, NULL, 0, 0},

	{"feature: short", VFIO_USER_DEVICE_FEATURE, PART(7, feature, 8, 0x10001), 0, -EINVAL},
	{"feature: argsz", VFIO_USER_DEVICE_FEATURE, PAYLOAD(feature, 7, 0x10001), 0, -EINVAL},
	{"feature: get and set", VFIO_USER_DEVICE_FEATURE, PAYLOAD(feature, 8, 0x30001), 0,
	 -EINVAL},
	{"feature: nothing asked", VFIO_USER_DEVICE_FEATURE, PAYLOAD(feature, 8, 1), 0, -EINVAL},
	{"feature: flags", VFIO_USER_DEVICE_FEATURE, PAYLOAD(feature, 8, 0x90001), 0, -EINVAL},
	{"feature: unknown", VFIO_USER_DEVICE_FEATURE, PAYLOAD(feature, 8, 0x1fff0), 0, -ENOTTY},
};

static void check_row(void **state)
{
	const struct row *row = *state;
	struct harness *h = harness_current();
	int fds[3];
	struct reply reply;
	uint32_t value;

	for (size_t i = 0; i < row->fd_count; i++)
		fds[i] = memory_file(PAGE);
	assert_int_equal(
		request(h, row->command, row->payload, row->size, fds, row->fd_count, &reply),
		row->result);
	close_reply_fds(&reply);
	for (size_t i = 0; i < row->fd_count; i++)
		close(fds[i]);
	/* The client is served as before. */
	assert_int_equal(region_read32(h, 0, REG_SCRATCH, &value), 0);
}

/* The same without a reply: none comes, and the next request gets its own. */
static void check_row_without_reply(void **state)
{
	const struct row *row = *state;
	struct harness *h = harness_current();
	uint32_t value;

	send_request_on(h->client, 9999, row->command, UVF_WIRE_NO_REPLY, row->payload, row->size,
			NULL, 0);
	harness_step(h);
	assert_int_equal(region_read32(h, 0, REG_SCRATCH, &value), 0);
}

int main(void)
{
	int failed = RUN_TABLE(rows, check_row);

	return failed + RUN_TABLE(rows, check_row_without_reply);
}
