/* FUSE as virtio-fs carries it (virtio 1.2, 5.11): a client of few words. */
#pragma once
#include <linux/fuse.h>
#include "console.h"
#include "memory.h"
#include "share.h"
#include "virtio.h"

static uint64_t fuse_data_node, fuse_names_node, fuse_handle;

/* The header, and room for arguments. */
static void *fuse_request(struct exchange *exchange, uint32_t opcode, uint64_t node, uint32_t size)
{
	struct fuse_in_header *header = (void *)exchange->request;

	*header = (struct fuse_in_header){
		.len = sizeof(*header) + size, .opcode = opcode, .unique = exchange->index + 1, .nodeid = node
	};
	exchange->length = header->len;
	exchange->read_header = 0;
	return memset(header + 1, 0, size);
}

static void fuse_lookup(struct exchange *exchange, uint64_t directory, const char *name, uint32_t length)
{
	memcpy(fuse_request(exchange, FUSE_LOOKUP, directory, length + 1), name, length);
}

static int fuse_make_mount(struct exchange *exchange, unsigned int step)
{
	struct fuse_init_in *init;

	switch (step) {
	case 0:
		init = fuse_request(exchange, FUSE_INIT, 0, sizeof(*init));
		init->major = FUSE_KERNEL_VERSION;
		init->minor = FUSE_KERNEL_MINOR_VERSION;
		init->flags = FUSE_MAX_PAGES | FUSE_BIG_WRITES;
		return 1;
	case 1:
		fuse_lookup(exchange, FUSE_ROOT_ID, "names", 5);
		return 1;
	case 2:
		fuse_lookup(exchange, FUSE_ROOT_ID, "data", 4);
		return 1;
	case 3:
		fuse_request(exchange, FUSE_OPEN, fuse_data_node, sizeof(struct fuse_open_in));
		return 1;
	}
	return 0;
}

static void fuse_take_mount(const struct exchange *exchange, unsigned int step)
{
	const void *answer = exchange->reply + sizeof(struct fuse_out_header);

	if (step == 1)
		fuse_names_node = ((const struct fuse_entry_out *)answer)->nodeid;
	if (step == 2)
		fuse_data_node = ((const struct fuse_entry_out *)answer)->nodeid;
	if (step == 3)
		fuse_handle = ((const struct fuse_open_out *)answer)->fh;
}

static int fuse_make(struct exchange *exchange, enum operation operation, unsigned int step, uint64_t at,
		     uint32_t bytes)
{
	char name[1 + NAME_DIGITS + 1] = "n";
	struct fuse_read_in *read;

	if (step > 0)
		return 0;
	switch (operation) {
	case OPERATION_READ:
		read = fuse_request(exchange, FUSE_READ, fuse_data_node, sizeof(*read));
		read->fh = fuse_handle;
		read->offset = at;
		read->size = bytes;
		exchange->read_header = sizeof(struct fuse_out_header);
		break;
	case OPERATION_ATTRIBUTES:
		fuse_request(exchange, FUSE_GETATTR, fuse_data_node, sizeof(struct fuse_getattr_in));
		break;
	case OPERATION_LOOKUP:
		put_digits(name + 1, at);
		fuse_lookup(exchange, fuse_names_node, name, sizeof(name) - 1);
		break;
	}
	return 1;
}

static int fuse_is_good(const struct exchange *exchange)
{
	const struct fuse_out_header *header = (const void *)exchange->reply;

	return header->error == 0 && header->unique == exchange->index + 1;
}

const struct protocol fuse_protocol = {
	.device_id = VIRTIO_ID_FS,
	.request_queue = 1,
	.queue_count = 2,
	.make_mount = fuse_make_mount,
	.take_mount = fuse_take_mount,
	.make = fuse_make,
	.is_good = fuse_is_good,
};
