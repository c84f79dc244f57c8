/* SPDX-License-Identifier: BSD-3-Clause */
/* Identify: what the controller and its namespaces are. */
#include "devices/nvme/nvme.h"

#include <stdio.h>

#define OACS_FORMAT	     (1u << 1)
#define OACS_DOORBELL_BUFFER (1u << 8)
/* Compare, Write Uncorrectable, Dataset Management, Write Zeroes, Save and Select, Timestamp,
 * Verify. */
#define ONCS		    0x00df
#define ONCS_DATASET	    (1u << 2)
#define LPA_EFFECTS	    (1u << 1)
#define LPA_EXTENDED	    (1u << 2)
#define FRMW_ONE_FIXED_SLOT 0x03
#define VWC_PRESENT	    (1u << 0)
#define VWC_FLUSH_ALL	    (3u << 1)
#define SGLS		    (1u << 0 | 1u << 16 | 1u << 18) /* bit bucket; longer than the data */
#define CNTRLTYPE_IO	    1

/* Text padded with spaces, not terminated. */
static void put_text(char *to, size_t size, const char *text)
{
	size_t length = strnlen(text, size);

	memset(to, ' ', size);
	memcpy(to, text, length);
}

static void fill_controller(struct nvme *ctrl, struct nvme_id_controller *id)
{
	put_text(id->sn, sizeof(id->sn), ctrl->serial);
	put_text(id->mn, sizeof(id->mn), ctrl->model);
	put_text(id->fr, sizeof(id->fr), "1.0");
	id->rab = 5;
	id->mdts = ctrl->mdts;
	id->ver = htole32(NVME_VERSION);
	id->cntrltype = CNTRLTYPE_IO;
	id->oacs = htole16(OACS_FORMAT | OACS_DOORBELL_BUFFER);
	id->acl = 3;
	id->aerl = NVME_AERS - 1;
	id->frmw = FRMW_ONE_FIXED_SLOT;
	id->lpa = LPA_EFFECTS | LPA_EXTENDED;
	id->elpe = NVME_ERRORS - 1;
	id->wctemp = htole16(NVME_TEMPERATURE + 33);
	id->cctemp = htole16(NVME_TEMPERATURE + 43);
	id->sqes = NVME_SQES << 4 | NVME_SQES;
	id->cqes = NVME_CQES << 4 | NVME_CQES;
	id->nn = htole32(ctrl->namespace_count);
	id->oncs = htole16(ONCS & ~(ctrl->any_discard ? 0 : ONCS_DATASET));
	id->vwc = VWC_FLUSH_ALL | (ctrl->any_volatile ? VWC_PRESENT : 0);
	id->sgls = htole32(SGLS);
	snprintf(id->subnqn, sizeof(id->subnqn), "nqn.2014-08.org.nvmexpress:uvfio:%s",
		 ctrl->serial);
	id->psd[0].max_power = htole16(100);
}

static uint16_t clamp16(uint32_t value)
{
	return value > UINT16_MAX ? UINT16_MAX : (uint16_t)value;
}

/* 0's based blocks for a hint in bytes. */
static uint16_t hint(const struct nvme_namespace *ns, uint32_t bytes)
{
	uint32_t blocks = bytes >> ns->block_shift;

	return htole16(blocks ? clamp16(blocks - 1) : 0);
}

/* Of the format with 512 bytes; 0 where the storage can't do it: not available. */
static uint8_t smallest_format(const struct nvme_backend *backend)
{
	return backend->block_size > 512 ? 0 : 9;
}

static void fill_namespace(const struct nvme_namespace *ns, struct nvme_id_namespace *id)
{
	const struct nvme_backend *backend = ns->backend;

	id->nsze = id->ncap = id->nuse = htole64(ns->blocks);
	id->nlbaf = 1;
	id->flbas = ns->block_shift == 12;
	id->lbaf[0].lbads = smallest_format(backend);
	id->lbaf[0].rp = backend->physical_block_size > 512 ? 2 : 0;
	id->lbaf[1].lbads = 12;
	id->dlfeat = backend->discard_zeroes ? 1 : 0;
	uvf_put_le64(id->nvmcap, backend->size);
	if (backend->physical_block_size || backend->discard_granularity ||
	    backend->optimal_io_size) {
		id->nsfeat = 1 << 4; /* the five that follow */
		id->npwg = id->npwa = hint(ns, backend->physical_block_size);
		id->npdg = id->npda = hint(ns, backend->discard_granularity);
		id->nows = hint(ns, backend->optimal_io_size);
	}
	id->nsattr = backend->read_only;
	memcpy(id->nguid, ns->uuid, sizeof(id->nguid));
}

static uint16_t identify_namespace(struct nvme_request *request, void *page)
{
	uint32_t nsid = le32toh(request->sqe->nsid);
	struct nvme_namespace *ns = nvme_namespace(request->ctrl, nsid);

	if (nsid == NVME_NSID_ALL) {
		/* What all have in common: the formats. */
		struct nvme_id_namespace *id = page;

		id->nlbaf = 1;
		id->lbaf[0].lbads = 9;
		for (unsigned i = 0; i < request->ctrl->namespace_count; i++)
			if (!smallest_format(request->ctrl->namespaces[i].backend))
				id->lbaf[0].lbads = 0;
		id->lbaf[1].lbads = 12;
		return 0;
	}
	if (!ns)
		return NVME_SC_INVALID_NAMESPACE | NVME_SC_DNR;
	fill_namespace(ns, page);
	return 0;
}

static uint16_t identify_controller(struct nvme_request *request, void *page)
{
	fill_controller(request->ctrl, page);
	return 0;
}

static uint16_t identify_list(struct nvme_request *request, void *page)
{
	uint32_t after = le32toh(request->sqe->nsid);
	uint8_t *at = page;

	if (after >= NVME_NSID_ALL - 1)
		return NVME_SC_INVALID_NAMESPACE | NVME_SC_DNR;
	for (uint32_t id = after + 1; id <= request->ctrl->namespace_count; id++, at += 4)
		uvf_put_le32(at, id);
	return 0;
}

static uint16_t identify_descriptors(struct nvme_request *request, void *page)
{
	struct nvme_namespace *ns = nvme_namespace(request->ctrl, le32toh(request->sqe->nsid));
	uint8_t *at = page;

	if (!ns)
		return NVME_SC_INVALID_NAMESPACE | NVME_SC_DNR;
	/* NIDT 2: NGUID, 3: UUID. Then NIDL, two reserved bytes, the identifier. */
	for (uint8_t type = 2; type <= 3; type++, at += 20) {
		at[0] = type;
		at[1] = 16;
		memcpy(at + 4, ns->uuid, 16);
	}
	return 0;
}

static uint16_t (*const pages[256])(struct nvme_request *request, void *page) = {
	[0x00] = identify_namespace,
	[0x01] = identify_controller,
	[0x02] = identify_list,
	[0x03] = identify_descriptors,
	/* Allocated namespaces: all of them are active. */
	[0x10] = identify_list,
	[0x11] = identify_namespace,
};

uint16_t nvme_admin_identify(struct nvme_request *request)
{
	uint8_t cns = (uint8_t)le32toh(request->sqe->cdw10);
	_Alignas(8) uint8_t page[NVME_PAGE_SIZE] = {0};
	uint16_t status;

	if (!pages[cns])
		return NVME_INVALID_FIELD;
	status = pages[cns](request, page);
	return status ? status : nvme_data_out(request, page, sizeof(page));
}
