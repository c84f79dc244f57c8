/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver's own parts: its memory, its registers, its queues. */
#ifndef NVME_DRIVER_PRIVATE_H
#define NVME_DRIVER_PRIVATE_H

#include "nvme_driver.h"

/* 4 KiB: CC.MPS is 0, and so is a PRP entry's page. */
#define NVME_PAGE 4096u
/* The admin queue's entries: commands are waited for one by one. */
#define ADMIN_ENTRIES 8u
/* PRP entries in a command's list, which is one page. */
#define LIST_ENTRIES (NVME_PAGE / 8)
/* Where our memory is on the bus: above 4 GiB, so that a device that cuts addresses is found. */
#define DMA_BASE 0x100000000ULL

/* One memfd, one mapping, given out from its start and never taken back. */
struct dma_memory {
	uint8_t *base;
	uint64_t size, used;
	int fd; /* -1 once it is closed */
	bool hugepages;
};

struct nvme_driver {
	struct uvf_device *dev;
	struct uvf_address_space *space;
	struct dma_memory memory;
	struct nvme_driver_info info;
	uint64_t cap;
	uint32_t timeout_ms;
	uint8_t *doorbells; /* mapped, or NULL */
	uint64_t doorbells_map_offset, doorbells_map_size;
	uint32_t *shadow, *event; /* Doorbell Buffer Config's two pages, or NULL */
	struct nvme_driver_queue admin;
	struct nvme_driver_queue *queues;
	bool opened, interrupts;
};

int dma_memory_open(struct dma_memory *memory, uint64_t size, bool hugepages);
void dma_memory_close(struct dma_memory *memory);
/* What is left, whole pages of it; NULL when it is not enough. */
void *dma_memory_take(struct dma_memory *memory, uint64_t size, uvf_iova_t *iovap);

int register_read32(struct nvme_driver *driver, uint64_t offset, uint32_t *value);
int register_read64(struct nvme_driver *driver, uint64_t offset, uint64_t *value);
int register_write32(struct nvme_driver *driver, uint64_t offset, uint32_t value);
int register_write64(struct nvme_driver *driver, uint64_t offset, uint64_t value);

/* Memory command, bus master; doorbells mapped where they can be; interrupts; undone by bus_down().
 */
int bus_up(struct nvme_driver *driver, const struct nvme_driver_config *config,
	   struct uvf_error *error);
void bus_down(struct nvme_driver *driver);
int interrupts_up(struct nvme_driver *driver, unsigned vectors);
/* Maps what holds the doorbells of @queues queue pairs, where one area does. */
void doorbells_map(struct nvme_driver *driver, unsigned queues);

/* Memory and state of a queue pair; the controller is told by others. */
int queue_init(struct nvme_driver *driver, struct nvme_driver_queue *queue, uint16_t id,
	       uint32_t entries, uint32_t depth);
void queue_free(struct nvme_driver_queue *queue);
/* DMA memory that queue_init() takes. */
uint64_t queue_memory(uint32_t entries, uint32_t depth);
/* Completion queues have so many entries for one of submission: their head is then told rarely. */
#define CQ_FACTOR 2u
/* Goes over to shadow doorbells: once Doorbell Buffer Config has succeeded. */
void queue_use_shadow(struct nvme_driver_queue *queue);

uint64_t now_ms(void);

#endif
