/* See virtio.h. */
#include "virtio.h"
#include "boot.h"
#include "console.h"
#include "io.h"
#include "memory.h"

#define MMIO_MAGIC 0x74726976
#define PAGE_SIZE 4096

/* QEMU's machine type microvm does not announce its devices to a guest without ACPI. */
#define QEMU_SLOTS 24
#define QEMU_FIRST_SLOT 0xfeb00000ull
#define QEMU_SLOT_SIZE 512

#define HALF_CIRCLE 0x8000

/* --- Devices --- */

/* Whether there is a device of version 2 with that ID. */
static int is_device(uint64_t address, uint32_t id)
{
	return mmio_read32(address + VIRTIO_MMIO_MAGIC_VALUE) == MMIO_MAGIC &&
	       mmio_read32(address + VIRTIO_MMIO_VERSION) == 2 &&
	       mmio_read32(address + VIRTIO_MMIO_DEVICE_ID) == id;
}

/* The place after the one at `*word` or in QEMU's slot `*slot`; 0 after the last. */
static uint64_t next_place(const char **word, unsigned int *slot)
{
	const char *at = command_line_word("virtio_mmio.device=", *word);

	if (!at)
		return *word || *slot == QEMU_SLOTS ? 0 : QEMU_FIRST_SLOT + QEMU_SLOT_SIZE * (*slot)++;
	*word = at;
	while (*at && *at != ' ' && *at != '@')
		at++;
	if (*at++ != '@')
		return 0;
	return parse_number(&at);
}

int virtio_find(struct virtio_device *device, uint32_t id, unsigned int number)
{
	const char *word = 0;
	unsigned int slot = 0;
	uint64_t address;

	while ((address = next_place(&word, &slot)))
		if (is_device(address, id) && !number--) {
			device->address = address;
			device->id = id;
			device->features = 0;
			return 1;
		}
	return 0;
}

static void add_status(const struct virtio_device *device, uint32_t bits)
{
	uint32_t status = mmio_read32(device->address + VIRTIO_MMIO_STATUS);

	mmio_write32(device->address + VIRTIO_MMIO_STATUS, status | bits);
}

int virtio_try_negotiate(struct virtio_device *device, uint64_t features)
{
	uint64_t address = device->address, offered = 0;

	features |= FEATURE(VIRTIO_F_VERSION_1);
	mmio_write32(address + VIRTIO_MMIO_STATUS, 0);
	while (mmio_read32(address + VIRTIO_MMIO_STATUS))
		cpu_relax();
	add_status(device, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	add_status(device, VIRTIO_CONFIG_S_DRIVER);
	for (int page = 0; page < 2; page++) {
		mmio_write32(address + VIRTIO_MMIO_DEVICE_FEATURES_SEL, page);
		offered |= (uint64_t)mmio_read32(address + VIRTIO_MMIO_DEVICE_FEATURES) << 32 * page;
	}
	device->features = features & offered;
	for (int page = 0; page < 2; page++) {
		mmio_write32(address + VIRTIO_MMIO_DRIVER_FEATURES_SEL, page);
		mmio_write32(address + VIRTIO_MMIO_DRIVER_FEATURES, device->features >> 32 * page);
	}
	add_status(device, VIRTIO_CONFIG_S_FEATURES_OK);
	return !!(mmio_read32(address + VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK);
}

void virtio_negotiate(struct virtio_device *device, uint64_t features)
{
	if (!virtio_try_negotiate(device, features))
		die("a virtio device refuses its own features");
}

void virtio_start(const struct virtio_device *device)
{
	add_status(device, VIRTIO_CONFIG_S_DRIVER_OK);
}

uint32_t virtio_config32(const struct virtio_device *device, uint32_t offset)
{
	return mmio_read32(device->address + VIRTIO_MMIO_CONFIG + offset);
}

/* --- Queues --- */

static void write_address(uint64_t registers, void *area)
{
	mmio_write32(registers, (uint64_t)area);
	mmio_write32(registers + 4, (uint64_t)area >> 32);
}

static void set_interrupt_at(struct virtqueue *queue)
{
	queue->interrupt_at = queue->returned + HALF_CIRCLE;
	vring_used_event(&queue->ring) = queue->interrupt_at;
}

void virtqueue_init(struct virtqueue *queue, const struct virtio_device *device, uint32_t index, uint32_t size)
{
	uint64_t address = device->address;
	uint32_t size_max;

	mmio_write32(address + VIRTIO_MMIO_QUEUE_SEL, index);
	size_max = mmio_read32(address + VIRTIO_MMIO_QUEUE_NUM_MAX);
	if (size > size_max)
		size = size_max;
	if (!size)
		die("a virtio device lacks a queue");

	memset(queue, 0, sizeof(*queue));
	vring_init(&queue->ring, size, allocate(vring_size(size, PAGE_SIZE), PAGE_SIZE), PAGE_SIZE);
	queue->notify_address = address + VIRTIO_MMIO_QUEUE_NOTIFY;
	queue->index = index;
	queue->free_count = size;
	for (uint32_t i = 0; i < size; i++)
		queue->ring.desc[i].next = i + 1;

	queue->has_event_index = !!(device->features & FEATURE(VIRTIO_RING_F_EVENT_IDX));
	if (queue->has_event_index)
		set_interrupt_at(queue);
	else
		queue->ring.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;

	mmio_write32(address + VIRTIO_MMIO_QUEUE_NUM, size);
	write_address(address + VIRTIO_MMIO_QUEUE_DESC_LOW, queue->ring.desc);
	write_address(address + VIRTIO_MMIO_QUEUE_AVAIL_LOW, queue->ring.avail);
	write_address(address + VIRTIO_MMIO_QUEUE_USED_LOW, queue->ring.used);
	mmio_write32(address + VIRTIO_MMIO_QUEUE_READY, 1);
}

uint16_t virtqueue_chain(struct virtqueue *queue, const struct piece *pieces, unsigned int readable,
			 unsigned int writable)
{
	unsigned int count = readable + writable;
	uint16_t head = queue->free_head;

	if (!count || count > queue->free_count)
		die("no descriptors left");
	for (unsigned int i = 0; i < count; i++) {
		struct vring_desc *descriptor = &queue->ring.desc[queue->free_head];

		descriptor->addr = (uint64_t)pieces[i].address;
		descriptor->len = pieces[i].length;
		descriptor->flags = (i + 1 < count ? VRING_DESC_F_NEXT : 0) |
				    (i >= readable ? VRING_DESC_F_WRITE : 0);
		queue->free_head = descriptor->next;
	}
	queue->free_count -= count;
	return head;
}

void virtqueue_free(struct virtqueue *queue, uint16_t head)
{
	uint16_t first_free = queue->free_head;
	struct vring_desc *descriptor = &queue->ring.desc[head];

	queue->free_head = head;
	queue->free_count++;
	while (descriptor->flags & VRING_DESC_F_NEXT) {
		descriptor = &queue->ring.desc[descriptor->next];
		queue->free_count++;
	}
	descriptor->next = first_free;
}

int virtqueue_publish(struct virtqueue *queue)
{
	uint16_t old = queue->published;
	int is_wanted;

	if (queue->posted == old)
		return 0;
	queue->published = queue->posted;
	compiler_barrier();
	*(volatile uint16_t *)&queue->ring.avail->idx = queue->posted;
	/* The device arms notifications and then looks at the index once more: it sees this one, or this sees them armed. */
	full_barrier();
	if (queue->has_event_index)
		is_wanted = vring_need_event(*(volatile uint16_t *)&vring_avail_event(&queue->ring), queue->posted, old);
	else
		is_wanted = !(*(volatile uint16_t *)&queue->ring.used->flags & VRING_USED_F_NO_NOTIFY);
	if (is_wanted)
		mmio_write32(queue->notify_address, queue->index);
	return is_wanted;
}

int virtqueue_take(struct virtqueue *queue, uint32_t *length)
{
	const struct vring_used_elem *element;

	if (*(volatile uint16_t *)&queue->ring.used->idx == queue->returned)
		return -1;
	compiler_barrier();
	element = &queue->ring.used->ring[queue->returned++ & (queue->ring.num - 1)];
	if (queue->has_event_index && (uint16_t)(queue->interrupt_at - queue->returned) < HALF_CIRCLE / 2)
		set_interrupt_at(queue);
	*length = element->len;
	return element->id;
}
