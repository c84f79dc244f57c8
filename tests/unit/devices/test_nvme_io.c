/* SPDX-License-Identifier: BSD-3-Clause */
/* The NVM command set, PRPs and SGLs, on memory and on a file. */
#include "nvme_rig.h"

#include <fcntl.h>
#include <stdio.h>

static void pattern(struct rig *rig, uint32_t offset, uint32_t size, unsigned seed)
{
	for (uint32_t i = 0; i < size; i++)
		rig->memory[offset + i] = (uint8_t)(i * 7 + (i >> 8) + seed);
}

static bool same(struct rig *rig, uint32_t a, uint32_t b, uint32_t size)
{
	return !memcmp(rig->memory + a, rig->memory + b, size);
}

#define A RIG_DATA
#define B (RIG_DATA + 0x200000u)
#define L (RIG_DATA + 0x400000u) /* lists */

/* Everything below, on whatever storage. */
static void commands(struct rig *rig)
{
	struct nvme_sqe sqe;
	struct nvme_dsm_range *range = (void *)(rig->memory + A);

	pattern(rig, A, 8192, 1);
	assert_int_equal(rig_io(rig, NVME_CMD_WRITE, 8, 16, A), 0);
	assert_int_equal(rig_io(rig, NVME_CMD_READ, 8, 16, B), 0);
	assert_true(same(rig, A, B, 8192));
	assert_int_equal(rig_io(rig, NVME_CMD_COMPARE, 8, 16, A), 0);
	rig->memory[A + 8191] ^= 1;
	assert_int_equal(rig_io(rig, NVME_CMD_COMPARE, 8, 16, A), NVME_SC_COMPARE_FAILURE);
	assert_int_equal(rig_io(rig, NVME_CMD_FLUSH, 0, 1, A), 0);
	sqe = rig_rw(NVME_CMD_FLUSH, 0, 1, A);
	sqe.nsid = UINT32_MAX;
	assert_int_equal(rig_do(rig, 1, &sqe), 0);

	assert_int_equal(rig_io(rig, NVME_CMD_WRITE_ZEROES, 8, 1, A), 0);
	assert_int_equal(rig_io(rig, NVME_CMD_READ, 8, 2, B), 0);
	for (unsigned i = 0; i < 512; i++)
		assert_int_equal(rig->memory[B + i], 0);
	assert_true(same(rig, A + 512, B + 512, 512));

	assert_int_equal(rig_io(rig, NVME_CMD_WRITE_UNCORRECTABLE, 10, 3, A), 0);
	assert_int_equal(rig_io(rig, NVME_CMD_READ, 8, 4, B), NVME_SC_UNRECOVERED_READ);
	assert_int_equal(rig_io(rig, NVME_CMD_VERIFY, 12, 1, B), NVME_SC_UNRECOVERED_READ);
	assert_int_equal(rig_io(rig, NVME_CMD_COMPARE, 12, 1, B), NVME_SC_UNRECOVERED_READ);
	assert_int_equal(rig_io(rig, NVME_CMD_VERIFY, 8, 2, B), 0);
	/* A write that fails makes nothing readable. */
	assert_int_equal(rig_io(rig, NVME_CMD_WRITE, 11, 1, 1U << 31), NVME_SC_DATA_TRANSFER);
	assert_int_equal(rig_io(rig, NVME_CMD_READ, 11, 1, B), NVME_SC_UNRECOVERED_READ);
	assert_int_equal(rig_io(rig, NVME_CMD_WRITE, 11, 1, A), 0);
	assert_int_equal(rig_io(rig, NVME_CMD_READ, 11, 1, B), 0);
	assert_int_equal(rig_io(rig, NVME_CMD_READ, 10, 1, B), NVME_SC_UNRECOVERED_READ);
	assert_int_equal(rig_io(rig, NVME_CMD_READ, 12, 1, B), NVME_SC_UNRECOVERED_READ);
	assert_int_equal(rig_io(rig, NVME_CMD_WRITE_ZEROES, 10, 3, A), 0);
	assert_int_equal(rig_io(rig, NVME_CMD_READ, 8, 16, B), 0);

	memset(range, 0, 4096);
	range[0].lba = htole64(8);
	range[0].blocks = htole32(8);
	range[1].lba = htole64(64);
	range[1].blocks = htole32(64);
	sqe = rig_rw(NVME_CMD_DATASET_MANAGEMENT, 1, 1, A);
	sqe.cdw11 = htole32(4);
	assert_int_equal(rig_do(rig, 1, &sqe), 0);
	range[1].lba = htole64(UINT64_MAX);
	assert_int_equal(rig_do(rig, 1, &sqe), DNR(NVME_SC_LBA_OUT_OF_RANGE));
	sqe.cdw11 = 0;
	assert_int_equal(rig_do(rig, 1, &sqe), 0);
}

static void on_memory(void **state)
{
	static const char *const specs[] = {"nvme,mem=16M", "nvme,mem=16M,poll=on",
					    "nvme,mem=16M,poll=off"};

	for (size_t i = 0; i < UVF_ARRAY_SIZE(specs); i++) {
		struct rig rig;

		rig_start(&rig, specs[i]);
		commands(&rig);
		rig_close(&rig);
	}
}

static void on_a_file(void **state)
{
	char directory[] = "/tmp/uvfio-nvme-XXXXXX", path[64], spec[128];
	struct rig rig;
	int fd;

	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/disk", directory);
	snprintf(spec, sizeof(spec), "nvme,file=%s", path);
	fd = open(path, O_CREAT | O_RDWR, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 16 << 20), 0);
	rig_start(&rig, spec);
	commands(&rig);
	/* Through a bounce buffer: a bit bucket. FUA. Without the write cache. */
	struct nvme_sqe sqe = rig_rw(NVME_CMD_WRITE, 0, 4, A);

	sqe.cdw12 |= htole32(1u << 30);
	assert_int_equal(rig_do(&rig, 1, &sqe), 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_SET_FEATURES, 0, 6, 0), 0);
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, 0, 4, A), 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_GET_FEATURES, 0, 6, 0), 0);
	assert_int_equal(rig.result, 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_FORMAT, 1, 1, 0), 0);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 4095, 1, A), 0);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 4095, 2, A), DNR(NVME_SC_LBA_OUT_OF_RANGE));
	/* Shut down with its flush. */
	rig_write32(&rig, NVME_REG_CC, RIG_CC | 1u << 14);
	rig_wait_status(&rig, NVME_CSTS_SHST_MASK, NVME_CSTS_SHST_COMPLETE);
	rig_disable(&rig);
	rig_enable(&rig);
	rig_create_queue(&rig, 1);
	/* The file gets shorter behind the controller. */
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 100, 1, A), NVME_SC_UNRECOVERED_READ);
	rig_close(&rig);
	close(fd);
	unlink(path);
	rmdir(directory);
}

static void refused(void **state)
{
	struct rig rig;
	struct nvme_sqe sqe;

	rig_start(&rig, "nvme,mem=16M,mdts=2");
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 32768, 1, A), DNR(NVME_SC_LBA_OUT_OF_RANGE));
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 32767, 2, A), DNR(NVME_SC_LBA_OUT_OF_RANGE));
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, UINT64_MAX, 1, A),
			 DNR(NVME_SC_LBA_OUT_OF_RANGE));
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE_ZEROES, UINT64_MAX, 1, A),
			 DNR(NVME_SC_LBA_OUT_OF_RANGE));
	assert_int_equal(rig_io(&rig, NVME_CMD_VERIFY, 32768, 1, A), DNR(NVME_SC_LBA_OUT_OF_RANGE));
	assert_int_equal(rig_io(&rig, NVME_CMD_COMPARE, 32768, 1, A),
			 DNR(NVME_SC_LBA_OUT_OF_RANGE));
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE_UNCORRECTABLE, 32768, 1, A),
			 DNR(NVME_SC_LBA_OUT_OF_RANGE));
	/* Longer than MDTS. */
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 0, 33, A), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(rig_io(&rig, NVME_CMD_COMPARE, 0, 33, A), DNR(NVME_SC_INVALID_FIELD));
	assert_int_equal(rig_io(&rig, 0x7f, 0, 1, A), DNR(NVME_SC_INVALID_OPCODE));
	sqe = rig_rw(NVME_CMD_READ, 0, 1, A);
	for (unsigned i = 0; i < 3; i++) {
		static const uint32_t nsids[] = {0, 2, UINT32_MAX};

		sqe.nsid = htole32(nsids[i]);
		assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_INVALID_NAMESPACE));
	}
	sqe = rig_rw(NVME_CMD_READ, 0, 1, A);
	sqe.flags = 1; /* fused */
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_INVALID_FIELD));
	sqe.flags = 3 << 6;
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_INVALID_FIELD));
	rig_close(&rig);

	rig_start(&rig, "nvme,mem=16M,readonly");
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, 0, 1, A), DNR(NVME_SC_WRITE_PROTECTED));
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 0, 1, A), 0);
	assert_int_equal(rig_admin(&rig, NVME_ADM_FORMAT, 1, 0, 0), DNR(NVME_SC_WRITE_PROTECTED));
	rig_close(&rig);
}

static void prps_on(const char *spec, enum rig_memory kind)
{
	struct rig rig;
	struct nvme_sqe sqe;
	uint64_t *list;

	rig_start_on(&rig, spec, kind);
	list = (uint64_t *)(void *)(rig.memory + L);
	pattern(&rig, A, 0x100000, 3);
	/* A list of 255 pages whose page crosses into a second one. */
	for (unsigned i = 0; i < 255; i++)
		list[512 - 101 + i + (i >= 100)] = htole64(rig_iova(A + 0x1000 * (i + 1)));
	list[511] = htole64(rig_iova(L + 0x1000));
	sqe = rig_rw(NVME_CMD_WRITE, 0, 2048, A);
	sqe.prp2 = htole64(rig_iova(L + (512 - 101) * 8));
	assert_int_equal(rig_do(&rig, 1, &sqe), 0);
	for (unsigned page = 0; page < 256; page++) {
		assert_int_equal(rig_io(&rig, NVME_CMD_READ, page * 8, 8, B), 0);
		assert_true(same(&rig, A + page * 0x1000, B, 0x1000));
	}
	/* The pointer to the second list page has an offset; an entry has one; one isn't mapped. */
	list[511] = htole64(rig_iova(L + 0x1008));
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_PRP_OFFSET));
	list[511] = htole64(0x10000000000);
	assert_int_equal(rig_do(&rig, 1, &sqe), NVME_SC_DATA_TRANSFER);
	list[511] = htole64(rig_iova(L + 0x1000));
	list[512 - 101] |= htole64(4);
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_PRP_OFFSET));
	list[512 - 101] = htole64(0x10000000000);
	assert_int_equal(rig_do(&rig, 1, &sqe), NVME_SC_DATA_TRANSFER);
	sqe.prp2 = htole64(rig_iova(L + 4));
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_PRP_OFFSET));
	sqe.prp2 = htole64(UINT64_MAX & ~7ull);
	assert_int_not_equal(rig_do(&rig, 1, &sqe), 0);

	/* PRP1 anywhere on a dword; two pages. */
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 0, 8, B + 0x804), 0);
	assert_true(same(&rig, A, B + 0x804, 0x1000));
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 0, 8, B + 2), DNR(NVME_SC_PRP_OFFSET));
	sqe = rig_rw(NVME_CMD_READ, 0, 16, B);
	sqe.prp2 |= htole64(8);
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_PRP_OFFSET));
	sqe = rig_rw(NVME_CMD_READ, 0, 1, B);
	sqe.prp1 = 0;
	assert_int_equal(rig_do(&rig, 1, &sqe), NVME_SC_DATA_TRANSFER);
	sqe.prp1 = htole64(UINT64_MAX & ~511ull);
	assert_int_equal(rig_do(&rig, 1, &sqe), NVME_SC_DATA_TRANSFER);
	rig_close(&rig);
}

static void prps(void **state)
{
	prps_on("nvme,mem=16M", RIG_FILE);
}

static struct nvme_sgl sgl(uint8_t type, uint64_t address, uint32_t length)
{
	return (struct nvme_sgl){.address = htole64(address),
				 .length = htole32(length),
				 .type = (uint8_t)(type << 4)};
}

static void sgls_on(const char *spec, enum rig_memory kind)
{
	struct rig rig;
	struct nvme_sqe sqe;
	struct nvme_sgl *list;

	rig_start_on(&rig, spec, kind);
	list = (struct nvme_sgl *)(void *)(rig.memory + L);
	pattern(&rig, A, 0x2000, 5);
	sqe = rig_rw(NVME_CMD_WRITE, 0, 8, A);
	sqe.flags = 1 << 6;
	sqe.sgl = sgl(NVME_SGL_DATA, rig_iova(A + 1), 4096);
	assert_int_equal(rig_do(&rig, 1, &sqe), 0);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 0, 8, B), 0);
	assert_true(same(&rig, A + 1, B, 4096));
	/* Longer than the data is all right, shorter isn't. */
	sqe.sgl.length = htole32(4097);
	assert_int_equal(rig_do(&rig, 1, &sqe), 0);
	sqe.sgl.length = htole32(4095);
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_DATA_SGL_LENGTH));
	sqe.sgl.type = 0x41;
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_SGL_TYPE));
	sqe.sgl.type = 0x01;
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_SGL_TYPE));

	/* Two segments and a bit bucket. */
	sqe.opcode = NVME_CMD_READ;
	memset(rig.memory + B, 0, 0x2000);
	list[0] = sgl(NVME_SGL_DATA, rig_iova(B), 100);
	list[1] = sgl(NVME_SGL_SEGMENT, rig_iova(L + 0x100), 32);
	list[16] = sgl(NVME_SGL_BIT_BUCKET, 0, 96);
	list[17] = sgl(NVME_SGL_LAST_SEGMENT, rig_iova(L + 0x200), 16);
	list[32] = sgl(NVME_SGL_DATA, rig_iova(B + 0x1000), 3900);
	sqe.sgl = sgl(NVME_SGL_SEGMENT, rig_iova(L), 32);
	assert_int_equal(rig_do(&rig, 1, &sqe), 0);
	assert_true(same(&rig, B, A + 1, 100));
	assert_true(same(&rig, B + 0x1000, A + 1 + 196, 3900));
	/* In a last segment; in the middle; none that follows; of odd length; for ever. */
	sqe.sgl = sgl(NVME_SGL_LAST_SEGMENT, rig_iova(L), 32);
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_INVALID_SGL_SEGMENT));
	sqe.sgl = sgl(NVME_SGL_SEGMENT, rig_iova(L), 48);
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_INVALID_SGL_SEGMENT));
	sqe.sgl = sgl(NVME_SGL_SEGMENT, rig_iova(L), 16);
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_INVALID_SGL_SEGMENT));
	sqe.sgl = sgl(NVME_SGL_SEGMENT, rig_iova(L), 33);
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_INVALID_SGL_SEGMENT));
	sqe.sgl = sgl(NVME_SGL_SEGMENT, rig_iova(L), 0);
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_INVALID_SGL_SEGMENT));
	list[0] = sgl(NVME_SGL_SEGMENT, rig_iova(L), 16);
	sqe.sgl = list[0];
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_INVALID_SGL_COUNT));
	sqe.sgl = sgl(NVME_SGL_LAST_SEGMENT, 0, 16);
	assert_int_equal(rig_do(&rig, 1, &sqe), NVME_SC_DATA_TRANSFER);
	/* One byte a descriptor: more than fit. */
	for (unsigned i = 0; i < 4096; i++)
		list[i] = sgl(NVME_SGL_DATA, rig_iova(A + 2 * i), 1);
	sqe.sgl = sgl(NVME_SGL_LAST_SEGMENT, rig_iova(L), 65536);
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_INVALID_SGL_COUNT));
	/* Descriptors of nothing, as many as fit. */
	memset(rig.memory + RIG_DATA, 0, 2u << 20);
	sqe.sgl = sgl(NVME_SGL_LAST_SEGMENT, rig_iova(RIG_DATA), 2u << 20);
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_INVALID_SGL_COUNT));
	rig_close(&rig);
}

static void sgls(void **state)
{
	sgls_on("nvme,mem=16M", RIG_FILE);
}

/* Queues, lists, data and shadow doorbells in memory that isn't mapped here. */
static void memory_elsewhere(void **state)
{
	char directory[] = "/tmp/uvfio-nvme-XXXXXX", path[64], file[128];
	const char *specs[] = {"nvme,mem=16M,pollers=2", "nvme,mem=16M,poll=off", file};
	int fd;

	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/disk", directory);
	snprintf(file, sizeof(file), "nvme,file=%s", path);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 16 << 20), 0);
	for (enum rig_memory kind = RIG_REMOTE; kind <= RIG_PROCESS; kind++) {
		for (size_t i = 0; i < UVF_ARRAY_SIZE(specs); i++) {
			struct nvme_sqe config = {.opcode = NVME_ADM_DOORBELL_BUFFER,
						  .prp1 = htole64(rig_iova(RIG_SHADOW)),
						  .prp2 = htole64(rig_iova(RIG_EVENT))};
			struct rig rig;

			rig_start_on(&rig, specs[i], kind);
			commands(&rig);
			assert_int_equal(rig_admin(&rig, NVME_ADM_DELETE_SQ, 0, 1, 0), 0);
			assert_int_equal(rig_admin(&rig, NVME_ADM_DELETE_CQ, 0, 1, 0), 0);
			assert_int_equal(rig_do(&rig, 0, &config), 0);
			rig.shadow = true;
			rig_create_queue(&rig, 1);
			commands(&rig);
			rig_close(&rig);
			prps_on(specs[i], kind);
			sgls_on(specs[i], kind);
		}
	}
	close(fd);
	unlink(path);
	rmdir(directory);
}

static void several_namespaces(void **state)
{
	struct rig rig;
	struct nvme_sqe sqe;

	rig_start(&rig, "nvme,mem=4M,null=1G,mem=8M");
	sqe = rig_rw(NVME_CMD_WRITE, 9000, 1, A);
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_LBA_OUT_OF_RANGE));
	sqe.nsid = htole32(3);
	assert_int_equal(rig_do(&rig, 1, &sqe), 0);
	sqe.cdw10 = htole32(20000);
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_LBA_OUT_OF_RANGE));
	sqe.nsid = htole32(2); /* as given: null is the second */
	assert_int_equal(rig_do(&rig, 1, &sqe), 0);
	sqe.prp1 |= htole64(2); /* no data moves, but PRPs are checked */
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_PRP_OFFSET));
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(on_memory),
		cmocka_unit_test(on_a_file),
		cmocka_unit_test(refused),
		cmocka_unit_test(prps),
		cmocka_unit_test(sgls),
		cmocka_unit_test(memory_elsewhere),
		cmocka_unit_test(several_namespaces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
