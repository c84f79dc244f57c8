/* SPDX-License-Identifier: BSD-3-Clause */
/* What a controller says it is: serial numbers and identifiers, by what its storage is. */
#include "nvme_rig.h"

#include <fcntl.h>
#include <stdio.h>

#define A RIG_DATA

struct identity {
	char serial[21];
	uint8_t nguid[2][16];
};

struct files {
	char directory[32], path[2][48];
};

static void make_files(struct files *files)
{
	strcpy(files->directory, "/tmp/uvfio-nvme-XXXXXX");
	assert_non_null(mkdtemp(files->directory));
	for (unsigned i = 0; i < 2; i++) {
		int fd;

		snprintf(files->path[i], sizeof(files->path[i]), "%s/%u", files->directory, i);
		fd = open(files->path[i], O_CREAT | O_RDWR | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, 1 << 20), 0);
		close(fd);
	}
}

static void remove_files(const struct files *files)
{
	for (unsigned i = 0; i < 2; i++)
		unlink(files->path[i]);
	rmdir(files->directory);
}

static void read_identity(const char *spec, struct identity *identity)
{
	const struct nvme_id_controller *controller;
	const struct nvme_id_namespace *ns;
	struct rig rig;
	uint32_t count;

	memset(identity, 0, sizeof(*identity));
	rig_start(&rig, spec);
	assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 0, 1, 0), 0);
	controller = (const void *)(rig.memory + A);
	memcpy(identity->serial, controller->sn, 20);
	count = le32toh(controller->nn);
	for (uint32_t i = 0; i < count && i < 2; i++) {
		assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, i + 1, 0, 0), 0);
		ns = (const void *)(rig.memory + A);
		memcpy(identity->nguid[i], ns->nguid, 16);
		/* The list of descriptors says the same: NGUID, UUID. */
		assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, i + 1, 3, 0), 0);
		assert_memory_equal(rig.memory + A + 4, identity->nguid[i], 16);
		assert_memory_equal(rig.memory + A + 24, identity->nguid[i], 16);
	}
	rig_close(&rig);
}

static void files_keep_theirs(void **state)
{
	struct identity first, again, other;
	struct files files;
	char spec[128];

	make_files(&files);
	snprintf(spec, sizeof(spec), "nvme,null=1M,file=%s", files.path[0]);
	read_identity(spec, &first);
	read_identity(spec, &again);
	assert_string_equal(first.serial, again.serial);
	assert_memory_equal(first.nguid[1], again.nguid[1], 16);
	assert_memory_not_equal(first.nguid[0], first.nguid[1], 16);
	assert_memory_not_equal(first.nguid[0], again.nguid[0], 16);
	snprintf(spec, sizeof(spec), "nvme,null=1M,file=%s", files.path[1]);
	read_identity(spec, &other);
	assert_string_not_equal(first.serial, other.serial);
	assert_memory_not_equal(first.nguid[1], other.nguid[1], 16);
	/* The same file under another name. */
	assert_int_equal(rename(files.path[0], files.path[1]), 0);
	read_identity(spec, &again);
	assert_string_equal(first.serial, again.serial);
	assert_memory_equal(first.nguid[1], again.nguid[1], 16);
	remove_files(&files);
}

static void memory_has_new_ones(void **state)
{
	struct identity first, again;

	read_identity("nvme,mem=1M", &first);
	read_identity("nvme,mem=1M", &again);
	assert_string_not_equal(first.serial, again.serial);
	assert_memory_not_equal(first.nguid[0], again.nguid[0], 16);
}

static void a_serial_number_decides(void **state)
{
	struct identity first, again, other;

	read_identity("nvme,serial=one,mem=1M,mem=1M", &first);
	read_identity("nvme,mem=1M,mem=1M,serial=one", &again);
	read_identity("nvme,mem=1M,mem=1M,serial=two", &other);
	assert_string_equal(first.serial, "one                 ");
	assert_memory_equal(first.nguid, again.nguid, sizeof(first.nguid));
	assert_memory_not_equal(first.nguid[0], first.nguid[1], 16);
	assert_memory_not_equal(first.nguid[0], other.nguid[0], 16);
}

static void numbered_as_given(void **state)
{
	struct files files;
	struct rig rig;
	char spec[160];
	static const uint64_t sizes[] = {2048, 8192, 2048, 4096};

	make_files(&files);
	snprintf(spec, sizeof(spec), "nvme,file=%s,mem=4M,readonly,file=%s,null=2M", files.path[1],
		 files.path[0]);
	rig_start(&rig, spec);
	for (uint32_t i = 0; i < 4; i++) {
		const struct nvme_id_namespace *ns = (const void *)(rig.memory + A);

		assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, i + 1, 0, 0), 0);
		assert_int_equal(le64toh(ns->nsze), sizes[i]);
	}
	rig_close(&rig);
	remove_files(&files);
}

/* The block size that Format gave a file lasts until the device is made anew. */
static void format_is_not_remembered(void **state)
{
	struct files files;
	struct rig rig;
	char spec[128];

	make_files(&files);
	snprintf(spec, sizeof(spec), "nvme,file=%s", files.path[0]);
	for (unsigned i = 0; i < 2; i++) {
		const struct nvme_id_namespace *ns;

		rig_start(&rig, spec);
		ns = (const void *)(rig.memory + A);
		assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 1, 0, 0), 0);
		assert_int_equal(ns->flbas, 0);
		assert_int_equal(rig_admin(&rig, NVME_ADM_FORMAT, 1, 1, 0), 0);
		/* A reset doesn't undo it. */
		assert_int_equal(uvf_device_reset(rig.dev, UVF_RESET_DEVICE), 0);
		rig_command(&rig, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
		rig_enable(&rig);
		assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 1, 0, 0), 0);
		assert_int_equal(ns->flbas, 1);
		rig_close(&rig);
	}
	remove_files(&files);
}

/* A file is a volatile cache, past the page cache too; read-only ones and memory aren't. */
static void write_caches(void **state)
{
	static const struct {
		const char *keys;
		bool cache;
	} rows[] = {{"", true}, {",direct", true}, {",readonly", false}};
	char path[] = "nvme-cache-XXXXXX", spec[64];
	int fd = mkstemp(path);

	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
	for (size_t i = 0; i < UVF_ARRAY_SIZE(rows); i++) {
		const struct nvme_id_controller *id;
		struct uvf_device *dev;
		struct rig rig;

		snprintf(spec, sizeof(spec), "nvme,file=%s%s", path, rows[i].keys);
		if (uvf_model_create(spec, &dev, NULL))
			continue; /* no direct I/O here */
		uvf_device_free(dev);
		rig_start(&rig, spec);
		id = (const void *)(rig.memory + A);
		assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 0, 1, 0), 0);
		assert_int_equal(id->vwc & 1, rows[i].cache);
		assert_int_equal(rig_admin(&rig, NVME_ADM_SET_FEATURES, 0, 6, 0),
				 rows[i].cache ? 0 : DNR(NVME_SC_INVALID_FIELD));
		assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, 0, 8, A),
				 rows[i].cache ? 0 : DNR(NVME_SC_WRITE_PROTECTED));
		assert_int_equal(rig_io(&rig, NVME_CMD_FLUSH, 0, 1, A), 0);
		rig_close(&rig);
	}
	unlink(path);
}

/* The format that Format refuses is one that Identify says is not available. */
static void formats_that_can_be_had(void **state)
{
	static const char *const keys[] = {"", ",direct,block=4096"};
	char path[] = "nvme-formats-XXXXXX", spec[64];
	int fd = mkstemp(path);

	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
	for (unsigned i = 0; i < UVF_ARRAY_SIZE(keys); i++) {
		const struct nvme_id_namespace *ns;
		struct uvf_device *dev;
		struct rig rig;

		snprintf(spec, sizeof(spec), "nvme,file=%s%s", path, keys[i]);
		if (uvf_model_create(spec, &dev, NULL))
			continue; /* no direct I/O here */
		uvf_device_free(dev);
		rig_start(&rig, spec);
		ns = (const void *)(rig.memory + A);
		for (unsigned all = 0; all < 2; all++) {
			assert_int_equal(
				rig_admin(&rig, NVME_ADM_IDENTIFY, all ? UINT32_MAX : 1, 0, 0), 0);
			assert_int_equal(ns->lbaf[0].lbads, i ? 0 : 9);
			assert_int_equal(ns->lbaf[1].lbads, 12);
		}
		assert_int_equal(rig_admin(&rig, NVME_ADM_FORMAT, 1, 1, 0), 0);
		assert_int_equal(rig_admin(&rig, NVME_ADM_FORMAT, 1, 0, 0),
				 i ? DNR(NVME_SC_INVALID_FORMAT) : 0);
		rig_close(&rig);
	}
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_keep_theirs),	    cmocka_unit_test(memory_has_new_ones),
		cmocka_unit_test(a_serial_number_decides),  cmocka_unit_test(numbered_as_given),
		cmocka_unit_test(format_is_not_remembered), cmocka_unit_test(write_caches),
		cmocka_unit_test(formats_that_can_be_had),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
