/*
 * What share-bench.c asks of a shared directory, whatever its protocol: messages of up to MESSAGE_MAX bytes and their answers, and
 * behind the answer to a read its data. The directory has a file `data` and a directory `names` in which each name is `n` and
 * a number of six digits.
 */
#pragma once
#include <stdint.h>

#define MESSAGE_MAX 512
#define NAME_DIGITS 6

/* One request, which may take several messages, one after the other. */
struct exchange {
	uint8_t request[MESSAGE_MAX], reply[MESSAGE_MAX];
	/* Bytes in `request`. */
	uint32_t length;
	/* Of the answer to a read: bytes in `reply` before the data. 0 for an answer without data, which `reply` has room for. */
	uint32_t read_header;
	/* Which of those that can be under way at a time: for numbers that must differ. */
	uint32_t index;
};

enum operation { OPERATION_READ, OPERATION_ATTRIBUTES, OPERATION_LOOKUP };

struct protocol {
	uint32_t device_id;
	uint32_t request_queue, queue_count;
	/*
	 * Makes message number `step` to begin with: a version, an attachment, what has to be found and opened. Returns 0 where there
	 * is none of that number.
	 */
	int (*make_mount)(struct exchange *exchange, unsigned int step);
	/* Takes the answer to it. */
	void (*take_mount)(const struct exchange *exchange, unsigned int step);
	/* Makes message number `step` of an operation, at a position in the file or of the name with that number. */
	int (*make)(struct exchange *exchange, enum operation operation, unsigned int step, uint64_t at, uint32_t bytes);
	/* Whether the answer is none of an error. */
	int (*is_good)(const struct exchange *exchange);
};

extern const struct protocol fuse_protocol, p9_protocol;

/* Writes a number's digits behind `at`, NUL-terminated. */
static inline void put_digits(char *at, uint64_t number)
{
	for (int i = NAME_DIGITS - 1; i >= 0; i--, number /= 10)
		at[i] = '0' + number % 10;
	at[NAME_DIGITS] = 0;
}
