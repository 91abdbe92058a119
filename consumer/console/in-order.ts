import type { IncomingRecord } from '../../shared/events/record.ts'

/** By time, and within a partition by offset, whatever the timestamps say: clients set these, and their clocks differ. */
export function inOrder<R extends Pick<IncomingRecord, 'topic' | 'partition' | 'offset' | 'timestampMs'>>(
  records: readonly R[],
  order: 'newest' | 'oldest',
): R[] {
  const sign = order === 'newest' ? -1 : 1
  const queues = Map.groupBy(
    [...records].sort((a, b) => (a.offset - b.offset) * sign),
    ({ topic, partition }) => `${topic}/${partition}`,
  )
  const heads = [...queues.values()].map((queue) => ({ queue, next: 0 }))
  const ordered: R[] = []
  for (;;) {
    let best: (typeof heads)[number] | undefined
    for (const head of heads) {
      const record = head.queue[head.next]
      if (record === undefined) continue
      const other = best?.queue[best.next]
      if (other === undefined || (record.timestampMs - other.timestampMs) * sign < 0) best = head
    }
    if (best === undefined) return ordered
    ordered.push(best.queue[best.next++] as R)
  }
}
