/*
 * A driver's side of virtio 1.2 on MMIO, for a guest that polls: no interrupt is asked for. It trusts its devices. Those
 * who attack them use the registers (<linux/virtio_mmio.h>) and rings as they are.
 */
#pragma once
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdint.h>

#define FEATURE(bit) (1ull << (bit))

struct virtio_device {
	/* Of its registers. */
	uint64_t address;
	/* VIRTIO_ID_...; 0 where a place has no device. */
	uint32_t id;
	/* Negotiated. */
	uint64_t features;
};

/*
 * Finds the device of that ID, counted from 0: in the order of `virtio_mmio.device=SIZE@ADDRESS:IRQ` on the command line,
 * or, where there is no such word, in QEMU's slots. 0 when there are not as many.
 */
int virtio_find(struct virtio_device *device, uint32_t id, unsigned int number);

/* Resets the device and negotiates those of the features that it offers. VIRTIO_F_VERSION_1 is always added. */
void virtio_negotiate(struct virtio_device *device, uint64_t features);

/* The same; 0 where the device refuses such a choice, as of one feature without another that it needs. */
int virtio_try_negotiate(struct virtio_device *device, uint64_t features);

/* The queues are there: DRIVER_OK. */
void virtio_start(const struct virtio_device *device);

/* A part of the configuration space, of 4 bytes. */
uint32_t virtio_config32(const struct virtio_device *device, uint32_t offset);

/* A split virtqueue. */
struct virtqueue {
	struct vring ring;
	/* Where notifications go, and the queue's index, which is what they say. */
	uint64_t notify_address;
	uint32_t index;
	int has_event_index;
	/* Indices as they run, not reduced to the ring: of the next entry to post, ... */
	uint16_t posted;
	/* ... of the last one that was shown to the device, ... */
	uint16_t published;
	/* ... and of the next one that comes back. */
	uint16_t returned;
	/* The used index at which the device would interrupt: kept half a circle ahead. */
	uint16_t interrupt_at;
	/* Descriptors that are free, linked by `next`. */
	uint16_t free_head;
	uint16_t free_count;
};

/* Sets a queue up, after virtio_negotiate; of fewer entries where the device cannot have as many. `size` is a power of two. */
void virtqueue_init(struct virtqueue *queue, const struct virtio_device *device, uint32_t index, uint32_t size);

/* A piece of a chain. */
struct piece {
	void *address;
	uint32_t length;
};

/*
 * Makes a chain, to be posted as often as wanted: the device reads the first `readable` pieces and writes those after them.
 * Returns its head; dies where there are not enough descriptors.
 */
uint16_t virtqueue_chain(struct virtqueue *queue, const struct piece *pieces, unsigned int readable,
			 unsigned int writable);

/* Takes the descriptors of a chain back. */
void virtqueue_free(struct virtqueue *queue, uint16_t head);

/* Puts a chain into the ring. The device sees it with the next virtqueue_publish. */
static inline void virtqueue_post(struct virtqueue *queue, uint16_t head)
{
	queue->ring.avail->ring[queue->posted++ & (queue->ring.num - 1)] = head;
}

/* Shows the device what was posted, and notifies it where it wants that. Returns whether it did. */
int virtqueue_publish(struct virtqueue *queue);

/* Takes a chain that the device has returned: its head, or -1. `*length` is the number of bytes that it wrote. */
int virtqueue_take(struct virtqueue *queue, uint32_t *length);
