import { afterAll, expect, test } from 'bun:test'
import { cpSync, rmSync } from 'node:fs'
import { siblingTopic } from '../events/topics.ts'
import { UNFINISHED } from './manifest.ts'
import { folderRepository, type NewFile, type Repository } from './repository.ts'
import { cluster, INPUT, newFolder, run, valuesIn, verified, write } from './testing/backups.ts'

/** Of runs that were killed. What is collected while it is open would be an error. */
const leftOpen: NewFile[] = []
afterAll(() => Promise.all(leftOpen.map((file) => file.abandon())))

/** A repository whose process is killed before the nth thing that it does. */
function killedAt(repository: Repository, nth: number): { repository: Repository; killed: Promise<void> } {
  let count = 0
  const underWay = new Set<Promise<unknown>>()
  const { promise: killed, resolve } = Promise.withResolvers<void>()
  const through =
    <A extends unknown[], R>(call: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      if (count++ >= nth) {
        await Promise.allSettled(underWay)
        resolve()
        await new Promise<never>(() => undefined)
      }
      const running = call(...args)
      underWay.add(running)
      return running.finally(() => underWay.delete(running))
    }
  return {
    killed,
    repository: {
      ...repository,
      readText: through(repository.readText),
      replace: through(repository.replace),
      createNew: through(repository.createNew),
      list: through(repository.list),
      remove: through(repository.remove),
      create: through(async (name: string) => {
        const file = await repository.create(name)
        leftOpen.push(file)
        return { write: through(file.write), finish: through(file.finish), abandon: through(file.abandon) }
      }),
    },
  }
}

test('wherever a run is killed, the backup is as it was, and the next run completes it', async () => {
  const random = (bytes: number): string => Buffer.from(crypto.getRandomValues(new Uint8Array(bytes))).toString('hex')
  const kafka = cluster()
  for (let n = 0; n < 3; n++) write(kafka, INPUT, 0, `${n} ${random(1_000)}`)
  const folder = newFolder()
  await run(kafka, folderRepository(folder))
  const first = await valuesIn(folderRepository(folder), INPUT)
  // Several segments in a partition: each batch is one.
  for (let n = 0; n < 5; n++)
    write(
      kafka,
      INPUT,
      0,
      Buffer.from(random(2 ** 14))
        .toString('hex')
        .repeat(10) + n,
    )
  for (let n = 0; n < 3; n++) write(kafka, siblingTopic(INPUT, 'dlq'), 1, `${n}`)
  const wanted = kafka.records(INPUT, 0).map(({ value }) => String(value))
  let kills = 0
  for (let nth = 0; ; nth++) {
    const copy = newFolder()
    cpSync(folder, copy, { recursive: true })
    const dying = killedAt(folderRepository(copy), nth)
    const whole = run(kafka, dying.repository, { segmentBytes: 1 }).then(() => 'whole' as const)
    if ((await Promise.race([whole, dying.killed])) === 'whole') break
    kills++
    const repository = folderRepository(copy)
    // The manifest is that of before or after.
    const now = await valuesIn(repository, INPUT)
    expect([first.length, wanted.length]).toContain(now.length)
    expect((await verified(repository)).faults).toEqual([])
    await run(kafka, repository, { segmentBytes: 1 })
    expect(await valuesIn(repository, INPUT)).toEqual(wanted)
    expect(await verified(repository)).toMatchObject({ faults: [], unnamed: [], records: wanted.length + 3 })
    expect(await repository.size(UNFINISHED)).toBeUndefined()
    rmSync(copy, { recursive: true })
  }
  expect(kills).toBeGreaterThan(20)
})
