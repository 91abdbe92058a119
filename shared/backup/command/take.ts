import { stat } from 'node:fs/promises'
import { Type } from '@sinclair/typebox'
import pino from 'pino'
import { NAME_PATTERN } from '../../events/topics.ts'
import { argumentsOf, FailedError, only, UnavailableError, UsageError } from '../../service/command-line.ts'
import { commonFaults, commonVariables, groupVariable, loadConfig } from '../../service/config.ts'
import { type ProgressLine, progressLine } from '../../service/progress-line.ts'
import { within } from '../../service/retry.ts'
import { messageOf } from '../../service/thrown.ts'
import { ManifestError } from '../manifest.ts'
import { folderRepository } from '../repository.ts'
import { take as takeAll } from '../take.ts'
import { type Command, plural, sizeText } from './command.ts'

const CLIENT_ID = 'kafkatrace-backup'
const REACH_TIMEOUT_MS = 15_000

/** Memory is the limit: what was prefetched is copied, encoded and compressed. As many small records are prefetched as for scans. */
const PREFETCH_MAX_BYTES = 8 * 1024 * 1024

/** Less would take hours for what a broker has in memory; it is more likely a mistake. */
const MIN_BYTES_PER_SECOND = 10_000

const HELP = `Backs up the tenants' topics, and the positions of the consumers, into a folder.

Usage: bun run backup take DIR [--tenant TENANT] [--bytes-per-second N]

  DIR                 a folder: one that is new or empty, or one with a backup, to which what is new is added
  --tenant            the topics of this tenant only; always the same for a folder
  --bytes-per-second  reads no faster, at least ${MIN_BYTES_PER_SECOND.toLocaleString('en')}; counted before compression
  --help              this text

Services go on meanwhile. A run that is broken off at any point leaves the backup as it was, and the next run goes on from there.
The brokers are those of the services' variables: KAFKA_BROKERS, KAFKA_…; the consumers' group is that of GROUP_ID. It takes READ and
DESCRIBE on the topics, DESCRIBE on the group and, for the topics' settings, DESCRIBE_CONFIGS.

Exit code: 0; 1 when the folder and Kafka do not belong together, or another backup is running; 2 when the folder's manifest is
damaged; 64 for wrong arguments; 69 when Kafka does not answer or refuses; 74 when the folder cannot be written; 78 for wrong variables.
`

const variables = Type.Object({ ...commonVariables, GROUP_ID: groupVariable })

export const take: Command = {
  usage: 'take DIR',
  summary: 'stores what is new since the last time',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, {
      tenant: { type: 'string' },
      'bytes-per-second': { type: 'string' },
    })
    const folder = only('DIR', positionals)
    const { tenant, 'bytes-per-second': limit } = values
    if (tenant !== undefined && !new RegExp(NAME_PATTERN).test(tenant))
      throw new UsageError(`--tenant ${tenant}: not a tenant's name`)
    const bytesPerSecond = limit === undefined ? undefined : /^\d{1,12}$/.test(limit) ? Number(limit) : 0
    if (bytesPerSecond !== undefined && bytesPerSecond < MIN_BYTES_PER_SECOND)
      throw new UsageError(
        `--bytes-per-second ${limit}: not a whole number of at least ${MIN_BYTES_PER_SECOND.toLocaleString('en')}`,
      )
    if ((await stat(folder).catch(() => undefined))?.isDirectory() === false)
      throw new UsageError(`${folder}: is no folder`)
    const config = loadConfig(variables, io.env, commonFaults)

    // Imported here, so that the other commands need no addon.
    const { createRangeReader } = await import('../../kafka/range-reader.ts')
    const { createTopicAdmin } = await import('../../kafka/admin.ts')
    let reason: string | undefined
    const write = (line: string): void => {
      reason = (JSON.parse(line) as { reason?: string }).reason ?? reason
    }
    const of = { config, clientId: CLIENT_ID, log: pino({ level: 'warn' }, { write }) }
    const reader = createRangeReader({
      ...of,
      groupId: config.GROUP_ID,
      prefetchMaxBytes: PREFETCH_MAX_BYTES,
      forScans: true,
    })
    const admin = createTopicAdmin({ ...of, connectTimeoutMs: REACH_TIMEOUT_MS })
    const begunMs = performance.now()
    let line: ProgressLine | undefined
    try {
      await within(REACH_TIMEOUT_MS, reader.topics(), `Kafka at ${config.KAFKA_BROKERS} has not answered`)
      const { records, bytes, storedBytes } = await takeAll({
        repository: folderRepository(folder),
        reader,
        settings: (topics) => admin.settings(topics),
        group: config.GROUP_ID,
        tenant,
        bytesPerSecond,
        note: (text) => io.say(text),
        progress(passed, total, read) {
          line ??= progressLine('backup', 'offsets', total)
          const rate = read / ((performance.now() - begunMs) / 1_000)
          line.at(passed, `, ${sizeText(rate)}/s`)
        },
      })
      io.out(
        `${folder}: ${plural(records, 'record')} more, ${sizeText(bytes)}, stored in ${sizeText(storedBytes)}, ${((performance.now() - begunMs) / 1_000).toFixed(1)} s`,
      )
      return 0
    } catch (error) {
      if (error instanceof FailedError || error instanceof ManifestError || isOfStorage(error)) throw error
      throw new UnavailableError(`${messageOf(error)}${reason === undefined ? '' : `: ${reason}`}`)
    } finally {
      line?.end()
      await Promise.all([reader.close(), admin.close()])
    }
  },
}

/** Whether the file system refuses, such as a disk that is full. */
export const isOfStorage = (error: unknown): boolean => typeof (error as NodeJS.ErrnoException).syscall === 'string'
