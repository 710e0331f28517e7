/* What good drivers ask of each kind of device: where an attack begins. */
#pragma once
#include "random.h"
#include <linux/virtio_ids.h>
#include <stdint.h>

struct request {
	uint8_t queue;
	/* Bytes that the device reads, of the first of these words, then of a buffer. */
	uint16_t header_bytes;
	uint32_t readable;
	/* Bytes that it writes, then one more for a status. */
	uint32_t writable;
	uint32_t header[16];
};

static const struct request block_requests[] = {
	/* Type, reserved, sector: read, write, flush, ID, discard, write zeroes. */
	{ .header_bytes = 16, .writable = 4096, .header = { 0, 0, 8 } },
	{ .header_bytes = 16, .writable = 65536, .header = { 0, 0, 2000 } },
	{ .header_bytes = 16, .readable = 4096, .header = { 1, 0, 16 } },
	{ .header_bytes = 16, .readable = 512, .header = { 1, 0, 2047 } },
	{ .header_bytes = 16, .header = { 4 } },
	{ .header_bytes = 16, .writable = 20, .header = { 8 } },
	{ .header_bytes = 32, .header = { 11, 0, 0, 0, 64, 0, 8 } },
	{ .header_bytes = 32, .header = { 13, 0, 0, 0, 72, 0, 8, 1 } },
};
static const struct request entropy_requests[] = {
	{ .writable = 64 },
	{ .writable = 8192 },
};
static const struct request network_requests[] = {
	{ .queue = 0, .writable = 1526 },
	{ .queue = 0, .writable = 65550 },
	{ .queue = 1, .header_bytes = 12, .readable = 60 },
	{ .queue = 1, .header_bytes = 12, .readable = 1514 },
	/* Segmentation and checksum wanted. */
	{ .queue = 1, .header_bytes = 12, .readable = 30000, .header = { 0x00360101, 0x002205b4, 0x00000010 } },
	/* Control: filters, addresses, queue pairs. */
	{ .queue = 2, .header_bytes = 3, .header = { 0x00010000 } },
	{ .queue = 2, .header_bytes = 8, .header = { 0x55520101, 0x02010055 } },
	{ .queue = 2, .header_bytes = 4, .header = { 0x00010004 } },
};
static const struct request console_requests[] = {
	{ .queue = 0, .writable = 64 },
	{ .queue = 2, .writable = 32 },
	/* Port, event, value: device ready, port ready, open. */
	{ .queue = 3, .header_bytes = 8, .header = { 0, 0x00010000 } },
	{ .queue = 3, .header_bytes = 8, .header = { 0, 0x00010003 } },
	{ .queue = 3, .header_bytes = 8, .header = { 0, 0x00010006 } },
	{ .queue = 3, .header_bytes = 8, .header = { 0xffffffff, 0xffffffff } },
};
static const struct request balloon_requests[] = {
	/* Pages of buffers that are given away and taken back. No byte is 1: however they are cut, they call no page of the program. */
	{ .queue = 0, .header_bytes = 16, .header = { 0x2002, 0x2003, 0x2004, 0x20ff } },
	{ .queue = 0, .header_bytes = 16, .header = { 0x4000, 0xffffffff, 0xd0000, 0x3fff } },
	{ .queue = 1, .header_bytes = 16, .header = { 0x2002, 0x2003, 0x2004, 0x20ff } },
	{ .queue = 2, .header_bytes = 20, .header = { 0x20004, 0x2000000, 0, 0x50000, 9 } },
	{ .queue = 3, .writable = 65536 },
};
static const struct request socket_requests[] = {
	{ .queue = 0, .writable = 4096 },
	{ .queue = 2, .writable = 64 },
	/* From CID 3, to the host: request, response, reset, shutdown, data, credit. */
	{ .queue = 1, .header_bytes = 44, .header = { 3, 0, 2, 0, 1024, 1234, 0, 0x00010001, 0, 65536, 0 } },
	{ .queue = 1, .header_bytes = 44, .header = { 3, 0, 2, 0, 1024, 1234, 0, 0x00020001, 0, 65536, 0 } },
	{ .queue = 1, .header_bytes = 44, .header = { 3, 0, 2, 0, 1024, 1234, 0, 0x00030001, 0, 65536, 0 } },
	{ .queue = 1, .header_bytes = 44, .header = { 3, 0, 2, 0, 1024, 1234, 0, 0x00040001, 3, 65536, 0 } },
	{ .queue = 1, .header_bytes = 44, .readable = 256,
	  .header = { 3, 0, 2, 0, 1024, 1234, 256, 0x00050001, 0, 65536, 0 } },
	{ .queue = 1, .header_bytes = 44, .header = { 3, 0, 2, 0, 1024, 1234, 0, 0x00070001, 0, 65536, 0 } },
};
static const struct request directory_requests[] = {
	/* FUSE: length, operation, unique, node, ids; INIT, LOOKUP "..", GETATTR, OPENDIR, READDIR, FORGET, DESTROY. */
	{ .queue = 1, .header_bytes = 56, .writable = 80, .header = { 56, 26, 1, 0, 0, 0, 0, 0, 0, 0, 7, 38, 65536 } },
	{ .queue = 1, .header_bytes = 44, .writable = 256, .header = { 43, 1, 2, 0, 1, 0, 0, 0, 0, 0, 0x2e2e } },
	{ .queue = 1, .header_bytes = 56, .writable = 128, .header = { 56, 3, 3, 0, 1 } },
	{ .queue = 1, .header_bytes = 48, .writable = 32, .header = { 48, 27, 4, 0, 1 } },
	{ .queue = 1, .header_bytes = 64, .readable = 16, .writable = 4096, .header = { 80, 28, 5, 0, 1 } },
	{ .queue = 0, .header_bytes = 48, .header = { 48, 2, 6, 0, 1, 0, 0, 0, 0, 0, 1 } },
	{ .queue = 1, .header_bytes = 40, .writable = 16, .header = { 40, 38, 7, 0, 1 } },
};

#define REQUESTS(requests) { *count = sizeof(requests) / sizeof(*requests); return requests; }

static inline const struct request *requests_of(uint32_t id, uint32_t *count)
{
	switch (id) {
	case VIRTIO_ID_BLOCK:
		REQUESTS(block_requests)
	case VIRTIO_ID_NET:
		REQUESTS(network_requests)
	case VIRTIO_ID_CONSOLE:
		REQUESTS(console_requests)
	case VIRTIO_ID_BALLOON:
		REQUESTS(balloon_requests)
	case VIRTIO_ID_VSOCK:
		REQUESTS(socket_requests)
	case VIRTIO_ID_FS:
		REQUESTS(directory_requests)
	default:
		REQUESTS(entropy_requests)
	}
}
