/**
 * Layouts and constants against <linux/virtio_ring.h>, as this machine's C compiler sees it.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { needEvent, needPackedEvent } from '../src/index.ts'
import * as spec from '../src/spec.ts'

const SIZE = 256

/** What C says, by the name of ours. */
const facts: Record<string, string> = {
  VIRTQ_DESC_SIZE: 'sizeof(struct vring_desc)',
  VIRTQ_DESC_ADDR_OFFSET: 'offsetof(struct vring_desc, addr)',
  VIRTQ_DESC_LEN_OFFSET: 'offsetof(struct vring_desc, len)',
  VIRTQ_DESC_FLAGS_OFFSET: 'offsetof(struct vring_desc, flags)',
  VIRTQ_DESC_NEXT_OFFSET: 'offsetof(struct vring_desc, next)',
  PVIRTQ_DESC_ID_OFFSET: 'offsetof(struct vring_packed_desc, id)',
  PVIRTQ_DESC_FLAGS_OFFSET: 'offsetof(struct vring_packed_desc, flags)',
  VIRTQ_DESC_F_NEXT: 'VRING_DESC_F_NEXT',
  VIRTQ_DESC_F_WRITE: 'VRING_DESC_F_WRITE',
  VIRTQ_DESC_F_INDIRECT: 'VRING_DESC_F_INDIRECT',
  VIRTQ_DESC_F_AVAIL: '1 << VRING_PACKED_DESC_F_AVAIL',
  VIRTQ_DESC_F_USED: '1 << VRING_PACKED_DESC_F_USED',
  VIRTQ_AVAIL_FLAGS_OFFSET: 'offsetof(struct vring_avail, flags)',
  VIRTQ_AVAIL_IDX_OFFSET: 'offsetof(struct vring_avail, idx)',
  VIRTQ_AVAIL_RING_OFFSET: 'offsetof(struct vring_avail, ring)',
  VIRTQ_AVAIL_F_NO_INTERRUPT: 'VRING_AVAIL_F_NO_INTERRUPT',
  VIRTQ_USED_FLAGS_OFFSET: 'offsetof(struct vring_used, flags)',
  VIRTQ_USED_IDX_OFFSET: 'offsetof(struct vring_used, idx)',
  VIRTQ_USED_RING_OFFSET: 'offsetof(struct vring_used, ring)',
  VIRTQ_USED_ELEM_SIZE: 'sizeof(struct vring_used_elem)',
  VIRTQ_USED_ELEM_ID_OFFSET: 'offsetof(struct vring_used_elem, id)',
  VIRTQ_USED_ELEM_LEN_OFFSET: 'offsetof(struct vring_used_elem, len)',
  VIRTQ_USED_F_NO_NOTIFY: 'VRING_USED_F_NO_NOTIFY',
  PVIRTQ_EVENT_SIZE: 'sizeof(struct vring_packed_desc_event)',
  PVIRTQ_EVENT_DESC_OFFSET: 'offsetof(struct vring_packed_desc_event, off_wrap)',
  PVIRTQ_EVENT_FLAGS_OFFSET: 'offsetof(struct vring_packed_desc_event, flags)',
  RING_EVENT_FLAGS_ENABLE: 'VRING_PACKED_EVENT_FLAG_ENABLE',
  RING_EVENT_FLAGS_DISABLE: 'VRING_PACKED_EVENT_FLAG_DISABLE',
  RING_EVENT_FLAGS_DESC: 'VRING_PACKED_EVENT_FLAG_DESC',
  RING_EVENT_WRAP_SHIFT: 'VRING_PACKED_EVENT_F_WRAP_CTR',
  VIRTIO_F_INDIRECT_DESC: 'VIRTIO_RING_F_INDIRECT_DESC',
  VIRTIO_F_EVENT_IDX: 'VIRTIO_RING_F_EVENT_IDX',
  VIRTIO_F_RING_PACKED: 'VIRTIO_F_RING_PACKED',
  VIRTIO_F_IN_ORDER: 'VIRTIO_F_IN_ORDER',
  VIRTIO_F_RING_RESET: 'VIRTIO_F_RING_RESET',
  // The rings end with the event index of the other side.
  availRingBytes: `(char *)(&vring_used_event(&ring) + 1) - (char *)ring.avail`,
  usedRingBytes: `(char *)(&vring_avail_event(&ring) + 1) - (char *)ring.used`,
}

const source = `
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
static char memory[1 << 16];
int main(void) {
  struct vring ring;
  vring_init(&ring, ${SIZE}, memory, 4096);
  ${Object.entries(facts)
    .map(([name, fact]) => `printf("${name} %ld\\n", (long)(${fact}));`)
    .join('\n  ')}
  uint32_t seed = 1;
  for (int i = 0; i < 20000; i++) {
    seed = seed * 1664525 + 1013904223;
    uint16_t event = seed >> 16;
    seed = seed * 1664525 + 1013904223;
    uint16_t old = i % 2 ? event - (seed >> 28) : seed >> 16;
    uint16_t added = (seed >> 8) % 64;
    printf("event %u %u %u %d\\n", event, old, added, vring_need_event(event, old + added, old));
  }
  return 0;
}`

const compiler = ['cc', 'gcc', 'clang'].find((name) => spawnSync(name, ['--version']).status === 0)
if (compiler === undefined && process.env['CI'] !== undefined) throw new Error('no C compiler')

test.skipIf(compiler === undefined)(
  'layouts, constants and arithmetic are those of the kernel (needs a C compiler)',
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'virtio-queue-'))
    try {
      writeFileSync(join(folder, 'layout.c'), source)
      execFileSync(compiler as string, ['-o', join(folder, 'layout'), join(folder, 'layout.c')])
      const lines = execFileSync(join(folder, 'layout'), { encoding: 'utf8' }).trim().split('\n')
      const ours: Record<string, unknown> = {
        ...spec,
        availRingBytes: spec.availRingBytes(SIZE),
        usedRingBytes: spec.usedRingBytes(SIZE),
      }
      let events = 0
      for (const line of lines) {
        const [name = '', ...numbers] = line.split(' ')
        const [event = 0, old = 0, added = 0, expected] = numbers.map(Number)
        if (name === 'event') {
          events += expected as number
          expect([line, needEvent(event, (old + added) & 0xffff, added)]).toEqual([line, expected === 1])
        } else {
          expect([name, ours[name]]).toEqual([name, Number(numbers[0])])
        }
      }
      expect(lines.length).toBe(Object.keys(facts).length + 20000)
      expect(events).toBeGreaterThan(1000)
    } finally {
      rmSync(folder, { recursive: true })
    }
  },
)

test('a packed queue’s arithmetic is the kernel’s, seen from the device', () => {
  // vring_need_event as virtqueue_kick_prepare_packed applies it, on 16 bits.
  const kernel = (word: number, index: number, wrap: number, added: number, size: number): boolean => {
    const event = (word & 0x7fff) - (word >>> 15 === wrap ? 0 : size)
    return ((index - event - 1) & 0xffff) < (added & 0xffff)
  }
  const size = 16
  for (let index = 0; index < size; index += 1) {
    for (let word = 0; word < 2 * size; word += 1) {
      const event = (word % size) | (word < size ? 0 : 0x8000)
      for (const wrap of [0, 1]) {
        for (let added = 0; added <= size; added += 1) {
          expect(needPackedEvent(event, index, wrap, added, size)).toBe(
            kernel(event, index, wrap, added, size),
          )
        }
      }
    }
  }
})
