/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The report of a migration as a page of HTML: figures, the states on a line of time, the stop by
 * itself, and the rates. One file that needs nothing from outside, by daylight and at night.
 */
#include <json-c/json.h>
#include <stdbool.h>
#include <string.h>

#include "cli/migrate.h"

#define WIDTH  900.0
#define LEFT   70.0 /* of the drawings: labels are there */
#define RIGHT  20.0
#define BAR    34.0
#define CHART  200.0
#define INSIDE (WIDTH - LEFT - RIGHT)

static const char head[] =
	"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
	"<title>uvfio migrate</title>\n<style>\n"
	":root { color-scheme: light dark; --back: #fff; --text: #1a1c20; --quiet: #6a7078;\n"
	"  --line: #d6dadf; --run: #3f9d5a; --pre: #3874cb; --stop: #c8453b; --resume: #b97a12;\n"
	"  --other: #8a6fb8; }\n"
	"@media (prefers-color-scheme: dark) { :root { --back: #15171b; --text: #e6e8eb;\n"
	"  --quiet: #9aa1aa; --line: #3a3f47; --run: #5fc27c; --pre: #6ea3f2; --stop: #ee7468;\n"
	"  --resume: #e0a83e; --other: #b59be0; } }\n"
	"body { background: var(--back); color: var(--text); max-width: 60rem; margin: 2rem auto;\n"
	"  padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }\n"
	"h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }\n"
	"table { border-collapse: collapse; } caption { text-align: left; }\n"
	"th, td { padding: .2rem 1.2rem .2rem 0; text-align: left;\n"
	"  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }\n"
	"th { font-weight: 500; color: var(--quiet); }\n"
	"svg { width: 100%; height: auto; display: block; }\n"
	"svg text { fill: var(--text); font-size: 12px; } .quiet, svg .quiet { fill: "
	"var(--quiet);\n"
	"  color: var(--quiet); } .axis { stroke: var(--line); stroke-width: 1; }\n"
	".rate { fill: none; stroke: var(--pre); stroke-width: 2; }\n"
	".dirty { fill: none; stroke: var(--stop); stroke-width: 2; stroke-dasharray: 6 3; }\n"
	".down { fill: none; stroke: var(--resume); stroke-width: 2; }\n"
	".limit { stroke: var(--stop); stroke-width: 1; stroke-dasharray: 2 3; }\n"
	".RUNNING { fill: var(--run); } .PRE_COPY { fill: var(--pre); }\n"
	".STOP_COPY { fill: var(--stop); } .RESUMING { fill: var(--resume); }\n"
	".PRE_COPY_P2P, .RUNNING_P2P { fill: var(--other); }\n"
	"</style>\n</head>\n<body>\n";

/* ---- Values ---- */

static struct json_object *list(struct json_object *object, const char *name)
{
	struct json_object *value;

	return json_object_object_get_ex(object, name, &value) &&
			       json_object_is_type(value, json_type_array)
		       ? value
		       : NULL;
}

static size_t length(struct json_object *array)
{
	return array ? json_object_array_length(array) : 0;
}

static double number(struct json_object *object, const char *name)
{
	struct json_object *value;

	return json_object_object_get_ex(object, name, &value) ? json_object_get_double(value) : 0;
}

static const char *string(struct json_object *object, const char *name)
{
	struct json_object *value;

	return json_object_object_get_ex(object, name, &value) ? json_object_get_string(value) : "";
}

static void put_text(FILE *file, const char *text)
{
	for (; *text; text++) {
		if (*text == '<')
			fputs("&lt;", file);
		else if (*text == '>')
			fputs("&gt;", file);
		else if (*text == '&')
			fputs("&amp;", file);
		else if (*text == '"')
			fputs("&quot;", file);
		else
			fputc(*text, file);
	}
}

/* A name that is a class of the style sheet: what else comes is none. */
static void put_class(FILE *file, const char *name)
{
	for (; (*name >= 'A' && *name <= 'Z') || *name == '_' || *name == '2'; name++)
		fputc(*name, file);
}

/* ---- Figures ---- */

static void put_row(FILE *file, const char *name, const char *value)
{
	fprintf(file, "<tr><th scope=\"row\">%s</th><td>", name);
	put_text(file, value);
	fputs("</td></tr>\n", file);
}

static void put_figures(FILE *file, struct json_object *report)
{
	char text[128], bytes[16];

	fputs("<h2>Figures</h2>\n<table>\n<tbody>\n", file);
	put_row(file, "Source", string(report, "source"));
	put_row(file, "Destination", string(report, "destination"));
	snprintf(text, sizeof(text), "%.1f ms", number(report, "total_ms"));
	put_row(file, "Total time", text);
	snprintf(text, sizeof(text), "%.1f ms (expected %.1f, at most %.0f)",
		 number(report, "downtime_ms"), number(report, "expected_downtime_ms"),
		 number(report, "max_downtime_ms"));
	put_row(file, "Downtime", text);
	snprintf(text, sizeof(text), "%s in %.0f rounds",
		 migrate_bytes(bytes, number(report, "pre_copy_bytes")), number(report, "rounds"));
	put_row(file, "Sent in PRE_COPY", text);
	put_row(file, "Sent in STOP_COPY", migrate_bytes(bytes, number(report, "stop_copy_bytes")));
	put_row(file, "The driver's session",
		migrate_bytes(bytes, number(report, "session_bytes")));
	snprintf(text, sizeof(text), "%s/s", migrate_bytes(bytes, number(report, "bandwidth")));
	put_row(file, "Bandwidth limit", number(report, "bandwidth") > 0 ? text : "none");
	fputs("</tbody>\n</table>\n", file);
}

static void put_states(FILE *file, struct json_object *report)
{
	struct json_object *states = list(report, "states");

	fputs("<h2>States</h2>\n<table>\n<thead><tr><th scope=\"col\">State</th>"
	      "<th scope=\"col\">Begins, ms</th><th scope=\"col\">Lasts, ms</th></tr></thead>\n"
	      "<tbody>\n",
	      file);
	for (size_t i = 0; i < length(states); i++) {
		struct json_object *state = json_object_array_get_idx(states, i);

		fputs("<tr><th scope=\"row\">", file);
		put_text(file, string(state, "state"));
		fprintf(file, "</th><td>%.2f</td><td>%.2f</td></tr>\n", number(state, "from_ms"),
			number(state, "ms"));
	}
	fputs("</tbody>\n</table>\n", file);
}

/* ---- Drawings ---- */

static void begin_drawing(FILE *file, double height, const char *title)
{
	fprintf(file, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"", WIDTH, height);
	put_text(file, title);
	fputs("\">\n", file);
}

/* The times at the ends of what is drawn, under it. */
static void put_axis(FILE *file, double y, double from, double to)
{
	fprintf(file,
		"<line class=\"axis\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n"
		"<text class=\"quiet\" x=\"%.1f\" y=\"%.1f\">%.1f ms</text>\n"
		"<text class=\"quiet\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.1f ms</text>\n",
		LEFT, y, WIDTH - RIGHT, y, LEFT, y + 15, from, WIDTH - RIGHT, y + 15, to);
}

/* The states between @from and @to, each a bar on a row of its own. */
static void draw_states(FILE *file, struct json_object *states, double from, double to,
			const char *title)
{
	double span = to > from ? to - from : 1;
	size_t rows = 0;

	for (size_t i = 0; i < length(states); i++)
		rows += number(json_object_array_get_idx(states, i), "from_ms") >= from;
	begin_drawing(file, (double)rows * BAR + 25, title);
	rows = 0;
	for (size_t i = 0; i < length(states); i++) {
		struct json_object *state = json_object_array_get_idx(states, i);
		double at = number(state, "from_ms"), lasts = number(state, "ms");
		double x = LEFT + (at - from) / span * INSIDE, y = (double)rows * BAR + 4;
		double width = lasts / span * INSIDE;
		/* Beside the bar, on the side where there is room. */
		bool left = x + width > WIDTH * 0.65;

		if (at < from)
			continue;
		rows++;
		fputs("<rect class=\"", file);
		put_class(file, string(state, "state"));
		fprintf(file,
			"\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" rx=\"2\"/>\n"
			"<text x=\"%.1f\" y=\"%.1f\"%s>",
			x, y, width > 1 ? width : 1, BAR - 10, left ? x - 6 : x + width + 6,
			y + BAR / 2 - 1, left ? " text-anchor=\"end\"" : "");
		put_text(file, string(state, "state"));
		fprintf(file, " %.2f ms</text>\n", lasts);
	}
	put_axis(file, (double)rows * BAR + 6, from, to);
	fputs("</svg>\n", file);
}

static double highest(struct json_object *samples, const char *name)
{
	double most = 0;

	for (size_t i = 0; i < length(samples); i++) {
		double value = number(json_object_array_get_idx(samples, i), name);

		if (value > most)
			most = value;
	}
	return most;
}

static void draw_line(FILE *file, struct json_object *samples, const char *name, const char *class,
		      double span, double top)
{
	fprintf(file, "<polyline class=\"%s\" points=\"", class);
	for (size_t i = 0; i < length(samples); i++) {
		struct json_object *sample = json_object_array_get_idx(samples, i);

		fprintf(file, "%s%.2f,%.2f", i ? " " : "",
			LEFT + number(sample, "time_ms") / span * INSIDE,
			10 + CHART * (1 - number(sample, name) / top));
	}
	fputs("\"/>\n", file);
}

static void draw_rates(FILE *file, struct json_object *samples, double total)
{
	double most = highest(samples, "rate"), dirty = highest(samples, "dirty_rate");
	double top = (most > dirty ? most : dirty) * 1.1;
	char text[16];

	if (top <= 0)
		top = 1;
	begin_drawing(file, CHART + 35, "Rates over time");
	draw_line(file, samples, "rate", "rate", total, top);
	draw_line(file, samples, "dirty_rate", "dirty", total, top);
	fprintf(file, "<text class=\"quiet\" x=\"0\" y=\"20\">%s/s</text>\n",
		migrate_bytes(text, top));
	put_axis(file, CHART + 10, 0, total);
	fputs("</svg>\n<p class=\"quiet\">Line: the rate at which the state can be sent. Broken: "
	      "the rate at which it changes and has to be sent again.</p>\n",
	      file);
}

static void draw_downtime(FILE *file, struct json_object *report, double total)
{
	struct json_object *samples = list(report, "progress");
	double limit = number(report, "max_downtime_ms"), most;

	most = highest(samples, "expected_downtime_ms");
	if (most < number(report, "downtime_ms"))
		most = number(report, "downtime_ms");
	/* The limit too, where the drawing stays one. */
	if (most < limit && limit < 10 * most)
		most = limit;
	most = most > 0 ? most * 1.1 : 1;
	begin_drawing(file, CHART + 35, "Expected downtime over time");
	draw_line(file, samples, "expected_downtime_ms", "down", total, most);
	if (limit <= most)
		fprintf(file,
			"<line class=\"limit\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
			LEFT, 10 + CHART * (1 - limit / most), WIDTH - RIGHT,
			10 + CHART * (1 - limit / most));
	fprintf(file,
		"<circle class=\"STOP_COPY\" cx=\"%.1f\" cy=\"%.2f\" r=\"4\"/>\n"
		"<text class=\"quiet\" x=\"0\" y=\"20\">%.1f ms</text>\n",
		WIDTH - RIGHT, 10 + CHART * (1 - number(report, "downtime_ms") / most), most);
	put_axis(file, CHART + 10, 0, total);
	fputs("</svg>\n<p class=\"quiet\">Line: what was expected. Dotted: the limit. Dot: what it "
	      "was.</p>\n",
	      file);
}

void migrate_write_page(FILE *file, struct json_object *report)
{
	struct json_object *states = list(report, "states");
	double total = number(report, "total_ms"), stopped;

	if (total <= 0)
		total = 1;
	stopped = total - number(report, "downtime_ms");
	fputs(head, file);
	fputs("<h1>", file);
	put_text(file, string(report, "device"));
	fprintf(file, " moved in %.1f ms, stopped for %.1f ms</h1>\n", total,
		number(report, "downtime_ms"));
	put_figures(file, report);
	fputs("<h2>Timeline</h2>\n", file);
	draw_states(file, states, 0, total, "States over time");
	fputs("<h2>The stop</h2>\n", file);
	/* The first state of the stop began a moment after the stop did. */
	draw_states(file, states, stopped > 0 ? stopped : 0, total, "States while it was stopped");
	fputs("<h2>Rates</h2>\n", file);
	draw_rates(file, list(report, "progress"), total);
	fputs("<h2>Downtime</h2>\n", file);
	draw_downtime(file, report, total);
	put_states(file, report);
	fputs("</body>\n</html>\n", file);
}
