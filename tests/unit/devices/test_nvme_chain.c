/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An NVMe controller behind two sockets: whoever drives the first has it served again on the
 * second. The driver's memory has a file that goes all the way, or is reached by messages, which
 * then go all the way.
 */
#include "nvme_rig.h"

#include <stdio.h>
#include <uvfio/server.h>

#define A RIG_DATA
#define B (RIG_DATA + 0x10000u)

struct link {
	struct uvf_device *dev;
	struct uvf_server *server;
	char path[64];
};

static void link_open(struct link *link, const char *spec, const char *directory, const char *name)
{
	struct uvf_server_config config = {.path = link->path, .fd = -1};
	struct uvf_error error = {""};

	snprintf(link->path, sizeof(link->path), "%s/%s", directory, name);
	if (uvf_model_create(spec, &link->dev, &error) ||
	    uvf_server_new(link->dev, &config, &link->server, &error))
		fail_msg("%s: %s", spec, error.text);
	assert_int_equal(uvf_server_start(link->server), 0);
}

static void link_close(struct link *link)
{
	uvf_server_stop(link->server);
	uvf_server_free(link->server);
	uvf_device_free(link->dev);
}

static void move_data(struct rig *rig)
{
	for (unsigned n = 0; n < 20; n++) {
		memset(rig->memory + A, (int)(n + 1), 0x2000);
		memset(rig->memory + B, 0, 0x2000);
		assert_int_equal(rig_io(rig, NVME_CMD_WRITE, 16 * n, 16, A), 0);
		assert_int_equal(rig_io(rig, NVME_CMD_READ, 16 * n, 16, B), 0);
		assert_memory_equal(rig->memory + A, rig->memory + B, 0x2000);
	}
	assert_int_equal(rig_admin(rig, NVME_ADM_IDENTIFY, 0, 1, 0), 0);
}

static void data_through_two_sockets(void **state)
{
	static const char *const specs[] = {"nvme,mem=4M", "nvme,mem=4M,poll=off"};
	char directory[] = "/tmp/uvfio-chain-XXXXXX", spec[96];

	assert_non_null(mkdtemp(directory));
	for (size_t i = 0; i < UVF_ARRAY_SIZE(specs); i++) {
		for (enum rig_memory kind = RIG_FILE; kind <= RIG_REMOTE; kind++) {
			struct link far, near;
			struct rig rig;

			link_open(&far, specs[i], directory, "far");
			snprintf(spec, sizeof(spec), "vfio-user,socket=%s", far.path);
			link_open(&near, spec, directory, "near");
			snprintf(spec, sizeof(spec), "vfio-user,socket=%s", near.path);
			for (unsigned driver = 0; driver < 2; driver++) {
				rig_start_on(&rig, spec, kind);
				move_data(&rig);
				rig_close(&rig);
			}
			link_close(&near);
			link_close(&far);
		}
	}
	assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_through_two_sockets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
