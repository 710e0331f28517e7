/*
 * What the benches share: jobs from the command line, a line of results for each.
 *
 *   ticks=N                              how long to measure, in ticks of the time stamp counter
 *   job=NAME,BYTES,DEPTH[,REQUESTS]      as often as there are jobs, done in their order: requests of so many bytes, so
 *                                        many at a time; with REQUESTS until so many are done
 *
 *   bench: NAME,BYTES,DEPTH requests N ticks N notifications N
 */
#pragma once
#include "boot.h"
#include "console.h"
#include "io.h"

/* Ticks without any progress that end the guest: many seconds. */
#define PATIENCE 50000000000ull
/* The part of the time for which a job runs before it is measured: whatever adapts, host and device, gets to know it. */
#define WARM_UP_PART 4

/* A number below a limit: xorshift64, the same series in each run. */
static inline uint64_t random_below(uint64_t limit)
{
	static uint64_t state = 0x9e3779b97f4a7c15;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned __int128)state * limit >> 64;
}

struct job {
	const char *name;
	uint64_t bytes, depth, requests;
};

struct result {
	uint64_t requests, ticks, notifications;
};

/* Whether a job, or any other word up to a comma, has that name. */
static int is_named(const char *word, const char *name)
{
	while (*name)
		if (*word++ != *name++)
			return 0;
	return *word == ',' || *word == ' ' || !*word;
}

static uint64_t parse_field(const char **word)
{
	while (**word && **word != ',' && **word != ' ')
		++*word;
	if (**word != ',')
		return 0;
	++*word;
	return parse_number(word);
}

static void put_result(const struct job *job, const struct result *result)
{
	put("bench: ");
	for (const char *at = job->name; *at != ','; at++)
		put((char[]){ *at, 0 });
	put(",");
	put_number(job->bytes);
	put(",");
	put_number(job->depth);
	put(" requests ");
	put_number(result->requests);
	put(" ticks ");
	put_number(result->ticks);
	put(" notifications ");
	put_number(result->notifications);
	put("\n");
}

/*
 * Does the jobs of the command line. `run` does one until `requests` are done, or, where that is 0, for `ticks`; nothing of
 * it is under way when it returns.
 */
static void run_jobs(struct result (*run)(const struct job *job, uint64_t requests, uint64_t ticks))
{
	const char *ticks_word = command_line_word("ticks=", 0);
	uint64_t ticks = ticks_word ? parse_number(&ticks_word) : 0;

	for (const char *word = 0; (word = command_line_word("job=", word));) {
		struct job job = { .name = word };
		struct result result;
		const char *field = word;

		job.bytes = parse_field(&field);
		job.depth = parse_field(&field);
		job.requests = parse_field(&field);
		if (!job.bytes || !job.depth)
			die("job: NAME,BYTES,DEPTH");
		if (!job.requests)
			run(&job, 0, ticks / WARM_UP_PART);
		result = run(&job, job.requests, ticks);
		put_result(&job, &result);
	}
}
