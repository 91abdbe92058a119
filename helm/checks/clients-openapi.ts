import { copyFile, mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { loadProducerConfig } from '../../producer/config.ts'
import { LINES } from '../../producer/media-type.ts'
import { openApi } from '../../producer/openapi.ts'
import { type Check, type Outcome, outcome, run } from './check.ts'
import { provideNpm, SOURCES } from './clients-npm.ts'
import { type ClientService, startClientService } from './clients-service.ts'
import { tool } from './tools.ts'

/** Checks the OpenAPI description with linters, and generates clients from it that are compiled and run against the service. */

const PROGRAM_TIMEOUT_MS = 60_000

interface Workplace {
  directory: string
  /** The description's file. */
  description: string
  service: ClientService
}

/** Runs with a temporary folder. */
async function inDirectory<T>(use: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'kafkatrace-clients-'))
  try {
    return await use(directory)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** Runs with a temporary folder and a service. */
const withService = <T>(use: (at: Workplace) => Promise<T>): Promise<T> =>
  inDirectory(async (directory) => {
    const service = startClientService()
    try {
      const description = join(directory, 'openapi.json')
      await Bun.write(description, await service.description())
      return await use({ directory, description, service })
    } finally {
      service.stop()
    }
  })

const linted: Check = {
  name: 'OpenAPI: spectral and redocly have nothing to say',
  counts: 'lint runs',
  run: (say) =>
    inDirectory(async (directory) => {
      const ruleset = join(directory, 'spectral.json')
      await Bun.write(ruleset, JSON.stringify({ extends: ['spectral:oas'] }))
      const spectral = [await tool('spectral', say), 'lint', '--fail-severity=hint', '--ruleset', ruleset] as const
      const redocly = [await tool('redocly', say), 'lint', '--extends=recommended', '--format=json'] as const
      const quiet = { REDOCLY_TELEMETRY: 'off', REDOCLY_SUPPRESS_UPDATE_NOTICE: 'true' }
      const options = { cwd: directory, env: quiet, timeoutMs: PROGRAM_TIMEOUT_MS }
      const faults: string[] = []
      for (const [name, access] of Object.entries(ACCESS)) {
        const description = join(directory, name)
        await Bun.write(description, JSON.stringify(openApi(loadProducerConfig({ ...access, KAFKA_BROKERS: 'b:1' }))))
        const bySpectral = await run([...spectral, description], options)
        if (bySpectral.exitCode !== 0) faults.push(`spectral: ${bySpectral.output}${bySpectral.errors}`)
        const byRedocly = await run([...redocly, description], options)
        // It exits with 0 when there are only warnings.
        const { errors = 1, warnings = 1 } = totalsOf(byRedocly.output)
        if (byRedocly.exitCode !== 0 || errors + warnings > 0)
          faults.push(`redocly: ${byRedocly.output}${byRedocly.errors}`)
      }
      return outcome(2 * Object.keys(ACCESS).length, faults)
    }),
}

const ACCESS = {
  'with-keys.json': { TENANTS_FILE: 'tenants.json' },
  'without-keys.json': { NODE_ENV: 'development', AUTH: 'off' },
}

function totalsOf(json: string): { errors?: number; warnings?: number } {
  try {
    return (JSON.parse(json) as { totals: { errors: number; warnings: number } }).totals
  } catch {
    return {}
  }
}

interface Answer {
  status: number
  /** The IDs of receipts, or the pointers of faults. */
  detail: string[] | null
}

/** The expected answer to a generated client; undefined stands for any ID that the service generated. */
function judged(output: string, expected: readonly (Answer | undefined)[]): Outcome {
  const answers = JSON.parse(output) as Answer[]
  const faults: string[] = []
  for (let at = 0; at < Math.max(expected.length, answers.length); at++) {
    const answer = answers[at]
    const one = expected[at] ?? { status: 202, detail: answer?.detail?.length === 1 ? answer.detail : [] }
    if (!Bun.deepEquals(answer, one))
      faults.push(`request ${at + 1}: ${JSON.stringify(answer)} in place of ${JSON.stringify(one)}`)
  }
  return outcome(expected.length, faults)
}

const stored = (...ids: string[]): Answer => ({ status: 202, detail: ids })
const refused = (pointer: string): Answer => ({ status: 422, detail: [pointer] })

const typescript: Check = {
  name: 'OpenAPI: openapi-typescript makes a client that runs',
  counts: 'requests',
  run: (say) =>
    withService(async ({ directory, description, service }) => {
      const folder = join(SOURCES, 'typescript')
      const installed = await provideNpm('typescript', () => say('installing openapi-typescript'))
      await symlink(join(installed, 'node_modules'), join(directory, 'node_modules'))
      await copyFile(join(folder, 'client.ts'), join(directory, 'client.ts'))
      await Bun.write(
        join(directory, 'tsconfig.json'),
        JSON.stringify({
          compilerOptions: {
            strict: true,
            exactOptionalPropertyTypes: true,
            noUncheckedIndexedAccess: true,
            target: 'ESNext',
            lib: ['ESNext', 'DOM', 'DOM.Iterable'],
            module: 'Preserve',
            allowImportingTsExtensions: true,
            noEmit: true,
            types: [],
          },
          files: ['client.ts', 'process.d.ts'],
        }),
      )
      await Bun.write(join(directory, 'process.d.ts'), 'declare const process: { argv: string[] }\n')
      const bin = join(installed, 'node_modules/.bin')
      const steps: [string, ...string[]][] = [
        ['node', join(bin, 'openapi-typescript'), description, '-o', join(directory, 'api.ts')],
        ['node', join(bin, 'tsc'), '-p', directory],
        [process.execPath, 'client.ts', new URL(service.url).origin],
      ]
      let output = ''
      for (const step of steps) {
        say(step.slice(0, 2).join(' '))
        const ran = await run(step, { cwd: directory, timeoutMs: PROGRAM_TIMEOUT_MS })
        if (ran.exitCode !== 0)
          return { passed: 0, faults: [`${step.join(' ')} ended with ${ran.exitCode}:\n${ran.output}${ran.errors}`] }
        output = ran.output
      }
      return judged(output, [
        undefined,
        stored('é'),
        undefined,
        stored('1', '2'),
        stored('3'),
        stored('4'),
        stored('4', '5'),
        refused('/type'),
        refused('/type'),
      ])
    }),
}

const python: Check = {
  name: 'OpenAPI: openapi-python-client makes one that runs',
  counts: 'requests',
  run: (say) =>
    withService(async ({ directory, description, service }) => {
      const generator = await tool('openapi-python-client', say)
      // The generated code depends on packages that the generator depends on.
      const env = { PYTHONPATH: `${directory}:${join(dirname(generator), 'lib')}` }
      const steps: [string, ...string[]][] = [
        [generator, 'generate', '--path', description, '--meta', 'none', '--output-path', join(directory, 'api')],
        ['python3', '-B', join(SOURCES, 'python-generated/client.py'), new URL(service.url).origin],
      ]
      let output = ''
      for (const step of steps) {
        const ran = await run(step, { cwd: directory, env, timeoutMs: PROGRAM_TIMEOUT_MS })
        if (ran.exitCode !== 0)
          return { passed: 0, faults: [`${step.join(' ')} ended with ${ran.exitCode}:\n${ran.output}${ran.errors}`] }
        output = ran.output
      }
      return judged(output, [stored('1'), stored('é'), stored('4'), stored('4'), stored('4'), refused('/type')])
    }),
}

interface Operation {
  parameters: { $ref: string }[]
  requestBody: { content: Record<string, unknown> }
}

/**
 * Without what a description cannot say: binary mode's headers come all or not at all, and a number such as 1.0 is not an integer in CloudEvents'
 * JSON format. Without NDJSON, which Schemathesis cannot write.
 */
function describable(text: string): string {
  const description = JSON.parse(text, (_, value) =>
    Array.isArray(value) ? value.filter((one) => one?.type !== 'integer' || one.minimum !== -(2 ** 31)) : value,
  ) as { paths: Record<string, { post: Operation }> }
  for (const { post } of Object.values(description.paths)) {
    post.parameters = post.parameters.filter(({ $ref }) => !$ref.includes('/ce-'))
    for (const type of LINES) delete post.requestBody.content[type]
  }
  return JSON.stringify(description)
}

const described: Check = {
  name: 'OpenAPI: Schemathesis is answered as the description says, whatever it sends',
  counts: 'requests',
  run: (say) =>
    withService(async ({ directory, description, service }) => {
      await Bun.write(description, describable(await Bun.file(description).text()))
      // It does not count 413 and 431 as refusals.
      const refusals = 'expected-statuses = [400, 401, 403, 404, 405, 413, 415, 422, 431]'
      const configuration = join(directory, 'schemathesis.toml')
      await Bun.write(configuration, `[checks.negative_data_rejection]\n${refusals}\n`)
      const command = await tool('schemathesis', say)
      const url = new URL(service.url).origin
      const phases = ['--phases=examples,coverage,fuzzing', `--seed=${SEED}`, `--max-examples=${EXAMPLES}`]
      const ran = await run(
        [command, '--config-file', configuration, 'run', description, '--url', url, ...phases, '--warnings=off'],
        { cwd: directory, timeoutMs: 2 * PROGRAM_TIMEOUT_MS },
      )
      const requests = Number(/(\d+) generated/.exec(ran.output)?.[1] ?? 0)
      return outcome(requests, ran.exitCode === 0 ? [] : [`${ran.output}${ran.errors}`])
    }),
}

/** The same requests in every run. */
const SEED = 1
const EXAMPLES = 100

export const openApiChecks: readonly Check[] = [linted, typescript, python, described]
