import { expect, test } from 'bun:test'
import { join } from 'node:path'
import { native } from '../../kafka/client.ts'
import { settled } from '../../testing/settled.ts'
import { startEmbedded } from './embedded.ts'
import { fetchMetadata } from './wire.ts'

test('the embedded broker takes records in a process of its own, says that it forgets them, and stops', async () => {
  const broker = await startEmbedded()
  try {
    expect(broker.description).toContain('in memory')
    await broker.createTopics(['kt.default.events'], 4)
    const { topics } = await fetchMetadata(broker.bootstrapServers, 5_000, ['kt.default.events'])
    expect(topics).toMatchObject([{ name: 'kt.default.events', partitions: 4, led: true }])
    expect(await deliver(broker.bootstrapServers)).toBe(0)
  } finally {
    await broker.stop()
  }
  expect(await settled(fetchMetadata(broker.bootstrapServers, 1_000))).toThrow('cannot be reached')
})

test('the command that runs a broker ends, and says so, when its broker is gone', async () => {
  const command = Bun.spawn([process.execPath, join(import.meta.dir, 'main.ts'), '--broker', 'embedded'], {
    stdout: 'pipe',
    stderr: 'pipe',
  })
  try {
    const first = await command.stdout.getReader().read()
    expect(new TextDecoder().decode(first.value)).toMatch(/^127\.0\.0\.1:\d+\n$/)
    const children = Bun.spawnSync(['pgrep', '-P', String(command.pid)])
      .stdout.toString()
      .trim()
      .split('\n')
    for (const pid of children) process.kill(Number(pid), 'SIGKILL')
    expect(await command.exited).toBe(1)
    expect(await command.stderr.text()).toContain('the broker does not answer any more: no broker at 127.0.0.1')
  } finally {
    command.kill('SIGTERM')
    await command.exited
  }
}, 60_000)

/** Produces one record and resolves to the offset that the broker gave it. */
async function deliver(bootstrapServers: string): Promise<number | undefined> {
  const { Producer } = native()
  const producer = new Producer({ 'bootstrap.servers': bootstrapServers, dr_cb: true })
  await new Promise<void>((resolve, reject) =>
    producer.connect({ timeout: 5_000 }, (error) => (error ? reject(error) : resolve())),
  )
  const delivered = new Promise<number | undefined>((resolve, reject) =>
    producer.on('delivery-report', (error, report) => (error ? reject(error) : resolve(report.offset))),
  )
  producer.setPollInterval(10)
  producer.produce('kt.default.events', 0, Buffer.from('hello'))
  const offset = await delivered
  await new Promise<void>((resolve) => producer.disconnect(() => resolve()))
  return offset
}
