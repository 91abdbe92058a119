import { afterEach, describe, expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { settled } from '../../testing/settled.ts'
import { until } from '../../testing/until.ts'
import { connectExternal } from './external.ts'
import { type KafkaCluster, startKafka } from './kafka.ts'
import { runKafkaTool } from './kafka-distribution.ts'
import { fetchMetadata } from './wire.ts'
import { createAcls, deleteAcls } from './wire-admin.ts'

let cluster: KafkaCluster | undefined

afterEach(async () => {
  await cluster?.stop()
  cluster = undefined
})

const produce = (servers: string, topic: string, lines: string) =>
  runKafkaTool(servers, 'console-producer', ['--topic', topic, '--command-property', 'acks=all'], lines)

const consume = (servers: string, topic: string, records: number) =>
  runKafkaTool(servers, 'console-consumer', [
    ...['--topic', topic, '--from-beginning', '--timeout-ms', '20000'],
    ...['--max-messages', String(records)],
  ])

/** Processes that have this in their command line. */
const processesWith = (text: string): string => Bun.spawnSync(['pgrep', '-f', text]).stdout.toString().trim()

describe('Apache Kafka, one node', () => {
  test('keeps what it acknowledged through SIGKILL, and leaves nothing behind when it stops', async () => {
    cluster = await startKafka()
    const { bootstrapServers, directory } = cluster
    await cluster.createTopics(['kept'], 3)
    await cluster.createTopics(['kept', 'other'], 5)
    const { topics } = await fetchMetadata(bootstrapServers, 5_000, ['kept', 'other', 'missing'])
    expect(topics.map(({ name, partitions }) => `${name} ${partitions}`).sort()).toEqual(['kept 3', 'other 5'])
    await produce(bootstrapServers, 'kept', 'one\ntwo\n')

    await cluster.kill(0)
    expect(await settled(connectExternal(bootstrapServers))).toThrow('no broker at')
    expect(await settled(cluster.kill(0))).toThrow('not running')
    await cluster.restart(0)
    expect(await settled(cluster.restart(0))).toThrow('kill it first')

    await produce(bootstrapServers, 'kept', 'three\n')
    const read = await consume(bootstrapServers, 'kept', 3)
    expect(read.trim().split('\n').sort()).toEqual(['one', 'three', 'two'])
    expect(processesWith(directory)).not.toBe('')

    await cluster.stop()
    cluster = undefined
    expect(processesWith(directory)).toBe('')
    expect(existsSync(directory)).toBe(false)
  })

  test('says why it cannot start', async () => {
    expect(await settled(startKafka({ settings: { 'num.partitions': 'many' } }))).toThrow(/num\.partitions/)
    cluster = await startKafka()
    const port = Number(cluster.bootstrapServers.split(':')[1])
    expect(await settled(startKafka({ ports: [port] }))).toThrow(/Kafka node 1 ended/)
  })
})

describe('Apache Kafka, with users', () => {
  test('lets them do what ACLs give them, for as long as they give it', async () => {
    cluster = await startKafka({ users: { alice: 'secret' } })
    const { bootstrapServers, userServers } = cluster
    await cluster.createTopics(['hers'], 1)
    const write = async (): Promise<string> => {
      const sasl = { 'security.protocol': 'sasl_plaintext', 'sasl.mechanism': 'PLAIN', 'sasl.username': 'alice' }
      const options = Object.entries({ ...sasl, 'sasl.password': 'secret', 'message.timeout.ms': '5000' })
      const command = ['kcat', '-P', '-b', userServers, '-t', 'hers', '-p', '0']
      const child = Bun.spawn([...command, ...options.flatMap(([name, value]) => ['-X', `${name}=${value}`])], {
        stdin: Buffer.from('a\n'),
        stdout: 'ignore',
        stderr: 'pipe',
      })
      const errors = await child.stderr.text()
      return (await child.exited) === 0 ? 'written' : errors
    }
    const acls = (['write', 'describe'] as const).map((operation) => ({
      ...({ principal: 'User:alice', resource: 'topic', name: 'he', pattern: 'prefixed' } as const),
      operation,
    }))
    expect(await write()).toContain('authorization failed')
    await createAcls(bootstrapServers, 5_000, acls)
    await until(async () => (await write()) === 'written')
    await deleteAcls(bootstrapServers, 5_000, acls)
    await until(async () => (await write()).includes('authorization failed'))
  })
})

describe('Apache Kafka, three nodes', () => {
  test('acknowledges with one of them killed, frozen or gone, and takes it in again', async () => {
    cluster = await startKafka({ nodes: 3 })
    const { bootstrapServers } = cluster
    await cluster.createTopics(['replicated'], 1)
    const survivorsOf = (node: number) => bootstrapServers.split(',').toSpliced(node, 1).join(',')
    await produce(bootstrapServers, 'replicated', 'before\n')

    const killed = await cluster.leaderOf('replicated', 0)
    await cluster.kill(killed)
    await produce(survivorsOf(killed), 'replicated', 'killed\n')
    expect(await cluster.leaderOf('replicated', 0)).not.toBe(killed)
    await cluster.restart(killed)
    await cluster.inSync()

    const frozen = await cluster.leaderOf('replicated', 0)
    const coordinator = await cluster.coordinatorOf('group', 'a-group')
    cluster.freeze(frozen)
    // Only another leader can acknowledge it. Once it is thawed, the node may say for a moment that it still leads.
    await produce(survivorsOf(frozen), 'replicated', 'frozen\n')
    cluster.thaw(frozen)
    await cluster.inSync()

    await cluster.leave(coordinator)
    expect(await cluster.coordinatorOf('group', 'a-group')).not.toBe(coordinator)
    await produce(survivorsOf(coordinator), 'replicated', 'gone\n')
    await cluster.restart(coordinator)
    expect(await consume(bootstrapServers, 'replicated', 4)).toBe('before\nkilled\nfrozen\ngone\n')
  })
})

describe('the command line', () => {
  const main = join(import.meta.dir, 'main.ts')

  async function startMain(): Promise<{ child: Bun.Subprocess; address: string; directory: string }> {
    const child = Bun.spawn([process.execPath, main, '--broker', 'kafka'], {
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'pipe',
    })
    const address = new TextDecoder().decode((await child.stdout.getReader().read()).value).trim()
    const decoder = new TextDecoder()
    let errors = ''
    for await (const chunk of child.stderr) {
      errors += decoder.decode(chunk, { stream: true })
      const directory = /data in (\S+)/.exec(errors)?.[1]
      if (directory !== undefined) return { child, address, directory }
    }
    throw new Error(`no broker was started:\n${errors}`)
  }

  test('runs a broker that takes records until it is told to stop, and exits 0', async () => {
    const { child, address, directory } = await startMain()
    await produce(address, 'auto-created', 'hello\n')
    expect(await consume(address, 'auto-created', 1)).toBe('hello\n')
    child.kill('SIGINT')
    expect(await child.exited).toBe(0)
    expect(processesWith(directory)).toBe('')
    expect(existsSync(directory)).toBe(false)
  })

  test('leaves no broker and no data behind when it is killed with SIGKILL', async () => {
    const { child, directory } = await startMain()
    expect(processesWith(directory)).not.toBe('')
    child.kill('SIGKILL')
    await child.exited
    await until(() => processesWith(directory) === '' && !existsSync(directory))
  })

  test.each(['--broker kafak', '--nodes 2', '--port http', '--unknown'])('refuses %s with its help', async (line) => {
    const child = Bun.spawn([process.execPath, main, ...line.split(' ')], {
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'pipe',
    })
    const [errors, exitCode] = await Promise.all([child.stderr.text(), child.exited])
    expect(exitCode).toBe(64)
    expect(errors).toContain('--nodes')
  })
})
