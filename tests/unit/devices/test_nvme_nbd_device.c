/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A controller whose storage is an NBD server's export: what it says of itself, what it answers
 * where the server fails or has gone, what ends while it is gone, and how it moves.
 */
#include "nvme_nbd_server.h"
#include "nvme_rig.h"
#include "nvme_stream.h"

#include "devices/nvme/nvme.h"

#define A	 RIG_DATA
#define ONCS_DSM (1u << 2)

struct export
{
	struct server server;
	char spec[192];
};

static void export_make(struct export *export, const char *keys)
{
	server_make(&export->server, 4 << 20);
	snprintf(export->spec, sizeof(export->spec), "nvme,nbd=%s%s", export->server.uri, keys);
}

/* ---- Identify ---- */

static void what_it_offers(void **state)
{
	const struct nvme_id_controller *controller;
	const struct nvme_id_namespace *ns;
	struct export export;
	struct rig rig;

	export_make(&export, "");
	server_disk_size(&export.server, (4 << 20) + 4000);
	SERVER_START(&export.server, "file", export.server.disk);
	rig_start(&rig, export.spec);
	controller = (const void *)(rig.memory + A);
	ns = (const void *)(rig.memory + A);
	assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 0, 1, 0), 0);
	assert_true(le16toh(controller->oncs) & ONCS_DSM);
	assert_int_equal(controller->vwc & 1, 1);
	assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 1, 0, 0), 0);
	assert_int_equal(le64toh(ns->nsze), 8192 + 7);
	rig_close(&rig);
	server_remove(&export.server);
}

static void what_the_server_lacks_is_not_offered(void **state)
{
	const struct nvme_id_controller *controller;
	struct export export;
	char read[128];
	struct rig rig;

	export_make(&export, "");
	snprintf(read, sizeof(read), "pread=dd if=%s skip=$4 count=$3 iflag=count_bytes,skip_bytes",
		 export.server.disk);
	SERVER_START(&export.server, "eval", "get_size=echo 4M", read, "pwrite=cat >/dev/null");
	rig_start(&rig, export.spec);
	controller = (const void *)(rig.memory + A);
	assert_int_equal(rig_admin(&rig, NVME_ADM_IDENTIFY, 0, 1, 0), 0);
	assert_false(le16toh(controller->oncs) & ONCS_DSM);
	assert_int_equal(controller->vwc & 1, 0);
	/* Commands Supported and Effects says the same. */
	assert_int_equal(rig_admin(&rig, NVME_ADM_GET_LOG_PAGE, 0, 5 | 0x3ff << 16, 0), 0);
	assert_int_equal(rig.memory[A + 1024 + NVME_CMD_DATASET_MANAGEMENT * 4], 0);
	assert_int_equal(rig.memory[A + 1024 + NVME_CMD_WRITE * 4] & 1, 1);
	struct nvme_sqe sqe = rig_rw(NVME_CMD_DATASET_MANAGEMENT, 0, 1, A);

	sqe.cdw10 = sqe.cdw12 = 0;
	sqe.cdw11 = htole32(4);
	assert_int_equal(rig_do(&rig, 1, &sqe), DNR(NVME_SC_INVALID_OPCODE));
	assert_int_equal(
		rig_do(&rig, 1, &(struct nvme_sqe){.opcode = NVME_CMD_FLUSH, .nsid = htole32(1)}),
		0);
	rig_close(&rig);
	server_remove(&export.server);
}

/* ---- Answers ---- */

static void errors_become_statuses(void **state)
{
	static const struct {
		const char *said;
		uint16_t writing, reading;
	} kinds[] = {
		{"error=EIO", NVME_SC_WRITE_FAULT, NVME_SC_UNRECOVERED_READ},
		{"error=ENOSPC", NVME_SC_CAPACITY_EXCEEDED, NVME_SC_INTERNAL},
		{"error=EPERM", NVME_SC_WRITE_PROTECTED, NVME_SC_INTERNAL},
	};
	struct export export;
	char trigger[96];
	struct rig rig;

	export_make(&export, "");
	snprintf(trigger, sizeof(trigger), "error-file=%s", export.server.other);
	for (size_t i = 0; i < UVF_ARRAY_SIZE(kinds); i++) {
		SERVER_START(&export.server, "--filter=error", "file", export.server.disk,
			     kinds[i].said, "error-rate=100%", trigger);
		rig_start(&rig, export.spec);
		memset(rig.memory + A, (int)(0x31 + i), 8192);
		assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, 8, 16, A), 0);
		close(open(export.server.other, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
		assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, 8, 16, A), kinds[i].writing);
		assert_int_equal(rig_io(&rig, NVME_CMD_READ, 8, 16, A), kinds[i].reading);
		assert_int_equal(rig_io(&rig, NVME_CMD_WRITE_ZEROES, 8, 16, A), kinds[i].writing);
		unlink(export.server.other);
		memset(rig.memory + A, 0, 8192);
		assert_int_equal(rig_io(&rig, NVME_CMD_READ, 8, 16, A), 0);
		assert_int_equal(rig.memory[A + 8191], 0x31 + i);
		rig_close(&rig);
		server_kill(&export.server);
	}
	server_remove(&export.server);
}

static void a_server_that_comes_back(void **state)
{
	static const char *const keys[] = {"", ",pollers=2", ",poll=off", ",poll=on"};
	struct export export;
	struct rig rig;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(keys); i++) {
		export_make(&export, keys[i]);
		SERVER_START(&export.server, "file", export.server.disk);
		rig_start(&rig, export.spec);
		for (unsigned round = 0; round < 3; round++) {
			struct nvme_sqe sqe = rig_rw(NVME_CMD_WRITE, 8 * round, 8, A);

			memset(rig.memory + A, (int)(round + 1), 4096);
			server_kill(&export.server);
			rig_submit(&rig, 1, &sqe);
			for (unsigned n = 0; n < 50; n++)
				rig_moment();
			assert_false(rig_ready(&rig, 1));
			server_start_again(&export.server);
			assert_int_equal(rig_take(&rig, 1, NULL), 0);
			memset(rig.memory + A, 0, 4096);
			assert_int_equal(rig_io(&rig, NVME_CMD_READ, 8 * round, 8, A), 0);
			assert_int_equal(rig.memory[A + 4095], round + 1);
		}
		rig_close(&rig);
		server_remove(&export.server);
	}
}

/* A status that drivers try again after, and then the device works as before. */
static void a_server_that_stays_away(void **state)
{
	struct export export;
	struct rig rig;
	uint16_t status;

	export_make(&export, ",reconnect=1");
	SERVER_START(&export.server, "file", export.server.disk);
	rig_start(&rig, export.spec);
	server_kill(&export.server);
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, 0, 8, A), NVME_SC_NAMESPACE_NOT_READY);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 0, 8, A), NVME_SC_NAMESPACE_NOT_READY);
	server_start_again(&export.server);
	while ((status = rig_io(&rig, NVME_CMD_WRITE, 0, 8, A)) != 0) {
		assert_int_equal(status, NVME_SC_NAMESPACE_NOT_READY);
		rig_moment();
	}
	rig_close(&rig);
	server_remove(&export.server);
}

/* ---- Ends: none of these waits for the hour that commands do ---- */

static void submit_and_await_fetch(struct rig *rig, unsigned id, const struct nvme_sqe *sqe)
{
	struct nvme *ctrl = uvf_device_opaque(rig->dev);
	struct nvme_poller *poller = nvme_poller_of(ctrl, (uint16_t)id);
	bool fetched = false;

	rig_submit(rig, id, sqe);
	while (!fetched) {
		nvme_poller_pause(poller);
		fetched = ctrl->sqs[id].pending;
		nvme_poller_resume(poller);
	}
}

static void ends_while_it_is_gone(void **state)
{
	struct nvme_sqe sqe = rig_rw(NVME_CMD_WRITE, 0, 8, A);
	struct export export;
	struct rig rig;

	export_make(&export, ",reconnect=3600,pollers=2");
	SERVER_START(&export.server, "file", export.server.disk);
	rig_start(&rig, export.spec);
	rig_create_queue(&rig, 2);
	server_kill(&export.server);
	/* Abort takes it back once the loss has been noticed. */
	for (unsigned id = 1; id < 3; id++) {
		uint16_t cid = rig_submit(&rig, id, &sqe);

		do
			assert_int_equal(
				rig_admin(&rig, NVME_ADM_ABORT, 0, (uint32_t)cid << 16 | id, 0), 0);
		while (rig.result & 1);
		assert_int_equal(rig_take(&rig, id, NULL), NVME_SC_ABORT_REQUESTED);
	}
	submit_and_await_fetch(&rig, 2, &sqe);
	assert_int_equal(rig_admin(&rig, NVME_ADM_DELETE_SQ, 0, 2, 0), 0);
	assert_int_equal(rig_take(&rig, 2, NULL), NVME_SC_SQ_DELETED);
	submit_and_await_fetch(&rig, 1, &sqe);
	assert_int_equal(uvf_device_reset(rig.dev, UVF_RESET_DEVICE), 0);
	rig_command(&rig, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	rig_enable(&rig);
	rig_create_queue(&rig, 1);
	/* With the flush of a shutdown, too. */
	rig_write32(&rig, NVME_REG_CC, RIG_CC | 1 << 14);
	for (unsigned n = 0; n < 50; n++)
		rig_moment();
	assert_int_equal(uvf_device_reset(rig.dev, UVF_RESET_DEVICE), 0);
	rig_command(&rig, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	rig_enable(&rig);
	rig_create_queue(&rig, 1);
	server_start_again(&export.server);
	assert_int_equal(rig_do(&rig, 1, &sqe), 0);
	rig_close(&rig);
	server_remove(&export.server);
}

/* ---- Migration ---- */

static void moves(void **state)
{
	struct stream *stream = *state;
	struct uvf_device *from, *to, *other;
	struct export export;
	char logfile[96], incoming[224];

	export_make(&export, "");
	snprintf(logfile, sizeof(logfile), "logfile=%s", export.server.log);
	snprintf(incoming, sizeof(incoming), "%s,incoming", export.spec);
	SERVER_START(&export.server, "--filter=log", "file", export.server.disk, logfile);
	from = make(export.spec);
	to = make(incoming);
	assert_int_equal(uvf_device_open(from), 0);
	assert_int_equal(uvf_device_open(to), 0);
	assert_int_equal(server_logged(&export.server, " Flush ", ""), 0);
	save(from, stream);
	assert_int_equal(server_logged(&export.server, " Flush ", ""), 1);
	assert_int_equal(load_into(to, stream), 0);
	/* The destination has used nothing so far. */
	assert_int_equal(server_logged(&export.server, " Write ", ""), 0);
	assert_int_equal(server_logged(&export.server, " Read ", ""), 0);
	leave(from);
	/* Another export, or the same under another name, is not what the driver knows. */
	snprintf(incoming, sizeof(incoming), "nvme,nbd=nbd+unix:///other?socket=%s,incoming",
		 export.server.socket);
	other = make(incoming);
	assert_int_equal(uvf_device_open(other), 0);
	assert_int_equal(load_into(other, stream), -EINVAL);
	leave(other);
	leave(to);
	server_remove(&export.server);
}

/* By its serial number it is the same; by its size it isn't. */
static void storage_of_another_size_is_refused(void **state)
{
	struct stream *stream = *state;
	struct uvf_device *from, *to;
	struct export here, there;
	char spec[224];

	export_make(&here, ",serial=one");
	export_make(&there, ",serial=one,incoming");
	for (unsigned i = 0; i < 2; i++) {
		server_disk_size(&there.server, i ? 4 << 20 : 8 << 20);
		SERVER_START(&here.server, "file", here.server.disk);
		SERVER_START(&there.server, "file", there.server.disk);
		from = make(here.spec);
		to = make(there.spec);
		assert_int_equal(uvf_device_open(from), 0);
		assert_int_equal(uvf_device_open(to), 0);
		save(from, stream);
		assert_int_equal(load_into(to, stream), i ? 0 : -EINVAL);
		leave(from);
		leave(to);
		server_kill(&here.server);
		server_kill(&there.server);
	}
	snprintf(spec, sizeof(spec), "%s,readonly", there.spec);
	SERVER_START(&there.server, "file", there.server.disk);
	to = make(spec);
	assert_int_equal(uvf_device_open(to), 0);
	assert_int_equal(load_into(to, stream), -EINVAL);
	leave(to);
	server_remove(&here.server);
	server_remove(&there.server);
}

/* What can't be flushed can't be left behind: the source goes on. */
static void no_stop_without_the_server(void **state)
{
	struct export export;
	struct rig rig;
	int ret;

	export_make(&export, ",reconnect=1");
	SERVER_START(&export.server, "file", export.server.disk);
	rig_start(&rig, export.spec);
	assert_int_equal(rig_io(&rig, NVME_CMD_WRITE, 0, 8, A), 0);
	server_kill(&export.server);
	ret = go(rig.dev, VFIO_DEVICE_STATE_STOP);
	/* It may come back, or has been gone for longer than it is waited for. */
	assert_true(ret == -EAGAIN || ret == -ENOTCONN);
	assert_int_equal(go(rig.dev, VFIO_DEVICE_STATE_RUNNING), 0);
	server_start_again(&export.server);
	while (rig_io(&rig, NVME_CMD_WRITE, 0, 8, A))
		rig_moment();
	assert_int_equal(go(rig.dev, VFIO_DEVICE_STATE_STOP), 0);
	assert_int_equal(go(rig.dev, VFIO_DEVICE_STATE_RUNNING), 0);
	assert_int_equal(rig_io(&rig, NVME_CMD_READ, 0, 8, A), 0);
	rig_close(&rig);
	server_remove(&export.server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_offers),
		cmocka_unit_test(what_the_server_lacks_is_not_offered),
		cmocka_unit_test(errors_become_statuses),
		cmocka_unit_test(a_server_that_comes_back),
		cmocka_unit_test(a_server_that_stays_away),
		cmocka_unit_test(ends_while_it_is_gone),
		cmocka_unit_test_setup_teardown(moves, setup, teardown),
		cmocka_unit_test_setup_teardown(storage_of_another_size_is_refused, setup,
						teardown),
		cmocka_unit_test(no_stop_without_the_server),
	};

	if (!server_there("nbdkit"))
		return 77; /* skipped */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
