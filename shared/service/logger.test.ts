import { expect, spyOn, test } from 'bun:test'
import { Value } from '@sinclair/typebox/value'
import { LogLine, shortLine } from './log-schema.ts'
import { TenantLines } from './logger.ts'

/** The output of a process that logs in the given format. */
function output(format: 'auto' | 'json' | 'pretty', statements: string, level = 'info', env = {}): string {
  const program = `
    import { createLogger } from ${JSON.stringify(`${import.meta.dir}/logger.ts`)}
    const log = createLogger('producer', { LOG_LEVEL: '${level}', LOG_FORMAT: '${format}' })
    ${statements}
    log.flush(() => process.exit(0))`
  const { stdout, stderr, exitCode } = Bun.spawnSync([process.execPath, '-e', program], {
    cwd: import.meta.dir,
    env: { ...process.env, ...env },
  })
  expect(stderr.toString()).toBe('')
  expect(exitCode).toBe(0)
  return stdout.toString()
}

test('off a terminal, a line is one JSON object, with names of the Elastic Common Schema', () => {
  const statements = `
    log.warn({ eventId: 'a', partition: 3, deadLetterTopic: 'd', traceId: 't', none: undefined }, 'slow')
    log.error(Object.assign(new TypeError('broken'), { code: 7 }), 'failed')
    log.error({ requestId: 'r', err: 'a text' }, 'failed')`
  const lines = output('auto', statements)
    .trim()
    .split('\n')
    .map((text) => JSON.parse(text) as Record<string, unknown>)
  const [slow, failed, thrown] = lines
  expect(lines).toHaveLength(3)
  for (const line of lines) expect([...Value.Errors(LogLine, line)]).toEqual([])
  expect(Object.keys(slow ?? {}).slice(0, 2)).toEqual(['log.level', '@timestamp'])
  expect(slow).toEqual({
    'log.level': 'warn',
    '@timestamp': expect.any(String),
    'ecs.version': '9.0.0',
    'service.name': 'kafkatrace-producer',
    'process.pid': expect.any(Number),
    'kafkatrace.event_id': 'a',
    'kafkatrace.partition': '3',
    'kafkatrace.dead_letter_topic': 'd',
    'trace.id': 't',
    message: 'slow',
  })
  expect(shortLine(slow ?? {})).toMatchObject({
    level: 'warn',
    service: 'producer',
    eventId: 'a',
    partition: 3,
    deadLetterTopic: 'd',
    traceId: 't',
    msg: 'slow',
  })
  expect(failed).toMatchObject({ 'error.type': 'TypeError', 'error.message': 'broken', 'error.code': '7' })
  expect(String(failed?.['error.stack_trace'])).toContain('at ')
  expect(thrown).toMatchObject({ 'http.request.id': 'r', 'error.message': 'a text' })
})

test('a field that the table does not have is no line of the schema', () => {
  const [line = ''] = output('json', "log.info({ unheardOf: 1 }, 'x')").split('\n')
  expect([...Value.Errors(LogLine, JSON.parse(line))].map(({ path }) => path)).toEqual(['/kafkatrace.unheard_of'])
})

test('credentials do not appear, wherever they usually stand', () => {
  const text = output(
    'json',
    `log.info({ authorization: 'hunter2', password: 'hunter2', headers: { authorization: 'hunter2', 'x-api-key': 'hunter2' } })`,
  )
  expect(text).not.toContain('hunter2')
  expect(text.split('(redacted)')).toHaveLength(5)
})

test('what is less severe than the level is not logged', () => {
  expect(output('json', "log.info('no'); log.debug('no'); log.error('yes')", 'error').trim().split('\n')).toHaveLength(
    1,
  )
})

test('no line is lost or out of order when the process ends right after', () => {
  const lines = output('json', 'for (let number = 0; number < 3_000; number++) log.info({ number })').trim().split('\n')
  expect(lines.map((line) => (JSON.parse(line) as Record<string, number>)['kafkatrace.number'])).toEqual(
    Array.from({ length: 3_000 }, (_, number) => number),
  )
})

test('flushing waits for the line that is being written', () => {
  // If flush() called back at once, the process would end before the line is written.
  const statements =
    "log.info('last'); let waited = false; log.flush(() => { if (!waited) console.error('at once') }); waited = true"
  expect(output('json', statements)).toContain('last')
})

test('while nobody takes lines, memory holds so many and no more', () => {
  const text = output('json', "const pad = 'x'.repeat(10_000); for (let i = 0; i < 2_000; i++) log.info({ pad })")
  expect(text.length).toBeWithin(15 * 2 ** 20, 17 * 2 ** 20)
})

test('pretty lines are for reading, without colour off a terminal', () => {
  const text = output('pretty', "log.info({ port: 8080 }, 'listening'); log.error(new Error('broken'))")
  expect(text).toContain('INFO')
  expect(text).toContain('listening')
  expect(text).toContain('port: 8080')
  expect(text).toContain('broken')
  expect(text).not.toContain('\x1b[')
})

test('of each tenant, and of nobody, so many lines a second are worth it', () => {
  let nowMs = 5_000
  const clock = spyOn(performance, 'now').mockImplementation(() => nowMs)
  try {
    const lines = new TenantLines()
    const logged = (tenant: string | undefined) =>
      Array.from({ length: 150 }, () => lines.level(tenant, 'warn')).filter((level) => level === 'warn').length
    expect([logged('a'), logged(undefined), logged('a'), logged('b')]).toEqual([100, 100, 0, 100])
    nowMs += 1_000
    expect(logged('a')).toBe(100)
    expect(lines.level('b', 'info')).toBe('info')
  } finally {
    clock.mockRestore()
  }
})
