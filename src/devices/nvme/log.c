/* SPDX-License-Identifier: BSD-3-Clause */
/* Log pages: errors, SMART, firmware, changed namespaces, supported commands and their effects. */
#include "devices/nvme/nvme.h"

#define RETAIN_EVENT (1u << 15) /* CDW10 */
#define LOG_MAX	     4096

void nvme_log_error(struct nvme *ctrl, const struct nvme_sq *sq, const struct nvme_sqe *sqe,
		    uint16_t status)
{
	struct nvme_error_entry *entry;

	pthread_mutex_lock(&ctrl->log_lock);
	entry = &ctrl->errors[ctrl->error_count++ % NVME_ERRORS];
	*entry = (struct nvme_error_entry){
		.error_count = htole64(ctrl->error_count),
		.sq_id = htole16(sq->id),
		.cid = sqe->cid,
		.status = htole16((uint16_t)(status << 1)),
		.location = htole16(UINT16_MAX), /* no field in particular */
		.nsid = sqe->nsid,
	};
	if (sq->id)
		entry->lba = htole64(nvme_lba(sqe));
	pthread_mutex_unlock(&ctrl->log_lock);
}

static uint32_t error_log(struct nvme *ctrl, uint8_t *page)
{
	uint32_t count;

	pthread_mutex_lock(&ctrl->log_lock);
	count = ctrl->error_count < NVME_ERRORS ? (uint32_t)ctrl->error_count : NVME_ERRORS;
	for (uint32_t i = 0; i < count; i++) /* the newest first */
		memcpy(page + i * sizeof(ctrl->errors[0]),
		       &ctrl->errors[(ctrl->error_count - 1 - i) % NVME_ERRORS],
		       sizeof(ctrl->errors[0]));
	pthread_mutex_unlock(&ctrl->log_lock);
	return NVME_ERRORS * (uint32_t)sizeof(ctrl->errors[0]);
}

/* In thousands of 512 bytes, rounded up. */
static uint64_t data_units(uint64_t blocks)
{
	return htole64((blocks + 999) / 1000);
}

static uint32_t smart_log(struct nvme *ctrl, uint8_t *page)
{
	struct nvme_smart_log *smart = (void *)page;
	uint64_t read = 0, written = 0, reads = 0, writes = 0, media_errors = 0;

	for (unsigned i = 0; i < ctrl->poller_count; i++) {
		struct nvme_counters *counters = &ctrl->pollers[i].counters;

		read += atomic_load(&counters->read_blocks);
		written += atomic_load(&counters->written_blocks);
		reads += atomic_load(&counters->reads);
		writes += atomic_load(&counters->writes);
		media_errors += atomic_load(&counters->media_errors);
	}
	if (NVME_TEMPERATURE >= ctrl->features.over_temperature ||
	    NVME_TEMPERATURE <= ctrl->features.under_temperature)
		smart->critical_warning |= 1 << 1;
	uvf_put_le16(smart->temperature, NVME_TEMPERATURE);
	smart->available_spare = 100;
	smart->available_spare_threshold = 10;
	smart->data_units_read[0] = data_units(read);
	smart->data_units_written[0] = data_units(written);
	smart->host_reads[0] = htole64(reads);
	smart->host_writes[0] = htole64(writes);
	smart->power_cycles[0] = htole64(1);
	smart->power_on_hours[0] = htole64((nvme_now_ms() - ctrl->started_at) / 3600000);
	smart->media_errors[0] = htole64(media_errors);
	pthread_mutex_lock(&ctrl->state_lock);
	smart->unsafe_shutdowns[0] = htole64(ctrl->unsafe_shutdowns);
	pthread_mutex_unlock(&ctrl->state_lock);
	pthread_mutex_lock(&ctrl->log_lock);
	smart->error_entries[0] = htole64(ctrl->error_count);
	pthread_mutex_unlock(&ctrl->log_lock);
	return sizeof(*smart);
}

static uint32_t firmware_log(struct nvme *ctrl, uint8_t *page)
{
	page[0] = 1; /* slot 1 is active */
	memcpy(page + 8, "1.0     ", 8);
	return 512;
}

/* Namespaces neither come nor go nor change by themselves. */
static uint32_t changed_namespaces_log(struct nvme *ctrl, uint8_t *page)
{
	return 4096;
}

static uint32_t effects_log(struct nvme *ctrl, uint8_t *page)
{
	for (unsigned i = 0; i < 256; i++) {
		uvf_put_le32(page + i * 4, nvme_admin_commands[i].effects);
		uvf_put_le32(page + 1024 + i * 4, nvme_io_commands[i].effects);
	}
	if (!ctrl->any_discard)
		uvf_put_le32(page + 1024 + NVME_CMD_DATASET_MANAGEMENT * 4, 0);
	return 4096;
}

struct log_page {
	/* Fills @page, which is zeroed. Returns its size. */
	uint32_t (*fill)(struct nvme *ctrl, uint8_t *page);
	bool controller_only; /* no such page for one namespace */
};

static const struct log_page pages[256] = {
	[0x01] = {error_log},	 [0x02] = {smart_log, .controller_only = true},
	[0x03] = {firmware_log}, [0x04] = {changed_namespaces_log},
	[0x05] = {effects_log},
};

uint16_t nvme_admin_get_log(struct nvme_request *request)
{
	const struct nvme_sqe *sqe = request->sqe;
	uint32_t cdw10 = le32toh(sqe->cdw10), nsid = le32toh(sqe->nsid);
	uint8_t log = (uint8_t)cdw10;
	uint64_t dwords = (cdw10 >> 16 | (uint64_t)(le32toh(sqe->cdw11) & 0xffff) << 16) + 1;
	uint64_t offset = le32toh(sqe->cdw12) | (uint64_t)le32toh(sqe->cdw13) << 32;
	_Alignas(8) uint8_t page[LOG_MAX] = {0};
	uint64_t size = dwords * 4;
	uint16_t status;
	uint32_t total;

	if (!pages[log].fill)
		return NVME_SC_INVALID_LOG_PAGE | NVME_SC_DNR;
	if (pages[log].controller_only && nsid && nsid != NVME_NSID_ALL)
		return NVME_INVALID_FIELD;
	total = pages[log].fill(request->ctrl, page);
	if (offset & 3 || offset > total)
		return NVME_INVALID_FIELD;
	/* What is asked for past the page's end is not transferred. */
	if (size > total - offset)
		size = total - offset;
	status = size ? nvme_data_out(request, page + offset, (uint32_t)size) : 0;
	if (!status && !(cdw10 & RETAIN_EVENT))
		nvme_events_log_read(request->ctrl, log);
	return status;
}
