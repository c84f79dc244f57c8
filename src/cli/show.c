/* SPDX-License-Identifier: BSD-3-Clause */
/* uvfio show: what is behind a socket. It is the device's driver for as long as it looks. */
#include <errno.h>
#include <json-c/json.h>
#include <string.h>
#include <uvfio/client.h>

#include "cli/cli.h"
#include "cli/describe.h"

static int connect_failed(const struct cli_verb *verb, const char *path, int code,
			  const struct uvf_error *error)
{
	if (code == -EBUSY)
		return cli_fail(verb, CLI_FAILED,
				"%s: the device has a driver, and takes one at a time", path);
	if (!error->text[0])
		return cli_fail(verb, CLI_FAILED, "%s: %s", path, strerror(-code));
	if (strstr(error->text, path))
		return cli_fail(verb, CLI_FAILED, "%s", error->text);
	return cli_fail(verb, CLI_FAILED, "%s: %s", path, error->text);
}

static int run_show(const struct cli_verb *verb, int argc, char **argv)
{
	struct uvf_client_config config = {.fd = -1};
	struct uvf_error error = {""};
	struct json_object *object;
	struct uvf_device *dev;
	bool json = false;
	int ret = cli_simple_arguments(verb, argc, argv, &config.path, &json);

	if (ret)
		return ret;
	if (!config.path)
		return cli_fail(verb, CLI_USAGE, "expected a SOCKET");
	ret = uvf_client_connect(&config, &dev, &error);
	if (ret)
		return connect_failed(verb, config.path, ret, &error);
	ret = uvf_device_open(dev);
	if (ret) {
		uvf_device_free(dev);
		return connect_failed(verb, config.path, ret, &error);
	}
	object = json_object_new_object();
	json_object_object_add(object, "socket", json_object_new_string(config.path));
	ret = describe_device(dev, object);
	uvf_device_close(dev);
	uvf_device_free(dev);
	if (ret) {
		json_object_put(object);
		return cli_fail(verb, CLI_FAILED, "%s: the device does not answer: %s", config.path,
				strerror(-ret));
	}
	print_tree(object, json);
	return CLI_OK;
}

static const struct cli_option options[] = {
	{"--json", NULL, "As JSON"},
	{},
};

static struct cli_verb show_verb = {
	.name = "show",
	.usage = "SOCKET [--json]",
	.summary = "Shows the device behind a socket",
	.options = options,
	.run = run_show,
};

CLI_REGISTER_VERB(show_verb)
