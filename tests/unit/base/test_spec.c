/* SPDX-License-Identifier: BSD-3-Clause */
/* Specs: what is read, what is refused, and in which words. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/spec.h"
#include "base/suggest.h"

static const struct uvf_model_key keys[] = {
	{.name = "file", .kind = UVF_KEY_STRING, .expects = "PATH"},
	{.name = "block", .kind = UVF_KEY_SIZE, .default_value = "512", .min = 512, .max = 4096},
	{.name = "memory", .kind = UVF_KEY_SIZE, .min = 1},
	{.name = "queues", .kind = UVF_KEY_NUMBER, .default_value = "0x10", .min = 1, .max = 64},
	{.name = "direct", .kind = UVF_KEY_BOOL, .default_value = "off"},
	{.name = "poll",
	 .kind = UVF_KEY_CHOICE,
	 .default_value = "adaptive",
	 .expects = "on|off|adaptive"},
	{.name = "ns", .kind = UVF_KEY_STRING, .repeated = true},
	{},
};

static struct uvf_spec *parse(const char *text)
{
	struct uvf_spec *spec;
	struct uvf_error error;

	assert_int_equal(uvf_spec_parse(text, keys, &spec, &error), 0);
	return spec;
}

static void defaults(void **state)
{
	struct uvf_spec *spec = parse("nvme");

	assert_null(uvf_spec_string(spec, "file"));
	assert_int_equal(uvf_spec_number(spec, "block"), 512);
	assert_int_equal(uvf_spec_number(spec, "memory"), 0);
	assert_int_equal(uvf_spec_number(spec, "queues"), 16);
	assert_false(uvf_spec_bool(spec, "direct"));
	assert_string_equal(uvf_spec_string(spec, "poll"), "adaptive");
	assert_int_equal(uvf_spec_number(spec, "poll"), 2);
	assert_false(uvf_spec_given(spec, "block"));
	assert_null(uvf_spec_nth(spec, "ns", 0));
	uvf_spec_free(spec);
}

static void values(void **state)
{
	struct uvf_spec *spec =
		parse("nvme,file=a=b,block=4K,memory=0x10,queues=64,direct,poll=off,ns=1,ns=,ns=3");

	assert_string_equal(uvf_spec_string(spec, "file"), "a=b");
	assert_int_equal(uvf_spec_number(spec, "block"), 4096);
	assert_int_equal(uvf_spec_number(spec, "memory"), 16);
	assert_int_equal(uvf_spec_number(spec, "queues"), 64);
	assert_true(uvf_spec_bool(spec, "direct"));
	assert_int_equal(uvf_spec_number(spec, "poll"), 1);
	assert_true(uvf_spec_given(spec, "block"));
	assert_string_equal(uvf_spec_string(spec, "ns"), "1");
	assert_string_equal(uvf_spec_nth(spec, "ns", 1), "");
	assert_string_equal(uvf_spec_nth(spec, "ns", 2), "3");
	assert_null(uvf_spec_nth(spec, "ns", 3));
	for (size_t i = 0; i < 9; i++) {
		static const char *const names[] = {"file", "block", "memory", "queues", "direct",
						    "poll", "ns",    "ns",     "ns"};
		const char *value = NULL;

		assert_string_equal(uvf_spec_pair(spec, i, &value), names[i]);
		if (i == 6)
			assert_string_equal(value, "1");
	}
	assert_null(uvf_spec_pair(spec, 9, &(const char *){NULL}));
	uvf_spec_free(spec);
}

static void commas(void **state)
{
	static const struct {
		const char *text, *file;
	} cases[] = {
		{"nvme,file=a,,b", "a,b"},    {"nvme,file=,,", ","},
		{"nvme,file=a,,,,b", "a,,b"}, {"nvme,file=a,,,direct", "a,"},
		{"nvme,file=,direct", ""},
	};

	for (size_t i = 0; i < UVF_ARRAY_SIZE(cases); i++) {
		struct uvf_spec *spec = parse(cases[i].text);

		assert_string_equal(uvf_spec_string(spec, "file"), cases[i].file);
		uvf_spec_free(spec);
	}
}

static void refused(void **state)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{"nvme,blok=4K", "nvme: key 'blok' is not known; did you mean 'block'?"},
		{"nvme,pall=on", "nvme: key 'pall' is not known; did you mean 'poll'?"},
		{"nvme,colour=red", "nvme: key 'colour' is not known"},
		{"nvme,", "nvme: expected key=value, got nothing"},
		{"nvme,=4", "nvme: expected key=value, got nothing"},
		{"nvme,file=x,", "nvme: expected key=value, got nothing"},
		{"nvme,file", "nvme: file needs a value: expected file=PATH"},
		{"nvme,file=x,file=y", "nvme: file= is given twice"},
		{"nvme,poll=maybe", "nvme: poll=: expected on|off|adaptive, got 'maybe'"},
		{"nvme,poll=o", "nvme: poll=: expected on|off|adaptive, got 'o'"},
		{"nvme,poll=on|off", "nvme: poll=: expected on|off|adaptive, got 'on|off'"},
		{"nvme,poll=", "nvme: poll=: expected on|off|adaptive, got ''"},
		{"nvme,direct=yes", "nvme: direct=: expected on|off, got 'yes'"},
		{"nvme,queues=65", "nvme: queues=: expected a number from 1 to 64, got '65'"},
		{"nvme,queues=0", "nvme: queues=: expected a number from 1 to 64, got '0'"},
		{"nvme,queues=-1", "nvme: queues=: expected a number from 1 to 64, got '-1'"},
		{"nvme,queues= 1", "nvme: queues=: expected a number from 1 to 64, got ' 1'"},
		{"nvme,queues=1K", "nvme: queues=: expected a number from 1 to 64, got '1K'"},
		{"nvme,queues=0x", "nvme: queues=: expected a number from 1 to 64, got '0x'"},
		{"nvme,queues=0x0x1", "nvme: queues=: expected a number from 1 to 64, got '0x0x1'"},
		{"nvme,block=1G",
		 "nvme: block=: expected a size such as 512, 64K or 1G from 512 to "
		 "4096, got '1G'"},
		{"nvme,memory=0", "nvme: memory=: expected a size such as 512, 64K or 1G of at "
				  "least 1, got '0'"},
		{"nvme,memory=4KB", "nvme: memory=: expected a size such as 512, 64K or 1G of at "
				    "least 1, got '4KB'"},
		{"nvme,memory=16777216T", "nvme: memory=: expected a size such as 512, 64K or 1G "
					  "of at least 1, got '16777216T'"},
		{"nvme,memory=18446744073709551616", "nvme: memory=: expected a size such as 512, "
						     "64K or 1G of at least 1, got "
						     "'18446744073709551616'"},
	};

	for (size_t i = 0; i < UVF_ARRAY_SIZE(cases); i++) {
		struct uvf_spec *spec = NULL;
		struct uvf_error error;

		assert_int_equal(uvf_spec_parse(cases[i].text, keys, &spec, &error), -EINVAL);
		assert_string_equal(error.text, cases[i].message);
		assert_int_equal(uvf_spec_parse(cases[i].text, keys, &spec, NULL), -EINVAL);
		assert_null(spec);
	}
}

static void a_model_refuses(void **state)
{
	struct uvf_spec *spec = parse("nvme,file=/");
	struct uvf_error error;

	assert_int_equal(uvf_spec_refuse(spec, "file", &error), -EINVAL);
	assert_string_equal(error.text, "nvme: file=: expected PATH, got '/'");
	uvf_spec_free(spec);
}

static void numbers(void **state)
{
	uint64_t value;

	assert_true(uvf_parse_number("18446744073709551615", false, &value));
	assert_true(value == UINT64_MAX);
	assert_true(uvf_parse_number("0XfF", false, &value));
	assert_int_equal(value, 255);
	assert_true(uvf_parse_number("010", false, &value));
	assert_int_equal(value, 10);
	assert_true(uvf_parse_number("3m", true, &value));
	assert_int_equal(value, 3 << 20);
	assert_true(uvf_parse_number("16777215T", true, &value));
	assert_false(uvf_parse_number("", true, &value));
	assert_false(uvf_parse_number("K", true, &value));
	assert_false(uvf_parse_number("1P", true, &value));
	assert_false(uvf_parse_number("1 ", true, &value));
	assert_false(uvf_parse_number("+1", true, &value));
	assert_false(uvf_parse_number("0x+1", true, &value));
}

static void distances(void **state)
{
	assert_int_equal(uvf_word_distance("", ""), 0);
	assert_int_equal(uvf_word_distance("", "abc"), 3);
	assert_int_equal(uvf_word_distance("block", "blok"), 1);
	assert_int_equal(uvf_word_distance("nvme", "nvem"), 1);
	assert_int_equal(uvf_word_distance("file", "line"), 2);
	assert_true(uvf_word_distance("abcdefghijklmnopqrstuvwxyzabcdefghijkl", "a") == SIZE_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),  cmocka_unit_test(values),
		cmocka_unit_test(commas),    cmocka_unit_test(refused),
		cmocka_unit_test(numbers),   cmocka_unit_test(a_model_refuses),
		cmocka_unit_test(distances),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
