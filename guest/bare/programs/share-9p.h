/* 9P2000.L as virtio carries it (diod's protocol.md; <net/9p/9p.h> of the kernel for numbers): a client of few words. */
#pragma once
#include "console.h"
#include "memory.h"
#include "share.h"
#include "virtio.h"

enum {
	P9_TLOPEN = 12,
	P9_TGETATTR = 24,
	P9_TVERSION = 100,
	P9_TATTACH = 104,
	P9_TWALK = 110,
	P9_TREAD = 116,
	P9_TCLUNK = 120,
};
#define P9_NO_TAG 0xffff
#define P9_NO_FID 0xffffffffu
#define P9_NO_USER 0xffffffffu
/* Mode, links, owner, times, size and all else that stat(2) tells. */
#define P9_GETATTR_BASIC 0x7ffull
/* size[4] type[1] tag[2] */
#define P9_HEADER 7
#define P9_READ_HEADER (P9_HEADER + 4)
/* The largest message: a read of a MiB, and more than any header. */
#define P9_MESSAGE_MAX ((1u << 20) + 4096)

/* Numbers of files: those of the mount, and one more for each request under way. */
enum { P9_ROOT_FID, P9_DATA_FID, P9_NAMES_FID, P9_FIRST_FID };

static void p9_put(struct exchange *exchange, uint64_t value, unsigned int size)
{
	memcpy(exchange->request + exchange->length, &value, size);
	exchange->length += size;
}

static void p9_put_text(struct exchange *exchange, const char *text)
{
	uint32_t length = 0;

	while (text[length])
		length++;
	p9_put(exchange, length, 2);
	memcpy(exchange->request + exchange->length, text, length);
	exchange->length += length;
}

static void p9_begin(struct exchange *exchange, uint8_t type, uint32_t fid)
{
	exchange->length = 4;
	exchange->read_header = 0;
	p9_put(exchange, type, 1);
	p9_put(exchange, type == P9_TVERSION ? P9_NO_TAG : exchange->index, 2);
	if (type != P9_TVERSION)
		p9_put(exchange, fid, 4);
}

static int p9_end(struct exchange *exchange)
{
	memcpy(exchange->request, &exchange->length, 4);
	return 1;
}

static void p9_walk(struct exchange *exchange, uint32_t fid, uint32_t new_fid, const char *name)
{
	p9_begin(exchange, P9_TWALK, fid);
	p9_put(exchange, new_fid, 4);
	p9_put(exchange, 1, 2);
	p9_put_text(exchange, name);
}

static void p9_get_attributes(struct exchange *exchange, uint32_t fid)
{
	p9_begin(exchange, P9_TGETATTR, fid);
	p9_put(exchange, P9_GETATTR_BASIC, 8);
}

static int p9_make_mount(struct exchange *exchange, unsigned int step)
{
	switch (step) {
	case 0:
		p9_begin(exchange, P9_TVERSION, 0);
		p9_put(exchange, P9_MESSAGE_MAX, 4);
		p9_put_text(exchange, "9P2000.L");
		return p9_end(exchange);
	case 1:
		p9_begin(exchange, P9_TATTACH, P9_ROOT_FID);
		p9_put(exchange, P9_NO_FID, 4);
		p9_put_text(exchange, "root");
		p9_put_text(exchange, "");
		p9_put(exchange, P9_NO_USER, 4);
		return p9_end(exchange);
	case 2:
		p9_walk(exchange, P9_ROOT_FID, P9_NAMES_FID, "names");
		return p9_end(exchange);
	case 3:
		p9_walk(exchange, P9_ROOT_FID, P9_DATA_FID, "data");
		return p9_end(exchange);
	case 4:
		p9_begin(exchange, P9_TLOPEN, P9_DATA_FID);
		p9_put(exchange, 0, 4);
		return p9_end(exchange);
	}
	return 0;
}

static void p9_take_mount(const struct exchange *exchange, unsigned int step)
{
	uint32_t message_max;

	memcpy(&message_max, exchange->reply + P9_HEADER, 4);
	if (step == 0 && message_max != P9_MESSAGE_MAX)
		die("the host has smaller messages");
}

/* A name takes three messages, as it does Linux: it is walked to, looked at, and given up. */
static int p9_make_lookup(struct exchange *exchange, unsigned int step, uint64_t number)
{
	uint32_t fid = P9_FIRST_FID + exchange->index;
	char name[1 + NAME_DIGITS + 1] = "n";

	put_digits(name + 1, number);
	if (step == 0)
		p9_walk(exchange, P9_NAMES_FID, fid, name);
	else if (step == 1)
		p9_get_attributes(exchange, fid);
	else if (step == 2)
		p9_begin(exchange, P9_TCLUNK, fid);
	else
		return 0;
	return p9_end(exchange);
}

static int p9_make(struct exchange *exchange, enum operation operation, unsigned int step, uint64_t at,
		   uint32_t bytes)
{
	if (operation == OPERATION_LOOKUP)
		return p9_make_lookup(exchange, step, at);
	if (step > 0)
		return 0;
	if (operation == OPERATION_READ) {
		p9_begin(exchange, P9_TREAD, P9_DATA_FID);
		p9_put(exchange, at, 8);
		p9_put(exchange, bytes, 4);
		exchange->read_header = P9_READ_HEADER;
	} else {
		p9_get_attributes(exchange, P9_DATA_FID);
	}
	return p9_end(exchange);
}

static int p9_is_good(const struct exchange *exchange)
{
	/* An answer's type is that of its request, and one more. */
	return exchange->reply[4] == exchange->request[4] + 1;
}

const struct protocol p9_protocol = {
	.device_id = VIRTIO_ID_9P,
	.request_queue = 0,
	.queue_count = 1,
	.make_mount = p9_make_mount,
	.take_mount = p9_take_mount,
	.make = p9_make,
	.is_good = p9_is_good,
};
